"""Which handler takes a request."""

from __future__ import annotations

from typing import Any

import pytest
from support import Front, Server, running

from tempest_worker import App, Request


def routed() -> App:
    app = App()
    app.get("/")(lambda request: "root")
    app.get("/hello/{name}")(lambda request: f"hello {request.params['name']}")
    app.post("/hello/{name}")(lambda request: f"posted {request.params['name']}")
    app.get("/files/{folder}/{rest:path}")(lambda request: request.params)
    app.get("/caf\u00e9")(lambda request: "coffee")
    app.get("/a.b")(lambda request: "dot")
    app.route("/many", methods=["PUT", "delete"])(lambda request: request.method)
    return app


@pytest.mark.parametrize(
    ("method", "path", "status", "body"),
    [
        ("GET", "/", 200, b"root"),
        ("HEAD", "/", 200, b"root"),
        ("GET", "/hello/bob", 200, b"hello bob"),
        ("POST", "/hello/bob", 200, b"posted bob"),
        ("GET", "/hello/a%2Fb%20%C3%BC", 200, "hello a/b \u00fc".encode()),
        ("GET", "/hello/", 404, b"not found\n"),
        ("GET", "/hello/a/b", 404, b"not found\n"),
        ("GET", "/files/x/y/z", 200, b'{"folder":"x","rest":"y/z"}'),
        ("GET", "/caf%C3%A9", 200, b"coffee"),
        ("GET", "/aXb", 404, b"not found\n"),
        ("DELETE", "/many", 200, b"DELETE"),
        ("PUT", "/many", 200, b"PUT"),
        ("OPTIONS", "*", 404, b"not found\n"),
    ],
)
def test_routes(server: Server, front: Front, method: str, path: str, status: int, body: bytes) -> None:
    with running(routed(), server.url):
        answer = front.ask(path, method)
    assert (answer.status, answer.body) == (status, body)


def test_a_wrong_method_is_405_and_names_the_right_ones(server: Server, front: Front) -> None:
    with running(routed(), server.url):
        answer = front.ask("/hello/bob", "PUT")
    assert (answer.status, answer.header("allow")) == (405, "GET, POST, HEAD")


def test_the_handler_for_everything_takes_what_no_route_takes(server: Server, front: Front) -> None:
    app = routed()

    @app.handler
    def rest(request: Request) -> Any:
        return f"{request.method} {request.path}"

    with running(app, server.url):
        assert front.ask("/hello/bob", "PUT").body == b"PUT /hello/bob"
        assert front.ask("/nowhere").body == b"GET /nowhere"
        assert front.ask("/").body == b"root"


@pytest.mark.parametrize("pattern", ["hello", "/a/{", "/a/{1x}", "/a/{x}/{x}", "/{a:int}", ""])
def test_a_pattern_that_cannot_work_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="route"):
        App().get(pattern)(lambda request: "")


def test_what_is_taken_is_refused() -> None:
    app = routed()
    with pytest.raises(ValueError, match="already"):
        app.get("/hello/{name}")(lambda request: "")
    app.handler(lambda request: "")
    with pytest.raises(ValueError, match="already"):
        app.handler(lambda request: "")
    app.action("a.b")(lambda request: "")
    with pytest.raises(ValueError, match="already"):
        app.action("a.b")(lambda request: "")
    with pytest.raises(ValueError, match="http"):
        app.action("http")


def test_an_app_without_handlers_does_not_start() -> None:
    with pytest.raises(ValueError, match="no handler"):
        App().run()
