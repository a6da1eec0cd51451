"""The application that tests run as a process of its own. Not a test."""

from __future__ import annotations

import os

import redis

from tempest_worker import App, Request

app = App()
not_an_app = 7


@app.get("/fast")
def fast(request: Request) -> str:
    return "fast"


@app.action("hold")
@app.route("/hold", ["GET", "POST"])
def hold(request: Request) -> str:
    """Says that it began, then waits to be let go."""
    client = redis.Redis.from_url(os.environ["REDIS_URL"], socket_timeout=60)
    client.rpush("begun", request.id)
    client.blpop(["go"], timeout=30)
    return "held"
