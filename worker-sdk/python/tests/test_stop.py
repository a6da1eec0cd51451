"""The end of a worker: signals, the wait for running jobs, and that no job is lost on the way."""

from __future__ import annotations

import os
import signal
import time
from typing import Iterator

import pytest
from support import LIMIT, Front, Process, Server, eventually, left, running

from tempest_worker import App, Request
from tempest_worker._settings import BLOCK_SECONDS


@pytest.fixture
def worker(server: Server, front: Front) -> Iterator[Process]:
    it = Process(server.url, "app_for_processes:app", TEMPEST_WORKER_ID="w-1")
    it.wait_for_line("takes jobs from tempest:web")
    yield it
    it.end()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_the_running_job_and_takes_no_other(front: Front, worker: Process, number: int) -> None:
    request_id = front.push("/hold")
    assert front.redis.blpop(["begun"], timeout=LIMIT)
    os.kill(worker.process.pid, number)
    worker.wait_for_line("stopping: no new jobs")
    front.push("/fast")
    front.redis.rpush("go", "1")
    assert front.answer(request_id).body == b"held"
    assert worker.wait() == 0
    assert front.redis.llen(front.queue) == 1
    front.redis.delete(front.queue)


def test_an_idle_worker_ends_at_once_and_leaves_nothing(front: Front, worker: Process) -> None:
    eventually(lambda: front.redis.exists("{tempest:web}:worker:w-1"), "it did not register")
    began = time.monotonic()
    os.kill(worker.process.pid, signal.SIGTERM)
    assert worker.wait() == 0
    assert time.monotonic() - began < BLOCK_SECONDS / 2, "the claim was waited for, not ended"
    assert left(front.redis) == []


def test_a_second_signal_ends_at_once(front: Front, worker: Process) -> None:
    front.push("/hold")
    assert front.redis.blpop(["begun"], timeout=LIMIT)
    os.kill(worker.process.pid, signal.SIGTERM)
    worker.wait_for_line("stopping: no new jobs")
    os.kill(worker.process.pid, signal.SIGTERM)
    assert worker.wait() == 128 + signal.SIGTERM
    front.redis.flushall()


def test_no_job_is_lost_between_the_last_claim_and_the_stop(server: Server, front: Front) -> None:
    """A job that arrives just as the claim is ended is either run or still in the list."""
    answered, left = 0, 0
    for _ in range(60):
        app = App()
        app.handler(lambda request: "x")
        with running(app, server.url):
            loop = app._worker._loops[0]  # type: ignore[union-attr]
            eventually(lambda: loop.blocked, "no claim")  # noqa: B023
            front.push()
            app.stop()
        in_list = front.redis.llen(front.queue)
        answers = front.redis.llen(front.reply_to)
        assert in_list + answers == 1, "the job is nowhere"
        answered, left = answered + answers, left + in_list
        front.redis.delete(front.queue, front.reply_to)
    assert answered


def test_a_batch_in_hand_is_finished(server: Server, front: Front) -> None:
    app = App()

    @app.handler
    def stop_in_the_middle(request: Request) -> str:
        app.stop()
        return "x"

    front.redis.rpush(front.queue, *[front.job()[1] for _ in range(5)])
    with running(app, server.url) as thread:
        thread.join(LIMIT)
        assert not thread.is_alive()
    taken = 5 - front.redis.llen(front.queue)
    assert taken >= 1
    front.answers(taken)
    front.redis.delete(front.queue)
