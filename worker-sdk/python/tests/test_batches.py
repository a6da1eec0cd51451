"""Claims in batches: one trip each, as many jobs as fit, none held up behind a slow one."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any, Dict, List

import pytest
import redis
from support import LIMIT, Front, Server, eventually, running

from tempest_worker import App, Request
from tempest_worker._batch import BatchSize
from tempest_worker._claim import BaseClaimer
from tempest_worker._clock import Clock
from tempest_worker._link import Address, Link, Outages
from tempest_worker._relief import Relief
from tempest_worker._settings import FLUSH_SECONDS

#: The front's side pops by BLPOP itself, so the older way is counted by its LPOP.
POPS = {"blmpop": b"BLMPOP", "lpop": b"$4\r\nLPOP"}


def calls(client: redis.Redis) -> Dict[str, int]:
    return {name: stat["calls"] for name, stat in client.info("commandstats").items()}


@pytest.mark.parametrize("claim", ["blmpop", "lpop"])
def test_a_batch_is_one_write_one_push_and_one_claim(
    server: Server, front: Front, monkeypatch: pytest.MonkeyPatch, claim: str
) -> None:
    writes: List[bytes] = []
    write = Link.write
    monkeypatch.setattr(Link, "write", lambda self, data: (writes.append(data), write(self, data))[1])
    app = App()
    app.handler(lambda request: "x")
    count = 640
    front.redis.rpush(front.queue, *[front.job(f"/{each}")[1] for each in range(count)])
    before = calls(front.redis)
    with running(app, server.url, claims="base", claim=claim):
        found = front.answers(count)
    after = calls(front.redis)
    assert len(found) == count
    trips = [data for data in writes if b"LPOP" in data or b"BLMPOP" in data]
    pushes = [data for data in writes if b"RPUSH" in data]
    # 1, 2, 4 … 64, 64: at most 16 trips, and each push rides with a claim unless a flush came first.
    assert len(trips) <= 25
    assert sum(data in trips for data in pushes) >= len(pushes) / 2
    assert after["cmdstat_rpush"] - before["cmdstat_rpush"] == len(pushes) == sum(d.count(b"RPUSH") for d in writes)
    assert after[f"cmdstat_{claim}"] - before.get(f"cmdstat_{claim}", 0) == sum(POPS[claim] in d for d in trips)


@pytest.mark.parametrize("claims", ["reliable", "base"])
def test_a_batch_of_one_switches_batching_off(server: Server, front: Front, claims: str) -> None:
    app = App()
    app.handler(lambda request: "x")
    front.redis.rpush(front.queue, *[front.job()[1] for _ in range(50)])
    before = calls(front.redis)
    command = "blmpop" if claims == "base" else "evalsha"
    with running(app, server.url, batch=1, claims=claims):
        front.answers(50)
    assert calls(front.redis)[f"cmdstat_{command}"] - before.get(f"cmdstat_{command}", 0) >= 50


def test_answers_of_one_batch_reach_every_front_that_waits(server: Server, front: Front) -> None:
    app = App()
    app.handler(lambda request: request.path)
    other = Front(front.redis, "tempest:@otherfront.3")
    for each in range(40):
        (front if each % 2 else other).push(f"/{each}", id=f"r{each}")
    with running(app, server.url):
        mine, theirs = front.answers(20), other.answers(20)
    assert {each.body for each in mine.values()} == {b"/%d" % each for each in range(1, 40, 2)}
    assert {each.body for each in theirs.values()} == {b"/%d" % each for each in range(0, 40, 2)}


def test_the_size_grows_while_jobs_wait_and_shrinks_with_slow_ones() -> None:
    size = BatchSize(64)
    limits = []
    for _ in range(8):
        limits.append(size.limit)
        size.claimed(size.limit)
        size.ran(limits[-1], 0.0001 * limits[-1])
    assert limits == [1, 2, 4, 8, 16, 32, 64, 64]
    size.claimed(0)
    assert size.limit == 1
    size.claimed(1)
    assert size.limit == 2
    size.claimed(64)
    size.ran(10, 0.1)
    assert size.limit == 2, "what runs 10 ms is taken two at a time: 20 ms"
    size.ran(1, 0.5)
    assert size.limit == 1
    for _ in range(40):
        size.claimed(size.limit)
        size.ran(size.limit, 0.0001 * size.limit)
    assert size.limit == 64, "one slow job is forgotten in time"


def test_slow_handlers_are_claimed_one_by_one(server: Server, front: Front) -> None:
    """While one runs, the others wait in Redis, where every worker can take them."""
    app, go = App(), threading.Semaphore(0)

    @app.handler
    def slow(request: Request) -> str:
        time.sleep(0.03)  # the subject of the test: a handler that takes time
        if request.path == "/look":
            assert go.acquire(timeout=LIMIT)
        return "x"

    with running(app, server.url):
        for _ in range(4):
            front.push()
        front.answers(4)
        front.redis.rpush(front.queue, *[front.job("/look")[1] for _ in range(3)])
        eventually(lambda: front.redis.llen(front.queue) == 2, "the first was not taken")
        go.release(3)
        front.answers(3)


class Four(BatchSize):
    """Every claim takes up to four jobs, whatever they cost."""

    def __init__(self, largest: int) -> None:
        super().__init__(largest)
        self.limit = 4

    def claimed(self, count: int) -> None:
        pass

    def ran(self, count: int, seconds: float) -> None:
        pass


@pytest.fixture
def four_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempest_worker._loop.BatchSize", Four)


@pytest.mark.usefixtures("four_at_a_time")
def test_a_long_job_gives_back_those_behind_it_and_sends_those_before_it(server: Server, front: Front) -> None:
    app, begun, go = App(), threading.Event(), threading.Event()

    @app.handler
    def handler(request: Request) -> str:
        if request.path == "/long":
            begun.set()
            assert go.wait(LIMIT)
        return request.path

    jobs = [front.job(path) for path in ("/before", "/long", "/behind-1", "/behind-2")]
    front.redis.rpush(front.queue, *[message for _, message in jobs])
    with running(app, server.url):
        assert begun.wait(LIMIT)
        assert front.answer().body == b"/before", "an answer waited behind a long job"
        # Given back in their order, and other workers can take them while the long job runs.
        eventually(lambda: front.redis.llen(front.queue) == 2, "jobs are held behind a long one")
        assert front.redis.lrange(front.queue, 0, -1) == [jobs[2][1], jobs[3][1]]
        other = App()
        other.handler(lambda request: f"other took {request.path}")
        with running(other, server.url):
            assert [front.answer().body for _ in range(2)] == [b"other took /behind-1", b"other took /behind-2"]
        go.set()
        assert front.answer(jobs[1][0]).body == b"/long"


@pytest.mark.usefixtures("four_at_a_time")
def test_an_early_answer_does_not_wait_for_its_batch(
    server: Server, front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop itself sends early, without the helper."""
    monkeypatch.setattr(Relief, "look", lambda self, loop, now: None)
    app, go = App(), threading.Event()

    @app.handler
    def handler(request: Request) -> str:
        if request.path == "/third":
            assert go.wait(LIMIT)
        time.sleep(2 * FLUSH_SECONDS)  # the subject of the test: a handler that takes time
        return request.path

    front.redis.rpush(front.queue, *[front.job(path)[1] for path in ("/first", "/second", "/third")])
    with running(app, server.url):
        assert [front.answer().body for _ in range(2)] == [b"/first", b"/second"]
        go.set()
        assert front.answer().body == b"/third"


