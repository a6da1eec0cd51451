"""Brings answers to Redis and, in the same write, asks for the next jobs.

A courier is driven by one thread. Another may add to `outbox`, and, while it holds `sending`, take from it. An answer
leaves the courier when Redis acknowledged it. When the connection breaks before that, it is sent again while its
deadline lasts: twice is harmless, the front drops what it knows by id, attempt and sequence. Must not read a message.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import Any, Deque, Dict, List, Optional, Tuple

from redis.exceptions import ResponseError

from ._claim import Claimer
from ._clock import Clock
from ._link import Link, pack
from ._settings import PUSH_MESSAGES, PUSHES_IN_FLIGHT
from ._wire import SHORTEST_CLAIM, SHORTEST_COUNT

log = logging.getLogger("tempest_worker")

#: Refusals that pass: the server is full, read-only, busy or moving. Everything else would be refused again. The
#: client turns some codes into classes and cuts them off the text, so both are looked at.
_PASSING_CODES = ("OOM", "READONLY", "MISCONF", "NOREPLICAS", "BUSY", "TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN")
_PASSING_TYPES = ("OutOfMemoryError", "ReadOnlyError", "TryAgainError", "ClusterDownError", "MasterDownError")


#: One answer message on its way: `reply_to`, the message, and its deadline in milliseconds by the clock of Redis
#: (None: it has none). No class: one is made for each answer, and a named tuple takes eight times as long to make.
Message = Tuple[str, bytes, Optional[int]]


class Courier:
    """Sends messages and claims, reads replies in order."""

    def __init__(self, link: Link, clock: Clock, claimer: Optional[Claimer] = None) -> None:
        self.link = link
        self._clock = clock
        self._claimer = claimer
        #: Held while messages leave the outbox until they are written, so that the order of a stream is kept.
        self.sending = threading.Lock()
        #: Messages not sent yet.
        self.outbox: Deque[Message] = deque()
        #: Sent, not acknowledged; one entry for each RPUSH.
        self._unread: Deque[List[Message]] = deque()
        #: Answers given up: refused for good, or past their deadline when Redis was back.
        self.undelivered = 0
        self._refused = False

    @property
    def idle(self) -> bool:
        """True where nothing is left to send or to be acknowledged."""
        return not self.outbox and not self._unread

    def prepare(self) -> None:
        """After a connect: tell the claimer what the server can do."""
        if self._claimer is not None:
            self._claimer.prepare(self.link.server_version)

    def flush(self) -> None:
        """Send what is in the outbox; replies are read with the next trip, or now if many are due. Raises
        LinkLost."""
        with self.sending:
            data = self._packed()
            if data:
                self.link.write(b"".join(data))
        if len(self._unread) > PUSHES_IN_FLIGHT:
            self._acknowledge()

    def deliver(self) -> None:
        """Send what is in the outbox and wait for every acknowledgement. Raises LinkLost."""
        self.flush()
        self._acknowledge()

    def trip(self, count: int) -> List[bytes]:
        """Answers and claim in one write; waits for jobs and gives them. Raises LinkLost, or ResponseError where
        the claim was refused."""
        assert self._claimer is not None, "only a courier with a claimer makes trips"
        claim, replies = self._claimer.claim(count)
        with self.sending:
            data = self._packed()
            data.append(claim)
            self.link.write(b"".join(data))
        self.link.expect(SHORTEST_COUNT * len(self._unread) + SHORTEST_CLAIM)
        self._acknowledge()
        return self._claimer.jobs([self.link.read() for _ in range(replies)])

    def recover(self) -> None:
        """After LinkLost: what was not acknowledged is to be sent again, unless its deadline has passed."""
        unread = [message for push in self._unread for message in push]
        self._unread.clear()
        now = self._clock.now_ms()
        for message in reversed(unread):
            if _past(message, now):
                self.undelivered += 1
            else:
                self.outbox.appendleft(message)

    def give_up(self) -> None:
        """Forget everything; counted as undelivered."""
        lost = len(self.outbox) + sum(len(push) for push in self._unread)
        self.outbox.clear()
        self._unread.clear()
        self.undelivered += lost
        if lost:
            log.error("%d answers could not be delivered before the worker ended", lost)

    def _packed(self) -> List[bytes]:
        """RPUSH commands for the outbox, one for each front (and `PUSH_MESSAGES`)."""
        groups: Dict[str, List[Message]] = {}
        outbox = self.outbox
        while outbox:
            message = outbox.popleft()
            group = groups.get(message[0])
            if group is None:
                groups[message[0]] = [message]
            else:
                group.append(message)
        return [
            self._push(reply_to, group[at : at + PUSH_MESSAGES])
            for reply_to, group in groups.items()
            for at in range(0, len(group), PUSH_MESSAGES)
        ]

    def _push(self, reply_to: str, group: List[Message]) -> bytes:
        self._unread.append(group)
        return pack(b"RPUSH", reply_to.encode(), *[payload for _, payload, _ in group])

    def _acknowledge(self) -> None:
        refused: List[Message] = []
        while self._unread:
            reply = self.link.read()
            group = self._unread.popleft()
            if isinstance(reply, ResponseError):
                refused.extend(self._refusal(group, reply))
            else:
                self._refused = False
        self.outbox.extendleft(reversed(refused))

    def _refusal(self, group: List[Message], reply: Any) -> List[Message]:
        """What of a refused push is worth another try."""
        passing = str(reply).startswith(_PASSING_CODES) or type(reply).__name__ in _PASSING_TYPES
        if not self._refused:
            self._refused = True
            log.error("Redis refused answers for %s: %s", group[0][0], reply)
        now = self._clock.now_ms()
        kept = [each for each in group if passing and not _past(each, now)]
        self.undelivered += len(group) - len(kept)
        return kept


def _past(message: Message, now: float) -> bool:
    deadline = message[2]
    return deadline is not None and deadline < now
