"""One dedicated connection to Redis: many commands in one write, replies read in order.

A client's own pipeline cannot hold a blocking pop, so this module packs commands itself and uses the client for
what it does well: URLs, TLS, authentication. It knows no command of the contract and never repeats one: what was sent
and not acknowledged is the caller's to judge.
"""

from __future__ import annotations

import logging
import random
import socket
import threading
import time
from typing import Any, Callable, Dict, List, Optional, Set, Tuple, Union

import redis.connection as client
from redis.exceptions import RedisError

from ._clock import Clock
from ._settings import (
    BACKOFF_FIRST_SECONDS,
    BACKOFF_LAST_SECONDS,
    CONNECT_TIMEOUT_SECONDS,
    SOCKET_TIMEOUT_SECONDS,
)
from ._wire import ClientWire, Wire, make_wire

log = logging.getLogger("tempest_worker")

AnyWire = Union[Wire, ClientWire]
_SCHEMES = ("redis://", "rediss://", "unix://")
#: What says that a connection is of no more use; ValueError: what came is no reply.
_BROKEN = (RedisError, OSError, ValueError)
#: Options of a pool, which a single connection does not know.
_POOL_OPTIONS = ("connection_class", "max_connections", "timeout")


class LinkLost(Exception):
    """The connection is gone or was never there. The text says what the client saw."""


def pack(*words: bytes) -> bytes:
    """One command in the protocol of Redis."""
    return b"*%d\r\n%b" % (len(words), b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words]))


class Address:
    """Where Redis is and how to connect; the password never shows in `str()`."""

    def __init__(self, url: str) -> None:
        """Raises ValueError that says which URLs are understood."""
        self._url = url[6:] if url.startswith("redis+unix://") else url
        if not self._url.startswith(_SCHEMES):
            raise ValueError(
                f"Redis URL {_without_password(url)!r}: use redis://[user:password@]host:port[/db], "
                "rediss://… (TLS) or unix:///path"
            )
        parse: Callable[[str], Dict[str, Any]] = client.parse_url
        options = parse(self._url)
        self.kind: Any = options.get("connection_class", client.Connection)
        self.options = {name: value for name, value in options.items() if name not in _POOL_OPTIONS}
        self.options.update(_socket_options(self.kind))

    def connection(self) -> Any:
        """A connection of the client library, not yet open."""
        return self.kind(**self.options)

    def __str__(self) -> str:
        return _without_password(self._url)


def _socket_options(kind: Any) -> Dict[str, Any]:
    options: Dict[str, Any] = {
        # Version 2 of the protocol: simplest replies, known by every server.
        "protocol": 2,
        "socket_timeout": SOCKET_TIMEOUT_SECONDS,
        "socket_connect_timeout": CONNECT_TIMEOUT_SECONDS,
    }
    if kind is not client.UnixDomainSocketConnection:
        options["socket_keepalive"] = True
        options["socket_keepalive_options"] = _keepalive()
    return options


def _keepalive() -> Dict[int, int]:
    """Ask after 30 s of silence, every 5 s, three times; where the platform lets one say so."""
    wanted = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
    return {getattr(socket, name): value for name, value in wanted.items() if hasattr(socket, name)}


def _without_password(url: str) -> str:
    scheme, mark, rest = url.partition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2].partition('?')[0]}"


