"""Publishing to browser channels.

Always in the array form of the contract, so that no published text can forge an event. Must not be used for answers.
"""

from __future__ import annotations

import threading
from typing import Any, Optional

import redis

from ._json import dumps
from ._link import Address
from ._settings import CONNECT_TIMEOUT_SECONDS


def payload(data: Any, event: Optional[str]) -> bytes:
    """What is published. `data` that is no text is sent as JSON. Raises ValueError for an event name with a line
    break or NUL, which no stream can carry."""
    text = data if isinstance(data, str) else dumps(data).decode("utf-8")
    if event is None:
        return dumps([text])
    if any(each in event for each in "\r\n\0"):
        raise ValueError(f"event name {event!r} holds a line break or NUL")
    return dumps([event, text])


class Publisher:
    """A client of its own, opened at the first use; safe to use from any thread."""

    def __init__(self, url: str) -> None:
        self._address = Address(url)
        self._lock = threading.Lock()
        self._client: Any = None

    @property
    def client(self) -> Any:
        """The client: a `redis.Redis` with a pool of connections."""
        with self._lock:
            if self._client is None:
                options = {**self._address.options, "socket_timeout": CONNECT_TIMEOUT_SECONDS}
                make_pool: Any = redis.ConnectionPool
                pool = make_pool(connection_class=self._address.kind, **options)
                self._client = redis.Redis(connection_pool=pool)
            return self._client

    def publish(self, channel: str, data: Any, event: Optional[str]) -> int:
        """Publish; gives the number of subscribers Redis counted. Raises what the client raises."""
        if not channel:
            raise ValueError("a channel has a name")
        return int(self.client.publish(channel, payload(data, event)))
