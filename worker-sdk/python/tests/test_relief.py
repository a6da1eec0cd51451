"""A slow job in a batch, with another worker that has nothing to do: two real processes."""

from __future__ import annotations

import time
from typing import Dict, Iterator, List

import pytest
from contract import TAG
from support import Front, Process, Server, eventually, left

#: Seconds that the contract's promise gives a job behind a slow one.
PROMISED = 0.1
#: What a busy machine may add before the test fails; the slow job takes far longer.
NOISE = 0.5


@pytest.fixture
def workers(server: Server, front: Front) -> Iterator[List[Process]]:
    env = {"TEST_BATCH": "10"}
    found = [Process(server.url, "app_for_processes:app", TEMPEST_WORKER_ID=f"w-{each}", **env) for each in (1, 2)]
    for each in found:
        each.wait_for_line("takes jobs from tempest:web")
    eventually(lambda: front.redis.hlen(TAG + "claimers") == 2, "they did not register")
    yield found
    for each in found:
        each.process.terminate()
    for each in found:
        assert each.wait() == 0
        each.end()
    assert left(front.redis) == []


@pytest.mark.parametrize("slow", ["/sleep", "/compute"])
@pytest.mark.parametrize("at", [0, 5])
def test_nine_jobs_do_not_wait_for_the_tenth(front: Front, workers: List[Process], slow: str, at: int) -> None:
    paths = ["/fast"] * 10
    paths[at] = slow
    jobs = [front.job(each, "POST") for each in paths]
    began = time.monotonic()
    front.redis.rpush(front.queue, *[message for _, message in jobs])
    took: Dict[str, float] = {}
    while len(took) < 10:
        answer = front.answer()
        assert answer.status == 200, answer
        took[answer.id] = time.monotonic() - began
    slow_id = jobs[at][0]
    others = [seconds for request_id, seconds in took.items() if request_id != slow_id]
    assert took[slow_id] > 1.5, "the slow job is not slow"
    assert max(others) < PROMISED + NOISE, f"a fast job took {max(others):.3f} s"
