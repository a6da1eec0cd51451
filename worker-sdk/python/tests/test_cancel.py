"""Jobs whose clients have left while they run."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, List

import pytest
import redis
from contract import TAG, claimed
from support import LIMIT, Front, Server, eventually, running

from tempest_worker import App, Request


@pytest.fixture(autouse=True)
def name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPEST_WORKER_ID", "w-1")


def withdraw(client: redis.Redis, request_id: str) -> None:
    """What `withdraw.lua` leaves for a job that is in no list."""
    client.zadd(TAG + "withdrawn", {request_id: 99_999_999_999_999})


def settled(front: Front) -> None:
    """Acknowledged, and no answer on the way: it would have been sent before the acknowledgement."""
    eventually(lambda: list(claimed(front.redis, "w-1")) == [0], "it was not acknowledged")
    assert not front.redis.exists(front.reply_to)
    front.redis.delete(TAG + "withdrawn")


def test_a_handler_can_ask_and_its_answer_goes_nowhere(server: Server, front: Front) -> None:
    app, begun = App(), threading.Event()

    @app.post("/long")
    def long(request: Request) -> str:
        begun.set()
        eventually(lambda: request.cancelled, "it was not told")
        return "in vain"

    with running(app, server.url):
        request_id = front.push("/long", "POST")
        assert begun.wait(LIMIT)
        withdraw(front.redis, request_id)
        settled(front)


def test_a_handler_that_fails_for_it_is_not_answered_either(server: Server, front: Front) -> None:
    app, begun = App(), threading.Event()

    @app.handler
    def long(request: Request) -> Any:
        begun.set()
        eventually(lambda: request.cancelled, "it was not told")
        raise KeyError

    with running(app, server.url):
        request_id = front.push()
        assert begun.wait(LIMIT)
        withdraw(front.redis, request_id)
        settled(front)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_stream_ends(server: Server, front: Front, asynchronous: bool) -> None:
    app, closed = App(), threading.Event()

    @app.get("/plain")
    def plain(request: Request) -> Any:
        try:
            while True:
                yield "more"
                threading.Event().wait(0.01)
        finally:
            closed.set()

    @app.get("/async")
    async def coroutine(request: Request) -> Any:
        try:
            while True:
                yield "more"
                await asyncio.sleep(0.01)
        finally:
            closed.set()

    with running(app, server.url):
        request_id = front.push("/async" if asynchronous else "/plain")
        assert front.message().body == b"more"
        withdraw(front.redis, request_id)
        assert closed.wait(LIMIT)
        eventually(lambda: list(claimed(front.redis, "w-1")) == [0], "it was not acknowledged")
        messages: List[bytes] = front.redis.lrange(front.reply_to, 0, -1)  # type: ignore[assignment]
        assert all(b'"more":true' in each for each in messages), "the end of the stream was sent"
    front.redis.delete(front.reply_to, TAG + "withdrawn")


def test_a_coroutine_is_cancelled(server: Server, front: Front, caplog: pytest.LogCaptureFixture) -> None:
    app, begun, ended = App(), threading.Event(), threading.Event()

    @app.handler
    async def long(request: Request) -> str:
        begun.set()
        try:
            await asyncio.sleep(LIMIT)
        except asyncio.CancelledError:
            ended.set()
            raise
        return "in vain"

    with running(app, server.url):
        request_id = front.push()
        assert begun.wait(LIMIT)
        withdraw(front.redis, request_id)
        assert ended.wait(LIMIT / 2)
        settled(front)
    assert "failed" not in caplog.text


def test_an_app_may_want_its_work_finished(server: Server, front: Front) -> None:
    app, begun, finished = App(cancel=False), threading.Event(), threading.Event()

    @app.handler
    async def long(request: Request) -> str:
        begun.set()
        while not request.cancelled:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        finished.set()
        return "in vain"

    with running(app, server.url):
        request_id = front.push()
        assert begun.wait(LIMIT)
        withdraw(front.redis, request_id)
        assert finished.wait(LIMIT)
        settled(front)


def test_a_job_that_was_withdrawn_before_its_claim_is_not_run(server: Server, front: Front) -> None:
    app, seen = App(), []

    @app.handler
    def handler(request: Request) -> str:
        seen.append(request.path)
        return "x"

    front.push("/unwanted", id="gone")
    front.push("/wanted")
    withdraw(front.redis, "gone")
    withdraw(front.redis, "")  # lists may hold some of them
    with running(app, server.url):
        front.answer()
    assert seen == ["/wanted"]
    front.redis.delete(TAG + "withdrawn")
