"""The helper thread: what must go on while handlers run.

It beats for the worker, ends blocked claims when the worker stops, sends answers of coroutine handlers, and looks
for claiming threads that need relief. It has a connection of its own. Must not run a handler.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import Callable, Optional, Sequence

from ._claim import Claimer
from ._clock import Clock
from ._courier import Courier, Message
from ._link import Link, LinkLost, pack
from ._loop import Loop
from ._registration import Registration
from ._relief import Relief
from ._runner import Runner
from ._settings import BEAT_SECONDS, OUTBOX_MESSAGES, RELIEF_SECONDS, STOP_GRACE_SECONDS, Settings
from ._wake import Wake

log = logging.getLogger("tempest_worker")

#: While claims are being ended, seconds between two tries: one may come before the claim reached Redis.
_UNBLOCK_SECONDS = 0.01


class Helper(threading.Thread):
    """See the module. `loops`, `runner` and `on_failure` are set before it is started."""

    def __init__(self, settings: Settings, clock: Clock, link: Link, claimer: Claimer, stop: threading.Event) -> None:
        super().__init__(name="tempest-helper", daemon=True)
        self._link = link
        self._stop_event = stop
        self._courier = Courier(link, clock)
        self._relief = Relief(link, clock, claimer)
        self._registration = Registration(settings, clock)
        self._wake = Wake()
        self.loops: Sequence[Loop] = ()
        self.runner: Optional[Runner] = None
        self.on_failure: Callable[[BaseException], None]
        self._next_beat = 0.0
        #: A batch or a stream runs, so look often; and whether one ran since the last beat.
        self._watching = False
        self._watched = False
        self._stopping = False
        self._finished = False

    @property
    def undelivered(self) -> int:
        """Answers given up."""
        return self._courier.undelivered + self._relief.undelivered

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
                self._sleep(self._pause())
                try:
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
        until_beat = self._next_beat - time.monotonic()
        return min(RELIEF_SECONDS, until_beat) if self._watching else until_beat

    def _sleep(self, seconds: float) -> None:
        self._wake.wait(seconds)
        if self._stopping and not self._stop_event.is_set():
            # Here and not in the signal handler, which may have interrupted somebody who holds the event's lock.
            log.info("stopping: no new jobs, finishing what was taken")
            self._stop_event.set()

    def _turn(self) -> None:
        if self._courier.outbox:
            self._courier.deliver()
        now = time.monotonic()
        if self._watching:
            for loop in self.loops:
                self._relief.look(loop, now)
        if self._stopping:
            self._unblock()
        if now >= self._next_beat:
            self._next_beat = now + BEAT_SECONDS
            self._beat()
            self._watching, self._watched = self._watched, False

    def _unblock(self) -> None:
        ids = [loop.link.client_id for loop in self.loops if loop.blocked]
        commands = [pack(b"CLIENT", b"UNBLOCK", b"%d" % each) for each in ids if each is not None]
        if commands:
            self._link.ask(commands)

    def _beat(self) -> None:
        current = [each for each in (loop.current for loop in self.loops) if each is not None]
        if self.runner is not None:
            current += self.runner.current
        state = "quiet" if self._stopping else "busy" if current else "idle"
        self._registration.beat(self._link, state, current, sum(loop.done for loop in self.loops))

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
        try:
            self._registration.remove(self._link)
        except LinkLost:
            log.info("the registration could not be removed; it expires by itself")
