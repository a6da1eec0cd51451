"""The client's session: what a handler changes in it, and the merge patch that the front gets."""

from __future__ import annotations

import json
from typing import Any, Callable, Dict

import pytest
from wire import ABSENT, read_answer

from tempest_worker import Request, Response
from tempest_worker._answer import Stream, failure, usual, whole
from tempest_worker._clock import Clock
from tempest_worker._response import to_response


def request_of(session: Any = None, most: int = 3000, **fields: Any) -> Request:
    known: Dict[str, Any] = {"v": 1, "id": "r", "attempt": 1, "action": "http", "method": "GET", "path": "/", **fields}
    if session is not None:
        known.update({"session": session, "session_max": most})
    return Request(known, b"", Clock())


def patch_of(request: Request, result: Any = "x") -> Any:
    """What the answer to a request says of its session."""
    short = usual(request, result)
    [message] = [short] if short is not None else whole(request, to_response(result))
    return read_answer(message).session


CHANGES: Dict[str, Callable[[Dict[str, Any]], Any]] = {
    "set": lambda s: s.update(n=2),
    "new": lambda s: s.update(b={"c": [1, None]}),
    "inside": lambda s: s["cart"].update(pear=2),
    "inside a list": lambda s: s["list"].append({"x": 1}),
    "taken out": lambda s: s.pop("n"),
    "taken out inside": lambda s: s["cart"].pop("apple"),
    "object to text": lambda s: s.update(cart="empty"),
    "text to object": lambda s: s.update(name={"first": "gr\u00fc\u00df"}),
    "one to true": lambda s: s.update(n=True),
    "none takes out": lambda s: s.update(n=None),
}


def merged(target: Any, patch: Any) -> Any:
    """RFC 7396, section 2, word for word."""
    if not isinstance(patch, dict):
        return patch
    target = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            target.pop(name, None)
        else:
            target[name] = merged(target.get(name), value)
    return target


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_becomes_a_patch_that_gives_what_the_handler_made(name: str) -> None:
    before: Dict[str, Any] = {"n": 1, "name": "ann", "cart": {"apple": 1}, "list": [1]}
    request = request_of(json.loads(json.dumps(before)))
    CHANGES[name](request.session)
    patch = patch_of(request)
    wanted = {key: value for key, value in request.session.items() if value is not None}
    assert merged(before, patch) == json.loads(json.dumps(wanted))
    assert json.dumps(merged(before, patch)["name"]) == json.dumps(wanted["name"])
    assert len(patch) == 1, "what is as it was is left out"


def test_reading_says_nothing() -> None:
    request = request_of({"n": 1})
    assert request.session["n"] == 1
    assert patch_of(request) is ABSENT
    assert patch_of(request_of({"n": 1})) is ABSENT
    assert patch_of(request_of()) is ABSENT


def test_clear_ends_it() -> None:
    request = request_of({"n": 1})
    request.session.clear()
    assert patch_of(request) is None
    empty = request_of({})
    empty.session.clear()
    assert patch_of(empty) is ABSENT


def test_a_response_may_say_it_itself() -> None:
    request = request_of({"n": 1})
    assert patch_of(request, Response("x", session={"a": None})) == {"a": None}
    with pytest.raises(TypeError, match="by a dict"):
        patch_of(request, Response("x", session=["a"]))  # type: ignore[arg-type]


def test_the_first_message_of_many_carries_it() -> None:
    request = request_of({})
    request.session["n"] = 1
    messages: Any = whole(request, Response("x" * 200_000))
    assert [read_answer(each).session for each in messages] == [{"n": 1}] + [ABSENT] * (len(messages) - 1)
    messages = []
    stream = Stream(request, Response(status=200), messages.append)
    stream.write("a")
    stream.write("b")
    stream.end()
    assert [read_answer(each).session for each in messages] == [{"n": 1}, ABSENT, ABSENT]


def test_a_failure_leaves_it_as_it_was() -> None:
    request = request_of({"n": 1})
    request.session["n"] = 2
    assert read_answer(failure(request, ValueError("x"), False)).session is ABSENT


def test_what_the_front_would_refuse_is_refused_here() -> None:
    for size, good in ((10, True), (11, False)):
        request = request_of({}, most=len('{"a":""}') + 10)
        request.session["a"] = "x" * size
        if good:
            assert patch_of(request) == {"a": "x" * size}
        else:
            with pytest.raises(ValueError, match="the front takes 18"):
                patch_of(request)
    request = request_of({})
    request.session["a"] = {1, 2}
    with pytest.raises(TypeError):
        patch_of(request)
