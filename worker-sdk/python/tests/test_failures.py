"""What goes wrong in a handler or in a message, and what comes of it: one answer or one log line, never an end."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from support import Front, Server, running, vector_bytes, vectors

from tempest_worker import App, Request, Response


def failing() -> App:
    app = App()

    @app.handler
    def fail(request: Request) -> Any:
        if request.path == "/fine":
            return "fine"
        if request.path == "/exit":
            sys.exit(3)
        if request.path == "/type":
            return 7
        if request.path == "/tuple":
            return ("200", "x")
        if request.path == "/header":
            return Response("x", headers={"x": "a\r\nb: c"})
        if request.path == "/status":
            return (100, "x")
        if request.path == "/length":
            return Response("abc", headers={"content-length": "4"})
        if request.path == "/surrogate":
            return "\ud800"
        raise ZeroDivisionError("the secret of the house")

    @app.post("/async")
    async def fail_async(request: Request) -> Any:
        raise ZeroDivisionError("the secret of the house")

    return app


PATHS = ["/raise", "/exit", "/type", "/tuple", "/header", "/status", "/length", "/surrogate"]


@pytest.mark.parametrize("path", PATHS)
def test_a_failing_handler_is_a_500_and_a_log_line_with_the_request_id(
    server: Server, front: Front, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    with running(failing(), server.url):
        request_id = front.push(path)
        answer = front.answer(request_id)
        assert front.ask("/fine").body == b"fine"
    assert answer.status == 500
    assert answer.body == f"internal server error, request {request_id}\n".encode()
    assert [each for each in caplog.records if f"request {request_id} failed" in each.getMessage() and each.exc_info]


def test_an_async_failure_is_a_500_too(server: Server, front: Front, caplog: pytest.LogCaptureFixture) -> None:
    with running(failing(), server.url):
        request_id = front.push("/async", "POST")
        answer = front.answer(request_id)
    assert (answer.status, b"secret" in answer.body) == (500, False)
    assert f"request {request_id} failed" in caplog.text


@pytest.mark.parametrize(("path", "method"), [("/raise", "GET"), ("/async", "POST")])
def test_the_traceback_is_shown_in_development_only(
    server: Server, front: Front, monkeypatch: pytest.MonkeyPatch, path: str, method: str
) -> None:
    monkeypatch.setenv("TEMPEST_ENV", "development")
    with running(failing(), server.url):
        shown = front.ask(path, method)
    monkeypatch.setenv("TEMPEST_ENV", "production")
    with running(failing(), server.url):
        hidden = front.ask(path, method)
    assert (shown.status, hidden.status) == (500, 500)
    assert b"ZeroDivisionError: the secret of the house" in shown.body
    assert b"Traceback" in shown.body
    assert b"secret" not in hidden.body
    assert b"Traceback" not in hidden.body


BAD = [vector for vector in vectors("jobs.json") if "reject" in vector["outcome"]]


def test_every_malformed_job_is_dropped_and_logged(
    server: Server, front: Front, caplog: pytest.LogCaptureFixture
) -> None:
    app = failing()
    with running(app, server.url):
        for vector in BAD:
            front.redis.rpush(front.queue, vector_bytes(vector))
        assert front.ask("/fine").body == b"fine"
        assert app._worker is not None
        assert app._worker._loops[0].intake.malformed == len(BAD)
    assert caplog.text.count("dropped a malformed job") == len(BAD)


@pytest.mark.parametrize("reply_to", ["tempest:web", "other:@front.0", "tempest:front", "session:42", "", "TEMPEST:@x"])
def test_only_a_reply_to_of_a_front_is_answered(
    server: Server, front: Front, caplog: pytest.LogCaptureFixture, reply_to: str
) -> None:
    app, ran = App(), []

    @app.handler
    def handler(request: Request) -> str:
        ran.append(request.path)
        return "x"

    with running(app, server.url):
        front.push("/forged", reply_to=reply_to)
        front.ask("/fine")
    assert ran == ["/fine"]
    assert "answers go only to tempest:@" in caplog.text


def test_the_prefix_comes_from_the_key_of_the_queue(server: Server, front: Front) -> None:
    app = App()
    app.handler(lambda request: "x")
    other = Front(front.redis, "my:app:@f.0", "my:app:mail")
    with running(app, server.url, queue="my:app:mail"):
        other.push(reply_to="tempest:@f.0")
        assert other.ask().body == b"x"


def test_a_job_past_its_deadline_is_dropped_unrun(server: Server, front: Front) -> None:
    app, ran = App(), []

    @app.handler
    def handler(request: Request) -> str:
        ran.append(request.path)
        return "x"

    with running(app, server.url):
        front.push("/late", deadline=front.now_ms() - 1)
        front.ask("/in-time", deadline=front.now_ms() + 30_000)
        assert app._worker is not None
        assert app._worker._loops[0].intake.expired == 1
    assert ran == ["/in-time"]


def test_deadlines_follow_the_clock_of_redis_not_the_host(
    server: Server, front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host's clock is a day ahead."""
    import time

    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 86_400)
    app = App()
    app.handler(lambda request: f"{request.remaining}")
    with running(app, server.url):
        answer = front.ask(deadline=front.now_ms() + 30_000)
    assert 0 < float(answer.body) <= 30.1
