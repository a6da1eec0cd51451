"""Connections that break all the time: every job is answered, none runs twice, and nobody is declared dead for it."""

from __future__ import annotations

import threading
import time
from typing import Any, Dict, Iterator, List

import pytest
import redis
from contract import Watchman
from support import LIMIT, Front, Server, running

from tempest_worker import App, Request

#: The jobs of a round; every tenth is a POST that takes a while.
COUNT = 400
KILL_SECONDS = 0.05


class Killer(threading.Thread):
    """Kills every connection of the worker in turn, one each 50 ms."""

    def __init__(self, client: redis.Redis) -> None:
        super().__init__()
        self._client = client
        self.ended = threading.Event()
        self.kills = 0

    def run(self) -> None:
        while not self.ended.is_set():
            own: Any = self._client.execute_command("CLIENT LIST")
            ids = [each["id"] for each in own if each["name"].startswith("tempest-worker:")]
            for each in ids:
                self.kills += int(self._client.client_kill_filter(_id=each))
                self.ended.wait(KILL_SECONDS)


@pytest.fixture
def watchman(server: Server) -> Iterator[Watchman]:
    it = Watchman(server.client())
    it.start()
    yield it
    it.ended.set()
    it.join(LIMIT)


@pytest.mark.parametrize(("concurrency", "asynchronous"), [(1, False), (3, False), (1, True)])
def test_every_job_is_answered_and_none_runs_twice(
    server: Server, front: Front, watchman: Watchman, concurrency: int, asynchronous: bool
) -> None:
    app, lock = App(), threading.Lock()
    ran: Dict[str, int] = {}

    def count(request: Request) -> None:
        with lock:
            ran[request.id] = ran.get(request.id, 0) + 1

    @app.route("/{what}", methods=["GET", "POST"])
    def work(request: Request) -> str:
        count(request)
        time.sleep({"slow": 1.0, "some": 0.02}.get(request.params["what"], 0))  # the subject: jobs outlast connections
        return request.path

    @app.route("/async/{what}", methods=["GET", "POST"])
    async def coroutine(request: Request) -> str:
        import asyncio

        count(request)
        await asyncio.sleep({"slow": 1.0, "some": 0.02}.get(request.params["what"], 0))
        return request.path

    killer = Killer(server.client())
    ids: List[str] = []
    with running(app, server.url, concurrency=concurrency):
        front.ask("/none")
        killer.start()
        try:
            for at in range(COUNT):
                what = "slow" if at % 200 == 7 else "some" if at % 10 == 0 else "none"
                path = f"/async/{what}" if asynchronous else f"/{what}"
                ids.append(front.push(path, "POST" if at % 3 else "GET"))
                if at % 100 == 99:
                    time.sleep(0.3)  # so that some arrive while the worker waits
            got = {}
            while len(got) < COUNT:
                answer = front.answer()
                got[answer.id] = answer.body
        finally:
            killer.ended.set()
            killer.join(LIMIT)
        worker = app._worker
    assert worker is not None
    assert worker._runner is not None
    assert worker._runner.free == 100, "places among the coroutines were lost, or made up"
    assert set(got) == set(ids)
    assert killer.kills > 20
    assert watchman.reaped == []
    assert {count for count in ran.values()} == {1}
    # An answer may come twice: the front drops it by id, attempt and n.
    front.redis.delete(front.reply_to)
