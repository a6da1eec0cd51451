"""The wire format: reads jobs, writes answers. Version 1 of the contract.

A message is one JSON object, then optionally a line feed and the raw body; or one MessagePack map. The reader checks only what the worker
itself relies on; the rest is read when a handler asks for it. The writer refuses whatever the front would have to
refuse, so that a mistake is reported in the worker's log and not as a bare 502. No I/O.
"""

from __future__ import annotations

import re
from operator import itemgetter
from typing import Any, Callable, Dict, Mapping, Optional, Sequence, Tuple, Union

from . import _msgpack
from ._json import loads, quote

#: The version of the contract that this module speaks.
VERSION = 1
#: Bodies are cut into messages of this many bytes, so that a large one holds up no small one.
PART_BYTES = 64 * 1024
#: Content type of a text.
TEXT = "text/plain; charset=utf-8"

HeaderValue = Union[str, int, Sequence[str]]

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_NUMBERS = ("deadline", "timeout_ms", "attempt", "enqueued", "session_max")
_TEXTS = ("queue", "method", "path", "scheme", "http", "peer", "server")
_NULLABLE_TEXTS = ("reply_to", "query", "host", "traceparent", "tracestate")
_NO_HEADERS: Dict[str, str] = {}
#: Names of a job's fields and their types, in the order of the job, as they came in jobs that were checked one by
#: one and found good; with what reads those of its numbers that must not be negative. A front writes all its jobs
#: alike, so nearly every job is checked by one comparison.
_shapes: Dict[Tuple[Any, ...], Callable[[Any], Any]] = {}
_MAX_SHAPES = 64
#: A shape with more fields than this is not kept: a job may have any number, of any length.
_MAX_FIELDS = 32
#: The shape of the latest job: comparing is cheaper than looking up. One tuple, so that threads see both or none.
_latest: Tuple[Tuple[Any, ...], Callable[[Any], Any]] = ((), itemgetter("v"))
_TEXT_ONLY = {str}
_MARKERS = frozenset(bytes((each,)) for each in _msgpack.MARKERS)
#: Heads of plain answers, by status and content type.
_heads: Dict[Tuple[int, str], str] = {}
_MAX_HEADS = 1024


class Malformed(ValueError):
    """A message that is no job of this version; its text says why."""


def decode_job(raw: bytes) -> Tuple[Dict[str, Any], bytes]:
    """Split a job message into its fields and its body. Raises Malformed, and MissingPackage where the message is in
    MessagePack and the package for it is not there."""
    if raw[:1] in _MARKERS:
        return _decode_packed(raw)
    head, _, body = raw.partition(b"\n")
    try:
        fields = loads(head)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"the first line is not a JSON object: {error}") from None
    if type(fields) is not dict:
        raise Malformed("the first line is not a JSON object")
    _check(fields)
    return fields, body


def _decode_packed(raw: bytes) -> Tuple[Dict[str, Any], bytes]:
    try:
        fields, body = _msgpack.decode(raw)
    except ValueError as error:
        raise Malformed(f"the message is no MessagePack map: {error}") from None
    if type(body) is not bytes:
        raise Malformed("`body` is neither bin nor str")
    _check(fields)
    return fields, body


def _check(fields: Dict[str, Any]) -> None:
    """A known field of the wrong type makes the job unreadable."""
    global _latest
    shape = (*fields, *map(type, fields.values()))
    known, numbers = _latest
    if shape != known:
        numbers = _shapes.get(shape) or _new_shape(shape, fields)
        _latest = (shape, numbers)
    if fields["v"] != VERSION:
        raise Malformed(f"the job is of version {fields['v']!r}, this worker speaks {VERSION}")
    if not fields["id"]:
        raise Malformed("the job has no id")
    if min(numbers(fields)) < 0:
        negative = [name for name in _NUMBERS if fields.get(name, 0) < 0]
        raise Malformed(f"`{negative[0]}` must not be negative")
    headers = fields.get("headers")
    if headers and {*map(type, headers.values())} != _TEXT_ONLY:
        raise Malformed("`headers` must be an object of texts")


def _new_shape(shape: Tuple[Any, ...], fields: Dict[str, Any]) -> Callable[[Any], Any]:
    """Check the types of a job one by one, and remember its shape."""
    _check_types(fields)
    there = [name for name in _NUMBERS if name in fields]
    # `v` twice: of a single name there would be no tuple.
    numbers = itemgetter("v", "v", *there)
    if len(fields) <= _MAX_FIELDS and len(_shapes) < _MAX_SHAPES:
        _shapes[shape] = numbers
    return numbers


