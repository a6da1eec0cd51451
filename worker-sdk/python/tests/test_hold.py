"""Answers that hand their connection to channels: what is sent, and what is refused before it is."""

from __future__ import annotations

import asyncio
from typing import Any, Dict

import pytest
from support import Front, Server, running

from tempest_worker import App, Hold, Request, Response, hold


def stream() -> Response:
    return hold(["orders.42", "n\u00e9ws"], first='wel"come\n', history="earliest", headers={"x-a": "b"}, timeout=1.5)


def once() -> Response:
    return hold((name for name in ["a"]), once=True, timeout=60, status=202, content_type="application/json")


HELD: Dict[str, Any] = {"channels": ["a"], "mode": "stream", "timeout": None, "first": None, "history": None}


def test_a_hold_is_sent_as_the_contract_says(server: Server, front: Front) -> None:
    app = App()
    results = {"/stream": stream, "/once": once, "/class": lambda: Response(None, hold=Hold(("a",)))}

    @app.get("/plain/{rest:path}")
    def plain(request: Request) -> Response:
        return results["/" + request.params["rest"]]()

    @app.get("/async/{rest:path}")
    async def coroutine(request: Request) -> Response:
        await asyncio.sleep(0)
        return results["/" + request.params["rest"]]()

    with running(app, server.url):
        for way in ("/plain", "/async"):
            answer = front.ask(way + "/stream")
            assert (answer.status, answer.headers, answer.body) == (200, [("x-a", "b")], b"")
            full = {"channels": ["orders.42", "n\u00e9ws"], "timeout": 1500, "history": "earliest"}
            assert answer.hold == {**HELD, **full, "first": 'wel"come\n'}
            answer = front.ask(way + "/once")
            assert (answer.status, answer.header("content-type")) == (202, "application/json")
            assert answer.hold == {**HELD, "mode": "once", "timeout": 60_000}
            assert front.ask(way + "/class").hold == HELD
            assert front.ask(way + "/stream", "HEAD").hold is not None


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"channels": []}, "1 to 64 channels"),
        ({"channels": ["a"] * 65}, "1 to 64 channels"),
        ({"channels": [""]}, "no name of a channel"),
        ({"channels": ["x" * 1025]}, "no name of a channel"),
        ({"channels": ["a\x85b"]}, "no name of a channel"),
        ({"channels": "news"}, "a list of channels"),
        ({"channels": [5]}, "is a text"),
        ({"once": 1}, "True or False"),
        ({"timeout": 0}, "0.001 to 86400 seconds"),
        ({"timeout": 86_400.1}, "0.001 to 86400 seconds"),
        ({"timeout": float("nan")}, "0.001 to 86400 seconds"),
        ({"timeout": "5"}, "number of seconds"),
        ({"first": b"x"}, "is a text"),
        ({"first": "\ud800"}, "surrogates"),
        ({"channels": ["\ud800"]}, "surrogates"),
        ({"first": "x", "once": True}, "no first one"),
        ({"history": "a b"}, "no start point"),
        ({"history": ""}, "no start point"),
    ],
)
def test_what_no_front_would_take_is_refused_at_once(arguments: Dict[str, Any], why: str) -> None:
    with pytest.raises((ValueError, TypeError), match=why):
        hold(**{"channels": ["a"], **arguments})


def test_limits_hold_at_their_edges() -> None:
    for good in ({"channels": ["x" * 1024] * 64}, {"timeout": 0.001}, {"timeout": 86_400}, {"first": ""}):
        arguments: Dict[str, Any] = {"channels": ["a"], **good}
        assert hold(**arguments).hold is not None


@pytest.mark.parametrize(
    "response",
    [
        lambda: Response("text", hold=Hold(("a",))),
        lambda: Response((part for part in ["a"]), hold=Hold(("a",))),
        lambda: Response({}, hold=Hold(("a",))),
        lambda: hold(["a"], status=201),
        lambda: hold(["a"], once=True, status=204),
    ],
)
def test_an_answer_that_cannot_hold_is_a_500(server: Server, front: Front, response: Any) -> None:
    app = App()

    @app.handler
    def handler(_: Request) -> Response:
        made: Response = response()
        return made

    with running(app, server.url):
        assert front.ask().status == 500
