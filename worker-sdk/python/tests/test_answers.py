"""What a handler returns and what the front then reads; by every way of claiming."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Iterator

import pytest
from support import Front, Server, running

from tempest_worker import App, Request, Response
from tempest_worker._answer import usual, whole
from tempest_worker._clock import Clock
from tempest_worker._response import to_response


def app_of_everything() -> App:
    app = App()

    @app.handler
    def anything(request: Request) -> Any:
        return RESULTS[request.path](request)

    return app


RESULTS = {
    "/str": lambda _: "gr\u00fc\u00dfe \U0001f600",
    "/bytes": lambda _: b"\0\xff\n",
    "/empty": lambda _: "",
    "/dict": lambda _: {"a": [1, None], "\u00fc": "\U0001f600"},
    "/list": lambda _: [1, 2],
    "/none": lambda _: None,
    "/status": lambda _: (201, "made"),
    "/status-dict": lambda _: (422, {"error": "no"}),
    "/three": lambda _: (302, b"", {"location": "/x"}),
    "/response": lambda _: Response("<p>", 203, {"set-cookie": ["a=1", "b=2"]}, content_type="text/html"),
    "/own-type": lambda _: Response("{}", headers={"Content-Type": "application/problem+json"}),
    "/memoryview": lambda _: memoryview(b"view"),
    "/echo": lambda request: Response(request.body, content_type=request.headers["Content-Type"]),
    "/no-body": lambda _: (304, "a body nobody wants"),
    "/length": lambda _: Response("abc", headers={"Content-Length": 3}),
    "/facts": lambda request: {
        "method": request.method,
        "query": request.query,
        "args": dict(request.args),
        "peer": request.peer,
        "cookie": request.cookies.get("a"),
        "remaining": 30 < (request.remaining or 0) < 61,
        "attempt": request.attempt,
    },
}


@pytest.fixture(params=["blmpop", "lpop"])
def working(request: pytest.FixtureRequest, server: Server, front: Front) -> Iterator[Front]:
    with running(app_of_everything(), server.url, claim=request.param):
        yield front


TEXT, JSON, BYTES = "text/plain; charset=utf-8", "application/json", "application/octet-stream"


@pytest.mark.parametrize(
    ("path", "status", "kind", "body"),
    [
        ("/str", 200, TEXT, "gr\u00fc\u00dfe \U0001f600".encode()),
        ("/bytes", 200, BYTES, b"\0\xff\n"),
        ("/empty", 200, TEXT, b""),
        ("/dict", 200, JSON, '{"a":[1,null],"\u00fc":"\U0001f600"}'.encode()),
        ("/list", 200, JSON, b"[1,2]"),
        ("/none", 204, None, b""),
        ("/status", 201, TEXT, b"made"),
        ("/status-dict", 422, JSON, b'{"error":"no"}'),
        ("/three", 302, None, b""),
        ("/response", 203, "text/html", b"<p>"),
        ("/own-type", 200, "application/problem+json", b"{}"),
        ("/memoryview", 200, BYTES, b"view"),
        ("/no-body", 304, TEXT, b""),
        ("/length", 200, TEXT, b"abc"),
    ],
)
def test_each_kind_of_result(working: Front, path: str, status: int, kind: str, body: bytes) -> None:
    answer = working.ask(path)
    assert (answer.status, answer.header("content-type"), answer.body) == (status, kind, body)
    assert (answer.n, answer.attempt) == (0, 1)


def test_headers_of_a_response(working: Front) -> None:
    answer = working.ask("/response")
    assert [value for name, value in answer.headers if name == "set-cookie"] == ["a=1", "b=2"]
    assert working.ask("/three").header("location") == "/x"


def test_the_facts_of_a_request(working: Front) -> None:
    headers = {"cookie": 'a="1"; b=2'}
    answer = working.ask("/facts", "PATCH", query="x=%20&x=2&y", headers=headers, attempt=3, peer="[::1]:9")
    assert answer.attempt == 3
    assert json.loads(answer.body) == {
        "method": "PATCH",
        "query": "x=%20&x=2&y",
        "args": {"x": " ", "y": ""},
        "peer": "[::1]:9",
        "cookie": "1",
        "remaining": True,
        "attempt": 3,
    }


def test_a_binary_body_of_256_kib_there_and_back(working: Front) -> None:
    body = b"".join(hashlib.sha256(b"%d" % each).digest() for each in range(8192))
    assert len(body) == 256 * 1024
    request_id = working.push("/echo", "POST", body, headers={"content-type": "application/x-test"})
    parts = [working.message() for _ in range(5)]
    assert [(part.id, part.n, part.more) for part in parts] == [(request_id, n, n < 4) for n in range(5)]
    assert max(len(part.body) for part in parts) == 64 * 1024
    assert b"".join(part.body for part in parts) == body
    assert parts[0].header("content-length") == str(len(body))
    assert parts[0].header("content-type") == "application/x-test"


def test_a_body_of_just_64_kib_is_one_message(working: Front) -> None:
    body = b"\n" * (64 * 1024)
    working.push("/echo", "POST", body, headers={"content-type": "text/plain"})
    answer = working.message()
    assert (answer.body, answer.more) == (body, False)


def test_a_job_nobody_waits_for_runs_and_is_not_answered(server: Server, front: Front) -> None:
    app, ran = App(), []

    @app.action("image.resize")
    def resize(request: Request) -> str:
        ran.append((request.action, request.fields["width"], request.body, request.deadline, request.method))
        return "nobody reads this"

    @app.handler
    def other(request: Request) -> str:
        return "requests go elsewhere"

    with running(app, server.url):
        message = b'{"v":1,"id":"own-1","attempt":1,"queue":"web","action":"image.resize","width":3}\nimg'
        front.redis.rpush(front.queue, message)
        assert front.ask("/").body == b"requests go elsewhere"
    assert ran == [("image.resize", 3, b"img", None, "")]


def test_an_action_nobody_handles_is_501_where_somebody_waits(server: Server, front: Front) -> None:
    app = App()
    app.handler(lambda request: "ok")
    with running(app, server.url):
        front.push(action="other.thing", reply_to=None)
        assert front.ask(action="other.thing").status == 501


@pytest.mark.parametrize(
    "result",
    ["", "gr\u00fc\u00dfe", b"\0\n", {}, {"a": ["\u00fc", 1]}, [], [1], "x" * 16384, b"x" * 65536, ["x" * 65532]],
)
def test_a_usual_answer_is_the_one_that_any_response_becomes(result: Any) -> None:
    request = Request({"id": 'r"1', "action": "http", "method": "GET", "attempt": 2}, b"", Clock())
    assert [usual(request, result)] == whole(request, to_response(result))


@pytest.mark.parametrize("result", [None, b"", (200, "x"), "x" * 16385, b"x" * 65537, ["x" * 65533], bytearray(b"x")])
def test_what_is_not_usual_takes_the_long_way(result: Any) -> None:
    assert usual(Request({"id": "r", "action": "http"}, b"", Clock()), result) is None
