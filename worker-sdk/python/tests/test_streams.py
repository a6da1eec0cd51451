"""Answers in several messages: order, promptness, cuts, failures half-way."""

from __future__ import annotations

import threading
from typing import Any, AsyncIterator, Iterator, List

import pytest
from support import LIMIT, Front, Server, eventually, running

from tempest_worker import App, Request, Response
from tempest_worker._relief import Relief


def test_a_generator_is_streamed(server: Server, front: Front) -> None:
    app = App()

    @app.handler
    def count(request: Request) -> Iterator[Any]:
        yield "one\n"
        yield b"two\n"
        yield ""
        yield "\u00fc" * 40_000

    with running(app, server.url):
        request_id = front.push()
        parts = [front.message() for _ in range(5)]
    assert [part.id for part in parts] == [request_id] * 5
    assert [(part.n, part.more) for part in parts] == [(0, True), (1, True), (2, True), (3, True), (4, False)]
    assert [len(part.body) for part in parts] == [4, 4, 65536, 80_000 - 65536, 0]
    assert (parts[0].status, parts[0].header("content-type")) == (200, "text/plain; charset=utf-8")


def test_a_streamed_response_has_status_and_headers(server: Server, front: Front) -> None:
    app = App()
    app.handler(lambda request: Response(iter([b"a", b"b"]), 206, {"x": "y"}, content_type="video/mp4"))
    with running(app, server.url):
        first = front.answer(front.push())
    assert (first.status, first.header("x"), first.header("content-type")) == (206, "y", "video/mp4")
    assert first.body == b"ab"


def test_a_stream_without_a_piece_is_an_empty_answer(server: Server, front: Front) -> None:
    app = App()
    app.handler(lambda request: iter(()))
    with running(app, server.url):
        answer = front.message() if front.push() else None
    assert answer is not None
    assert (answer.n, answer.more, answer.body) == (0, False, b"")


@pytest.mark.parametrize("asynchronous", [False, True])
def test_each_piece_leaves_while_the_next_is_made(server: Server, front: Front, asynchronous: bool) -> None:
    """The generator goes on only after the front has read what came before."""
    app, go = App(), threading.Semaphore(0)

    def pieces(request: Request) -> Iterator[str]:
        for each in ("one", "two", "three"):
            yield each
            assert go.acquire(timeout=LIMIT)

    async def async_pieces(request: Request) -> AsyncIterator[str]:
        import asyncio

        for each in ("one", "two", "three"):
            yield each
            await asyncio.to_thread(go.acquire, timeout=LIMIT)

    app.handler(async_pieces if asynchronous else pieces)
    with running(app, server.url):
        front.push()
        for n, each in enumerate((b"one", b"two", b"three")):
            part = front.message()
            assert (part.n, part.body, part.more) == (n, each, True)
            go.release()
        assert (front.message().more) is False


def test_the_first_piece_leaves_at_once(server: Server, front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the loop itself, before the helper would see that the generator takes long."""
    monkeypatch.setattr(Relief, "look", lambda self, loop, now: None)
    app, go = App(), threading.Event()

    @app.handler
    def pieces(request: Request) -> Iterator[str]:
        yield "one"
        assert go.wait(LIMIT)

    with running(app, server.url):
        front.push()
        assert front.message().body == b"one"
        go.set()
        assert front.message().more is False


class Pieces:
    """An iterator that knows whether it was closed."""

    def __init__(self, fails: bool) -> None:
        self.fails = fails
        self.left = 2
        self.closed = 0

    def __iter__(self) -> Pieces:
        return self

    def __next__(self) -> str:
        self.left -= 1
        if self.left < 0:
            raise KeyError("half-way") if self.fails else StopIteration
        return "x"

    def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize("fails", [False, True])
def test_what_is_streamed_is_closed_once(server: Server, front: Front, fails: bool) -> None:
    app, body = App(), Pieces(fails)
    app.handler(lambda request: Response(body))
    with running(app, server.url):
        front.push()
        assert [front.message().n > 64 for _ in range(3)] == [False, False, fails]
    assert body.closed == 1


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_failure_half_way_cuts_the_response(
    server: Server, front: Front, asynchronous: bool, caplog: pytest.LogCaptureFixture
) -> None:
    app, closed = App(), threading.Event()

    def pieces(request: Request) -> Iterator[str]:
        try:
            yield "one"
            raise KeyError("half-way")
        finally:
            closed.set()

    async def async_pieces(request: Request) -> AsyncIterator[str]:
        try:
            yield "one"
            raise KeyError("half-way")
        finally:
            closed.set()

    app.handler(async_pieces if asynchronous else pieces)
    with running(app, server.url):
        request_id = front.push()
        assert front.message().body == b"one"
        cut = front.message()
    assert (cut.id, cut.n > 64, cut.more) == (request_id, True, True)
    assert closed.is_set()
    assert f"request {request_id} failed in the middle of its stream" in caplog.text


def test_a_failure_before_the_first_piece_is_a_500(server: Server, front: Front) -> None:
    app = App()

    @app.handler
    def pieces(request: Request) -> Iterator[Any]:
        if request.path == "/type":
            yield 7
        raise KeyError("early")
        yield "never"

    with running(app, server.url):
        assert front.ask("/").status == 500
        assert front.ask("/type").status == 500


def test_a_generator_nobody_waits_for_runs_to_its_end(server: Server, front: Front) -> None:
    app, seen = App(), []

    @app.action("own.job")
    def pieces(request: Request) -> Iterator[str]:
        seen.append("begun")
        yield "x"
        seen.append("ended")

    with running(app, server.url):
        front.redis.rpush(front.queue, b'{"v":1,"id":"a","attempt":1,"queue":"web","action":"own.job"}\n')
        eventually(lambda: len(seen) == 2, "the job did not run")


def test_a_long_stream_never_has_many_messages_unacknowledged(server: Server, front: Front) -> None:
    app, most = App(), [0]

    @app.handler
    def pieces(request: Request) -> Iterator[bytes]:
        for _ in range(300):
            yield b"x" * 65536
            assert app._worker is not None
            most[0] = max(most[0], len(app._worker._loops[0].courier._unread))

    with running(app, server.url):
        answer = front.answer(front.push())
    assert len(answer.body) == 300 * 65536
    assert most[0] <= 33


def test_an_async_generator_from_a_plain_handler_is_a_500(server: Server, front: Front) -> None:
    app, bodies = App(), []

    @app.handler
    def wrong(request: Request) -> Any:
        async def pieces() -> AsyncIterator[str]:
            yield "x"

        bodies.append(pieces())
        return bodies[0]

    with running(app, server.url):
        assert front.ask().status == 500


def test_order_survives_streams_side_by_side(server: Server, front: Front) -> None:
    app = App()

    @app.handler
    async def pieces(request: Request) -> AsyncIterator[str]:
        import asyncio

        for each in range(20):
            yield f"{request.path}{each} "
            await asyncio.sleep(0)

    found: dict[str, List[Any]] = {}
    with running(app, server.url):
        ids = [front.push(f"/{name}") for name in "abc"]
        while sum(not parts[-1].more for parts in found.values()) < 3:
            part = front.message()
            found.setdefault(part.id, []).append(part)
    for request_id, name in zip(ids, "abc"):
        parts = found[request_id]
        assert [part.n for part in parts] == list(range(21))
        assert b"".join(part.body for part in parts).decode() == "".join(f"/{name}{each} " for each in range(20))
