"""Relief for a claiming thread whose job runs long: what it holds besides that job must not wait for it.

Finished answers are sent, jobs that were not started go back to the head of the queue, where other workers find
them. Works on another thread's deques and on a link of its own thread. Must not touch the running job.
"""

from __future__ import annotations

import logging
from typing import List

from redis.exceptions import ResponseError

from ._claim import Claimer
from ._clock import Clock
from ._courier import Courier
from ._link import Link, LinkLost
from ._loop import Loop
from ._settings import RELIEF_SECONDS

log = logging.getLogger("tempest_worker")


class Relief:
    """Used by the helper thread only."""

    def __init__(self, link: Link, clock: Clock, claimer: Claimer) -> None:
        self._link = link
        self._claimer = claimer
        self._courier = Courier(link, clock)
        #: Jobs handed back.
        self.given_back = 0

    @property
    def undelivered(self) -> int:
        """Answers given up."""
        return self._courier.undelivered

    def look(self, loop: Loop, now: float) -> None:
        """Relieve a loop if its job has run for long at `now` (`time.monotonic()`). Raises LinkLost."""
        began = loop.began
        if not began or now - began < RELIEF_SECONDS:
            return
        self._give_back(loop)
        # A stream that still flows sends for itself.
        if now - loop.sent_at >= RELIEF_SECONDS:
            self._send_for(loop)

    def _send_for(self, loop: Loop) -> None:
        """Send the answers that wait in a loop's outbox; if that fails they go back, in their order."""
        waiting = loop.courier.outbox
        if not waiting or not loop.courier.sending.acquire(blocking=False):
            return
        try:
            while waiting:
                self._courier.outbox.append(waiting.popleft())
            self._courier.deliver()
        except LinkLost:
            self._courier.recover()
            raise
        finally:
            waiting.extendleft(reversed(self._courier.outbox))
            self._courier.outbox.clear()
            loop.courier.sending.release()

    def _give_back(self, loop: Loop) -> None:
        if not loop.pending:
            return
        self._link.open()
        self._claimer.prepare(self._link.server_version)
        jobs: List[bytes] = []
        while loop.pending:
            try:
                jobs.append(loop.pending.pop())
            except IndexError:
                break  # its own thread went on and took the last
        jobs.reverse()
        if jobs and self._push_back(loop, jobs):
            self.given_back += len(jobs)
            if loop.runner is not None:
                loop.runner.release(len(jobs))

    def _push_back(self, loop: Loop, jobs: List[bytes]) -> bool:
        try:
            replies = self._link.ask(self._claimer.give_back(jobs))
        except LinkLost:
            # Nobody knows whether they arrived, and a job must not run twice as the same attempt.
            log.error("%d jobs were lost: the connection broke while they were given back", len(jobs))
            raise
        if any(isinstance(reply, ResponseError) for reply in replies):
            loop.pending.extend(jobs)
            return False
        return True
