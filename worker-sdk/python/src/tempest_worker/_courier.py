"""Brings answers and the acknowledgements of their claims to Redis and, in the same write, asks for the next jobs.

A courier is driven by one thread. Another may add to `outbox`, and, while it holds `sending`, take from it. An answer
leaves the courier when Redis acknowledged it. When the connection breaks before that, it is sent again while its
deadline lasts: twice is harmless, the front drops what it knows by id, attempt and sequence. A claim is acknowledged
behind the answer, on the same connection, at the first try as at any other. Must not read a message.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import Any, Deque, Dict, List, Optional, Sequence, Tuple, Union

from redis.exceptions import ResponseError

from ._claim import Claim, Claimer, Incarnation
from ._clock import Clock
from ._link import Link, pack
from ._settings import PUSH_MESSAGES, PUSHES_IN_FLIGHT
from ._wire import SHORTEST_COUNT

log = logging.getLogger("tempest_worker")

#: Refusals that pass: the server is full, read-only, busy or moving. Everything else would be refused again. The
#: client turns some codes into classes and cuts them off the text, so both are looked at.
_PASSING_CODES = ("OOM", "READONLY", "MISCONF", "NOREPLICAS", "BUSY", "TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN")
_PASSING_TYPES = ("OutOfMemoryError", "ReadOnlyError", "TryAgainError", "ClusterDownError", "MasterDownError")


#: One answer message on its way: `reply_to`, the message, its deadline in milliseconds by the clock of Redis (None: it
#: has none), and the claim to acknowledge behind it (None: other messages follow, or base mode). Without `reply_to` it
#: is an acknowledgement and nothing else. No class: one is made for each answer, and a named tuple takes eight times
#: as long to make.
Message = Tuple[Optional[str], bytes, Optional[int], Optional[Claim]]


class Acknowledgement:
    """One HDEL under way: claims of one incarnation, by their numbers."""

    __slots__ = ("claims", "crashed")

    def __init__(self, claims: List[Claim], crashed: Optional[Tuple[bytes, bytes]] = None) -> None:
        self.claims = claims
        #: Where a job has crashed workers before, and this is the end of its one claim: the key of its count, its id.
        self.crashed = crashed


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
        self._unread: Deque[Union[List[Message], Acknowledgement]] = deque()
        #: Counts of crashes that are over: key and field. Lost with a connection they are not said again: nobody runs
        #: these jobs any more, and the counts have an end.
        self._survived: List[Tuple[bytes, bytes]] = []
        #: Answers given up: refused for good, or past their deadline when Redis was back.
        self.undelivered = 0
        #: Claims that were somebody else's when they were to be acknowledged.
        self.lost = 0
        #: Claims whose acknowledgement is sent once more: it may have arrived the first time.
        self.repeated = 0
        self._refused = False

    @property
    def idle(self) -> bool:
        """True where nothing is left to send or to be acknowledged."""
        return not self.outbox and not self._unread and not self._survived

    def use(self, claimer: Claimer) -> None:
        """Claim by another way from here on."""
        self._claimer = claimer

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
        if self._survived:
            self.flush()
            self._acknowledge()

    def ask(self, command: bytes) -> Any:
        """Answers and one command in one write; gives the reply to the command. Raises LinkLost."""
        with self.sending:
            data = self._packed()
            data.append(command)
            self.link.write(b"".join(data))
        self._acknowledge()
        return self.link.read()

    def trip(self, count: int, at_once: int) -> List[Claim]:
        """Answers and claim in one write; waits for jobs and gives them; the first `at_once` begin at once. Raises
        LinkLost, or ResponseError where the claim was refused."""
        assert self._claimer is not None, "only a courier with a claimer makes trips"
        claim, replies, shortest = self._claimer.claim(count, at_once)
        with self.sending:
            data = self._packed()
            data.append(claim)
            self.link.write(b"".join(data))
        self.link.expect(SHORTEST_COUNT * len(self._unread) + shortest)
        self._acknowledge()
        return self._claimer.jobs([self.link.read() for _ in range(replies)])

    def recover(self) -> None:
        """After LinkLost: what was not acknowledged is to be sent again, the answers while their deadlines last."""
        unread: List[Message] = []
        for sent in self._unread:
            if isinstance(sent, Acknowledgement):
                # Behind the answers, which were sent before it.
                unread.extend((None, b"", None, claim) for claim in sent.claims)
                self.repeated += len(sent.claims)
            else:
                unread.extend((reply_to, payload, deadline, None) for reply_to, payload, deadline, _ in sent)
        self._unread.clear()
        now = self._clock.now_ms()
        for message in reversed(unread):
            if _past(message, now):
                self.undelivered += 1
            else:
                self.outbox.appendleft(message)

    def give_up(self) -> None:
        """Forget everything; counted as undelivered."""
        left = [message for message in self.outbox if message[0] is not None]
        lost = len(left) + sum(len(sent) for sent in self._unread if isinstance(sent, list))
        self.outbox.clear()
        self._unread.clear()
        self.undelivered += lost
        if lost:
            log.error("%d answers could not be delivered before the worker ended", lost)

    def _packed(self) -> List[bytes]:
        """Commands for the outbox: RPUSH, one for each front (and `PUSH_MESSAGES`), and then the acknowledgements."""
        groups: Dict[str, List[Message]] = {}
        claims: List[Claim] = []
        outbox = self.outbox
        while outbox:
            message = outbox.popleft()
            reply_to, _, _, claim = message
            if claim is not None:
                incarnation = claim[0]
                if incarnation is not None and incarnation.over:
                    if not incarnation.forgotten:
                        continue
                else:
                    claims.append(claim)
            if reply_to is None:
                continue
            group = groups.get(reply_to)
            if group is None:
                groups[reply_to] = [message]
            else:
                group.append(message)
        data = [
            self._push(reply_to, group[at : at + PUSH_MESSAGES])
            for reply_to, group in groups.items()
            for at in range(0, len(group), PUSH_MESSAGES)
        ]
        if claims:
            data += self._acknowledgements(claims)
        if self._survived:
            data += self._ends_of_counts()
        return data

    def _push(self, reply_to: str, group: List[Message]) -> bytes:
        self._unread.append(group)
        return pack(b"RPUSH", reply_to.encode(), *[payload for _, payload, _, _ in group])

    def _acknowledgements(self, claims: List[Claim]) -> List[bytes]:
        """HDEL for each incarnation (one, but for answers of coroutines), and one for each job that has crashed
        workers before: of these it matters whether the claim was still there."""
        by: Dict[Incarnation, List[Claim]] = {}
        data: List[bytes] = []
        for claim in claims:
            incarnation, number, _ = claim
            if incarnation is None:
                continue
            crashed = incarnation.crashed.pop(number, None) if incarnation.crashed else None
            if crashed is None:
                by.setdefault(incarnation, []).append(claim)
            else:
                self._unread.append(Acknowledgement([claim], (incarnation.attempts_key, crashed[1])))
                data.append(pack(b"HDEL", incarnation.claimed_key, b"%d" % number))
        for incarnation, group in by.items():
            self._unread.append(Acknowledgement(group))
            data.append(pack(b"HDEL", incarnation.claimed_key, *[b"%d" % number for _, number, _ in group]))
        return data

    def _ends_of_counts(self) -> List[bytes]:
        data = [pack(b"HDEL", *survived) for survived in self._survived]
        self._unread.extend(Acknowledgement([]) for _ in data)
        self._survived.clear()
        return data

    def _acknowledge(self) -> None:
        refused: List[Message] = []
        while self._unread:
            reply = self.link.read()
            sent = self._unread.popleft()
            if isinstance(sent, Acknowledgement):
                self._removed(sent, reply)
            elif isinstance(reply, ResponseError):
                refused.extend(self._refusal(sent, reply))
            else:
                self._refused = False
        self.repeated = 0
        self.outbox.extendleft(reversed(refused))

    def _removed(self, sent: Acknowledgement, reply: Any) -> None:
        if not sent.claims:
            return
        if sent.crashed is not None and reply == 1:
            self._survived.append(sent.crashed)
        if not isinstance(reply, int):
            log.error("Redis refused to acknowledge %d jobs: %s", len(sent.claims), reply)
            return
        missing = len(sent.claims) - reply
        if missing > self.repeated:
            self.lost += missing - self.repeated
            log.debug("%d of %d acknowledged claims had been taken away", missing - self.repeated, len(sent.claims))

    def _refusal(self, group: List[Message], reply: Any) -> List[Message]:
        """What of a refused push is worth another try."""
        passing = str(reply).startswith(_PASSING_CODES) or type(reply).__name__ in _PASSING_TYPES
        if not self._refused:
            self._refused = True
            log.error("Redis refused answers for %s: %s", group[0][0], reply)
        now = self._clock.now_ms()
        # Their acknowledgements went with them.
        kept: List[Message] = [(*each[:3], None) for each in group if passing and not _past(each, now)]
        self.undelivered += len(group) - len(kept)
        return kept


def _past(message: Message, now: float) -> bool:
    deadline = message[2]
    return deadline is not None and deadline < now
