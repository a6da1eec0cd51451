"""Redis goes and comes: every loop resumes by itself, answers are not lost, the log stays short."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

import pytest
from support import LIMIT, Front, Server, eventually, left, running

from tempest_worker import App, Request
from tempest_worker._link import Address, Outages


def lines(caplog: pytest.LogCaptureFixture, text: str) -> int:
    return sum(text in record.getMessage() for record in caplog.records)


def test_an_idle_worker_resumes_and_says_so_once(own_server: Server, caplog: pytest.LogCaptureFixture) -> None:
    app = App()

    @app.handler
    async def both(request: Request) -> str:
        return "x"

    with running(app, own_server.url, concurrency=3):
        client = own_server.client()
        assert Front(client).ask().body == b"x"
        for outage in (1, 2):
            own_server.kill()
            eventually(lambda: lines(caplog, "is gone") == outage, "the outage went unnoticed")  # noqa: B023
            own_server.start()
            assert Front(client).ask().body == b"x"
            eventually(lambda: lines(caplog, "is back after") == outage, "nothing was said")  # noqa: B023
            eventually(lambda: client.keys("{tempest:web}:worker:*"), "the worker did not register again")
            assert (lines(caplog, "is gone"), lines(caplog, "is back after")) == (outage, outage)
    assert not [each for each in caplog.records if each.levelno > logging.WARNING]


def test_a_connection_that_notices_late_is_no_second_outage(caplog: pytest.LogCaptureFixture) -> None:
    outages = Outages(Address("redis://127.0.0.1:1/0"))
    opened = time.monotonic()
    outages.down("claim", "reset", opened)
    outages.up("claim")
    outages.down("helper", "reset", opened)
    outages.up("helper")
    assert (lines(caplog, "is gone"), lines(caplog, "is back after")) == (1, 1)
    outages.down("helper", "reset", time.monotonic())
    outages.down("claim", "refused")
    outages.up("helper")
    outages.up("claim")
    assert (lines(caplog, "is gone"), lines(caplog, "is back after")) == (2, 2)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_answer_outlives_an_outage(own_server: Server, asynchronous: bool) -> None:
    app, begun, go = App(), threading.Event(), threading.Event()

    def hold(request: Request) -> str:
        begun.set()
        assert go.wait(LIMIT)
        return "late but here"

    async def hold_async(request: Request) -> str:
        import asyncio

        return await asyncio.to_thread(hold, request)

    app.handler(hold_async if asynchronous else hold)
    with running(app, own_server.url):
        request_id = Front(own_server.client()).push()
        assert begun.wait(LIMIT)
        own_server.kill()
        go.set()
        own_server.start()
        assert Front(own_server.client()).answer(request_id).body == b"late but here"


def test_claims_outlive_a_restart_of_redis_with_its_memory(tmp_path: Path) -> None:
    own_server = Server(tmp_path, "--appendonly", "yes", "--appendfsync", "always").start()
    app, begun, go, ran = App(), threading.Event(), threading.Event(), []

    @app.handler
    def hold(request: Request) -> str:
        ran.append(request.path)
        begun.set()
        assert go.wait(LIMIT)
        return request.path

    try:
        with running(app, own_server.url):
            first = Front(own_server.client()).push("/held", "POST")
            assert begun.wait(LIMIT)
            own_server.kill()
            own_server.start()
            client = own_server.client()
            assert client.hlen("{tempest:web}:claimers") == 1
            go.set()
            assert Front(client).answer(first).body == b"/held"
            assert Front(client).ask("/next").body == b"/next"
        assert ran == ["/held", "/next"]
        assert left(client) == []
    finally:
        own_server.stop()


def test_an_answer_past_its_deadline_is_not_sent_after_an_outage(own_server: Server) -> None:
    app, begun, go = App(), threading.Event(), threading.Event()

    @app.handler
    def hold(request: Request) -> str:
        if request.path == "/short":
            begun.set()
            assert go.wait(LIMIT)
            # The deadline passes while Redis is away.
            eventually(lambda: (request.remaining or 0) < 0, "time stands still")
        return request.path

    with running(app, own_server.url):
        front = Front(own_server.client())
        front.push("/short", deadline=front.now_ms() + 500)
        assert begun.wait(LIMIT)
        own_server.kill()
        go.set()
        worker = app._worker
        assert worker is not None
        eventually(lambda: worker._loops[0].courier.undelivered == 1, "the answer is still kept")
        own_server.start()
        assert Front(own_server.client()).ask("/next").body == b"/next"


def test_a_worker_may_start_before_redis(own_server: Server, caplog: pytest.LogCaptureFixture) -> None:
    own_server.kill()
    app = App()
    app.handler(lambda request: "x")
    with running(app, own_server.url):
        eventually(lambda: lines(caplog, "is gone") == 1, "nothing was said")
        own_server.start()
        assert Front(own_server.client()).ask().body == b"x"


def test_a_worker_stops_while_redis_is_gone(own_server: Server, caplog: pytest.LogCaptureFixture) -> None:
    app = App()
    app.handler(lambda request: "x")
    with running(app, own_server.url, concurrency=2):
        Front(own_server.client()).ask()
        own_server.kill()
        eventually(lambda: lines(caplog, "is gone") == 1, "nothing was said")


def test_a_refused_answer_is_kept_while_the_refusal_passes(own_server: Server) -> None:
    """Redis out of memory refuses a push; nothing is lost when it has room again."""
    client = own_server.client()
    front = Front(client)
    app, begun, go = App(), threading.Event(), threading.Event()

    @app.handler
    def hold(request: Request) -> str:
        begun.set()
        assert go.wait(LIMIT)
        return "kept"

    with running(app, own_server.url):
        request_id = front.push()
        assert begun.wait(LIMIT)
        client.config_set("maxmemory", 1)
        go.set()
        loop = app._worker._loops[0]  # type: ignore[union-attr]
        eventually(lambda: loop.courier._refused, "the push was not refused")
        client.config_set("maxmemory", 0)
        assert front.answer(request_id).body == b"kept"


def test_a_lasting_refusal_is_logged_and_ends_nothing(own_server: Server, caplog: pytest.LogCaptureFixture) -> None:
    client = own_server.client()
    app = App()
    app.handler(lambda request: "x")
    with running(app, own_server.url):
        client.set("tempest:@wrong", "not a list")
        Front(client, "tempest:@wrong").push()
        eventually(lambda: lines(caplog, "Redis refused answers for tempest:@wrong") == 1, "nothing was said")
        assert Front(client).ask().body == b"x"


def test_a_queue_key_of_another_type_is_logged_and_waited_for(
    own_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    client = own_server.client()
    client.set("tempest:web", "not a list")
    app = App()
    app.handler(lambda request: "x")
    with running(app, own_server.url):
        eventually(lambda: lines(caplog, "Redis refused the claim") == 1, "nothing was said")
        client.delete("tempest:web")
        assert Front(client).ask().body == b"x"
