"""The socket under a link: bytes out, replies in, each with as few system calls as there can be.

The client library connects; but on the way of every job its sending and reading cost more than all else, so an open
socket is taken from it. Must not connect, and must not judge what a loss means.
"""

from __future__ import annotations

import select
import socket
import struct
import sys
from typing import Any, Callable, Optional, Union

from redis.exceptions import ConnectionError as Gone
from redis.exceptions import ResponseError

from ._resp import make_reader

_READ_BYTES = 65536
_TOO_LONG = "nothing came for too long"
#: Bytes of the shortest reply to a push (`:1` and the line end), to a pop (`*-1` and the line end), and to a claim
#: (four such lines; the texts of errors are longer).
SHORTEST_COUNT = 4
SHORTEST_NIL = 5
SHORTEST_CLAIM = 16
#: Error replies that say that this connection is of no use now: another one may be, later.
_USELESS = ("LOADING", "NOAUTH", "WRONGPASS", "ERR max number of clients")


def refusal(text: str) -> Exception:
    """What stands for an error reply."""
    return Gone(text) if text.startswith(_USELESS) else ResponseError(text)


class Wire:
    """One open socket, used by one thread. Every method raises OSError, RedisError or ValueError where the socket is
    of no more use."""

    def __init__(self, sock: socket.socket, seconds: float) -> None:
        self._sock = sock
        self._reader = make_reader(refusal)
        self._seconds = seconds
        self._in_kernel = _wait_in_kernel(sock, seconds)
        #: Waits for what `expect` named, where reading itself cannot.
        self._wait: Optional[Callable[[float], object]] = None
        if self._in_kernel and sock.family != socket.AF_UNIX:
            poll = select.poll()
            poll.register(sock, select.POLLIN)
            self._wait = poll.poll
        #: What the kernel was told to wait for, and whether that still holds for the next read.
        self._low = 1
        self._fresh = False
        self.send = sock.sendall

    def reply(self) -> Any:
        """The next reply; an error reply is given, not raised."""
        reader = self._reader
        reply = reader.gets()
        while reply is False:
            reader.feed(self._receive())
            reply = reader.gets()
        if type(reply) is Gone:
            raise reply
        return reply

    def expect(self, size: int) -> None:
        """Let the next read sleep until `size` bytes are there, which must be no more than what is still to come:
        the count after a push comes at once, the claim behind it when there is a job, and to wake up for each is
        half of what a lone job costs."""
        if self._in_kernel:
            if size != self._low:
                self._set_low(size)
            self._fresh = True

    def _receive(self) -> bytes:
        if self._fresh:
            self._fresh = False
            # A read of TCP takes a count that is there already and then sleeps for as many bytes as if it were not.
            if self._wait is not None and not self._wait(self._seconds * 1000):
                raise Gone(_TOO_LONG)
        elif self._low != 1:
            self._set_low(1)
        try:
            data = self._sock.recv(_READ_BYTES)
        except BlockingIOError:
            raise Gone(_TOO_LONG) from None
        if not data:
            raise Gone("connection closed by server")
        return data

    def _set_low(self, size: int) -> None:
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)
        self._low = size


class ClientWire:
    """The same over the client library's own methods, for one that keeps its socket elsewhere."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def send(self, data: bytes) -> None:
        """See `Wire`."""
        self._connection.send_packed_command([data], check_health=False)

    def reply(self) -> Any:
        """See `Wire`."""
        try:
            return self._connection.read_response(disable_decoding=True)
        except ResponseError as error:
            return error

    def expect(self, size: int) -> None:
        """Reads as it comes."""


def make_wire(connection: Any, seconds: float) -> Union[Wire, ClientWire]:
    """The wire of a connection that is open. No version of the client promises where the socket is."""
    sock = getattr(connection, "_sock", None)
    return ClientWire(connection) if sock is None else Wire(sock, seconds)


def _wait_in_kernel(sock: socket.socket, seconds: float) -> bool:
    """Let the kernel keep the time limit: Python's own costs a call of poll before each read and each write. False
    where it cannot be: under TLS, and where the form of the option is not known."""
    if type(sock) is not socket.socket or not sys.platform.startswith("linux"):
        return False
    limit = struct.pack("ll", int(seconds), int(seconds % 1 * 1_000_000))
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
    except OSError:
        return False
    sock.settimeout(None)
    return True
