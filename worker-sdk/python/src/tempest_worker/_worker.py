"""One worker process: builds the parts, handles signals, and ends them in order.

Order of the end: no more claims, running jobs and their answers, coroutines, the helper with what is left to send,
the registration. Must not know how any part does its work.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from types import FrameType
from typing import Any, Dict, List, Optional

from ._claim import BaseClaimer, Claimer
from ._clock import Clock
from ._helper import Helper
from ._link import Address, Link, Outages
from ._loop import Loop
from ._registration import Entry, Registration
from ._reliable import ReliableClaimer
from ._routing import Router
from ._runner import Runner
from ._settings import Settings, thread_id
from ._version import __version__

log = logging.getLogger("tempest_worker")


class Worker:
    """Runs the handlers of a router for one queue."""

    def __init__(self, settings: Settings, router: Router) -> None:
        self._settings = settings
        self._address = Address(settings.redis_url)
        self._clock = Clock()
        self._outages = Outages(self._address)
        self._stop_event = threading.Event()
        self._registration = Registration(settings, self._clock)
        self._helper = Helper(settings, self._clock, self._link("helper"), self._registration, self._stop_event)
        self._loops = [self._loop(router, number) for number in range(settings.concurrency)]
        self._helper.loops = self._loops
        self._runner = self._async_runner() if router.any_async else None
        self._failed: Optional[BaseException] = None
        self._signals = 0
        for loop in self._loops:
            loop.helper, loop.runner = self._helper, self._runner
        self._helper.runner = self._runner
        self._helper.on_failure = self._fail

    def _link(self, role: str) -> Link:
        name = f"tempest-worker:{os.getpid()}:{role}"
        return Link(self._address, name, self._clock, self._outages)

    def _claimer(self, number: int) -> Claimer:
        settings = self._settings
        if settings.claims == "base":
            return BaseClaimer(settings.names.queue_key, settings.claim)
        worker_id = thread_id(settings.worker_id, number, settings.concurrency)
        return ReliableClaimer(settings.names, worker_id, self._first_beat)

    def _first_beat(self, worker_id: str) -> List[bytes]:
        return self._registration.commands(Entry(worker_id, "idle", [], 0))

    def _loop(self, router: Router, number: int) -> Loop:
        link = self._link(f"claim-{number}")
        return Loop(self._settings, router, self._clock, link, self._claimer(number), self._stop_event)

    def _async_runner(self) -> Runner:
        places, development = self._settings.async_concurrency, self._settings.development
        return Runner(self._helper, places, development, self._stop_event)

    def run(self) -> None:
        """Work until `stop` or a signal; then end in order. The first loop runs in the calling thread. Raises
        what a loop raised: MissingPackage, or a mistake in this package."""
        restore = self._take_signals()
        log.info(
            "tempest-worker %s (pid %d) takes jobs from %s at %s",
            __version__,
            os.getpid(),
            self._settings.names.queue_key,
            self._address,
        )
        self._helper.start()
        if self._runner is not None:
            self._runner.start()
        threads = [self._thread(loop) for loop in self._loops[1:]]
        self._guarded(self._loops[0])
        for thread in threads:
            thread.join()
        if self._runner is not None:
            self._runner.finish()
        self._helper.finish()
        for number, handler in restore.items():
            signal.signal(number, handler)
        self._report()
        if self._failed is not None:
            raise self._failed

    def stop(self) -> None:
        """Take no more jobs and finish; returns at once. May be called from any thread or signal handler."""
        for loop in self._loops:
            loop.wanted = False
        self._helper.stop()

    def _thread(self, loop: Loop) -> threading.Thread:
        thread = threading.Thread(target=self._guarded, args=(loop,), name=loop.link.name, daemon=True)
        thread.start()
        return thread

    def _guarded(self, loop: Loop) -> None:
        try:
            loop.run()
        except BaseException as error:
            # What it had claimed is taken back as from a thread that died.
            loop.holds = True
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        # One thread less would go unnoticed; a supervisor sees a process that ended.
        log.critical("the worker ends: %r", error)
        self._failed = error
        self.stop()

    def _take_signals(self) -> Dict[int, Any]:
        """Handle SIGTERM and SIGINT where Python allows it: in the main thread."""
        if threading.current_thread() is not threading.main_thread():
            return {}
        return {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)}

    def _on_signal(self, number: int, _frame: Optional[FrameType]) -> None:
        self._signals += 1
        if self._signals > 1:
            # Asked twice: whoever asked does not want to wait for anything, clean-up included.
            os._exit(128 + number)
        self.stop()

    def _report(self) -> None:
        loops: List[Loop] = self._loops
        log.info(
            "stopped: %d jobs done, %d past their deadline, %d malformed, %d given back, %d taken away, "
            "%d answers undelivered",
            sum(loop.done for loop in loops),
            sum(loop.intake.expired for loop in loops),
            sum(loop.intake.malformed for loop in loops),
            self._helper.given_back,
            sum(loop.courier.lost for loop in loops) + self._helper.lost,
            sum(loop.courier.undelivered for loop in loops) + self._helper.undelivered,
        )
