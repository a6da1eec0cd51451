"""The view a handler has of its job."""

from __future__ import annotations

from typing import Any

import pytest

from tempest_worker import Query, Request
from tempest_worker._clock import Clock


def request(body: bytes = b"", **fields: Any) -> Request:
    return Request({"id": "r-1", "action": "http", "method": "GET", "path": "/a%20b", **fields}, body, Clock())


def test_headers_are_found_in_any_case() -> None:
    headers = request(headers={"content-type": "text/plain", "x-a": "caf\u00e9"}).headers
    assert headers["Content-Type"] == headers["CONTENT-TYPE"] == "text/plain"
    assert headers.get("X-A") == "caf\u00e9"
    assert headers.get("nothing") is None
    assert "X-a" in headers
    assert dict(headers) == {"content-type": "text/plain", "x-a": "caf\u00e9"}
    assert len(request().headers) == 0


def test_arguments_of_a_query() -> None:
    args = request(query="a=1&a=2&b=%C3%BC+x&c&=d").args
    assert (args["a"], args.all("a"), args["b"], args["c"], args[""]) == ("1", ["1", "2"], "\u00fc x", "", "d")
    assert args.get("z") is None
    assert args.all("z") == []
    assert dict(request(query=None).args) == {}
    assert (request(query=None).query, request(query="").query) == (None, "")
    with pytest.raises(ValueError):
        Query("&".join(f"a{each}=1" for each in range(1001)))


def test_the_trace_context_is_the_fronts_and_not_the_clients() -> None:
    context = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    traced = request(traceparent=context, tracestate="a=1", headers={"traceparent": "forged"})
    assert (traced.traceparent, traced.tracestate) == (context, "a=1")
    untraced = request(headers={"traceparent": "forged"})
    assert (untraced.traceparent, untraced.tracestate) == (None, None)


def test_cookies() -> None:
    found = request(headers={"cookie": 'a=1; b="two"; a=3; bad; c=x=y;; d='}).cookies
    assert found == {"a": "1", "b": "two", "c": "x=y", "d": ""}
    assert request().cookies == {}


def test_the_body() -> None:
    it = request('{"a":"\u00fc"}'.encode())
    assert it.json() == {"a": "\u00fc"}
    assert it.text == '{"a":"\u00fc"}'
    assert request(b"\xff").text == "\ufffd"
    with pytest.raises(ValueError):
        request(b"{").json()


def test_what_is_missing_has_a_plain_default() -> None:
    it = Request({"id": "r-1", "action": "own.job"}, b"", Clock())
    assert (it.method, it.path, it.query, it.host, it.peer, it.scheme) == ("", "", None, None, "", "")
    assert (it.deadline, it.remaining, it.attempt, it.reply_to) == (None, None, 1, None)


def test_remaining_follows_the_clock_of_redis() -> None:
    clock = Clock()
    it = Request({"id": "r-1", "action": "http", "deadline": 5_000_000}, b"", clock)
    import time

    clock.set([b"4000", b"500000"], time.monotonic())
    assert it.remaining == pytest.approx(999.5, abs=0.05)


def test_it_shows_what_it_is() -> None:
    assert repr(request()) == "<Request r-1 GET /a%20b>"
