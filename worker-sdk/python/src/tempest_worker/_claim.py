"""How jobs are taken from the queue and handed back: the place where another way of claiming goes.

A claimer turns «at most so many jobs» into packed commands and their replies back into jobs. Base mode pops: what
was popped is nowhere but in this process. A claimer that leaves claimed jobs in Redis until they are acknowledged
implements the same three methods, and adds its acknowledgements to the commands of the next claim.
Must not touch a connection and must not read a job.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Dict, List, Sequence, Tuple

from redis.exceptions import ResponseError

from ._link import pack
from ._settings import BLOCK_SECONDS


class Claimer(ABC):
    """Takes jobs. One instance for each connection."""

    def prepare(self, server_version: Tuple[int, int]) -> None:  # noqa: B027
        """Told at each connect what the server can do."""

    @abstractmethod
    def claim(self, count: int) -> Tuple[bytes, int]:
        """Packed commands that wait for jobs and take at most `count`, and the number of replies they give."""

    @abstractmethod
    def jobs(self, replies: Sequence[Any]) -> List[bytes]:
        """The jobs in those replies. Raises ResponseError where the server refused."""

    @abstractmethod
    def give_back(self, jobs: Sequence[bytes]) -> List[bytes]:
        """Packed commands that put jobs which were not started back to the head of the queue, in their order."""


class BaseClaimer(Claimer):
    """Base mode: BLMPOP with COUNT (Redis 7.0), else BLPOP and LPOP with COUNT (Redis 6.2) in the same write."""

    def __init__(self, queue_key: str, how: str = "auto") -> None:
        self._key = queue_key.encode()
        self._forced = how != "auto"
        self._many = how == "blmpop"
        self._packed: Dict[Tuple[bool, int], Tuple[bytes, int]] = {}

    def prepare(self, server_version: Tuple[int, int]) -> None:
        """Redis 7.0 and Valkey know BLMPOP; where the version may not be asked, the older way works too."""
        if not self._forced:
            self._many = server_version >= (7, 0)

    def claim(self, count: int) -> Tuple[bytes, int]:
        packed = self._packed.get((self._many, count))
        if packed is None:
            packed = self._pack(count)
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

    def jobs(self, replies: Sequence[Any]) -> List[bytes]:
        found: List[bytes] = []
        for at, reply in enumerate(replies):
            if isinstance(reply, ResponseError):
                if not found:
                    raise reply
            elif reply:
                found.extend(self._taken(at, reply))
        return found

    def _taken(self, at: int, reply: Any) -> List[bytes]:
        if at > 0:
            return list(reply)
        return list(reply[1]) if self._many else [reply[1]]

    def give_back(self, jobs: Sequence[bytes]) -> List[bytes]:
        return [pack(b"LPUSH", self._key, *reversed(jobs))] if jobs else []
