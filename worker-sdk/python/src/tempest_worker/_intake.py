"""The door: which claimed messages become requests and which are dropped, each counted and logged.

One door for each claiming thread, so its counters need no lock. Must not run a handler.
"""

from __future__ import annotations

import logging
from typing import Optional

from ._clock import Clock
from ._codec import Malformed, decode_job
from ._names import Names
from ._request import Request

log = logging.getLogger("tempest_worker")

#: Of a malformed message so much is shown in the log.
_SHOWN_BYTES = 80


class Intake:
    """Turns messages into requests."""

    def __init__(self, names: Names, clock: Clock) -> None:
        self._reply_prefix = names.reply_prefix
        self._clock = clock
        #: Messages that were no jobs.
        self.malformed = 0
        #: Jobs dropped because their deadline had passed.
        self.expired = 0

    def accept(self, raw: bytes, now: float) -> Optional[Request]:
        """The request in a message, taken at `now` (`time.monotonic()`); None where it was dropped."""
        try:
            fields, body = decode_job(raw)
            reply_to = fields.get("reply_to")
            if reply_to is not None and not reply_to.startswith(self._reply_prefix):
                # A forged job must not make a worker write to any key.
                raise Malformed(f"`reply_to` is {reply_to!r}, answers go only to {self._reply_prefix}…")
        except Malformed as why:
            self.malformed += 1
            log.warning("dropped a malformed job: %s; it begins with %r", why, raw[:_SHOWN_BYTES])
            return None
        deadline = fields.get("deadline")
        if deadline and deadline < self._clock.at(now):
            self.expired += 1
            log.info("dropped request %s: its deadline has passed", fields["id"])
            return None
        return Request(fields, body, self._clock, now)
