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
from ._claim import BaseClaimer, Claim, Claimer, Unsupported
from ._clock import Clock
from ._courier import Courier
from ._intake import Intake
from ._link import Link, LinkLost
from ._reliable import needs_mark
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
        self._settings = settings
        self._development = settings.development
        self._router = router
        self._stop = stop
        self.link = link
        self.courier = Courier(link, clock, claimer)
        self.intake = Intake(settings.names, clock)
        #: How jobs are taken. Only this thread claims with it.
        self.claimer = claimer
        link.on_open = self._opened
        self._batch = BatchSize(settings.batch)
        self._claim_refused = False
        #: Places among the coroutines that were reserved and are not needed. With one claiming thread nobody waits
        #: for them while it works, so they are given back once for each batch: each time costs a lock.
        self._spare = 0
        self._alone = settings.concurrency == 1
        #: Claimed, not started. Only this thread takes from the left; the helper takes from the right.
        self.pending: Deque[Claim] = deque()
        #: True while a claim may be waiting in Redis.
        self.blocked = False
        #: Set by the worker: false once it is told to stop.
        self.wanted = True
        #: The job that runs, and `time.monotonic()` when it began (0.0: none runs).
        self.running: Optional[Request] = None
        self.began = 0.0
        #: `time.monotonic()` when answers were last sent, or when the batch began.
        self.sent_at = 0.0
        #: Jobs run.
        self.done = 0
        #: True: claims remain that could not be given back. Then the thread does not sign off, so that they are taken
        #: back from it as from one that died.
        self.holds = False
        self.helper: Helper
        self.runner: Optional[Runner] = None

    @property
    def worker_id(self) -> Optional[str]:
        """The id under which this thread holds its jobs; None in base mode."""
        return self.claimer.worker_id

    @property
    def current(self) -> Optional[str]:
        """Id of the job that runs."""
        running = self.running
        return None if running is None else running.id

    def running_since(self, moment: float) -> List[Request]:
        """The job that runs, if it began before `moment` (`time.monotonic()`). For the helper thread."""
        running, began = self.running, self.began
        return [running] if running is not None and began and began <= moment else []

    def run(self) -> None:
        """Work until `wanted` is false; then give back what was not started, and send the answers of the rest."""
        self._connect()
        while self.wanted:
            jobs = self._claim()
            if jobs or self.pending:
                self._work(jobs)
        self._hand_back()
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

        if not self.link.open_until(give_up, wait):
            self.courier.give_up()

    def _opened(self) -> None:
        """A connection is open: what was claimed over the last one and never arrived is work, too."""
        try:
            found = self.claimer.connected(self.link)
        except Unsupported as why:
            found = []
            self._pop_instead(why)
        # They have no places among the coroutines yet.
        self._spare -= len(found)
        self.pending.extend(found)

    def _pop_instead(self, why: Unsupported) -> None:
        self.helper.note_base(self.worker_id, why)
        unused = self.claimer.sign_off()
        if unused:
            self.link.ask(unused)
        self.claimer = BaseClaimer(self._settings.names.queue_key, self._settings.claim)
        self.claimer.connected(self.link)
        self.courier.use(self.claimer)

    def _lost(self) -> None:
        self.courier.recover()
        self._connect()

    def _claim(self) -> List[Claim]:
        count = self._room()
        self.blocked = True
        jobs: List[Claim] = []
        try:
            if count and self.wanted:
                jobs = self.courier.trip(count, self._batch.at_once())
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

    def _mend(self, refusal: ResponseError) -> bool:
        """True where the cause of a refusal is gone, so that what was refused can be tried again."""
        try:
            return self.claimer.refused(refusal)
        except LinkLost:
            self._lost()
            return True
        except Unsupported as why:
            self._pop_instead(why)
            return True

    def _refused(self, refusal: ResponseError) -> None:
        if self._mend(refusal):
            return
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

    def _hand_back(self) -> None:
        """The end: others shall run what was not started."""
        while self.pending:
            claims: List[Claim] = []
            try:
                while True:
                    claims.append(self.pending.popleft())
            except IndexError:
                pass
            claims = [each for each in claims if each[0] is None or not each[0].over]
            if not claims:
                return
            try:
                reply = self.courier.ask(self.claimer.give_back(claims))
            except LinkLost:
                self._lost()
                if self.link.client_id is None:
                    self.holds = True  # given up; in base mode they are lost
                    return
                if claims[0][0] is not None:
                    self.pending.extendleft(reversed(claims))
            else:
                if isinstance(reply, ResponseError):
                    self.holds = True
                    log.error("%d jobs could not be given back: %s", len(claims), reply)

    def _finish(self) -> None:
        while not self.courier.idle:
            try:
                self.courier.deliver()
            except LinkLost:
                self._lost()
        self.link.close()

    # ---- jobs ----

    def _work(self, jobs: List[Claim]) -> None:
        pending, outbox = self.pending, self.courier.outbox
        pending.extend(jobs)
        if len(pending) > 1:
            self.helper.watch()
        ran, first = 0, time.monotonic()
        now = self.sent_at = first
        while pending and self.wanted:
            try:
                claim = pending.popleft()
            except IndexError:
                break  # the helper gave it back
            self.began = now
            self._run(claim)
            ran += 1
            now = time.monotonic()
            if outbox and pending and now - self.sent_at > FLUSH_SECONDS:
                self._flush()
        self.began = 0.0
        self.running = None
        self._release()
        if ran:
            self._batch.ran(ran, now - first)

    def _run(self, claim: Claim) -> None:
        incarnation, number, raw = claim
        request = self.intake.accept(raw, self.began)
        if request is None:
            if incarnation is not None:
                # What is dropped is done.
                self.courier.outbox.append((None, b"", None, claim))
        elif incarnation is None:
            if self._handle(request):
                return
        else:
            request.claim = claim
            marked = number <= self.claimer.marked or not needs_mark(request.fields)
            if not incarnation.over and (marked or self._mark(claim)) and self._handle(request):
                return
        # A job that is done here needs no place among the coroutines.
        self._spare += 1
        if not self._alone:
            self._release()

    def _mark(self, claim: Claim) -> bool:
        """Say that a job is being started, and those that follow it at once; False where it must not be."""
        incarnation, number, _ = claim
        assert incarnation is not None, "base mode marks nothing"
        ahead = min(self._batch.at_once() - 1, len(self.pending))
        while not incarnation.over:
            try:
                last = self.pending[ahead - 1][1] if ahead > 0 else number
            except IndexError:
                last = number  # the helper gave it back
            try:
                reply = self.courier.ask(self.claimer.mark(last))
            except LinkLost:
                self._lost()
                if self.link.client_id is None:
                    self.holds = True  # the worker ends without Redis
                    return False
                continue
            if reply == 1:
                self.claimer.marked = max(self.claimer.marked, last)
                return True
            if isinstance(reply, ResponseError):
                self._refused(reply)
                if not self.wanted:
                    self.pending.appendleft(claim)  # to be handed back
                    self._spare -= 1
                    return False
            elif last == number:
                self.courier.lost += 1
                log.debug("a claim was taken away before it was started")
                return False
            ahead = 0  # the later one may have been given back
        return False

    def _handle(self, request: Request) -> bool:
        """Run a job's handler; True where a coroutine answers."""
        self.running = request
        self.done += 1
        try:
            endpoint = self._router.find(request)
            if self.runner is not None and (endpoint.is_async or endpoint.is_async_stream):
                self.runner.take(endpoint, request)
                return True
            self._answer(request, endpoint.function(request))
        except NoHandler as refusal:
            self._post(request, answer.refusal(request, refusal), request.deadline)
            self._settle(request)
        except CAUGHT as error:
            self._post(request, answer.failure(request, error, self._development), request.deadline)
            self._settle(request)
        return False

    def _release(self) -> None:
        """Give back the places that are not needed."""
        spare, self._spare = self._spare, 0
        if spare and self.runner is not None:
            self.runner.release(spare)

    def _post(self, request: Request, payload: bytes, deadline: Optional[int]) -> None:
        reply_to = request.reply_to
        if reply_to is not None and not request.withdrawn:
            self.courier.outbox.append((reply_to, payload, deadline, None))

    def _settle(self, request: Request) -> None:
        """Acknowledge a job behind its last message."""
        if request.claim is not None:
            self.courier.outbox.append((None, b"", None, request.claim))

    def _answer(self, request: Request, result: Any) -> None:
        payload = answer.usual(request, result)
        if payload is not None:
            fields = request.fields
            reply_to = fields.get("reply_to")
            if reply_to is None or request.withdrawn:
                return self._settle(request)
            self.courier.outbox.append((reply_to, payload, fields.get("deadline") or None, request.claim))
            return
        response = to_response(result)
        if is_stream(response.body):
            self._stream(request, response)
        else:
            for payload in answer.whole(request, response):
                self._post(request, payload, request.deadline)
        self._settle(request)

    def _stream(self, request: Request, response: Response) -> None:
        if isinstance(response.body, AsyncIterable):
            raise TypeError("an async generator needs an `async def` handler")
        # Without a deadline: it holds for a stream's first message only.
        stream = answer.Stream(request, response, lambda payload: self._post(request, payload, None))
        outbox = self.courier.outbox
        self.helper.watch()
        try:
            for chunk in response.body:
                if request.cancelled:
                    return
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
