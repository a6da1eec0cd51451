"""The application: what a worker's author writes against.

Registers handlers, publishes, runs. Must not know how jobs travel.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, Callable, List, Optional, Tuple, TypeVar

from ._publish import Published, Publisher
from ._routing import Handler, Router, endpoint
from ._settings import default_names, default_redis, make_settings
from ._worker import Worker

F = TypeVar("F", bound=Callable[..., Any])


class App:
    """Handlers for one queue.

    `redis` and `queue` (the whole key of the job list) stand above `TEMPEST_REDIS_URL`, `REDIS_URL` and
    `TEMPEST_QUEUE`. `claims` stands above `TEMPEST_CLAIMS`: `reliable` (jobs stay in Redis until they are answered) or
    `base` (they are popped). `cancel`: a coroutine is cancelled when its client has left; False: it is finished.
    """

    def __init__(
        self,
        redis: Optional[str] = None,
        queue: Optional[str] = None,
        *,
        claims: Optional[str] = None,
        cancel: bool = True,
    ) -> None:
        self._redis = redis
        self._queue = queue
        self._claims = claims
        self._cancel = cancel
        self._router = Router()
        self._publisher: Optional[Publisher] = None
        self._worker: Optional[Worker] = None

    # ---- handlers ----

    def route(self, pattern: str, methods: Optional[List[str]] = None) -> Callable[[F], F]:
        """Decorate the handler of a path: literal text, `{name}` for one piece, `{name:path}` for the rest.
        `methods` is GET unless given. Raises ValueError for a pattern that is wrong or taken."""

        def register(function: F) -> F:
            self._router.add(pattern, methods or ["GET"], function)
            return function

        return register

    def get(self, pattern: str) -> Callable[[F], F]:
        """Decorate the handler of GET (and HEAD) for a path."""
        return self.route(pattern, ["GET"])

    def post(self, pattern: str) -> Callable[[F], F]:
        """Decorate the handler of POST for a path."""
        return self.route(pattern, ["POST"])

    def put(self, pattern: str) -> Callable[[F], F]:
        """Decorate the handler of PUT for a path."""
        return self.route(pattern, ["PUT"])

    def patch(self, pattern: str) -> Callable[[F], F]:
        """Decorate the handler of PATCH for a path."""
        return self.route(pattern, ["PATCH"])

    def delete(self, pattern: str) -> Callable[[F], F]:
        """Decorate the handler of DELETE for a path."""
        return self.route(pattern, ["DELETE"])

    def handler(self, function: F) -> F:
        """Decorate the handler of every request that no route takes."""
        if self._router.default is not None:
            raise ValueError("there is a handler for everything already")
        self._router.default = endpoint(function)
        return function

    def action(self, name: str) -> Callable[[F], F]:
        """Decorate the handler of a background job by its `action`."""
        if name == "http":
            raise ValueError("`http` is the action of requests: use route, get, post or handler")
        if name in self._router.actions:
            raise ValueError(f"the action {name!r} has a handler already")

        def register(function: F) -> F:
            self._router.actions[name] = endpoint(function)
            return function

        return register

    # ---- publishing ----

    def publish(
        self,
        channel: str,
        data: Any,
        event: Optional[str] = None,
        *,
        key: Optional[str] = None,
        history: Optional[Tuple[int, float]] = None,
    ) -> Published:
        """Send `data` to the browsers that follow `channel`; what is no text is sent as JSON. Gives the number of
        fronts that listen, with the message's `id` where the channel has a history. `key`: with the same one it is
        published once within ten minutes (`repeated`). `history`: keep so many messages for so many seconds, whatever
        the fronts say of the channel. Waits for Redis; in a coroutine use `asyncio.to_thread`."""
        if self._publisher is None:
            self._publisher = Publisher(self._redis or default_redis(), default_names(self._queue))
        return self._publisher.publish(channel, data, event, key, history)

    # ---- running ----

    def run(
        self,
        *,
        redis: Optional[str] = None,
        queue: Optional[str] = None,
        concurrency: Optional[int] = None,
        async_concurrency: Optional[int] = None,
        batch: Optional[int] = None,
        claim: Optional[str] = None,
        claims: Optional[str] = None,
    ) -> None:
        """Work until SIGTERM, SIGINT or `stop`; returns when everything taken is answered.

        `concurrency`: threads, each running one synchronous handler at a time (1). `async_concurrency`: coroutine
        handlers at a time (100). `batch`: jobs in one claim at most (64). `claims`: `reliable` or
        `base`. `claim`: how base mode pops, `auto`, `blmpop` or `lpop`. Raises ValueError where a setting is wrong.
        """
        if self._router.empty:
            raise ValueError("no handler: decorate one with @app.handler, @app.get(…) or @app.action(…)")
        settings = make_settings(
            redis or self._redis,
            queue or self._queue,
            concurrency,
            async_concurrency,
            batch,
            claim,
            claims or self._claims,
            self._cancel,
        )
        self._redis = settings.redis_url
        self._queue = settings.names.queue_key
        _log_to_stderr()
        self._worker = Worker(settings, self._router)
        try:
            self._worker.run()
        finally:
            self._worker = None

    def stop(self) -> None:
        """End `run` from another thread: no more jobs, finish what was taken. Does nothing when nothing runs."""
        worker = self._worker
        if worker is not None:
            worker.stop()


def _log_to_stderr() -> None:
    """A worker that says nothing helps nobody: log unless the program set logging up."""
    if not logging.getLogger().handlers and not logging.getLogger("tempest_worker").handlers:
        logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")


__all__ = ["App", "Handler"]
