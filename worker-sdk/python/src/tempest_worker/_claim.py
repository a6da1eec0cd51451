"""How jobs are taken from the queue and handed back, and base mode, the simplest way.

A claimer turns «at most so many jobs» into packed commands and their replies back into claims. Base mode pops: what
was popped is nowhere but in this process. Reliable mode (`_reliable.py`) leaves claimed jobs in Redis until they are
acknowledged. Must not read a job.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from typing import Any, Dict, List, Optional, Sequence, Tuple

from redis.exceptions import ResponseError

from ._link import Link, pack
from ._settings import BLOCK_SECONDS
from ._wire import SHORTEST_NIL


class Incarnation:
    """What one registration of a claimer holds, from the registration until it is declared dead. Claims name theirs,
    so that what belongs to an earlier one can be told, whichever thread meets it."""

    __slots__ = ("attempts_key", "claimed_key", "crashed", "forgotten", "over", "worker_id")

    def __init__(self, worker_id: str, claimed_key: bytes, attempts_key: bytes) -> None:
        self.worker_id = worker_id
        self.claimed_key = claimed_key
        self.attempts_key = attempts_key
        #: Background jobs that crashed workers before: claim number to how many, and the job's id.
        self.crashed: Dict[int, Tuple[int, bytes]] = {}
        #: True: its claims are somebody else's now; they are neither started nor answered nor acknowledged.
        self.over = False
        #: True, too, where it ended because Redis came back without its memory. Nobody was told that the worker is
        #: dead, so what it had begun is still answered: the front drops the answer where it has tried again.
        self.forgotten = False


#: One job in this process: what it is held under and its number there (None and 0 in base mode), and its bytes. No
#: class: one is made for each job.
Claim = Tuple[Optional[Incarnation], int, bytes]


class Unsupported(Exception):
    """The server or its rules do not allow this way of claiming; the text says what was refused."""


class Claimer(ABC):
    """Takes jobs. One instance for each claiming thread, which alone uses it unless a method says otherwise."""

    #: The id under which this claimer's jobs are held; None: they are held nowhere.
    worker_id: Optional[str] = None
    #: Claims up to this number count as started.
    marked = 0

    @abstractmethod
    def connected(self, link: Link) -> List[Claim]:
        """Told at each connect, before anything is claimed. Gives claims whose replies never arrived. Raises LinkLost
        or Unsupported."""

    def accompany(self, link: Link) -> None:  # noqa: B027
        """Told by the helper thread at each connect of its own connection. Raises LinkLost."""

    @abstractmethod
    def claim(self, count: int, at_once: int) -> Tuple[bytes, int, int]:
        """Packed commands that wait for jobs and take at most `count`, of which the first `at_once` begin at once; the
        number of replies they give, and the least bytes these have."""

    @abstractmethod
    def jobs(self, replies: Sequence[Any]) -> List[Claim]:
        """The claims in those replies. Raises LinkLost, or ResponseError where the server refused."""

    def refused(self, refusal: ResponseError) -> bool:
        """True where the cause of a refused claim is mended, so that it can be tried at once. Raises LinkLost or
        Unsupported."""
        return False

    def mark(self, number: int) -> bytes:
        """A packed command that says that all claims up to this number are being started; gives 0: it is gone."""
        raise NotImplementedError

    @abstractmethod
    def give_back(self, claims: Sequence[Claim]) -> bytes:
        """A packed command that puts jobs which were not started, in the order of their numbers, back to the head of
        the queue. For any thread."""

    def sign_off(self) -> List[bytes]:
        """Packed commands that end this claimer's claims, when nothing is held any more. For the helper thread."""
        return []


class BaseClaimer(Claimer):
    """Base mode: BLMPOP with COUNT (Redis 7.0), else BLPOP and LPOP with COUNT (Redis 6.2) in the same write."""

    #: Nothing needs a mark.
    marked = sys.maxsize

    def __init__(self, queue_key: str, how: str = "auto") -> None:
        self._key = queue_key.encode()
        self._forced = how != "auto"
        self._many = how == "blmpop"
        self._packed: Dict[Tuple[bool, int], Tuple[bytes, int, int]] = {}

    def connected(self, link: Link) -> List[Claim]:
        """Redis 7.0 and Valkey know BLMPOP; where the version may not be asked, the older way works too."""
        if not self._forced:
            self._many = link.server_version >= (7, 0)
        return []

    def claim(self, count: int, at_once: int) -> Tuple[bytes, int, int]:
        packed = self._packed.get((self._many, count))
        if packed is None:
            packed = (*self._pack(count), SHORTEST_NIL)
            self._packed[(self._many, count)] = packed
        return packed

    def _pack(self, count: int) -> Tuple[bytes, int]:
        block = b"%d" % BLOCK_SECONDS
        if self._many:
            return pack(b"BLMPOP", block, b"1", self._key, b"LEFT", b"COUNT", b"%d" % count), 1
        first = pack(b"BLPOP", self._key, block)
        if count == 1:
            return first, 1
        return first + pack(b"LPOP", self._key, b"%d" % (count - 1)), 2

    def jobs(self, replies: Sequence[Any]) -> List[Claim]:
        found: List[bytes] = []
        for at, reply in enumerate(replies):
            if isinstance(reply, ResponseError):
                if not found:
                    raise reply
            elif reply:
                found.extend(self._taken(at, reply))
        return [(None, 0, raw) for raw in found]

    def _taken(self, at: int, reply: Any) -> List[bytes]:
        if at > 0:
            return list(reply)
        return list(reply[1]) if self._many else [reply[1]]

    def give_back(self, claims: Sequence[Claim]) -> bytes:
        return pack(b"LPUSH", self._key, *[raw for _, _, raw in reversed(claims)])
