"""The clock of Redis, kept by its distance from this process's monotonic clock.

Deadlines are stated by the clock of Redis, since the clocks of hosts differ. Must not reach Redis itself; whoever
asked for TIME hands the answer in.
"""

from __future__ import annotations

import time
from typing import Sequence


class Clock:
    """Milliseconds since the epoch by the clock of Redis; by the host's own until Redis was asked."""

    __slots__ = ("_offset",)

    def __init__(self) -> None:
        self._offset = (time.time() - time.monotonic()) * 1000

    def now_ms(self) -> float:
        """The time now."""
        return time.monotonic() * 1000 + self._offset

    def at(self, moment: float) -> float:
        """The time at a moment of `time.monotonic()`."""
        return moment * 1000 + self._offset

    def set(self, reply: Sequence[bytes], asked: float) -> None:
        """Take the reply to TIME; `asked` is `time.monotonic()` when the command was sent. Half of the trip is
        taken for the way back."""
        seconds, micros = int(reply[0]), int(reply[1])
        middle = (asked + time.monotonic()) / 2
        self._offset = seconds * 1000 + micros / 1000 - middle * 1000
