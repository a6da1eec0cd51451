"""The application that tests run as a process of its own. Not a test."""

from __future__ import annotations

import os
import time
from typing import Dict

import redis

from tempest_worker import App, Request
from tempest_worker._batch import BatchSize

if "TEST_BATCH" in os.environ:
    # Every claim takes as many jobs as it may.
    BatchSize.claimed = lambda self, count: None  # type: ignore[method-assign,assignment,misc]
    BatchSize.ran = lambda self, count, seconds: None  # type: ignore[method-assign,assignment,misc]
    BatchSize.limit = property(lambda self: int(os.environ["TEST_BATCH"]), lambda self, limit: None)  # type: ignore

app = App()
not_an_app = 7


@app.route("/fast", ["GET", "POST"])
def fast(request: Request) -> str:
    return "fast"


@app.route("/sleep", ["GET", "POST"])
def sleep(request: Request) -> str:
    time.sleep(2)
    return "slept"


@app.route("/compute", ["GET", "POST"])
def compute(request: Request) -> Dict[str, int]:
    """Holds Python's global lock as often as the interpreter lets it."""
    ends, count = time.monotonic() + 2, 0
    while time.monotonic() < ends:
        count += 1
    return {"count": count}


@app.action("hold")
@app.route("/hold", ["GET", "POST"])
def hold(request: Request) -> str:
    """Says that it began, then waits to be let go."""
    client = redis.Redis.from_url(os.environ["REDIS_URL"], socket_timeout=60)
    client.rpush("begun", request.id)
    client.blpop(["go"], timeout=30)
    return "held"
