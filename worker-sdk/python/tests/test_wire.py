"""The socket under a link: replies cut anywhere, one wake-up for a lone job, and what ends a connection."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any, List

import pytest
import redis
from redis.exceptions import ConnectionError as Gone
from redis.exceptions import ResponseError
from support import LIMIT, Front, Server, eventually, running

from tempest_worker import App
from tempest_worker import _wire as wire
from tempest_worker._clock import Clock
from tempest_worker._link import Address, Link, Outages, pack
from tempest_worker._resp import make_reader, own_reader
from tempest_worker._settings import SOCKET_TIMEOUT_SECONDS

LONG = b"two\n" + b"x" * 300
REPLIES: List[Any] = [1, None, None, b"", b"a\r\nb", [b"tempest:web", [b"one", LONG]], b"OK", [1, None]]
REPLY_BYTES = (
    b":1\r\n*-1\r\n$-1\r\n$0\r\n\r\n$4\r\na\r\nb\r\n"
    b"*2\r\n$11\r\ntempest:web\r\n*2\r\n$3\r\none\r\n$304\r\ntwo\n" + b"x" * 300 + b"\r\n+OK\r\n*2\r\n:1\r\n*-1\r\n"
)
READERS = {"own": own_reader, "installed": make_reader}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10_000])
def test_replies_are_read_wherever_they_are_cut(reader: str, size: int) -> None:
    it = READERS[reader](wire.refusal)
    found = []
    for at in range(0, len(REPLY_BYTES), size):
        it.feed(REPLY_BYTES[at : at + size])
        while (reply := it.gets()) is not False:
            found.append(reply)
    assert found == REPLIES


@pytest.mark.parametrize("reader", READERS)
def test_an_error_reply_is_given_and_what_is_no_reply_is_an_error(reader: str) -> None:
    it = READERS[reader](wire.refusal)
    it.feed(b"-OOM command not allowed\r\n*2\r\n:1\r\n-ERR no\r\n-LOADING a file\r\n")
    first = it.gets()
    assert type(first) is ResponseError
    assert str(first) == "OOM command not allowed"
    assert type(it.gets()[1]) is ResponseError
    assert type(it.gets()) is Gone
    it.feed(b"HTTP/1.1 400 Bad Request\r\n")
    with pytest.raises(ValueError, match="."):
        it.gets()


def test_what_is_long_is_not_looked_at_for_every_piece_of_it() -> None:
    looks = 0

    class Counting(type(own_reader(wire.refusal))):  # type: ignore[misc]
        def _reply(self) -> Any:
            nonlocal looks
            looks += 1
            return super()._reply()

    it = Counting(wire.refusal)
    it.feed(b":7\r\n$100000\r\n")
    assert it.gets() == 7
    for _ in range(1000):
        assert it.gets() is False
        it.feed(b"x" * 100)
    it.feed(b"\r\n")
    assert it.gets() == b"x" * 100_000
    assert looks <= 4


def opened(server: Server, kind: str) -> Link:
    address = Address(f"unix://{server.socket}" if kind == "unix" else server.url)
    link = Link(address, "test", Clock(), Outages(address))
    link.open()
    return link


@pytest.fixture
def receives(monkeypatch: pytest.MonkeyPatch) -> List[int]:
    """The length of everything that a wire read."""
    found: List[int] = []
    receive = wire.Wire._receive

    def counted(self: wire.Wire) -> bytes:
        data = receive(self)
        found.append(len(data))
        return data

    monkeypatch.setattr(wire.Wire, "_receive", counted)
    return found


@pytest.mark.parametrize("kind", ["unix", "tcp"])
@pytest.mark.parametrize("pushes", [1, 3])
def test_the_count_after_a_push_wakes_nobody(
    server: Server, client: redis.Redis, receives: List[int], kind: str, pushes: int
) -> None:
    link = opened(server, kind)
    receives.clear()
    link.write(pack(b"RPUSH", b"answers", b"x") * pushes + pack(b"BLPOP", b"jobs", b"0"))
    link.expect(wire.SHORTEST_COUNT * pushes + wire.SHORTEST_CLAIM)
    found: List[Any] = []
    reading = threading.Thread(target=lambda: found.extend(link.read() for _ in range(pushes + 1)))
    reading.start()
    eventually(lambda: client.llen("answers") == pushes, "nothing was pushed")
    client.rpush("jobs", "job")
    reading.join(LIMIT)
    assert found == [*range(1, pushes + 1), [b"jobs", b"job"]]
    assert len(receives) == 1
    client.delete("answers")
    # The next reply is shorter than what was expected before.
    began = time.monotonic()
    link.write(pack(b"RPUSH", b"answers", b"x"))
    assert link.read() == 1
    assert time.monotonic() - began < SOCKET_TIMEOUT_SECONDS / 2
    link.close()
    client.delete("answers")


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_a_claim_that_ends_without_a_job_is_not_missed(server: Server, client: redis.Redis, kind: str) -> None:
    """The count is there before the read begins, then come five bytes and no more."""
    link = opened(server, kind)
    link.write(pack(b"RPUSH", b"answers", b"x") + pack(b"BLPOP", b"jobs", b"0"))
    eventually(lambda: client.llen("answers") == 1, "nothing was pushed")
    assert link.client_id is not None
    threading.Timer(0.1, client.client_unblock, [link.client_id]).start()
    began = time.monotonic()
    link.expect(wire.SHORTEST_COUNT + wire.SHORTEST_NIL)
    assert [link.read(), link.read()] == [1, None]
    assert time.monotonic() - began < SOCKET_TIMEOUT_SECONDS / 2
    link.close()


@pytest.mark.parametrize("expected", [0, 9])
@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_silence_and_an_end_are_noticed(kind: str, expected: int) -> None:
    near, far = socket.socketpair() if kind == "unix" else tcp_pair()
    it = wire.Wire(near, 0.05)
    if expected:
        it.expect(expected)
    with pytest.raises((Gone, OSError)):
        it.reply()
    far.sendall(b":1\r\n")
    far.close()
    if expected:
        it.expect(expected)
    assert it.reply() == 1
    with pytest.raises((Gone, OSError)):
        it.reply()
    near.close()


@pytest.mark.parametrize("text", ["LOADING Redis is loading", "NOAUTH Authentication required."])
def test_a_server_that_serves_nobody_is_a_lost_connection(text: str) -> None:
    near, far = socket.socketpair()
    far.sendall(b"-%b\r\n" % text.encode())
    with pytest.raises(Gone, match=text.split()[0]):
        wire.Wire(near, 1.0).reply()
    near.close()
    far.close()


def tcp_pair() -> Any:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        return near, listener.accept()[0]


def test_a_client_library_that_hides_its_socket_does_too(
    server: Server, front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: List[Any] = []
    monkeypatch.setattr(wire, "Wire", None)
    monkeypatch.setattr(
        "tempest_worker._link.make_wire",
        lambda connection, seconds: made.append(wire.ClientWire(connection)) or made[-1],
    )
    app = App()
    app.handler(lambda request: request.path)
    with running(app, server.url):
        assert front.ask("/x").body == b"/x"
    assert made
