"""Reliable mode, point by point: what is in Redis while a job is held, and who takes it back."""

from __future__ import annotations

import json
import signal
import threading
from typing import Any, Dict, List

import pytest
from contract import CLAIMERS, TAG, claimed, reap
from support import LIMIT, Front, Process, Server, eventually, left, running
from test_batches import Four

from tempest_worker import App, Request
from tempest_worker._link import Link
from tempest_worker._relief import Relief

RECORD = TAG + "worker:w-1"


@pytest.fixture(autouse=True)
def name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPEST_WORKER_ID", "w-1")


@pytest.fixture
def four_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempest_worker._loop.BatchSize", Four)


@pytest.fixture
def no_relief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Relief, "look", lambda self, loop, now: None)


class Gate:
    """A handler that says that it began, and waits."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        self.seen: List[Request] = []

    def __call__(self, request: Request) -> str:
        self.seen.append(request)
        if "hold" in request.path or "hold" in request.action:
            self.begun.set()
            assert self.go.wait(LIMIT)
        return request.path


def registration(front: Front, worker: str = "w-1") -> List[bytes]:
    text: bytes = eventually(lambda: front.redis.hget(CLAIMERS, worker), "it did not register")
    return text.split()


def test_the_registration_names_both_connections(server: Server, front: Front) -> None:
    app = App()
    app.handler(lambda request: "x")
    with running(app, server.url):
        assert front.redis.exists(RECORD) or registration(front), "the record is written first"
        eventually(lambda: registration(front)[2] != b"0", "the helper's connection is not named")
        run_id, claiming, helping = registration(front)
        assert run_id.decode() == front.redis.info("server")["run_id"]
        ids = {each["id"].encode(): each["name"] for each in front.redis.client_list()}
        assert ids[claiming].endswith(":claim-0")
        assert ids[helping].endswith(":helper")
    assert left(front.redis) == []


def test_a_worker_whose_id_is_taken_takes_another(
    server: Server, front: Front, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = App(), App()
    first.handler(lambda request: "x")
    second.handler(lambda request: "x")
    with running(first, server.url):
        registration(front)
        with running(second, server.url):
            names = eventually(lambda: front.redis.hlen(CLAIMERS) == 2 and front.redis.hkeys(CLAIMERS), "only one")
            other = next(each for each in names if each != b"w-1")
            assert other.startswith(b"w-1-")
            eventually(lambda: front.redis.exists(f"{TAG}worker:{other.decode()}"), "it has no record")
            front.ask()
    assert "the worker id w-1 is taken" in caplog.text


def test_a_job_stays_in_redis_until_it_is_answered(server: Server, front: Front) -> None:
    app, gate = App(), Gate()
    app.handler(gate)
    with running(app, server.url):
        front.ask("/before")
        request_id, job = front.job("/hold")
        front.redis.rpush(front.queue, job)
        assert gate.begun.wait(LIMIT)
        held = claimed(front.redis, "w-1")
        assert held.pop(0) == b"2", "the second claim counts as started"
        assert list(held.values()) == [job]
        gate.go.set()
        front.answer(request_id)
        eventually(lambda: list(claimed(front.redis, "w-1")) == [0], "it was not acknowledged")


def test_scripts_wait_for_nothing_while_there_is_work(
    server: Server, front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: List[bytes] = []
    write = Link.write
    monkeypatch.setattr(Link, "write", lambda self, data: (writes.append(data), write(self, data))[1])
    app = App()
    app.handler(lambda request: "x")
    front.redis.rpush(front.queue, *[front.job()[1] for _ in range(640)])
    with running(app, server.url):
        front.answers(640)
    trips = [data for data in writes if b":landing:" in data and b"EVALSHA" in data and b":withdrawn" in data]
    waits = [at for at, data in enumerate(trips) if b"BLMOVE" in data]
    assert 7 < len(trips) < 40
    assert all(at >= 7 for at in waits), "it waited while there was work"
    answering = [data for data in trips if b"RPUSH" in data]
    assert answering
    for data in answering:
        # In this order, in one write: answers, one acknowledgement of all of them, the next claim.
        assert data.count(b"HDEL") == 1
        assert data.index(b"RPUSH") < data.index(b"HDEL") < data.index(b"EVALSHA")


@pytest.mark.usefixtures("four_at_a_time", "no_relief")
@pytest.mark.parametrize("job", [{"method": "POST"}, {"action": "x.y", "reply_to": None, "method": None}])
def test_what_must_not_run_twice_is_marked_before_it_starts(server: Server, front: Front, job: Dict[str, Any]) -> None:
    app, marks = App(), []  # type: ignore[var-annotated]

    def look(request: Request) -> str:
        assert request.claim is not None
        marks.append((request.claim[1], int(front.redis.hget(f"{TAG}claimed:w-1", "started") or 0)))  # type: ignore
        return "x"

    app.handler(look)
    app.action("x.y")(look)
    front.redis.rpush(front.queue, *[front.job(**job)[1] for _ in range(6)])
    with running(app, server.url):
        eventually(lambda: len(marks) == 6, "not all of them ran")
        if "action" not in job:
            front.answers(6)
    assert [number for number, _ in marks] == [1, 2, 3, 4, 5, 6]
    assert all(number <= mark for number, mark in marks)


@pytest.mark.usefixtures("four_at_a_time", "no_relief")
def test_what_was_taken_away_before_it_started_is_not_run_and_what_ran_is_not_answered(
    server: Server, front: Front, caplog: pytest.LogCaptureFixture
) -> None:
    app, gate = App(), Gate()
    app.handler(gate)
    front.redis.rpush(front.queue, *[front.job(path, "POST")[1] for path in ("/hold", "/behind", "/behind")])
    with running(app, server.url):
        assert gate.begun.wait(LIMIT)
        assert reap(front.redis, "w-1") == [3, 0, 0]
        lost = [json.loads(each) for each in front.redis.lrange(TAG + "lost", 0, -1)]
        assert [each["started"] for each in lost] == [False, False, True]
        gate.go.set()
        # It is told behind its answer, which the front drops. It begins anew, and works.
        assert front.answer().body == b"/hold"
        assert front.ask("/after").body == b"/after"
        assert front.redis.hkeys(CLAIMERS) == [b"w-1"]
        assert [each.path for each in gate.seen] == ["/hold", "/after"]
        assert gate.seen[0].cancelled
        worker = app._worker
    assert worker is not None
    assert worker._loops[0].courier.lost >= 1
    front.redis.delete(TAG + "lost")


def test_a_worker_that_learns_of_its_death_from_a_reconnect_answers_no_more(server: Server, front: Front) -> None:
    app, gate = App(), Gate()
    app.handler(gate)
    with running(app, server.url):
        front.push("/hold")
        assert gate.begun.wait(LIMIT)
        # Asked before: its next beat may tell the worker first, and then it makes the connection anew by itself.
        helper = next(each["id"] for each in front.redis.client_list() if each["name"].endswith(":helper"))
        assert reap(front.redis, "w-1") == [1, 0, 0]
        front.redis.client_kill_filter(_id=int(helper))
        eventually(lambda: gate.seen[0].cancelled, "it does not know that it was declared dead")
        gate.go.set()
        assert front.ask("/after").body == b"/after"
    front.redis.delete(TAG + "lost")


def test_what_is_dropped_is_acknowledged(server: Server, front: Front) -> None:
    app = App()
    app.handler(lambda request: "x")
    with running(app, server.url):
        front.redis.rpush(front.queue, b"no job", front.job(deadline=1)[1], front.job(reply_to="elsewhere")[1])
        front.ask()
        eventually(lambda: list(claimed(front.redis, "w-1")) == [0], "something is held")


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_stream_is_acknowledged_behind_its_last_message(server: Server, front: Front, asynchronous: bool) -> None:
    import asyncio

    app, go = App(), threading.Event()

    @app.get("/plain")
    def plain(request: Request) -> Any:
        yield "one"
        assert go.wait(LIMIT)
        yield "two"

    @app.get("/async")
    async def coroutine(request: Request) -> Any:
        yield "one"
        await asyncio.to_thread(go.wait, LIMIT)
        yield "two"

    with running(app, server.url):
        front.push("/async" if asynchronous else "/plain")
        assert front.message().body == b"one"
        assert len(claimed(front.redis, "w-1")) == 2
        go.set()
        assert (front.message().body, front.message().more) == (b"two", False)
        eventually(lambda: list(claimed(front.redis, "w-1")) == [0], "it was not acknowledged")


def test_crashes_count_as_attempts_and_are_forgotten_when_the_job_is_done(server: Server, front: Front) -> None:
    app, seen = App(), []

    @app.action("x.y")
    def action(request: Request) -> None:
        seen.append(request.attempt)

    front.redis.hset(TAG + "attempts", "crashed", 2)
    with running(app, server.url):
        front.push(action="x.y", reply_to=None, id="other")
        front.push(action="x.y", reply_to=None, id="crashed")
        eventually(lambda: len(seen) == 2, "they did not run")
        eventually(lambda: not front.redis.exists(TAG + "attempts"), "the count is still there")
    assert seen == [1, 3]


def test_the_count_of_a_job_that_was_taken_away_is_not_forgotten(server: Server, front: Front) -> None:
    app, gate = App(), Gate()
    app.action("hold")(gate)
    app.action("quick")(lambda request: None)
    counts = TAG + "attempts"
    front.redis.hset(counts, mapping={"b-1": 1, "b-2": 1})
    with running(app, server.url):
        front.push(action="hold", reply_to=None, id="b-1")
        assert gate.begun.wait(LIMIT)
        # As a reaper does, but for the registration.
        front.redis.hdel(f"{TAG}claimed:w-1", "1")
        front.redis.hincrby(counts, "b-1", 1)
        gate.go.set()
        front.push(action="quick", reply_to=None, id="b-2")
        eventually(lambda: not front.redis.hexists(counts, "b-2"), "the other count is still there")
    assert front.redis.hgetall(counts) == {b"b-1": b"2"}
    front.redis.delete(counts)


@pytest.mark.parametrize("class_", ["high", "low"])
def test_a_strangers_push_to_another_priority_is_found(server: Server, front: Front, class_: str) -> None:
    app = App()
    app.handler(lambda request: request.path)
    with running(app, server.url):
        front.ask()
        front.redis.rpush(TAG + class_, front.job("/urgent")[1])
        assert front.answer().body == b"/urgent"


@pytest.mark.usefixtures("no_relief")
def test_urgent_jobs_come_first_and_nobody_starves(server: Server, front: Front) -> None:
    app, order = App(), []

    @app.handler
    def handler(request: Request) -> str:
        order.append(request.path)
        return "x"

    for class_, key in (("/high", TAG + "high"), ("/normal", front.queue), ("/low", TAG + "low")):
        front.redis.rpush(key, *[front.job(class_)[1] for _ in range(40)])
    with running(app, server.url):
        front.answers(120)
    assert len(order) == 120
    for at in range(0, 40, 10):
        ten = order[at : at + 10]
        assert (ten.count("/high"), ten.count("/normal"), ten.count("/low")) == (7, 2, 1)


def test_scripts_that_redis_forgot_are_loaded_again(server: Server, front: Front) -> None:
    app = App()
    app.handler(lambda request: request.path)
    with running(app, server.url):
        front.ask()
        front.redis.script_flush()
        assert front.ask("/after").body == b"/after"
        front.redis.script_flush()
        assert front.ask("/again").body == b"/again"


# Before 7.0 a subcommand can be allowed, and not be refused.
@pytest.mark.parametrize("refused", ["-evalsha", "-blmove", "-client +client|setname +client|kill", "-script"])
def test_who_may_not_claim_pops_and_says_so_once(
    server: Server, front: Front, caplog: pytest.LogCaptureFixture, refused: str
) -> None:
    front.redis.execute_command("ACL", "SETUSER", "small", "reset", "on", ">pw", "~*", "&*", "+@all", *refused.split())
    app = App()
    app.handler(lambda request: request.path)
    with running(app, server.url.replace("redis://", "redis://small:pw@"), concurrency=2):
        for _ in range(10):
            assert front.ask("/x").body == b"/x"
        eventually(lambda: front.redis.exists(RECORD), "it is not listed")
    assert caplog.text.count("jobs are popped (base mode)") == 1


def test_base_mode_claims_nothing(server: Server, front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPEST_CLAIMS", "base")
    app = App()
    app.handler(lambda request: "x")
    with running(app, server.url):
        front.ask()
        assert not front.redis.exists(CLAIMERS, TAG + "stats")
    monkeypatch.setenv("TEMPEST_CLAIMS", "both")
    with pytest.raises(ValueError, match="TEMPEST_CLAIMS is 'both'"):
        app.run()


def test_redis_itself_stands_above_what_leads_to_a_supervisor(
    server: Server, front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEMPEST_REDIS_URL", server.url)
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    app = App()
    app.handler(lambda request: "x")
    with running(app, None):  # type: ignore[arg-type]
        front.ask()
        assert app.publish("channel", "x") == 0


@pytest.mark.usefixtures("four_at_a_time", "no_relief")
def test_a_stop_gives_back_what_was_not_started(server: Server, front: Front) -> None:
    app, gate = App(), Gate()
    app.handler(gate)
    jobs = [front.job(path, "POST")[1] for path in ("/hold", "/2", "/3", "/4", "/5")]
    front.redis.rpush(front.queue, *jobs)
    with running(app, server.url) as thread:
        assert gate.begun.wait(LIMIT)
        app.stop()
        gate.go.set()
        thread.join(LIMIT)
        assert front.answer().body == b"/hold"
    assert front.redis.lrange(front.queue, 0, -1) == jobs[1:]
    front.redis.delete(front.queue)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_kill_9_leaves_what_was_held_to_the_reaper(server: Server, front: Front, method: str) -> None:
    worker = Process(server.url, "app_for_processes:app")
    try:
        worker.wait_for_line("takes jobs from tempest:web")
        running_id, job = front.job("/hold", method)
        background = front.job(action="hold", reply_to=None)[1]
        front.redis.rpush(front.queue, job)
        assert front.redis.blpop(["begun"], timeout=LIMIT)
        assert reap(front.redis, "w-1", certain=False) == [-1], "its record says that it lives"
        worker.process.kill()
        worker.process.wait(LIMIT)
        assert list(claimed(front.redis, "w-1").values()) == [b"1", job] or claimed(front.redis, "w-1")[1] == job
        assert reap(front.redis, "w-1") == [1, 0, 0]
        lost = json.loads(front.redis.lpop(TAG + "lost"))  # type: ignore[arg-type]
        assert lost == {
            "id": running_id,
            "attempt": 1,
            "reply_to": front.reply_to,
            "started": True,
            "certain": True,
            "worker": "w-1",
        }
        assert background
    finally:
        worker.end()
    assert left(front.redis) == []


def test_a_worker_that_was_stopped_in_its_claim_asks_before_it_starts(server: Server, front: Front) -> None:
    worker = Process(server.url, "app_for_processes:app")
    try:
        worker.wait_for_line("takes jobs from tempest:web")
        front.redis.rpush(front.queue, front.job("/fast", "POST", id="r-0")[1])
        assert front.answer().id == "r-0"
        eventually(lambda: _waits(front), "it does not wait")
        worker.process.send_signal(signal.SIGSTOP)
        # What waits for it in Redis takes the job all the same.
        front.redis.rpush(front.queue, front.job(action="hold", reply_to=None, id="b-1")[1])
        eventually(lambda: claimed(front.redis, "w-1"), "it was not claimed")
        eventually(lambda: not front.redis.exists(RECORD), "the record has no end")
        assert reap(front.redis, "w-1", certain=False) == [0, 1, 0]
        front.redis.delete(front.queue)
        worker.process.send_signal(signal.SIGCONT)
        front.redis.rpush(front.queue, front.job("/fast", "POST", id="r-1")[1])
        assert front.answer().id == "r-1"
        assert front.redis.llen("begun") == 0, "the job was another's by then"
        worker.process.terminate()
        assert worker.wait() == 0
    finally:
        worker.end()
    front.redis.delete(TAG + "attempts")


def _waits(front: Front) -> bool:
    clients: Any = front.redis.client_list()
    return any(each["cmd"] == "blmove" and "b" in each["flags"] for each in clients)


def test_a_background_job_is_back_in_the_queue_after_kill_9(server: Server, front: Front) -> None:
    worker = Process(server.url, "app_for_processes:app")
    try:
        worker.wait_for_line("takes jobs from tempest:web")
        _, job = front.job(action="hold", reply_to=None, id="b-1")
        front.redis.rpush(front.queue, job)
        assert front.redis.blpop(["begun"], timeout=LIMIT)
        worker.process.kill()
        worker.process.wait(LIMIT)
        assert reap(front.redis, "w-1") == [0, 1, 0]
        assert front.redis.lrange(front.queue, 0, -1) == [job]
        assert front.redis.hgetall(TAG + "attempts") == {b"b-1": b"1"}
    finally:
        worker.end()
    front.redis.delete(front.queue, TAG + "attempts")
