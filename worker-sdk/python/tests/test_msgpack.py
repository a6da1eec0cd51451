"""Queues in MessagePack: jobs come in it, answers go out in it, and a worker that cannot read it loses no job."""

from __future__ import annotations

import json
from typing import Any, Iterator

import msgpack
import pytest
from contract import CLAIMERS, claimed, reap
from support import QUEUE, Front, Server, eventually, running

from tempest_worker import App, Request, Response, _msgpack, hold


class PackedFront(Front):
    """The same front, with jobs in MessagePack; `read_answer` reads either."""

    def job(self, path: str = "/", method: str = "GET", body: bytes = b"", **fields: Any) -> Any:
        request_id, message = super().job(path, method, b"", **fields)
        return request_id, msgpack.packb({**json.loads(message), "body": body})

    def raw(self) -> bytes:
        taken = self.redis.blpop([self.reply_to], timeout=20)
        assert taken is not None
        return bytes(taken[1])


@pytest.fixture
def packed(front: Front) -> PackedFront:
    return PackedFront(front.redis)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_every_kind_of_answer_is_in_messagepack(server: Server, packed: PackedFront, asynchronous: bool) -> None:
    app = App()
    results = {
        "/text": "gr\u00fc\u00dfe",
        "/bytes": b"\n\0\xff",
        "/json": {"a": [1]},
        "/none": None,
        "/headers": Response("x", 404, {"set-cookie": ["a=1", "b=2"], "x": "caf\u00e9"}),
        "/large": b"\xff" * 100_000,
        "/hold": hold(["a"], first="hi"),
    }
    if asynchronous:

        @app.handler
        async def answer(request: Request) -> Any:
            return results[request.path]
    else:
        app.handler(lambda request: results[request.path])
    with running(app, server.url):
        for path in results:
            request_id = packed.push(path)
            if path == "/large":
                answer = packed.answer(request_id)
                assert (answer.body, answer.header("content-length")) == (results[path], "100000")
                continue
            raw = packed.raw()
            fields = msgpack.unpackb(raw)
            assert fields["id"] == request_id
            if path == "/text":
                assert (fields["status"], fields["body"]) == (200, "gr\u00fc\u00dfe".encode())
            elif path == "/headers":
                assert fields["headers"]["set-cookie"] == ["a=1", "b=2"]
                assert (fields["status"], fields["headers"]["x"]) == (404, "caf\u00e9")
            elif path == "/hold":
                assert fields["hold"] == {"channels": ["a"], "first": "hi"}


def test_a_handler_sees_no_difference_but_the_body_is_bytes(server: Server, packed: PackedFront) -> None:
    app = App()

    @app.handler
    def show(request: Request) -> Any:
        return [request.method, request.path, request.query, request.headers["X-Latin"], list(request.body)]

    with running(app, server.url):
        answer = packed.ask("/a%20b", "POST", b"\xff\n\0", query="q=1", headers={"x-latin": "caf\u00e9"})
    assert json.loads(answer.body) == ["POST", "/a%20b", "q=1", "caf\u00e9", [255, 10, 0]]


def test_streams_failures_and_refusals_are_in_messagepack(server: Server, packed: PackedFront) -> None:
    app = App()

    @app.get("/stream")
    def stream(request: Request) -> Iterator[str]:
        yield "one"
        yield "two"

    @app.get("/cut")
    def cut(request: Request) -> Iterator[str]:
        yield "one"
        raise RuntimeError("half way")

    @app.get("/broken")
    def broken(request: Request) -> None:
        raise RuntimeError("at once")

    with running(app, server.url):
        for path, count in (("/stream", 3), ("/cut", 2), ("/broken", 1), ("/nowhere", 1)):
            packed.push(path)
            messages = [msgpack.unpackb(packed.raw()) for _ in range(count)]
            assert all(type(each) is dict for each in messages), path
            if path == "/cut":
                assert messages[-1]["n"] > 1_000_000
            elif count == 1:
                assert messages[0]["status"] == (500 if path == "/broken" else 404)


def test_json_and_messagepack_share_a_queue(server: Server, front: Front, packed: PackedFront) -> None:
    app = App()
    app.handler(lambda request: "ok")
    packed._count = 1000
    with running(app, server.url):
        for asks in (front, packed, front, packed):
            asks.push("/")
            assert (packed.raw()[:1] == b"{") == (asks is front)


def test_without_the_package_the_worker_says_what_to_install_and_its_job_stays(
    server: Server, packed: PackedFront, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_msgpack, "msgpack", None)
    app = App()
    app.handler(lambda request: "ok")
    _, message = packed.job("/")
    with (
        pytest.raises(_msgpack.MissingPackage, match=r"pip install 'tempest-worker\[msgpack\]'"),
        running(app, server.url) as thread,
    ):
        packed.redis.rpush(QUEUE, message)
        eventually(lambda: not thread.is_alive(), "the worker did not end")
    (worker,) = packed.redis.hkeys(CLAIMERS)
    assert message in claimed(packed.redis, worker.decode()).values()
    assert reap(packed.redis, worker.decode()) == [1, 0, 0], "it goes to its front, which tries it again"
    packed.redis.flushall()