def test_the_server_decides_how_jobs_are_popped(server: Server) -> None:
    clock, address = Clock(), Address(server.url)
    link = Link(address, "test", clock, Outages(address))
    for version, command in (((7, 0), b"BLMPOP"), ((8, 2), b"BLMPOP"), ((6, 2), b"BLPOP"), ((0, 0), b"BLPOP")):
        claimer = BaseClaimer("tempest:web")
        link.server_version = version
        claimer.connected(link)
        packed, _, _ = claimer.claim(8, 1)
        assert command in packed


def test_threads_run_handlers_side_by_side(server: Server, front: Front) -> None:
    app, together = App(), threading.Barrier(4, timeout=LIMIT)

    @app.handler
    def meet(request: Request) -> str:
        together.wait()
        return "met"

    with running(app, server.url, concurrency=4):
        for _ in range(4):
            front.push()
        assert {each.body for each in front.answers(4).values()} == {b"met"}


def test_nothing_is_lost_or_doubled_by_many_threads(server: Server, front: Front) -> None:
    app, ran, lock = App(), {}, threading.Lock()  # type: ignore[var-annotated]

    @app.handler
    def count(request: Request) -> Any:
        with lock:
            ran[request.id] = ran.get(request.id, 0) + 1
        return "x"

    ids = set()
    with running(app, server.url, concurrency=8):
        for _ in range(20):
            jobs = [front.job() for _ in range(50)]
            ids |= {request_id for request_id, _ in jobs}
            front.redis.rpush(front.queue, *[message for _, message in jobs])
        assert set(front.answers(1000)) == ids
    assert set(ran.values()) == {1}


