"""Runs coroutine handlers: one event loop in one thread, a bounded number of jobs at a time.

Claiming threads hand jobs over and go on; answers leave through the helper's connection, since a claiming
thread's own is busy waiting for the next jobs. Must not claim and must not touch a connection.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Deque, Dict, List, Optional, Set, Tuple

from . import _answer as answer
from ._request import Request
from ._response import Response, is_stream, to_response
from ._routing import Endpoint

if TYPE_CHECKING:
    from ._helper import Helper

log = logging.getLogger("tempest_worker")

#: Seconds after which a claiming thread that waits for a place looks whether it is still wanted.
_LOOK_SECONDS = 0.25


class Runner(threading.Thread):
    """The event loop's thread."""

    def __init__(self, helper: Helper, places: int, development: bool, stop: threading.Event) -> None:
        super().__init__(name="tempest-async", daemon=True)
        self._helper = helper
        self._development = development
        self._stopping = stop
        self._loop = asyncio.new_event_loop()
        self._tasks: Set[asyncio.Task[None]] = set()
        #: Jobs taken and not done: when they were taken (`time.monotonic()`), and their task once there is one.
        self._running: Dict[Request, float] = {}
        self._task_of: Dict[Request, asyncio.Task[None]] = {}
        self._taken: Deque[Tuple[Endpoint, Request]] = deque()
        self._called = False
        self._lock = threading.Lock()
        #: Told when places are given back and somebody waits for one; shares the lock.
        self._places = threading.Condition(self._lock)
        self._waiting = 0
        #: Places left for coroutines.
        self.free = places

    @property
    def running(self) -> List[Request]:
        """The jobs that run. For any thread."""
        return list(self._running.copy())

    def running_since(self, moment: float) -> List[Request]:
        """Those that were taken before `moment` (`time.monotonic()`). For any thread."""
        return [request for request, taken in self._running.copy().items() if taken <= moment]

    def cancel(self, request: Request) -> None:
        """Cancel a job if it runs. For any thread."""
        self._loop.call_soon_threadsafe(self._cancel, request)

    # ---- called by claiming threads ----

    def reserve(self, wanted: int) -> int:
        """Take up to `wanted` places, at least one; waits for one. 0: the worker stops."""
        with self._lock:
            while self.free <= 0:
                if self._stopping.is_set():
                    return 0
                self._waiting += 1
                self._places.wait(_LOOK_SECONDS)
                self._waiting -= 1
            taken = min(wanted, self.free)
            self.free -= taken
            return taken

    def release(self, places: int) -> None:
        """Give places back; below zero: take some for jobs that were claimed already."""
        with self._lock:
            self.free += places
            if self._waiting and places > 0:
                self._places.notify(places)

    def take(self, endpoint: Endpoint, request: Request) -> None:
        """Run a job in a place reserved before."""
        self._running[request] = time.monotonic()
        self._taken.append((endpoint, request))
        if not self._called:
            # One call for as many jobs as come before the loop's turn: each costs a system call.
            self._called = True
            self._loop.call_soon_threadsafe(self._begin)

    def finish(self) -> None:
        """Wait until every job is done, then end the thread."""
        asyncio.run_coroutine_threadsafe(self._drain(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self.join()

    # ---- in the event loop's thread ----

    def run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

    async def _drain(self) -> None:
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self._loop.shutdown_asyncgens()
        await self._loop.shutdown_default_executor()

    def _begin(self) -> None:
        # First: whoever takes a job from here on calls again.
        self._called = False
        while self._taken:
            endpoint, request = self._taken.popleft()
            task = self._loop.create_task(self._job(endpoint, request))
            self._task_of[request] = task
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _cancel(self, request: Request) -> None:
        task = self._task_of.get(request)
        if task is not None:
            task.cancel()

    async def _job(self, endpoint: Endpoint, request: Request) -> None:
        try:
            result = endpoint.function(request)
            await self._answer(request, await result if endpoint.is_async else result)
        except (Exception, SystemExit, asyncio.CancelledError) as error:
            if request.withdrawn:
                log.debug("request %s ended: its client has left", request.id)
            else:
                self._post(request, answer.failure(request, error, self._development), request.deadline)
            self._settle(request)
        finally:
            self._running.pop(request, None)
            self._task_of.pop(request, None)
            self.release(1)

    async def _answer(self, request: Request, result: Any) -> None:
        usual = None if request.withdrawn else answer.usual(request, result)
        reply_to = request.reply_to
        if usual is not None and reply_to is not None:
            return self._helper.post((reply_to, usual, request.deadline, request.claim))
        response = to_response(result)
        if is_stream(response.body):
            await self._stream(request, response)
        elif not request.withdrawn:
            for payload in answer.whole(request, response):
                self._post(request, payload, request.deadline)
        self._settle(request)

    async def _stream(self, request: Request, response: Response) -> None:
        # Without a deadline: it holds for a stream's first message only.
        stream = answer.Stream(request, response, lambda payload: self._post(request, payload, None))
        pieces = _pieces(response.body)
        try:
            async for chunk in pieces:
                if request.cancelled:
                    return
                stream.write(chunk)
                await self._helper.room()
            stream.end()
        except (Exception, SystemExit, asyncio.CancelledError) as error:
            if stream.n == 0 or request.withdrawn:
                raise
            log.error("request %s failed in the middle of its stream", request.id, exc_info=error)
            stream.cut()
        finally:
            await pieces.aclose()

    def _post(self, request: Request, payload: bytes, deadline: Optional[int]) -> None:
        reply_to = request.reply_to
        if reply_to is not None and not request.withdrawn:
            self._helper.post((reply_to, payload, deadline, None))

    def _settle(self, request: Request) -> None:
        """Acknowledge a job behind its last message."""
        if request.claim is not None:
            self._helper.post((None, b"", None, request.claim))


async def _pieces(body: Any) -> Any:
    """Any iterable as an asynchronous one; its owner's clean-up runs at the end."""
    if hasattr(body, "__aiter__"):
        try:
            async for chunk in body:
                yield chunk
        finally:
            close = getattr(body, "aclose", None)
            if close is not None:
                await close()
        return
    for chunk in body:
        yield chunk
        await asyncio.sleep(0)
