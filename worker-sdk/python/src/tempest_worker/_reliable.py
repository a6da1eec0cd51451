"""Reliable mode: jobs are claimed, and stay in Redis under this claimer's name until they are acknowledged.

Follows `protocol.md`, «The worker's loop: reliable mode». Each claiming thread is a claimer of its own, with its own id
and registration: the contract counts one claim connection to an id, numbers claims by one counter, and marks all claims
up to a number as started, which threads that share an id could not keep. Must not run and not answer a job.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from redis.exceptions import ResponseError

from . import _scripts
from ._claim import Claim, Claimer, Incarnation, Unsupported
from ._codec import Malformed, decode_job
from ._link import Link, pack
from ._names import Names
from ._settings import ID_TRIES, LANDING_SECONDS, other_id
from ._wire import SHORTEST_CLAIM, SHORTEST_NIL

log = logging.getLogger("tempest_worker")

#: Methods whose requests may run again after a crash, so it does not matter whether they were started.
REPEATABLE = frozenset(("GET", "HEAD", "OPTIONS", "PUT", "DELETE"))

#: A claim whose reply took longer than its wait and this much was perhaps taken away before it was read.
_TRUST_SECONDS = 2.5

#: What says that this user or server will never do it: Redis 6.2 and 7.0 word it differently inside a script.
_NEVER = ("unknown command", "unknown subcommand", "ACL failure", "can't run this command", "can't access at least one")


def needs_mark(fields: Dict[str, Any]) -> bool:
    """True for a job that must be marked as started before it is."""
    return fields["action"] != "http" or fields.get("method") not in REPEATABLE


def is_refusal(reply: Any, code: str, name: str) -> bool:
    """True for an error reply with that code. The client library turns some codes into classes and cuts them off the
    text; its other classes keep them."""
    return isinstance(reply, ResponseError) and (str(reply).startswith(code) or type(reply).__name__ == name)


def _check(reply: Any) -> None:
    if is_refusal(reply, "NOPERM", "NoPermissionError"):
        raise Unsupported(str(reply))
    if isinstance(reply, ResponseError) and any(words in str(reply) for words in _NEVER):
        raise Unsupported(str(reply))


class ReliableClaimer(Claimer):
    """Claims jobs under one worker id. `first_beat` gives the commands that write the record of an id."""

    def __init__(self, names: Names, worker_id: str, first_beat: Callable[[str], List[bytes]]) -> None:
        self._names = names
        self._first_beat = first_beat
        self._claimers = names.derived("claimers").encode()
        self._normal = names.queue_key.encode()
        self._link: Link
        self._sha: Dict[str, bytes] = {}
        #: Held while a registration is made, renewed or judged: the helper thread renews it, too, and the last to
        #: write must know the newest connections of both.
        self._lock = threading.Lock()
        #: Run of the server and connection id there, of the claim connection and of the helper's.
        self._claiming: Tuple[bytes, int] = (b"", 0)
        self._helping: Tuple[bytes, int] = (b"", 0)
        #: The run of the server that the registration was last made in.
        self._run_id = b""
        self._incarnation: Optional[Incarnation] = None
        #: Numbers go on when a worker registers anew: then a late acknowledgement can never meet a new claim.
        self._next = 1
        #: Whether the lists hold more, as far as is known: then there is nothing to wait for.
        self._more = True
        #: How many of the claim under way count as started.
        self._at_once = 0
        self._asked = 0.0
        #: A job that waits in `landing` for the next claim, which failed.
        self._landing: Optional[bytes] = None
        self._take_name(worker_id)

    def _take_name(self, worker_id: str) -> None:
        derived = self._names.derived
        self.worker_id: str = worker_id
        self._member = worker_id.encode()
        self._claimed_key = self._names.claimed(worker_id).encode()
        self._landing_key = self._names.landing(worker_id).encode()
        self._wait = pack(b"BLMOVE", self._normal, self._landing_key, b"LEFT", b"RIGHT", b"%d" % LANDING_SECONDS)
        queue = [derived(name).encode() for name in ("high", "low", "withdrawn", "attempts", "stats")]
        self._claim_keys = [self._claimers, self._claimed_key, self._landing_key, self._normal, *queue]
        self._claim_head = b""

    # ---- registration ----

    def connected(self, link: Link) -> List[Claim]:
        self._link = link
        self._landing, self._more = None, True
        self._load()
        with self._lock:
            abandoned, self._claiming = self._claiming, _connection(link)
            if abandoned[0] == link.run_id and abandoned[1]:
                # Redis may not have noticed that it is gone, and would move a job for it that nobody awaits.
                link.ask([pack(b"CLIENT", b"KILL", b"ID", b"%d" % abandoned[1])])
            if self._renew(link):
                return self._recover(link)
            self._begin(link)
            return []

    def _load(self) -> None:
        replies = self._link.ask(_scripts.load_all())
        for reply in replies:
            _check(reply)
            if isinstance(reply, ResponseError):
                raise self._link.refuse(reply)
        self._sha = dict(zip(_scripts.NAMES, replies))
        self._claim_head = b""

    def accompany(self, link: Link) -> None:
        with self._lock:
            self._helping = _connection(link)
            self._renew(link)

    def _renew(self, link: Link) -> bool:
        """Register the connections of a claimer that is registered already; False where it is no more."""
        incarnation = self._incarnation
        if incarnation is None or incarnation.over:
            return False
        reply = link.ask([self._register(link, b"0")])[0]
        if is_refusal(reply, "NOSCRIPT", "NoScriptError"):
            reply = link.ask([*_scripts.load_all(), self._register(link, b"0")])[-1]
        if isinstance(reply, ResponseError):
            raise link.refuse(reply)
        if reply == 1:
            self._run_id = link.run_id
            return True
        self._ended(incarnation, link.run_id != self._run_id)
        return False

    def _ended(self, incarnation: Incarnation, forgotten: bool) -> None:
        incarnation.forgotten = forgotten
        incarnation.over = True
        if forgotten:
            log.info("Redis has lost its memory, and the claims of worker %s with it", incarnation.worker_id)
        else:
            log.error("worker %s was declared dead; its claims are forgotten, it begins anew", incarnation.worker_id)

    def _begin(self, link: Link) -> None:
        """Register as a claimer that holds nothing."""
        for _ in range(ID_TRIES):
            reply = link.ask([*self._first_beat(self.worker_id), self._register(link, b"1")])[-1]
            _check(reply)
            if isinstance(reply, ResponseError):
                raise link.refuse(reply)
            if reply == 1:
                attempts = self._names.derived("attempts").encode()
                self._incarnation = Incarnation(self.worker_id, self._claimed_key, attempts)
                self._run_id = link.run_id
                return
            taken = self.worker_id
            self._take_name(other_id(taken))
            log.warning("the worker id %s is taken; this worker is %s", taken, self.worker_id)
        raise link.refuse(ResponseError("every worker id that was tried is taken"))

    def _register(self, link: Link, fresh: bytes) -> bytes:
        """An id of a connection says nothing in another run of the server; 0 is none."""
        ids = [number if run_id == link.run_id else 0 for run_id, number in (self._claiming, self._helping)]
        registration = b"%b %d %d" % (link.run_id or b"-", ids[0], ids[1])
        return _scripts.call(self._sha["register"], [self._claimers], self._member, registration, fresh)

    # ---- claims ----

    def claim(self, count: int, at_once: int) -> Tuple[bytes, int, int]:
        self._at_once, self._asked = at_once, time.monotonic()
        if self._landing is not None:
            return self._script(count - 1, at_once), 1, SHORTEST_CLAIM
        if self._more:
            return self._script(count, at_once), 1, SHORTEST_CLAIM
        return self._wait + self._script(count - 1, at_once), 2, SHORTEST_NIL + SHORTEST_CLAIM

    def _script(self, wanted: int, at_once: int) -> bytes:
        """Sixteen words, of which three change."""
        head = self._claim_head
        if not head:
            packed = _scripts.call(self._sha["claim"], self._claim_keys, self._member, b"", b"", b"")
            head = self._claim_head = packed[: -3 * len(_word(b""))]
        return head + _word(b"%d" % self._next) + _word(b"%d" % wanted) + _word(b"%d" % at_once)

    def jobs(self, replies: Sequence[Any]) -> List[Claim]:
        reply = replies[-1]
        waited = replies[0] if len(replies) == 2 else None
        landing = waited if isinstance(waited, bytes) else self._landing
        if isinstance(reply, ResponseError):
            self._landing = landing
            raise reply
        self._landing = None
        landed, more, crashes = reply[:3]
        self._more = more == 1
        if not landed and len(reply) == 3:
            if isinstance(waited, ResponseError):
                raise waited
            return []
        first, incarnation = self._next, self._incarnation
        jobs: List[bytes] = reply[3:]
        if landed:
            jobs.insert(0, self._landed(first) if landing is None else landing)
        claims: List[Claim] = [(incarnation, number, raw) for number, raw in enumerate(jobs, first)]
        self._next = first + len(jobs)
        # A worker that was stopped meanwhile may have been declared dead: each start asks whether it still may.
        fresh = time.monotonic() - self._asked < _TRUST_SECONDS
        self.marked = first + min(self._at_once if fresh else 0, len(jobs)) - 1
        for claim, count in zip(claims, crashes):
            if count:
                _note_crashes(claim, count)
        return claims

    def _landed(self, number: int) -> bytes:
        """A job that landed unseen: an abandoned connection waited for it."""
        raw = self._link.ask([pack(b"HGET", self._claimed_key, b"%d" % number)])[0]
        return raw if isinstance(raw, bytes) else b""

    def refused(self, refusal: ResponseError) -> bool:
        _check(refusal)
        if is_refusal(refusal, "NOSCRIPT", "NoScriptError"):
            self._load()
            return True
        if is_refusal(refusal, "UNREGISTERED", ""):
            with self._lock:
                incarnation = self._incarnation
                if incarnation is not None and not incarnation.over:
                    self._ended(incarnation, False)
                self._landing, self._more = None, True
                self._begin(self._link)
            return True
        return False

    def _recover(self, link: Link) -> List[Claim]:
        keys = [self._claimers, self._claimed_key, self._landing_key]
        call = _scripts.call(self._sha["recover"], keys, self._member, b"%d" % self._next)
        reply = link.ask([call])[0]
        if isinstance(reply, ResponseError):
            raise link.refuse(reply)
        self.marked = max(self.marked, reply[0])
        found = [(self._incarnation, reply[at], reply[at + 1]) for at in range(1, len(reply), 2)]
        if found:
            self._next = found[-1][1] + 1
            self._ask_crashes(link, found)
            log.debug("recovered %d claims of worker %s", len(found), self.worker_id)
        return found

    def _ask_crashes(self, link: Link, claims: Sequence[Claim]) -> None:
        attempts = self._names.derived("attempts").encode()
        replies = link.ask([pack(b"HGET", attempts, _id_of(raw)) for _, _, raw in claims])
        for claim, reply in zip(claims, replies):
            if isinstance(reply, bytes) and reply.isdigit():
                _note_crashes(claim, int(reply))

    # ---- marks, what goes back, the end ----

    def mark(self, number: int) -> bytes:
        return _scripts.call(self._sha["mark"], [self._claimed_key], b"%d" % number)

    def give_back(self, claims: Sequence[Claim]) -> bytes:
        incarnation = claims[0][0]
        assert incarnation is not None, "these claims are of base mode"
        keys = [incarnation.claimed_key, self._normal, self._claim_keys[6]]
        return _scripts.call(self._sha["give_back"], keys, *[b"%d" % number for _, number, _ in claims])

    def sign_off(self) -> List[bytes]:
        if self._incarnation is None or self._incarnation.over:
            return []
        return [pack(b"HDEL", self._claimers, self._member), pack(b"DEL", self._claimed_key, self._landing_key)]


def _word(word: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(word), word)


def _connection(link: Link) -> Tuple[bytes, int]:
    if link.client_id is None:
        raise Unsupported("CLIENT ID is refused")
    return link.run_id, link.client_id


def _id_of(raw: bytes) -> bytes:
    try:
        found: str = decode_job(raw)[0]["id"]
        return found.encode("utf-8", "replace")
    except Malformed:
        return b""


def _note_crashes(claim: Claim, count: int) -> None:
    incarnation, number, raw = claim
    if incarnation is not None:
        incarnation.crashed[number] = (count, _id_of(raw))
