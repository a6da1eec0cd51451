"""The codec against the golden vectors, and what the encoder writes against the rules for answers."""

from __future__ import annotations

import base64
import json
from typing import Any, Dict

import pytest
from support import vector_bytes, vectors
from wire import ABSENT, Ignored, Rejected, read_answer

from tempest_worker import _codec, _json
from tempest_worker._codec import (
    PART_BYTES,
    TEXT,
    Malformed,
    decode_job,
    encode_answer,
    encode_cut,
    encode_plain,
    encode_text,
)


def named(vector: Dict[str, Any]) -> str:
    name: str = vector["name"]
    return name


def body_of(outcome: Dict[str, Any]) -> bytes:
    if "body_text" in outcome:
        return str(outcome["body_text"]).encode()
    return base64.b64decode(outcome["body_base64"])


@pytest.fixture(params=["fast", "standard"])
def loads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of reading JSON; without orjson they are the same."""
    import tempest_worker._codec as codec

    chosen = _json.loads if request.param == "fast" else _json._std_loads
    monkeypatch.setattr(codec, "loads", chosen)


@pytest.mark.usefixtures("loads")
@pytest.mark.parametrize("vector", vectors("jobs.json") + vectors("msgpack_jobs.json"), ids=named)
def test_jobs_read_as_the_golden_vectors_say(vector: Dict[str, Any]) -> None:
    (kind, outcome), *others = vector["outcome"].items()
    assert not others
    if kind == "reject":
        with pytest.raises(Malformed):
            decode_job(vector_bytes(vector))
        return
    assert kind == "accept"
    fields, body = decode_job(vector_bytes(vector))
    expected = {name: value for name, value in outcome.items() if not name.startswith("body_")}
    assert {name: fields[name] for name in expected} == expected
    assert body == body_of(outcome)


def test_how_long_a_job_took_stands_in_every_kind_of_first_message() -> None:
    for message in (
        encode_text("r", 1, "t", 40),
        encode_plain("r", 1, 200, TEXT, b"t", 40),
        encode_answer("r", 1, 200, {}, b"t", took=40),
        encode_answer("r", 1, 200, {}, b"t", 0, True, took=40),
    ):
        assert b',"took":40' in message
        assert read_answer(message).body == b"t"
    assert b"took" not in encode_answer("r", 1, None, {}, b"t", 1, True)


@pytest.mark.parametrize("vector", vectors("answers.json") + vectors("msgpack_answers.json"), ids=named)
def test_the_judge_of_answers_agrees_with_the_golden_vectors(vector: Dict[str, Any]) -> None:
    outcome = vector["outcome"]
    limit = vector.get("limit", 1048576)
    if "ignore" in outcome or "died" in outcome:
        # What a kind means is the front's affair.
        with pytest.raises(Ignored) as ignored:
            read_answer(vector_bytes(vector), limit)
        assert ignored.value.kind == outcome.get("ignore", "died")
    elif "reject" in outcome:
        with pytest.raises(Rejected) as rejected:
            read_answer(vector_bytes(vector), limit)
        assert (rejected.value.reason, rejected.value.id) == (outcome["reject"], outcome["id"])
    else:
        accept = outcome["accept"]
        answer = read_answer(vector_bytes(vector), limit)
        for name in ("id", "status", "n", "more", "attempt"):
            assert getattr(answer, name) == accept[name]
        assert [list(each) for each in answer.headers] == accept["headers"]
        assert answer.body == body_of(accept)
        assert answer.hold == accept.get("hold")
        assert answer.session == accept.get("session", ABSENT)


@pytest.mark.parametrize("text", ["", "hello\n", "gr\u00fc\u00dfe \U0001f600", "\n\0\r\n"])
def test_a_text_is_answered_like_any_plain_answer(text: str) -> None:
    for request_id in ("k3v.0-1", 'r"1\\\u00e9'):
        usual = encode_plain(request_id, 2, 200, TEXT, text.encode())
        assert encode_text(request_id, 2, text) == usual
    with pytest.raises(ValueError, match="surrogates"):
        encode_text("r", 1, "\ud800")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"deadline": -1}, "`deadline` must not be negative"),
        ({"enqueued": -1}, "`enqueued` must not be negative"),
        ({"attempt": "1"}, "`attempt` must be a whole number"),
        ({"attempt": True}, "`attempt` must be a whole number"),
        ({"reply_to": 1}, "`reply_to` must be a text or null"),
        ({"headers": {"a": 1}}, "`headers` must be an object of texts"),
        ({"headers": []}, "`headers` must be an object"),
        ({"id": ""}, "no id"),
        ({"v": 2}, "version 2"),
        ({"path": None}, "`path` must be a text"),
    ],
)
def test_a_bad_job_among_good_ones_of_its_shape_is_noticed(change: Dict[str, Any], why: str) -> None:
    good = {"v": 1, "id": "a", "attempt": 1, "deadline": 5, "reply_to": "r", "action": "http", "path": "/"}
    good.update({"enqueued": 1, "headers": {"b": "c"}})
    # After good ones, so that their shape is known; the other way round it must not become one.
    for job, is_good in ((good, True), ({**good, **change}, False), (good, True), ({**good, **change}, False)):
        for message in (job, dict(reversed(list(job.items())))):
            raw = json.dumps(message).encode()
            if is_good:
                assert decode_job(raw)[0] == message
            else:
                with pytest.raises(Malformed, match=why):
                    decode_job(raw)


def test_shapes_of_jobs_are_not_collected_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_codec, "_shapes", {})
    wide = {"v": 1, "id": "a", "action": "own.job", **{f"y_{each}": 1 for each in range(100)}}
    decode_job(json.dumps(wide).encode())
    assert not _codec._shapes
    for each in range(200):
        decode_job(json.dumps({"v": 1, "id": "a", "action": "own.job", f"x_{each}": 1}).encode())
    assert len(_codec._shapes) == 64


def test_a_plain_answer_satisfies_the_rules() -> None:
    answer = read_answer(encode_plain('r"1\\\u00e9', 3, 201, "text/plain; charset=utf-8", b"\n\0\xff"))
    assert answer.id == 'r"1\\\u00e9'
    assert (answer.attempt, answer.status, answer.n, answer.more) == (3, 201, 0, False)
    assert answer.headers == [("content-type", "text/plain; charset=utf-8")]
    assert answer.body == b"\n\0\xff"


def test_headers_of_every_shape_satisfy_the_rules() -> None:
    headers = {"Set-Cookie": ["a=1", "b=2"], "x-latin": "caf\u00e9", "x-quote": '"\\', "x-number": 7, "x-tab": "a\tb"}
    answer = read_answer(encode_answer("r", 1, 599, headers, b""))
    assert answer.headers == [
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2"),
        ("x-latin", "caf\u00e9"),
        ("x-quote", '"\\'),
        ("x-number", "7"),
        ("x-tab", "a\tb"),
    ]


def test_messages_of_a_stream_satisfy_the_rules() -> None:
    first = read_answer(encode_answer("r", 2, 200, {}, b"x" * PART_BYTES, 0, True))
    later = read_answer(encode_answer("r", 2, None, {}, b"y", 1, True))
    last = read_answer(encode_answer("r", 2, None, {}, b"", 2, False))
    assert [(each.n, each.more, each.attempt) for each in (first, later, last)] == [
        (0, True, 2),
        (1, True, 2),
        (2, False, 2),
    ]


def test_a_cut_is_a_gap_that_no_front_can_fill() -> None:
    assert read_answer(encode_cut("r", 1, 5)).n > 5 + 64


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (199, {}),
        (100, {}),
        (600, {}),
        (True, {}),
        ("200", {}),
        (200.0, {}),
        (200, {"": "x"}),
        (200, {"a b": "x"}),
        (200, {"a:b": "x"}),
        (200, {"\u00e9": "x"}),
        (200, {"a": "x\r\nset-cookie: b"}),
        (200, {"a": "x\ny"}),
        (200, {"a": "x\0"}),
        (200, {"a": "x\x7f"}),
        (200, {"a": "\u20ac"}),
        (200, {"a": ["fine", "x\n"]}),
        (200, {"a": 1.5}),
        (200, {"a": None}),
        (200, {"a": True}),
        (200, {"a": b"bytes"}),
    ],
)
def test_what_http_cannot_carry_is_refused(status: Any, headers: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        encode_answer("r", 1, status, headers, b"")


@pytest.mark.parametrize(
    "head",
    [
        b'{"v":true,"id":"a","action":"http"}',
        b'{"v":1.0,"id":"a","action":"http"}',
        b'{"v":1,"id":"a"}',
        b'{"v":1,"id":"a","action":"http","deadline":1.5}',
        b'{"v":1,"id":"a","action":"http","deadline":true}',
        b'{"v":1,"id":"a","action":"http","deadline":NaN}',
        b'{"v":1,"id":"a","action":"http","deadline":null}',
        b'{"v":1,"id":"a","action":"http","deadline":-1}',
        b'{"v":1,"id":"a","action":"http","path":null}',
        b'{"v":1,"id":"a","action":"http","headers":null}',
        b'{"v":1,"id":"a","action":"http","headers":{"a":null}}',
        b'{"v":1,"id":"a","action":null}',
        b'{"v":1,"id":"a","action":"http","reply_to":7}',
        b'{"v":1,"id":"\\ud800","action":"http"}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"\xef\xbb\xbf{}",
        b"\x81\xa1v\x01",
        b"\x82\xa1v\x01\xa1x" + b"\x91" * 100_000,
        b"\x82\xa1v\x01\xa1x" + b"\x81\xa1k" * 100_000,
        b"\x82\xa1v\x01\xa1x\x81\x90\x01",
        b"\xdf\xff\xff\xff\xff",
    ],
)
def test_hostile_heads_are_malformed_and_nothing_worse(head: bytes) -> None:
    decode_job(b'{"v":1,"id":"a","action":"http"}')  # a good one first: null is something else than missing
    with pytest.raises(Malformed):
        decode_job(head + b"\nbody")


def test_json_is_written_alike_by_both() -> None:
    value = {"text": "\u00fc\U0001f600", "list": [1, 2.5, None, True], 3: "number as name"}
    assert _json.dumps(value) == _json._std_dumps(value)
    assert json.loads(_json.dumps({"big": 2**70})) == {"big": 2**70}
