"""The helper thread: what must go on while handlers run.

It beats for the worker, ends blocked claims when the worker stops, sends answers of coroutine handlers, looks for
claiming threads that need relief, and for running jobs whose clients have left. It has a connection of its own, and
notices at once when that breaks: a worker that has lost both of its connections counts as dead. Must not run a handler.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import Callable, List, Optional, Sequence

from redis.exceptions import ResponseError

from ._claim import Unsupported
from ._clock import Clock
from ._courier import Courier, Message
from ._link import Link, LinkLost, pack
from ._loop import Loop
from ._registration import Entry, Registration
from ._relief import Relief
from ._request import Request
from ._runner import Runner
from ._settings import (
    BEAT_SECONDS,
    CANCEL_SECONDS,
    OUTBOX_MESSAGES,
    RELIEF_SECONDS,
    STOP_GRACE_SECONDS,
    Settings,
)
from ._wake import Wake

log = logging.getLogger("tempest_worker")

#: While claims are being ended, seconds between two tries: one may come before the claim reached Redis.
_UNBLOCK_SECONDS = 0.01


class Helper(threading.Thread):
    """See the module. `loops`, `runner` and `on_failure` are set before it is started."""

    def __init__(
        self, settings: Settings, clock: Clock, link: Link, registration: Registration, stop: threading.Event
    ) -> None:
        super().__init__(name="tempest-helper", daemon=True)
        self._link = link
        self._stop_event = stop
        self._courier = Courier(link, clock)
        self._relief = Relief(link, clock)
        self._registration = registration
        self._worker_id = settings.worker_id
        self._cancel = settings.cancel
        self._withdrawn = settings.names.derived("withdrawn").encode()
        link.on_open = self._opened
        self._wake = Wake()
        self.loops: Sequence[Loop] = ()
        self.runner: Optional[Runner] = None
        self.on_failure: Callable[[BaseException], None]
        self._next_beat = 0.0
        #: When running jobs are next looked up among the withdrawn ones; never again where that is refused.
        self._next_look = 0.0 if settings.claims == "reliable" else float("inf")
        #: A batch or a stream runs, so look often; and whether one ran since the last beat.
        self._watching = False
        self._watched = False
        self._warned = False
        #: Ids that are used no more, but may stand in the registry.
        self._unlisted: List[str] = []
        self._stopping = False
        self._finished = False

    @property
    def undelivered(self) -> int:
        """Answers given up."""
        return self._courier.undelivered + self._relief.undelivered

    @property
    def lost(self) -> int:
        """Claims that were somebody else's when they were to be acknowledged."""
        return self._courier.lost + self._relief.lost

    @property
    def given_back(self) -> int:
        """Jobs handed back because the one before them ran long."""
        return self._relief.given_back

    # ---- called by other threads; all but `finish` without waiting ----

    def watch(self) -> None:
        """A batch or a stream runs: look out for jobs that take long."""
        self._watched = True
        if not self._watching:
            self._watching = True
            self._wake.poke()

    def post(self, message: Message) -> None:
        """Send an answer over the helper's connection."""
        self._courier.outbox.append(message)
        self._wake.poke()

    def note_base(self, worker_id: Optional[str], why: Unsupported) -> None:
        """A thread that would have claimed under this id pops instead; said once."""
        if worker_id is not None and worker_id != self._worker_id:
            self._unlisted.append(worker_id)
        if not self._warned:
            self._warned = True
            log.warning("jobs are popped (base mode), since claiming them is not possible here: %s", why)

    async def room(self) -> None:
        """Wait until at most `OUTBOX_MESSAGES` wait here; for streams, which could go on for ever."""
        pause = 0.001
        while len(self._courier.outbox) > OUTBOX_MESSAGES and self.is_alive():
            await asyncio.sleep(pause)
            pause = min(pause * 2, 0.1)

    def stop(self) -> None:
        """End blocked claims. May be called by a signal handler."""
        self._stopping = True
        self._wake.poke()

    def finish(self) -> None:
        """Send what is left, remove the registration, end; waits for that."""
        self._finished = True
        self._wake.poke()
        self.join()

    # ---- in the thread ----

    def run(self) -> None:
        try:
            self._connect()
            while not self._finished:
                try:
                    self._sleep(self._pause())
                    self._turn()
                except LinkLost:
                    self._lost()
            self._end()
        except BaseException as error:
            # A worker without its helper would look alive and answer nothing.
            self._stop_event.set()
            self.on_failure(error)
        finally:
            self._link.close()
            self._wake.close()

    def _pause(self) -> float:
        if self._stopping:
            return _UNBLOCK_SECONDS
        until = min(self._next_beat, self._next_look) - time.monotonic()
        return min(RELIEF_SECONDS, until) if self._watching else until

    def _sleep(self, seconds: float) -> None:
        # Nothing is awaited from Redis here, so what comes is the end of the connection.
        broken = self._wake.wait(seconds, self._link.fileno())
        if self._stopping and not self._stop_event.is_set():
            # Here and not in the signal handler, which may have interrupted somebody who holds the event's lock.
            log.info("stopping: no new jobs, finishing what was taken")
            self._stop_event.set()
        if broken:
            # Under TLS it may be a message of that layer alone.
            self._link.ask([pack(b"PING")])

    def _turn(self) -> None:
        if self._courier.outbox:
            self._courier.deliver()
        now = time.monotonic()
        if self._watching:
            for loop in self.loops:
                self._relief.look(loop, now)
        if self._stopping:
            self._unblock()
        if now >= self._next_look:
            self._next_look = now + CANCEL_SECONDS
            self._look_for_withdrawn(now)
        if now >= self._next_beat:
            self._next_beat = now + BEAT_SECONDS
            self._registration.beat(self._link, self._entries())
            self._watching, self._watched = self._watched, False

    def _unblock(self) -> None:
        ids = [loop.link.client_id for loop in self.loops if loop.blocked]
        commands = [pack(b"CLIENT", b"UNBLOCK", b"%d" % each) for each in ids if each is not None]
        if commands:
            self._link.ask(commands)

    def _look_for_withdrawn(self, now: float) -> None:
        """Tell jobs that run for long whether their clients have left."""
        running = [each for loop in self.loops for each in loop.running_since(now - CANCEL_SECONDS)]
        if self.runner is not None:
            running += self.runner.running_since(now - CANCEL_SECONDS)
        asked = [each for each in running if each.claim is not None and not each.withdrawn]
        if not asked:
            return
        scores = self._link.ask([pack(b"ZMSCORE", self._withdrawn, *[each.id.encode() for each in asked])])[0]
        if isinstance(scores, ResponseError):
            log.warning("jobs whose clients have left cannot be told so: %s", scores)
            self._next_look = float("inf")
            return
        for request, score in zip(asked, scores):
            if score is not None:
                self._withdraw(request)

    def _withdraw(self, request: Request) -> None:
        log.debug("the client of request %s has left", request.id)
        request.withdrawn = True
        if self._cancel and self.runner is not None:
            self.runner.cancel(request)

    def _entries(self) -> List[Entry]:
        """One for each claimer, and one for all threads that claim nothing in a name of their own."""
        coroutines = [] if self.runner is None else self.runner.running
        entries: List[Entry] = []
        base = [loop for loop in self.loops if loop.worker_id is None]
        if base:
            others = [each.id for each in coroutines if each.claim is None]
            entries.append(self._entry(self._worker_id, base, others))
        for loop in self.loops:
            if loop.worker_id is not None:
                own = [each.id for each in coroutines if _holder(each) == loop.worker_id]
                entries.append(self._entry(loop.worker_id, [loop], own))
        return entries

    def _entry(self, worker_id: str, loops: Sequence[Loop], coroutines: List[str]) -> Entry:
        current = [each for each in (loop.current for loop in loops) if each is not None] + coroutines
        state = "quiet" if self._stopping else "busy" if current else "idle"
        return Entry(worker_id, state, current, sum(loop.done for loop in loops))

    def _opened(self) -> None:
        for loop in self.loops:
            try:
                loop.claimer.accompany(self._link)
            except Unsupported:
                pass  # its own thread will be told the same, and says so
        self._relief.repeat()

    def _lost(self) -> None:
        self._courier.recover()
        self._connect()

    def _connect(self) -> None:
        ends = 0.0

        def give_up() -> bool:
            nonlocal ends
            if not self._finished:
                return False
            ends = ends or time.monotonic() + STOP_GRACE_SECONDS
            return self._courier.idle or time.monotonic() > ends

        def wait(seconds: float) -> None:
            until = time.monotonic() + seconds
            while (left := until - time.monotonic()) > 0 and not (self._finished and self._courier.idle):
                self._sleep(left)

        if not self._link.open_until(give_up, wait):
            self._courier.give_up()

    def _end(self) -> None:
        while not self._courier.idle:
            try:
                self._courier.deliver()
            except LinkLost:
                self._lost()
        commands: List[bytes] = []
        for loop in self.loops:
            if not loop.holds:
                commands += loop.claimer.sign_off()
        for worker_id in [*self._unlisted, *[entry.worker_id for entry in self._entries()]]:
            commands += self._registration.removal(worker_id)
        try:
            self._link.ask(commands)
        except LinkLost:
            log.info("the registration could not be removed; it expires by itself")


def _holder(request: Request) -> Optional[str]:
    claim = request.claim
    return None if claim is None or claim[0] is None else claim[0].worker_id
