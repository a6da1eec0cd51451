"""Other people's side of reliable mode: the reaper's, as a front plays it, with the scripts of the contract."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any, Dict, List, Set

import redis
from support import QUEUE

TAG = "{" + QUEUE + "}:"
SCRIPTS = Path(__file__).parents[2] / "protocol" / "scripts"
CLAIMERS = TAG + "claimers"
#: Seconds for which both connections must be gone before a worker is dead for certain.
GONE_SECONDS = 0.1


def script(name: str) -> str:
    return (SCRIPTS / f"{name}.lua").read_text()


def reap(client: redis.Redis, worker: str, registration: str = "", certain: bool = True) -> List[int]:
    """[handed to fronts, back in the queue, dead], or [-1]: it lives."""
    keys = [CLAIMERS, f"{TAG}claimed:{worker}", f"{TAG}landing:{worker}", f"{TAG}worker:{worker}", f"{TAG}workers"]
    keys += [QUEUE, f"{TAG}lost", f"{TAG}attempts", f"{TAG}dead", f"{TAG}stats", f"{TAG}batch:{worker}"]
    arguments = [worker, registration, int(certain), 3, 100, 60_000]
    found: List[int] = client.eval(script("reap"), len(keys), *keys, *arguments)  # type: ignore[assignment]
    return found


def claimed(client: redis.Redis, worker: str) -> Dict[int, bytes]:
    """What a worker holds, by number; `started` as number 0."""
    entries: Dict[bytes, bytes] = client.hgetall(f"{TAG}claimed:{worker}")  # type: ignore[assignment]
    return {int(name) if name.isdigit() else 0: job for name, job in entries.items()}


class Watchman(threading.Thread):
    """Looks at the connections of every claimer, as a front does, and reaps those that are dead for certain."""

    def __init__(self, client: redis.Redis) -> None:
        super().__init__()
        self._client = client
        self._gone: Dict[bytes, float] = {}
        self.ended = threading.Event()
        self.reaped: List[bytes] = []

    def run(self) -> None:
        while not self.ended.wait(0.02):
            alive = self._alive()
            for worker, registration in self._client.hgetall(CLAIMERS).items():  # type: ignore[union-attr]
                self._judge(worker, registration, alive)

    def _alive(self) -> Set[bytes]:
        lines: Any = self._client.execute_command("CLIENT LIST")
        return {each["id"].encode() for each in lines}

    def _judge(self, worker: bytes, registration: bytes, alive: Set[bytes]) -> None:
        if alive & set(registration.split()[1:]):
            self._gone.pop(registration, None)
        elif time.monotonic() - self._gone.setdefault(registration, time.monotonic()) > GONE_SECONDS:
            self.reaped.append(worker)
            reap(self._client, worker.decode(), registration.decode())
