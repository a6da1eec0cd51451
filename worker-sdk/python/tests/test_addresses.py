"""The ways to Redis: TCP, unix socket, TLS, users with few rights; and publishing on each."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Any, Iterator

import pytest
import redis
from support import Front, Server, free_port, left, running

from tempest_worker import App
from tempest_worker._link import Address


def echo() -> App:
    app = App()
    app.handler(lambda request: "x")
    return app


@pytest.mark.parametrize("scheme", ["unix://", "redis+unix://"])
def test_a_unix_socket(server: Server, front: Front, scheme: str) -> None:
    with running(echo(), f"{scheme}{server.socket}"):
        assert front.ask().body == b"x"


def test_a_database_number(server: Server, front: Front) -> None:
    other = Front(redis.Redis(port=server.port, db=3))
    with running(echo(), server.url[:-1] + "3"):
        assert other.ask().body == b"x"
    assert left(other.redis) == []


@pytest.fixture
def tls_server() -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="tw-") as name:
        folder = Path(name)
        key, certificate, port = folder / "key", folder / "cert", free_port()
        make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
        make += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
        subprocess.run(make, check=True, capture_output=True)
        options = ["--tls-port", str(port), "--tls-cert-file", str(certificate), "--tls-key-file", str(key)]
        it = Server(folder, *options, "--tls-auth-clients", "no", "--tls-ca-cert-file", str(certificate)).start()
        it.tls_url = f"rediss://localhost:{port}/0?ssl_ca_certs={certificate}"  # type: ignore[attr-defined]
        yield it
        it.stop()


def test_tls(tls_server: Server) -> None:
    url: str = tls_server.tls_url  # type: ignore[attr-defined]
    app = echo()
    with running(app, url):
        assert Front(tls_server.client()).ask(body=b"y" * 100_000).body == b"x"
        assert app.publish("news", "x") == 0


def test_a_user_with_the_rights_of_base_mode_only(server: Server, front: Front) -> None:
    """Without INFO the version is unknown, without CLIENT UNBLOCK a stop waits for the claim; both work."""
    rules = ["reset", "on", ">s3cret", "~tempest:*", "+blpop", "+lpop", "+rpush", "+time", "+select", "+hello"]
    front.redis.execute_command("ACL", "SETUSER", "worker", *rules)
    url = f"redis://worker:s3cret@127.0.0.1:{server.port}/0"
    with running(echo(), url):
        assert front.ask().body == b"x"
    front.redis.execute_command("ACL", "DELUSER", "worker")


@pytest.mark.parametrize("url", ["", "localhost", "http://localhost", "127.0.0.1:6379"])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="redis://"):
        Address(url)


def test_an_address_shows_no_password() -> None:
    shown = str(Address("redis://user:hunter2@host:1/0?password=hunter2"))
    assert shown == "redis://host:1/0"


@pytest.mark.parametrize(
    ("data", "event", "published"),
    [
        ("hello", None, b'["hello"]'),
        ("hello", "chat", b'["chat","hello"]'),
        ('["$unsubscribe"]', None, b'["[\\"$unsubscribe\\"]"]'),
        ("gr\u00fc\u00dfe\n", None, '["gr\u00fc\u00dfe\\n"]'.encode()),
        ({"a": [1]}, "json", b'["json","{\\"a\\":[1]}"]'),
        ("", "", b'["",""]'),
    ],
)
def test_what_is_published_is_the_array_form(
    server: Server, front: Front, data: Any, event: Any, published: bytes
) -> None:
    listener = front.redis.pubsub()
    listener.subscribe("a/b")
    assert listener.get_message(timeout=10) is not None
    assert App(redis=server.url).publish("a/b", data, event=event) == 1
    message = listener.get_message(timeout=10)
    assert message is not None
    assert message["data"] == published
    listener.close()


@pytest.mark.parametrize("event", ["a\nb", "a\rb", "a\0b"])
def test_an_event_name_that_no_stream_can_carry_is_refused(server: Server, event: str) -> None:
    with pytest.raises(ValueError, match="event name"):
        App(redis=server.url).publish("news", "x", event=event)


def test_a_channel_has_a_name(server: Server) -> None:
    with pytest.raises(ValueError, match="name"):
        App(redis=server.url).publish("", "x")
