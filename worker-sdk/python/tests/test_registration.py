"""The registry: who works, on what, since when."""

from __future__ import annotations

import json
import os
import socket
import threading
from typing import Any, Dict

import pytest
from support import LIMIT, Front, Server, eventually, left, running

from tempest_worker import App, Request, __version__

RECORD = "{tempest:web}:worker:w-1"
REGISTRY = "{tempest:web}:workers"


def record(front: Front) -> Dict[str, Any]:
    text = eventually(lambda: front.redis.get(RECORD), "there is no record")
    found: Dict[str, Any] = json.loads(text)
    return found


def test_a_worker_registers_beats_and_signs_off(server: Server, front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPEST_WORKER_ID", "w-1")
    app, begun, go = App(), threading.Event(), threading.Event()

    @app.handler
    def hold(request: Request) -> str:
        begun.set()
        assert go.wait(LIMIT)
        return "x"

    with running(app, server.url):
        idle = record(front)
        now = front.now_ms()
        assert abs(now - idle.pop("started")) < 5000
        assert idle == {
            "id": "w-1",
            "queue": "web",
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "language": "python",
            "sdk": "tempest-worker",
            "version": __version__,
            "state": "idle",
            "current": [],
            "done": 0,
        }
        first = front.redis.zscore(REGISTRY, "w-1")
        assert abs(now - first) < 5000
        assert 0 < front.redis.pttl(RECORD) <= 3000
        assert 3_500_000 < front.redis.pttl(REGISTRY) <= 3_600_000
        eventually(lambda: front.redis.zscore(REGISTRY, "w-1") > first, "it does not beat")
        request_id = front.push()
        assert begun.wait(LIMIT)
        busy = eventually(lambda: record(front)["state"] == "busy" and record(front), "never busy")
        assert busy["current"] == [request_id]
        app.stop()
        assert eventually(lambda: record(front)["state"] == "quiet", "never quiet")
        go.set()
        front.answer()
    assert left(front.redis) == []


def test_the_record_counts_what_was_done(server: Server, front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPEST_WORKER_ID", "w-1")
    app = App()
    app.handler(lambda request: "x")
    with running(app, server.url, concurrency=2, claims="base"):
        for _ in range(10):
            front.ask()
        front.redis.rpush(front.queue, b"garbage")
        eventually(lambda: record(front)["done"] == 10, "the count is not 10")


def test_each_claiming_thread_is_listed(server: Server, front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each holds claims under an id of its own, and is alive while its record is there."""
    monkeypatch.setenv("TEMPEST_WORKER_ID", "w-1")
    app, together = App(), threading.Barrier(3, timeout=LIMIT)

    @app.handler
    def meet(request: Request) -> str:
        together.wait()
        return "x"

    with running(app, server.url, concurrency=3):
        for _ in range(3):
            front.push()
        front.answers(3)
        names = [b"w-1.1", b"w-1.2", b"w-1.3"]
        eventually(lambda: sorted(front.redis.hkeys("{tempest:web}:claimers")) == names, "not all of them claim")
        assert sorted(front.redis.zrange(REGISTRY, 0, -1)) == names
        records = [f"{{tempest:web}}:worker:{name.decode()}" for name in names]
        done = lambda: [json.loads(front.redis.get(each) or '{"done":0}')["done"] for each in records]  # noqa: E731
        eventually(lambda: done() == [1, 1, 1], "the records do not count")
    assert left(front.redis) == []


def test_a_worker_names_itself_if_nobody_does(server: Server, front: Front) -> None:
    app = App()
    app.handler(lambda request: "x")
    with running(app, server.url):
        names = eventually(lambda: front.redis.zrange(REGISTRY, 0, -1), "it did not register")
    assert len(names) == 1
    assert f"-{os.getpid()}-".encode() in names[0]


def test_a_worker_id_outside_the_rule_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPEST_WORKER_ID", "two words")
    app = App()
    app.handler(lambda request: "x")
    with pytest.raises(ValueError, match="TEMPEST_WORKER_ID"):
        app.run()
