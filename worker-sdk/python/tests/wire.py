"""An answer as the front reads it, by the rules of protocol.md; the judge of everything the worker sends.

Written from the text and held to the golden vectors, independent of the package's encoder.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import msgpack

LIMIT_BYTES = 1024 * 1024
#: No session in the answer; None ends it.
ABSENT = object()

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


class Answer(NamedTuple):
    id: str
    status: int
    headers: List[Tuple[str, str]]
    n: int
    more: bool
    attempt: Optional[int]
    body: bytes
    hold: Optional[Dict[str, Any]] = None
    session: Any = ABSENT

    def header(self, name: str) -> Optional[str]:
        return next((value for known, value in self.headers if known == name), None)


class Rejected(Exception):
    def __init__(self, reason: str, request_id: Optional[str]) -> None:
        super().__init__(reason)
        self.reason = reason
        self.id = request_id


class Ignored(Exception):
    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def read_answer(message: bytes, limit: int = LIMIT_BYTES) -> Answer:
    """Raises Rejected with the reason of the closed list, or Ignored."""
    packed = message[:1] and (0x80 <= message[0] <= 0x8F or message[0] in (0xDE, 0xDF))
    value, rest = _first_map(message) if packed else _first_value(message)
    if not isinstance(value, dict):
        raise Rejected("not-object", None)
    # Of a session null says something.
    fields: Dict[str, Any] = {name: each for name, each in value.items() if each is not None or name == "session"}
    request_id = fields.get("id")
    readable = request_id if isinstance(request_id, str) and request_id else None
    if len(message) > limit:
        raise Rejected("too-large", readable)
    if "kind" in fields:
        if not isinstance(fields["kind"], str):
            raise Rejected("bad-kind", readable)
        raise Ignored(fields["kind"])
    if request_id is None:
        raise Rejected("no-id", None)
    if readable is None:
        raise Rejected("bad-id", None)
    try:
        return _fields(readable, fields, rest)
    except ValueError as reason:
        raise Rejected(str(reason), readable) from None


def _first_map(message: bytes) -> Tuple[Any, bytes]:
    """The map at the start, as JSON has it: where a field holds what JSON has not got, a list of nothing."""
    unpacker = msgpack.Unpacker(raw=False, strict_map_key=False, object_pairs_hook=_text_keys, unicode_errors="surrogateescape")
    unpacker.feed(message)
    try:
        value = unpacker.unpack()
        if _depth(value) > 127:
            raise ValueError("too deep")
    except (msgpack.OutOfData, ValueError, RecursionError, msgpack.UnpackException, TypeError, UnicodeError):
        raise Rejected("not-msgpack", None) from None
    body = value.pop("body", None)
    fields = {name: [None] if _is_foreign(each) else each for name, each in value.items()}
    if type(body) is str:
        body = body.encode("utf-8", "surrogateescape")
    if body is not None:
        fields["body"] = body if type(body) is bytes else [None]
    # Whatever follows is malformed, a line feed too.
    return fields, b"x" if unpacker.tell() < len(message) else b""


def _text_keys(pairs: List[Tuple[Any, Any]]) -> Dict[str, Any]:
    for name, _ in pairs:
        name.encode("utf-8").decode() if type(name) is str else int("a key is no text")
    return dict(pairs)


def _depth(value: Any) -> int:
    inner = value.values() if type(value) is dict else value if type(value) is list else None
    return 0 if inner is None else 1 + max(map(_depth, inner), default=0)


def _is_foreign(value: Any) -> bool:
    if type(value) is str:
        return any("\ud800" <= each <= "\udfff" for each in value)
    if type(value) is float:
        return not math.isfinite(value)
    if type(value) is dict:
        return any(map(_is_foreign, value.values()))
    if type(value) is list:
        return any(map(_is_foreign, value))
    return not (value is None or type(value) in (bool, int))


def _first_value(message: bytes) -> Tuple[Any, bytes]:
    for end in _ends(message):
        try:
            text = message[:end].decode("utf-8")
            value, at = json.JSONDecoder(parse_constant=_no_constant).raw_decode(text)
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        except (ValueError, RecursionError):
            continue
        return value, message[len(text[:at].encode("utf-8")) :]
    raise Rejected("not-json", None)


def _ends(message: bytes) -> List[int]:
    """Where the JSON value may end at the latest: raw bytes behind it need not be UTF-8."""
    return [len(message), *(at for at, byte in enumerate(message) if byte == 0x0A)]


def _fields(request_id: str, fields: Dict[str, Any], rest: bytes) -> Answer:
    status = _whole(fields, "status", 200, "bad-status")
    if not 200 <= status <= 599:
        raise ValueError("bad-status")
    more = fields.get("more", False)
    if not isinstance(more, bool):
        raise ValueError("bad-more")
    if more and "n" not in fields:
        raise ValueError("bad-n")
    n = _whole(fields, "n", 0, "bad-n")
    attempt = _whole(fields, "attempt", 1, "bad-attempt") if "attempt" in fields else None
    if attempt == 0:
        raise ValueError("bad-attempt")
    body = _body(fields, rest)
    headers = _headers(fields.get("headers", {}))
    if n == 0 and not more:
        _check_length(headers, status, len(body))
    hold = None
    if "hold" in fields:
        hold = _hold(fields["hold"])
        fits = status == 200 if hold["mode"] == "stream" else status not in (204, 304)
        if n or more or body or not fits:
            raise ValueError("bad-hold")
    session = fields.get("session", ABSENT)
    if session is not ABSENT and ((session is not None and not isinstance(session, dict)) or n):
        raise ValueError("bad-session")
    return Answer(request_id, status, headers, n, more, attempt, body, hold, session)


def _hold(value: Any) -> Dict[str, Any]:
    given = {name: each for name, each in value.items() if each is not None} if isinstance(value, dict) else {}
    known: Dict[str, Any] = {"channels": [], "mode": "stream", "timeout": None, "first": None, "history": None}
    hold = {name: given.get(name, default) for name, default in known.items()}
    channels, timeout, history = hold["channels"], hold["timeout"], hold["history"]
    good = [
        isinstance(channels, list) and 1 <= len(channels) <= 64 and all(map(_is_channel, channels)),
        hold["mode"] in ("stream", "once"),
        timeout is None or (type(timeout) is int and 1 <= timeout <= 86_400_000),
        hold["first"] is None or (isinstance(hold["first"], str) and hold["mode"] == "stream"),
        history is None or (isinstance(history, str) and re.fullmatch(r"[!-~]{1,1024}", history)),
    ]
    if not all(good):
        raise ValueError("bad-hold")
    return hold


def _is_channel(name: Any) -> bool:
    if not isinstance(name, str) or not 1 <= len(name.encode("utf-8")) <= 1024:
        return False
    return not any(unicodedata.category(each) == "Cc" for each in name)


def _whole(fields: Dict[str, Any], name: str, default: int, reason: str) -> int:
    value = fields.get(name, default)
    if type(value) is not int or value < 0:
        raise ValueError(reason)
    return value


def _body(fields: Dict[str, Any], rest: bytes) -> bytes:
    text = fields.get("body", "")
    if isinstance(text, bytes):
        text, rest = "", rest or b"\n" + text
    if not isinstance(text, str):
        raise ValueError("bad-body")
    if rest and rest[:1] != b"\n":
        raise ValueError("trailing-bytes")
    if text and rest[1:]:
        raise ValueError("two-bodies")
    return text.encode("utf-8") or rest[1:]


def _headers(named: Any) -> List[Tuple[str, str]]:
    if not isinstance(named, dict):
        raise ValueError("bad-headers")
    found = []
    for name, value in named.items():
        if not _TOKEN.fullmatch(name):
            raise ValueError("bad-header-name")
        for each in value if isinstance(value, list) else [value]:
            if not isinstance(each, str) or not _VALUE.fullmatch(each):
                raise ValueError("bad-header-value")
            found.append((name.lower(), each))
    return found


def _check_length(headers: List[Tuple[str, str]], status: int, length: int) -> None:
    for name, value in headers:
        wrong = not re.fullmatch(r"[0-9]+", value) or (status != 304 and int(value) != length)
        if name == "content-length" and wrong:
            raise ValueError("content-length-mismatch")
