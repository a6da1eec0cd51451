"""`python -m tempest_worker`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support import LIMIT, Front, Process, Server


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tempest_worker", *arguments]
    return subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=LIMIT)


def test_help_names_every_flag_and_variable() -> None:
    shown = run("--help").stdout
    for each in ("--redis", "--queue", "--concurrency", "--async-concurrency", "--batch", "--claim", "MODULE:APP"):
        assert each in shown
    for each in ("REDIS_URL", "TEMPEST_QUEUE", "TEMPEST_WORKER_ID", "TEMPEST_ENV"):
        assert each in shown


def test_flags_stand_above_the_environment(server: Server, front: Front) -> None:
    arguments = ["app_for_processes", "--redis", server.url, "--queue", "tempest:mail", "--concurrency", "2"]
    worker = Process("redis://127.0.0.1:1/0", *arguments, "--batch", "4", TEMPEST_QUEUE="tempest:web")
    try:
        worker.wait_for_line("takes jobs from tempest:mail")
        mail = Front(front.redis, queue="tempest:mail")
        assert mail.ask("/fast").body == b"fast"
        worker.process.terminate()
        assert worker.wait() == 0
    finally:
        worker.end()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere:app"], "there is no module `nowhere`"),
        (["app_for_processes:missing"], "`app_for_processes` has no App named `missing`"),
        (["app_for_processes:not_an_app"], "`app_for_processes` has no App named `not_an_app`"),
        (["app_for_processes", "--queue", "web"], "`web` is not the key of a queue"),
        (["app_for_processes", "--queue", "tempest:Web"], "`Web` is not a queue name"),
        (["app_for_processes", "--queue", "tempest:web.1"], "kept for shards"),
        (["app_for_processes", "--redis", "http://x"], "Redis URL"),
        (["app_for_processes", "--concurrency", "0"], "concurrency is 0: use a whole number from 1 to 1000"),
        (["app_for_processes", "--batch", "9999"], "batch is 9999"),
    ],
)
def test_a_mistake_is_said_in_a_line_and_is_status_2(arguments: list[str], said: str) -> None:
    ended = run(*arguments)
    assert ended.returncode == 2
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_all_mistakes_are_said_at_once() -> None:
    ended = run("app_for_processes", "--queue", "web", "--concurrency", "0", "--batch", "0")
    for each in ("queue: ", "concurrency is 0", "batch is 0"):
        assert each in ended.stderr


def test_a_password_is_never_shown() -> None:
    ended = run("app_for_processes", "--redis", "http://user:hunter2@x")
    assert ended.returncode == 2
    assert "hunter2" not in ended.stderr
