"""The entries in the registry of workers: written at each beat, removed at the end.

One for each claimer, since whoever judges whether the holder of claims is alive looks for its record; one for all of
the process in base mode. Must not decide when to beat.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from typing import Any, List, NamedTuple, Sequence

from redis.exceptions import ResponseError

from ._clock import Clock
from ._json import dumps
from ._link import Link, pack
from ._settings import RECORD_MS, REGISTRY_MS, Settings
from ._version import __version__

log = logging.getLogger("tempest_worker")


class Entry(NamedTuple):
    """What one record says, besides what is the same for all of them."""

    worker_id: str
    #: `idle`, `busy`, or `quiet`: takes no more.
    state: str
    #: Ids of the jobs that run.
    current: List[str]
    #: Jobs answered.
    done: int


class Registration:
    """The entries of one process. `commands` may be used by any thread."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._queue = settings.names.queue
        self._clock = clock
        self._names = settings.names
        self._registry = settings.names.workers.encode()
        self._host = socket.gethostname()
        self._started_ms = 0
        self._refused = False

    def beat(self, link: Link, entries: Sequence[Entry]) -> None:
        """Renew the entries, and the distance to the clock of Redis with them. Raises LinkLost."""
        asked = time.monotonic()
        commands = [pack(b"TIME")]
        for entry in entries:
            commands += self.commands(entry)
        commands.append(pack(b"PEXPIRE", self._registry, b"%d" % REGISTRY_MS))
        replies = link.ask(commands)
        if isinstance(replies[0], list):
            self._clock.set(replies[0], asked)
        self._look(replies[1:])

    def commands(self, entry: Entry) -> List[bytes]:
        """Packed commands that write one entry."""
        now = int(self._clock.now_ms())
        self._started_ms = self._started_ms or now
        record = self._names.worker(entry.worker_id).encode()
        return [
            pack(b"ZADD", self._registry, b"%d" % now, entry.worker_id.encode()),
            pack(b"SET", record, self._text(entry), b"PX", b"%d" % RECORD_MS),
        ]

    def _look(self, replies: List[Any]) -> None:
        refusals = [reply for reply in replies if isinstance(reply, ResponseError)]
        if refusals and not self._refused:
            log.warning("this worker works, but cannot be listed: %s", refusals[0])
        self._refused = bool(refusals)

    def _text(self, entry: Entry) -> bytes:
        return dumps(
            {
                "id": entry.worker_id,
                "queue": self._queue,
                "host": self._host,
                "pid": os.getpid(),
                "language": "python",
                "sdk": "tempest-worker",
                "version": __version__,
                "started": self._started_ms,
                "state": entry.state,
                "current": entry.current,
                "done": entry.done,
            }
        )

    def removal(self, worker_id: str) -> List[bytes]:
        """Packed commands that take one entry away."""
        record = self._names.worker(worker_id).encode()
        return [pack(b"ZREM", self._registry, worker_id.encode()), pack(b"DEL", record)]
