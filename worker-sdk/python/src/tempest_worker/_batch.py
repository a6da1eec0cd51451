"""How many jobs a claim may take.

Many at once save trips; too many hold jobs behind a slow one while other workers are free. So a claim begins with
one, doubles while claims come back full, and never takes more than what runs in a short time by the moving average.
Pure arithmetic: no clock, no I/O.
"""

from __future__ import annotations

from ._settings import BATCH_SECONDS, MARK_SECONDS

#: Weight of the newest batch when jobs get faster. When they get slower the average follows at once: an optimistic
#: average costs other people's time, a pessimistic one only trips.
_WEIGHT = 0.2


class BatchSize:
    """The limit of the next claim, learned from the last ones."""

    def __init__(self, largest: int) -> None:
        self._largest = largest
        self._average = 0.0
        #: Jobs the next claim may take.
        self.limit = 1

    def claimed(self, count: int) -> None:
        """A claim brought `count` jobs; 0: its wait ended without any."""
        self.limit = max(1, min(2 * count, self._fitting()))

    def ran(self, count: int, seconds: float) -> None:
        """`count` jobs ran for `seconds` together."""
        each = seconds / count
        if each > self._average:
            self._average = each
        else:
            self._average += _WEIGHT * (each - self._average)
        self.limit = max(1, min(self.limit, self._fitting()))

    def at_once(self) -> int:
        """Jobs that begin so soon after one another that they may count as started together; at least one."""
        return int(MARK_SECONDS / self._average) or 1 if self._average else 1

    def _fitting(self) -> int:
        if self._average * self._largest <= BATCH_SECONDS:
            return self._largest
        return int(BATCH_SECONDS / self._average)
