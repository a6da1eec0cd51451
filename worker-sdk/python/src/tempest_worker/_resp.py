"""Reads replies of Redis (version 2 of its protocol): by hiredis where it is installed, by this module else.

Both have one shape: `feed` takes bytes as they come, `gets` gives the next whole reply or False. An error reply is
given, not raised. No I/O; must not know what was asked.
"""

from __future__ import annotations

from typing import Any, Callable, List

#: Makes the object that stands for an error reply from its text.
MakeError = Callable[[str], Exception]


class _Incomplete(Exception):
    """The reply goes on in bytes that have not come."""


class Reader:
    """The reader without hiredis."""

    def __init__(self, make_error: MakeError) -> None:
        self._make_error = make_error
        self._data = bytearray()
        #: Where the next reply begins, and how far the reader has come in it.
        self._begin = 0
        self._at = 0
        #: Bytes without which there is no use in looking again: what is long comes in many pieces.
        self._needed = 0

    def feed(self, data: bytes) -> None:
        """More bytes."""
        if self._begin == len(self._data):
            self._data = bytearray()
            self._needed = max(self._needed - self._begin, 0)
            self._begin = 0
        self._data += data

    def gets(self) -> Any:
        """The next reply; False where it is not whole yet."""
        if len(self._data) < self._needed or self._begin == len(self._data):
            return False
        self._at = self._begin
        try:
            reply = self._reply()
        except _Incomplete:
            return False
        self._begin = self._at
        return reply

    def _reply(self) -> Any:
        kind, line = self._line()
        if kind == 0x24:  # $
            return self._bulk(int(line))
        if kind == 0x2A:  # *
            return self._array(int(line))
        if kind == 0x3A:  # :
            return int(line)
        if kind == 0x2B:  # +
            return line
        if kind == 0x2D:  # -
            return self._make_error(line.decode("utf-8", "replace"))
        raise ValueError(f"a reply begins with {bytes([kind])!r}")

    def _line(self) -> Any:
        data, at = self._data, self._at
        end = data.find(b"\r\n", at)
        if end < 0:
            raise _Incomplete
        self._at = end + 2
        return data[at], bytes(data[at + 1 : end])

    def _bulk(self, length: int) -> Any:
        if length < 0:
            return None
        at = self._at
        self._at = at + length + 2
        if len(self._data) < self._at:
            self._needed = self._at
            raise _Incomplete
        return bytes(self._data[at : at + length])

    def _array(self, length: int) -> Any:
        if length < 0:
            return None
        found: List[Any] = []
        for _ in range(length):
            found.append(self._reply())
        return found


def own_reader(make_error: MakeError) -> Any:
    """The reader of this module."""
    return Reader(make_error)


make_reader: Callable[[MakeError], Any] = own_reader

try:
    import hiredis
except ImportError:
    pass
else:

    def _fast_reader(make_error: MakeError) -> Any:
        return hiredis.Reader(protocolError=ValueError, replyError=make_error)

    make_reader = _fast_reader
