"""The entry in the registry of workers: written at each beat, removed at the end.

Only makes the worker visible; nothing in this package depends on it. Must not decide when to beat.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from typing import Any, List

from redis.exceptions import ResponseError

from ._clock import Clock
from ._json import dumps
from ._link import Link, pack
from ._settings import RECORD_MS, REGISTRY_MS, Settings
from ._version import __version__

log = logging.getLogger("tempest_worker")


class Registration:
    """One worker's entry."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._member = settings.worker_id.encode()
        self._registry = settings.names.workers.encode()
        self._record = settings.names.worker(settings.worker_id).encode()
        self._started_ms = 0
        self._refused = False

    def beat(self, link: Link, state: str, current: List[str], done: int) -> None:
        """Renew the entry, and the distance to the clock of Redis with it. Raises LinkLost."""
        now = int(self._clock.now_ms())
        self._started_ms = self._started_ms or now
        asked = time.monotonic()
        replies = link.ask(
            [
                pack(b"TIME"),
                pack(b"ZADD", self._registry, b"%d" % now, self._member),
                pack(b"PEXPIRE", self._registry, b"%d" % REGISTRY_MS),
                pack(b"SET", self._record, self._entry(state, current, done), b"PX", b"%d" % RECORD_MS),
            ]
        )
        if isinstance(replies[0], list):
            self._clock.set(replies[0], asked)
        self._look(replies[1:])

    def _look(self, replies: List[Any]) -> None:
        refusals = [reply for reply in replies if isinstance(reply, ResponseError)]
        if refusals and not self._refused:
            log.warning("this worker works, but cannot be listed: %s", refusals[0])
        self._refused = bool(refusals)

    def _entry(self, state: str, current: List[str], done: int) -> bytes:
        return dumps(
            {
                "id": self._settings.worker_id,
                "queue": self._settings.names.queue,
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "language": "python",
                "sdk": "tempest-worker",
                "version": __version__,
                "started": self._started_ms,
                "state": state,
                "current": current,
                "done": done,
            }
        )

    def remove(self, link: Link) -> None:
        """Take the entry away. Raises LinkLost; then the record expires by itself."""
        link.ask([pack(b"ZREM", self._registry, self._member), pack(b"DEL", self._record)])
