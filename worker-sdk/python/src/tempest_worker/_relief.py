"""Relief for a claiming thread whose job runs long: what it holds besides that job must not wait for it.

Finished answers are sent, jobs that were not started go back to the head of the queue, where other workers find
them. Works on another thread's deques and on a link of its own thread. Must not touch the running job.
"""

from __future__ import annotations

import logging
from typing import List, Tuple

from redis.exceptions import ResponseError

from ._claim import Claim, Claimer
from ._clock import Clock
from ._courier import Courier
from ._link import Link, LinkLost
from ._loop import Loop
from ._settings import RELIEF_SECONDS

log = logging.getLogger("tempest_worker")


class Relief:
    """Used by the helper thread only."""

    def __init__(self, link: Link, clock: Clock) -> None:
        self._link = link
        self._courier = Courier(link, clock)
        #: Claims whose way back was cut off by a lost connection; to be given back again, which does no harm.
        self._unsure: List[Tuple[Claimer, List[Claim]]] = []
        #: Jobs handed back.
        self.given_back = 0

    @property
    def undelivered(self) -> int:
        """Answers given up."""
        return self._courier.undelivered

    @property
    def lost(self) -> int:
        """Claims that were somebody else's when they were to be acknowledged."""
        return self._courier.lost

    def repeat(self) -> None:
        """After a reconnect: give back what may not have arrived. Raises LinkLost."""
        while self._unsure:
            claimer, claims = self._unsure[-1]
            if not _over(claims[0]):
                self._link.ask([claimer.give_back(claims)])
            self._unsure.pop()

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
            loop.courier.repeated += self._courier.repeated
            self._courier.repeated = 0
            waiting.extendleft(reversed(self._courier.outbox))
            self._courier.outbox.clear()
            loop.courier.sending.release()

    def _give_back(self, loop: Loop) -> None:
        if not loop.pending:
            return
        self._link.open()
        claims: List[Claim] = []
        while loop.pending:
            try:
                claims.append(loop.pending.pop())
            except IndexError:
                break  # its own thread went on and took the last
        claims.reverse()
        gone = [each for each in claims if _over(each)]
        claims = [each for each in claims if not _over(each)]
        if claims and self._push_back(loop, claims):
            self.given_back += len(claims)
            gone += claims
        if gone and loop.runner is not None:
            loop.runner.release(len(gone))

    def _push_back(self, loop: Loop, claims: List[Claim]) -> bool:
        try:
            reply = self._link.ask([loop.claimer.give_back(claims)])[0]
        except LinkLost:
            if claims[0][0] is None:
                # Nobody knows whether they arrived, and a job must not run twice as the same attempt.
                log.error("%d jobs were lost: the connection broke while they were given back", len(claims))
            else:
                self._unsure.append((loop.claimer, claims))
                if loop.runner is not None:
                    loop.runner.release(len(claims))
            raise
        if isinstance(reply, ResponseError):
            loop.pending.extend(claims)
            return False
        return True


def _over(claim: Claim) -> bool:
    return claim[0] is not None and claim[0].over
