"""Fixtures: one Redis for the session, emptied before and looked at after each test."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Iterator

import pytest
import redis
from support import Front, Server, left


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    # Not pytest's own folder: the path of a unix socket may have only about 100 characters.
    with tempfile.TemporaryDirectory(prefix="tw-") as folder:
        it = Server(Path(folder)).start()
        yield it
        it.stop()


@pytest.fixture
def own_server() -> Iterator[Server]:
    """A Redis that the test may kill."""
    with tempfile.TemporaryDirectory(prefix="tw-") as folder:
        it = Server(Path(folder)).start()
        yield it
        it.stop()


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    it = server.client()
    it.flushall()
    it.config_resetstat()
    yield it
    it.close()


@pytest.fixture
def front(client: redis.Redis) -> Iterator[Front]:
    """After the test nothing may be left in Redis: every job taken, every answer read, no worker registered."""
    yield Front(client)
    assert left(client) == []


@pytest.fixture(autouse=True)
def quiet_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "REDIS_URL",
        "TEMPEST_REDIS_URL",
        "TEMPEST_CLAIMS",
        "TEMPEST_QUEUE",
        "TEMPEST_WORKER_ID",
        "TEMPEST_ENV",
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def log_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="tempest_worker")
