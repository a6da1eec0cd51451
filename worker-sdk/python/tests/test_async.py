"""Coroutine handlers: many at a time on one loop, bounded, beside plain handlers."""

from __future__ import annotations

import asyncio
import threading
import time

from support import LIMIT, Front, Server, eventually, running

from tempest_worker import App, Request
from tempest_worker._settings import BEAT_SECONDS


def test_coroutines_run_side_by_side(server: Server, front: Front) -> None:
    app, waiting, go = App(), [], []  # type: ignore[var-annotated]

    @app.handler
    async def meet(request: Request) -> str:
        # Made here: in Python 3.9 an event belongs to the loop that runs when it is made.
        go.extend([] if go else [asyncio.Event()])
        waiting.append(request.id)
        if len(waiting) == 50:
            go[0].set()
        await asyncio.wait_for(go[0].wait(), LIMIT)
        return "met"

    with running(app, server.url):
        for _ in range(50):
            front.push()
        assert {each.body for each in front.answers(50).values()} == {b"met"}


def test_no_more_coroutines_than_allowed_and_the_rest_waits_in_redis(server: Server, front: Front) -> None:
    app, go, running_now, most = App(), threading.Event(), [0], [0]

    @app.handler
    async def hold(request: Request) -> str:
        running_now[0] += 1
        most[0] = max(most[0], running_now[0])
        await asyncio.to_thread(go.wait, LIMIT)
        running_now[0] -= 1
        return "x"

    with running(app, server.url, async_concurrency=3):
        front.redis.rpush(front.queue, *[front.job()[1] for _ in range(10)])
        eventually(lambda: running_now[0] == 3, "three did not start")
        assert front.redis.llen(front.queue) == 7
        go.set()
        front.answers(10)
        eventually(lambda: app._worker._runner.free >= 0, "places")  # type: ignore[union-attr]
    assert most[0] == 3


def test_places_are_given_back_for_every_kind_of_job(server: Server, front: Front) -> None:
    app = App()

    @app.get("/async")
    async def one(request: Request) -> str:
        return "x"

    @app.get("/fail")
    async def fail(request: Request) -> str:
        raise KeyError

    app.get("/plain")(lambda request: "x")
    with running(app, server.url, async_concurrency=2):
        for _ in range(5):
            for path in ("/async", "/fail", "/plain", "/nowhere"):
                front.ask(path)
            front.redis.rpush(front.queue, b"garbage")
            front.push("/plain", deadline=1)
        runner = app._worker._runner  # type: ignore[union-attr]
        # One place is held by the claim that waits.
        eventually(lambda: runner.free in (0, 1), f"{runner.free} places are free")
        front.ask("/async")


def test_answers_leave_at_once_not_with_the_next_beat(server: Server, front: Front) -> None:
    app, count = App(), 12

    @app.handler
    async def one(request: Request) -> str:
        return "x"

    with running(app, server.url):
        began = time.monotonic()
        for _ in range(count):
            front.ask()
        assert time.monotonic() - began < count * BEAT_SECONDS / 2


def test_a_plain_handler_and_a_coroutine_share_a_batch(server: Server, front: Front) -> None:
    app = App()

    @app.get("/async")
    async def one(request: Request) -> str:
        await asyncio.sleep(0)
        return "async"

    app.get("/plain")(lambda request: "plain")
    front.redis.rpush(front.queue, *[front.job("/plain" if each % 2 else "/async")[1] for each in range(60)])
    with running(app, server.url):
        bodies = [each.body for each in front.answers(60).values()]
    assert (bodies.count(b"plain"), bodies.count(b"async")) == (30, 30)


def test_a_stop_waits_for_coroutines(server: Server, front: Front) -> None:
    app, begun, go = App(), threading.Event(), threading.Event()

    @app.handler
    async def hold(request: Request) -> str:
        begun.set()
        await asyncio.to_thread(go.wait, LIMIT)
        return "done"

    with running(app, server.url) as thread:
        front.push()
        assert begun.wait(LIMIT)
        app.stop()
        thread.join(0.1)
        assert thread.is_alive()
        go.set()
        assert front.answer().body == b"done"
