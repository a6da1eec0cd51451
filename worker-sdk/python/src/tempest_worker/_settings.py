"""Settings of one worker process: from arguments, then the environment, then defaults.

All mistakes are reported at once. Limits that are no setting stand here too, each with its reason, so that every
queue and every wait of the package can be found in one place. Must not connect to anything.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
from dataclasses import dataclass
from typing import List, Mapping, Optional

from ._names import Names, names_of

DEFAULT_REDIS = "redis://127.0.0.1:6379/0"
DEFAULT_QUEUE = "tempest:web"

#: Seconds a claim waits in Redis. Short enough that a half-open connection is noticed soon; stopping does not
#: depend on it, since a stop ends the wait through CLIENT UNBLOCK.
BLOCK_SECONDS = 2
#: The same in reliable mode, as the contract has it: so long it takes at most until a job is found that a stranger
#: pushed to the list of another priority.
LANDING_SECONDS = 1
#: Seconds without a byte after which a connection counts as lost. It must exceed BLOCK_SECONDS: a client that
#: gives up first leaves a waiter behind that swallows the next job.
SOCKET_TIMEOUT_SECONDS = 10.0
CONNECT_TIMEOUT_SECONDS = 5.0
#: Reconnecting waits between these, doubled each time, half of it at random.
BACKOFF_FIRST_SECONDS = 0.05
BACKOFF_LAST_SECONDS = 2.0
#: A claim takes what runs in about this time by the moving average: jobs behind a slow one wait no longer.
BATCH_SECONDS = 0.020
DEFAULT_BATCH = 64
LARGEST_BATCH = 1000
#: A finished answer waits at most this long for its batch before it is sent by itself.
FLUSH_SECONDS = 0.005
#: In reliable mode, jobs that begin within this time by the moving average are marked as started together: each mark is
#: a trip, and what is marked and has not begun counts as run if the worker dies.
MARK_SECONDS = 0.002
#: Jobs that run longer than this are looked up among the withdrawn ones, as often.
CANCEL_SECONDS = 0.2
#: Other ids that are tried where a worker's id is taken. Each is random, so a second try is all but unheard of.
ID_TRIES = 8
#: While batches run, the helper looks this often for jobs and answers that a slow job holds up.
RELIEF_SECONDS = 0.025
#: Seconds between two beats, the life of the record, and of the registry of a queue that lost its workers.
BEAT_SECONDS = 1.0
RECORD_MS = 3000
REGISTRY_MS = 3_600_000
#: After a stop, answers of a broken connection are tried for this long, then given up.
STOP_GRACE_SECONDS = 5.0
#: Messages of a stream sent together at most. Half of what a front holds out of order (1 MiB of 64 KiB each), since
#: the messages of one stream may leave by two connections.
STREAM_MESSAGES = 8
#: Answer messages in one RPUSH, and RPUSHes of one connection whose replies are not read yet.
PUSH_MESSAGES = 128
PUSHES_IN_FLIGHT = 32
#: Messages from coroutine handlers that may wait for the helper; above it, streams pause. 16 MiB at most.
OUTBOX_MESSAGES = 256

#: How base mode pops, and how jobs are taken at all.
_POPS = ("auto", "blmpop", "lpop")
_CLAIMS = ("reliable", "base")
WORKER_ID_LENGTH = 64
_WORKER_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]")
#: Of a long host name so much goes into a worker's id, which has 64 characters at most.
_HOST_LENGTH = 40


@dataclass(frozen=True)
class Settings:
    """What one worker process runs with; made by `make_settings`."""

    redis_url: str
    names: Names
    worker_id: str
    #: Threads, each with its own connection, each running one synchronous handler at a time.
    concurrency: int
    #: Coroutine handlers at a time, on one event loop.
    async_concurrency: int
    #: Jobs in one claim at most; 1 switches batching off.
    batch: int
    #: `reliable`: jobs stay in Redis until they are answered; `base`: they are popped.
    claims: str
    #: For base mode: `auto` asks the server's version; `blmpop` and `lpop` force one way.
    claim: str
    #: True: a coroutine is cancelled when its client has left.
    cancel: bool
    #: True: tracebacks go into the body of a 500.
    development: bool


def make_settings(
    redis: Optional[str] = None,
    queue: Optional[str] = None,
    concurrency: Optional[int] = None,
    async_concurrency: Optional[int] = None,
    batch: Optional[int] = None,
    claim: Optional[str] = None,
    claims: Optional[str] = None,
    cancel: bool = True,
    env: Mapping[str, str] = os.environ,
) -> Settings:
    """Settle every value. Raises ValueError with one line for each mistake."""
    problems: List[str] = []
    names = _names(queue or env.get("TEMPEST_QUEUE") or DEFAULT_QUEUE, problems)
    if claim is not None and claim not in _POPS:
        problems.append(f"claim is {claim!r}: use one of {', '.join(_POPS)}")
    mode = claims or env.get("TEMPEST_CLAIMS") or "reliable"
    if mode not in _CLAIMS:
        problems.append(f"{'claims' if claims else 'TEMPEST_CLAIMS'} is {mode!r}: use one of {', '.join(_CLAIMS)}")
    threads = _whole("concurrency", concurrency, 1, 1000, problems)
    tasks = _whole("async_concurrency", async_concurrency, 100, 100_000, problems)
    largest = _whole("batch", batch, DEFAULT_BATCH, LARGEST_BATCH, problems)
    worker_id = env.get("TEMPEST_WORKER_ID") or new_worker_id()
    if not _WORKER_ID.fullmatch(worker_id):
        problems.append(f"TEMPEST_WORKER_ID is {worker_id!r}: use 1 to 64 of A-Z a-z 0-9 _ . -")
    elif threads > 1 and len(worker_id) + len(f".{threads}") > WORKER_ID_LENGTH:
        room = WORKER_ID_LENGTH - len(f".{threads}")
        problems.append(f"TEMPEST_WORKER_ID has {len(worker_id)} characters: with {threads} threads use at most {room}")
    if names is None or problems:
        raise ValueError("\n".join(problems))
    return Settings(
        redis_url=redis or default_redis(env),
        names=names,
        worker_id=worker_id,
        concurrency=threads,
        async_concurrency=tasks,
        batch=largest,
        claims=mode,
        claim=claim or "auto",
        cancel=cancel,
        development=env.get("TEMPEST_ENV") == "development",
    )


def default_redis(env: Mapping[str, str] = os.environ) -> str:
    """Where Redis is if nobody says so. `REDIS_URL` may lead to a supervisor that claims for those who cannot."""
    return env.get("TEMPEST_REDIS_URL") or env.get("REDIS_URL") or DEFAULT_REDIS


def default_names(queue: Optional[str] = None, env: Mapping[str, str] = os.environ) -> Names:
    """The keys of a queue, or of the one that the environment names. Raises ValueError where it is none."""
    return names_of(queue or env.get("TEMPEST_QUEUE") or DEFAULT_QUEUE)


def thread_id(worker_id: str, number: int, threads: int) -> str:
    """The id of one claiming thread among others, counted from 0; the worker's own where there is but one."""
    return worker_id if threads == 1 else f"{worker_id}.{number + 1}"


def other_id(worker_id: str) -> str:
    """An id instead of one that is taken."""
    ending = "-" + secrets.token_hex(4)
    return worker_id[: WORKER_ID_LENGTH - len(ending)] + ending


def new_worker_id() -> str:
    """An id that no earlier start of this program had: host, process id, eight random hex digits."""
    host = _UNSAFE.sub("-", socket.gethostname())[:_HOST_LENGTH]
    return f"{host}-{os.getpid()}-{secrets.token_hex(4)}"


def _names(queue_key: str, problems: List[str]) -> Optional[Names]:
    try:
        return names_of(queue_key)
    except ValueError as error:
        problems.append(f"queue: {error}")
        return None


def _whole(name: str, value: Optional[int], default: int, largest: int, problems: List[str]) -> int:
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= largest:
        problems.append(f"{name} is {value!r}: use a whole number from 1 to {largest}")
        return default
    return value