def _check_types(fields: Dict[str, Any]) -> None:
    get = fields.get
    if type(get("v")) is not int:
        raise Malformed(f"the job is of version {get('v')!r}, this worker speaks {VERSION}")
    for name in ("id", "action"):
        if type(get(name)) is not str:
            raise Malformed(f"the job has no {name}")
    for name in _NUMBERS:
        if type(get(name, 0)) is not int:
            raise Malformed(f"`{name}` must be a whole number")
    for name in _TEXTS:
        if type(get(name, "")) is not str:
            raise Malformed(f"`{name}` must be a text")
    for name in _NULLABLE_TEXTS:
        if get(name) is not None and type(get(name)) is not str:
            raise Malformed(f"`{name}` must be a text or null")
    if type(get("headers", _NO_HEADERS)) is not dict:
        raise Malformed("`headers` must be an object")
    if type(get("session", _NO_HEADERS)) is not dict:
        raise Malformed("`session` must be an object")


def encode_plain(
    request_id: str, attempt: int, status: int, content_type: str, body: bytes, took: Optional[int] = None
) -> bytes:
    """A whole answer whose only header is its content type: the usual one, written from a cached head. `took` is the
    microseconds since the job was taken."""
    key = (status, content_type)
    head = _heads.get(key)
    if head is None:
        head = _head(status, {"content-type": content_type})
        if len(_heads) < _MAX_HEADS:
            _heads[key] = head
    since = "" if took is None else f',"took":{took}'
    text = f'{{"id":{quote(request_id)},"attempt":{attempt}{since}{head}}}\n'
    return text.encode("ascii") + body


def encode_text(request_id: str, attempt: int, text: str, took: Optional[int] = None) -> bytes:
    """A whole answer of a text with status 200: the most frequent one, encoded in one go."""
    since = "" if took is None else f',"took":{took}'
    return f'{{"id":{quote(request_id)},"attempt":{attempt}{since}{_TEXT_HEAD}}}\n{text}'.encode()


def encode_answer(
    request_id: str,
    attempt: int,
    status: Optional[int],
    headers: Mapping[str, HeaderValue],
    body: bytes,
    n: int = 0,
    more: bool = False,
    hold: str = "",
    session: str = "",
    took: Optional[int] = None,
) -> bytes:
    """One answer message. `status` is None after the first of a stream; `hold` and `session` are JSON; `took` is the
    microseconds since the job was taken. Raises ValueError or TypeError for what HTTP cannot carry."""
    sequence = f',"n":{n}' if n or more else ""
    follows = ',"more":true' if more else ""
    head = "" if status is None else _head(status, headers)
    held = f',"hold":{hold}' if hold else ""
    changed = f',"session":{session}' if session else ""
    since = "" if took is None else f',"took":{took}'
    text = f'{{"id":{quote(request_id)},"attempt":{attempt}{since}{sequence}{follows}{head}{held}{changed}}}\n'
    return text.encode() + body


def encode_cut(request_id: str, attempt: int, n: int) -> bytes:
    """A message far out of sequence: the front sees a gap it cannot fill and cuts the response, so that the
    client can tell it from a complete one."""
    return encode_answer(request_id, attempt, None, {}, b"", n + 1_000_000, True)


def _head(status: int, headers: Mapping[str, HeaderValue]) -> str:
    if type(status) is not int or not 200 <= status <= 599:
        raise ValueError(f"status {status!r} is no answer: use 200 to 599")
    if not headers:
        return f',"status":{status}'
    named = ",".join(f"{_name(name)}:{_value(name, value)}" for name, value in headers.items())
    return f',"status":{status},"headers":{{{named}}}'


def _name(name: str) -> str:
    if not isinstance(name, str) or not _TOKEN.fullmatch(name):
        raise ValueError(f"{name!r} is no header name")
    return quote(name)


def _value(name: str, value: HeaderValue) -> str:
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(_one_value(name, each) for each in value) + "]"
    return _one_value(name, value)


def _one_value(name: str, value: object) -> str:
    if type(value) is int:
        value = str(value)
    if not isinstance(value, str):
        raise TypeError(f"header {name}: {value!r} is neither a text nor a list of texts")
    if not _VALUE.fullmatch(value):
        raise ValueError(f"header {name}: {value!r} holds a line break, a control character or one above U+00FF")
    return quote(value)


_TEXT_HEAD = _head(200, {"content-type": TEXT})