@pytest.mark.usefixtures("four_at_a_time")
def test_a_long_job_holds_no_places_of_those_before_it(server: Server, front: Front) -> None:
    """Another claiming thread waits for them."""
    app, begun, go = App(), threading.Event(), threading.Event()

    @app.handler
    def handler(request: Request) -> str:
        if request.path == "/long":
            begun.set()
            assert go.wait(LIMIT)
        return request.path

    @app.get("/coroutine")
    async def coroutine(request: Request) -> str:
        return request.path

    front.redis.rpush(front.queue, *[front.job(path)[1] for path in ("/1", "/2", "/3", "/long")])
    with running(app, server.url, concurrency=2, async_concurrency=4):
        assert begun.wait(LIMIT)
        assert [front.answer().body for _ in range(3)] == [b"/1", b"/2", b"/3"]
        assert front.ask("/coroutine").body == b"/coroutine"
        assert front.ask("/4").body == b"/4"
        go.set()
        assert front.answer().body == b"/long"


@pytest.mark.parametrize("concurrency", [1, 3])
def test_every_place_is_given_back(server: Server, front: Front, concurrency: int) -> None:
    app = App()
    app.handler(lambda request: request.path)

    @app.get("/coroutine")
    async def coroutine(request: Request) -> str:
        return request.path

    with running(app, server.url, concurrency=concurrency, async_concurrency=50):
        worker = app._worker
        for _ in range(3):
            paths = ["/x", "/coroutine"] * 60
            front.redis.rpush(front.queue, *[front.job(path)[1] for path in paths], b"no job")
            front.answers(120)
    assert worker is not None
    assert worker._runner is not None
    assert worker._runner.free == 50


def test_who_waits_for_a_place_is_woken(server: Server, front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempest_worker._runner._LOOK_SECONDS", 10 * LIMIT)
    app, begun, go = App(), threading.Event(), threading.Event()

    @app.handler
    async def handler(request: Request) -> str:
        begun.set()
        while not go.is_set():
            await asyncio.sleep(0.005)
        return "x"

    with running(app, server.url, async_concurrency=1):
        worker = app._worker
        assert worker is not None
        front.push()
        front.push()
        assert begun.wait(LIMIT)
        eventually(lambda: worker._runner is not None and worker._runner._waiting == 1, "nobody waits")
        go.set()
        front.answers(2)
        go.clear()
        front.push()
        eventually(lambda: worker._runner is not None and worker._runner.running, "the third was not taken")
        go.set()
        front.answers(1)
