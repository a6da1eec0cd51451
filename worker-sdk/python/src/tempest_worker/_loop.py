"""One claiming thread: takes a batch, runs it, sends its answers together with the next claim.

What runs is the application's; whatever it raises becomes an answer. Must not start threads and must not handle
signals. The helper thread reads the public attributes and takes from both ends' deques; see `_helper.py`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import AsyncIterable
from typing import TYPE_CHECKING, Any, Deque, List, Optional

from redis.exceptions import ResponseError

from . import _answer as answer
from ._batch import BatchSize
from ._claim import Claimer
from ._clock import Clock
from ._courier import Courier
from ._intake import Intake
from ._link import Link, LinkLost
from ._request import Request
from ._response import Response, is_stream, to_response
from ._routing import NoHandler, Router
from ._settings import FLUSH_SECONDS, STOP_GRACE_SECONDS, STREAM_MESSAGES, Settings

if TYPE_CHECKING:
    from ._helper import Helper
    from ._runner import Runner

log = logging.getLogger("tempest_worker")

#: What a handler may raise without ending the worker: leaving it by sys.exit is a mistake of the handler.
CAUGHT = (Exception, SystemExit)

#: Seconds before a refused claim is tried again; refusals (no permission, wrong type of key) need a person.
_REFUSED_SECONDS = 1.0


class Loop:
    """Claims and runs jobs until told to stop."""

    def __init__(
        self, settings: Settings, router: Router, clock: Clock, link: Link, claimer: Claimer, stop: threading.Event
    ) -> None:
        self._development = settings.development
        self._router = router
        self._stop = stop
        self.link = link
        self.courier = Courier(link, clock, claimer)
        self.intake = Intake(settings.names, clock)
        self._claimer = claimer
        self._batch = BatchSize(settings.batch)
        self._claim_refused = False
        #: Places among the coroutines that were reserved and are not needed. With one claiming thread nobody waits
        #: for them while it works, so they are given back once for each batch: each time costs a lock.
        self._spare = 0
        self._alone = settings.concurrency == 1
        #: Claimed, not started. Only this thread takes from the left; the helper takes from the right.
        self.pending: Deque[bytes] = deque()
        #: True while a claim may be waiting in Redis.
        self.blocked = False
        #: Set by the worker: false once it is told to stop.
        self.wanted = True
        #: Id of the job that runs, and `time.monotonic()` when it began (0.0: none runs).
        self.current: Optional[str] = None
        self.began = 0.0
        #: `time.monotonic()` when answers were last sent, or when the batch began.
        self.sent_at = 0.0
        #: Jobs run.
        self.done = 0
        self.helper: Helper
        self.runner: Optional[Runner] = None

    def run(self) -> None:
        """Work until `wanted` is false; then finish what was taken and send its answers."""
        self._connect()
        while self.wanted:
            jobs = self._claim()
            if jobs or self.pending:
                self._work(jobs)
        self._work([])
        self._finish()

    # ---- Redis ----

    def _connect(self) -> None:
        grace_ends = 0.0

        def give_up() -> bool:
            nonlocal grace_ends
            if self.wanted:
                return False
            grace_ends = grace_ends or time.monotonic() + STOP_GRACE_SECONDS
            return self.courier.idle or time.monotonic() > grace_ends

        def wait(seconds: float) -> None:
            if not self._stop.wait(seconds):
                return
            time.sleep(seconds)

        if self.link.open_until(give_up, wait):
            self.courier.prepare()
        else:
            self.courier.give_up()

    def _lost(self) -> None:
        self.courier.recover()
        self._connect()

    def _claim(self) -> List[bytes]:
        count = self._room()
        self.blocked = True
        jobs: List[bytes] = []
        try:
            if count and self.wanted:
                jobs = self.courier.trip(count)
                self._claim_refused = False
        except LinkLost:
            self._lost()
        except ResponseError as refusal:
            self._refused(refusal)
        finally:
            self.blocked = False
        self._batch.claimed(len(jobs))
        self._spare += count - len(jobs)
        if not jobs or not self._alone:
            self._release()
        return jobs

    def _room(self) -> int:
        """Jobs that may be claimed now; waits where coroutines take every place."""
        count = self._batch.limit
        if self.runner is None:
            return count
        if not self.runner.free and self.courier.outbox:
            self._flush()
        return self.runner.reserve(count)

    def _refused(self, refusal: ResponseError) -> None:
        if not self._claim_refused:
            self._claim_refused = True
            log.error("Redis refused the claim: %s; trying again every %.0f s", refusal, _REFUSED_SECONDS)
        self._stop.wait(_REFUSED_SECONDS)

    def _flush(self) -> None:
        try:
            self.courier.flush()
        except LinkLost:
            self._lost()
        self.sent_at = time.monotonic()

    def _finish(self) -> None:
        while not self.courier.idle:
            try:
                self.courier.deliver()
            except LinkLost:
                self._lost()
        self.link.close()

    # ---- jobs ----

    def _work(self, jobs: List[bytes]) -> None:
        pending, outbox = self.pending, self.courier.outbox
        pending.extend(jobs)
        if len(pending) > 1:
            self.helper.watch()
        ran, first = 0, time.monotonic()
        now = self.sent_at = first
        while pending:
            try:
                raw = pending.popleft()
            except IndexError:
                break  # the helper gave it back
            self.began = now
            self._run(raw)
            ran += 1
            now = time.monotonic()
            if outbox and pending and now - self.sent_at > FLUSH_SECONDS:
                self._flush()
        self.began = 0.0
        self.current = None
        self._release()
        if ran:
            self._batch.ran(ran, now - first)

    def _run(self, raw: bytes) -> None:
        request = self.intake.accept(raw, self.began)
        if request is None or not self._handle(request):
            # A job that is done here needs no place among the coroutines.
            self._spare += 1
            if not self._alone:
                self._release()

    def _handle(self, request: Request) -> bool:
        """Run a job's handler; True where a coroutine answers."""
        self.current = request.id
        self.done += 1
        try:
            endpoint = self._router.find(request)
            if self.runner is not None and (endpoint.is_async or endpoint.is_async_stream):
                self.runner.take(endpoint, request)
                return True
            self._answer(request, endpoint.function(request))
        except NoHandler as refusal:
            self._post(request, answer.refusal(request, refusal), request.deadline)
        except CAUGHT as error:
            self._post(request, answer.failure(request, error, self._development), request.deadline)
        return False

    def _release(self) -> None:
        """Give back the places that are not needed."""
        spare, self._spare = self._spare, 0
        if spare and self.runner is not None:
            self.runner.release(spare)

    def _post(self, request: Request, payload: bytes, deadline: Optional[int]) -> None:
        reply_to = request.reply_to
        if reply_to is not None:
            self.courier.outbox.append((reply_to, payload, deadline))

    def _answer(self, request: Request, result: Any) -> None:
        payload = answer.usual(request, result)
        if payload is not None:
            fields = request.fields
            reply_to = fields.get("reply_to")
            if reply_to is not None:
                self.courier.outbox.append((reply_to, payload, fields.get("deadline") or None))
            return
        response = to_response(result)
        if is_stream(response.body):
            return self._stream(request, response)
        for payload in answer.whole(request, response):
            self._post(request, payload, request.deadline)

    def _stream(self, request: Request, response: Response) -> None:
        if isinstance(response.body, AsyncIterable):
            raise TypeError("an async generator needs an `async def` handler")
        # Without a deadline: it holds for a stream's first message only.
        stream = answer.Stream(request, response, lambda payload: self._post(request, payload, None))
        outbox = self.courier.outbox
        self.helper.watch()
        try:
            for chunk in response.body:
                first = stream.n == 0
                stream.write(chunk)
                if first or len(outbox) >= STREAM_MESSAGES or time.monotonic() - self.sent_at > FLUSH_SECONDS:
                    self._flush()
            stream.end()
        except CAUGHT as error:
            if stream.n == 0:
                raise
            log.error("request %s failed in the middle of its stream", request.id, exc_info=error)
            stream.cut()
        finally:
            close = getattr(response.body, "close", None)
            if close is not None:
                close()