class Outages:
    """Says once that Redis is gone and once that it is back, however many connections notice."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._lock = threading.Lock()
        self._down: Set[str] = set()
        self._since = 0.0

    def down(self, name: str, error: object, opened: Optional[float] = None) -> None:
        """A connection that was opened at `opened` (`time.monotonic()`) broke; None: it could not be opened."""
        with self._lock:
            if opened is not None and opened < self._since:
                return  # broken by an outage that was told already, noticed only now
            first = not self._down
            self._down.add(name)
            if first:
                self._since = time.monotonic()
                log.warning("Redis at %s is gone: %s; trying again until it is back", self._address, error)

    def up(self, name: str) -> None:
        """A connection is open."""
        with self._lock:
            if name not in self._down:
                return
            self._down.discard(name)
            if not self._down:
                log.info("Redis at %s is back after %.1f s", self._address, time.monotonic() - self._since)


class Backoff:
    """Waits between tries: doubled each time up to a limit, half of each at random, so that many workers do not
    come back in step."""

    def __init__(self) -> None:
        self._next = BACKOFF_FIRST_SECONDS

    def seconds(self) -> float:
        """The wait before the next try."""
        current = self._next
        self._next = min(current * 2, BACKOFF_LAST_SECONDS)
        return random.uniform(current / 2, current)


class Link:
    """A connection that is opened again when it breaks. Used by one thread."""

    def __init__(self, address: Address, name: str, clock: Clock, outages: Outages) -> None:
        self.name = name
        self._clock = clock
        self._outages = outages
        self._connection: Any = address.connection()
        #: None while the connection is closed.
        self._wire: Optional[AnyWire] = None
        self._opened = 0.0
        #: The server's id of this connection, for CLIENT UNBLOCK; None while it is closed.
        self.client_id: Optional[int] = None
        #: The server's version; (0, 0) where it may not be asked.
        self.server_version: Tuple[int, int] = (0, 0)
        #: Names this run of the server, without which an id of a connection says nothing; empty where it may not be
        #: asked.
        self.run_id = b""
        #: Told after each connect, before anything else is sent; may use the link, raises LinkLost.
        self.on_open: Callable[[], None] = _nothing

    def open(self) -> None:
        """Connect unless connected; asks for the time, the connection's id and the server's version. One try.
        Raises LinkLost."""
        if self._wire is not None:
            return
        try:
            self._connection.connect()
            wire = make_wire(self._connection, SOCKET_TIMEOUT_SECONDS)
            self._introduce(wire)
        except _BROKEN as error:
            self.close()
            self._outages.down(self.name, error)
            raise LinkLost(str(error)) from error
        self._wire = wire
        self._opened = time.monotonic()
        self.on_open()
        self._outages.up(self.name)

    def open_until(self, give_up: Callable[[], bool], wait: Callable[[float], object]) -> bool:
        """Connect, trying again until it works (True) or `give_up` says so (False). `wait` sleeps."""
        backoff = Backoff()
        while True:
            try:
                self.open()
                return True
            except LinkLost:
                if give_up():
                    return False
                wait(backoff.seconds())

    def _introduce(self, wire: AnyWire) -> None:
        """Ask what is good to know; a user who may not ask does without."""
        asked = time.monotonic()
        questions = pack(b"TIME") + pack(b"CLIENT", b"ID") + pack(b"INFO", b"server")
        questions += pack(b"CLIENT", b"SETNAME", self.name.encode())
        wire.send(questions)
        now = wire.reply()
        if isinstance(now, list):
            self._clock.set(now, asked)
        client_id, info, _named = wire.reply(), wire.reply(), wire.reply()
        self.client_id = client_id if isinstance(client_id, int) else None
        self.server_version = _version(info) if isinstance(info, bytes) else (0, 0)
        self.run_id = _run_id(info) if isinstance(info, bytes) else b""

    def write(self, data: bytes) -> None:
        """Send packed commands in one write. Raises LinkLost; then nobody knows how much arrived."""
        if self._wire is None:
            self.open()
        assert self._wire is not None
        try:
            self._wire.send(data)
        except _BROKEN as error:
            raise self._lost(error) from error

    def expect(self, size: int) -> None:
        """Sleep until `size` bytes of replies are there; see `Wire.expect`."""
        if self._wire is not None:
            self._wire.expect(size)

    def read(self) -> Any:
        """The next reply in order; an error reply is returned, not raised. Raises LinkLost."""
        if self._wire is None:
            raise LinkLost("not connected")
        try:
            return self._wire.reply()
        except _BROKEN as error:
            raise self._lost(error) from error

    def ask(self, commands: List[bytes]) -> List[Any]:
        """Send packed commands and read a reply for each. Raises LinkLost."""
        self.write(b"".join(commands))
        return [self.read() for _ in commands]

    def refuse(self, error: BaseException) -> LinkLost:
        """Give the connection up because the server refuses what it is needed for; to be raised by the caller."""
        return self._lost(error)

    def fileno(self) -> Optional[int]:
        """The open socket's descriptor, to wait for its end while nothing is asked; None where there is none."""
        sock = getattr(self._connection, "_sock", None)
        return None if self._wire is None or sock is None else int(sock.fileno())

    def _lost(self, error: BaseException) -> LinkLost:
        self.close()
        self._outages.down(self.name, error, self._opened)
        return LinkLost(str(error))

    def close(self) -> None:
        """Disconnect; the next write connects again."""
        self._wire = None
        self.client_id = None
        try:
            self._connection.disconnect()
        except _BROKEN:
            # The connection was broken before; there is nothing left to close.
            pass


def _nothing() -> None:
    """Nobody wants to be told."""


def _run_id(info: bytes) -> bytes:
    for line in info.split(b"\r\n"):
        if line.startswith(b"run_id:"):
            return line[7:]
    return b""


def _version(info: bytes) -> Tuple[int, int]:
    for line in info.split(b"\r\n"):
        if line.startswith(b"redis_version:"):
            numbers = line[14:].split(b".")
            if len(numbers) >= 2 and numbers[0].isdigit() and numbers[1].isdigit():
                return int(numbers[0]), int(numbers[1])
    return (0, 0)
