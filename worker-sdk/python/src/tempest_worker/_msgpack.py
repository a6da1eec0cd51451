"""Messages in MessagePack: jobs are read, and answers spelled, as one map.

The fields mean what they mean in JSON, so a job becomes the same dict, and an answer is made of the JSON that this
package writes anyway. Needs the package `msgpack`, which is not installed by default. No I/O.
"""

from __future__ import annotations

import math
from typing import Any, Dict, Tuple

from ._json import loads as loads_json

try:
    import msgpack
except ImportError:
    msgpack = None

#: First bytes of a MessagePack map, which no JSON begins with.
MARKERS = frozenset((*range(0x80, 0x90), 0xDE, 0xDF))
#: How deeply maps and lists may be nested, the message itself included.
_MAX_DEPTH = 127


class MissingPackage(RuntimeError):
    """A message in MessagePack came and nothing here can read it. The worker ends: its jobs are for another one."""

    def __init__(self) -> None:
        super().__init__(
            "a job in MessagePack came (a route has codec = \"msgpack\"), which needs the package msgpack: "
            "pip install 'tempest-worker[msgpack]'"
        )


class PackedFields(Dict[str, Any]):
    """The fields of a job that came in MessagePack; its answers are spelled alike."""


class Foreign:
    """What stands in place of a value that JSON has not got: no field of the contract is of this type."""


def decode(raw: bytes) -> Tuple[PackedFields, Any]:
    """The fields of a message but its body, and that: bytes, or something else where it is none. Raises ValueError for
    what is no whole map, MissingPackage."""
    if msgpack is None:
        raise MissingPackage
    try:
        fields = _unpack(raw, "strict")
    except UnicodeDecodeError:
        # One text of it is none: that is wrong in some fields and in others nobody's business.
        fields = {_name(name): _judged(name, value) for name, value in _unpack(raw, "surrogateescape").items()}
    if type(fields) is not dict:
        raise ValueError("it is no map")
    _check_nesting(fields, _MAX_DEPTH)
    if fields.get("session") and not _is_json(fields["session"]):
        fields["session"] = Foreign()
    body = fields.pop("body", b"")
    if type(body) is str:
        body = body.encode("utf-8", "surrogateescape")
    return PackedFields(fields), body


def _unpack(raw: bytes, unicode_errors: str) -> Any:
    try:
        return msgpack.unpackb(raw, raw=False, unicode_errors=unicode_errors)
    except UnicodeDecodeError:
        raise
    # What its decoders raise for input that is none differs between the one in C and the one in Python.
    except Exception as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None


def _name(name: str) -> str:
    if _is_broken(name):
        raise ValueError("a key is no text")
    return name


def _judged(name: str, value: Any) -> Any:
    return Foreign() if name != "body" and _is_broken(value) else value


def _is_broken(value: Any) -> bool:
    if type(value) is str:
        return any("\ud800" <= each <= "\udfff" for each in value)
    if type(value) is list:
        return any(map(_is_broken, value))
    if type(value) is dict:
        return any(_is_broken(_name(name)) or _is_broken(each) for name, each in value.items())
    return False


def _is_json(value: Any) -> bool:
    if type(value) is dict:
        return all(map(_is_json, value.values()))
    if type(value) is list:
        return all(map(_is_json, value))
    if type(value) is float:
        return math.isfinite(value)
    return value is None or type(value) in (str, int, bool)


def _check_nesting(value: Dict[Any, Any], depth: int) -> None:
    """Raises ValueError for maps and lists that lie too deeply in each other, and for keys that are no text."""
    for name, each in value.items():
        if type(name) is not str:
            raise ValueError("a key is no text")
        if type(each) is dict or type(each) is list:
            _check_value(each, depth - 1)


def _check_value(value: Any, depth: int) -> None:
    if depth == 0:
        raise ValueError(f"it is nested deeper than {_MAX_DEPTH} levels")
    if type(value) is dict:
        _check_nesting(value, depth)
    elif type(value) is list:
        for each in value:
            if type(each) is dict or type(each) is list:
                _check_value(each, depth - 1)


def spell(message: bytes) -> bytes:
    """The answer that this package has written as JSON, in MessagePack."""
    head, _, body = message.partition(b"\n")
    fields = loads_json(head)
    if body:
        fields["body"] = body
    packed: bytes = msgpack.packb(fields)
    return packed
