"""Publishing to browser channels.

Always in the array form of the contract, so that no published text can forge an event. Whether a channel has a history
the fronts say, in Redis; what they say is read again every ten seconds. Must not be used for answers.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from typing import Any, List, Optional, Tuple

import redis
from redis.exceptions import NoPermissionError, NoScriptError, ResponseError

from ._history import Keep, Rules, keep_of, read_rules
from ._json import dumps
from ._link import Address
from ._names import Names
from ._scripts import PUBLISHING, TEXTS
from ._settings import CONNECT_TIMEOUT_SECONDS

log = logging.getLogger("tempest_worker")

#: How long what the fronts say of histories is taken for true.
RULES_SECONDS = 10.0
#: For how many ms a message's own key is remembered, as the contract has it.
KEY_MS = 600_000
#: Characters of such a key.
LONGEST_KEY = 255
#: The names under which Redis knows the scripts.
_NAMES = {name: hashlib.sha1(TEXTS[name], usedforsecurity=False).hexdigest() for name in PUBLISHING}


class Published(int):
    """How many fronts and other subscribers Redis handed a message to; and what else became of it."""

    #: The message's id; None where the channel has no history.
    id: Optional[str]
    #: It had been published before with the same key, and was not again.
    repeated: bool

    def __new__(cls, told: int, id: Optional[str] = None, repeated: bool = False) -> Published:
        """As Redis says it."""
        it = super().__new__(cls, told)
        it.id, it.repeated = id, repeated
        return it


def payload(data: Any, event: Optional[str]) -> bytes:
    """What is published. `data` that is no text is sent as JSON. Raises ValueError for an event name with a line
    break or NUL, which no stream can carry."""
    text = data if isinstance(data, str) else dumps(data).decode("utf-8")
    if event is None:
        # Alone it would be the command that ends streams; with an empty name it is data like any other.
        return dumps(["", text] if text == "$unsubscribe" else [text])
    if any(each in event for each in "\r\n\0"):
        raise ValueError(f"event name {event!r} holds a line break or NUL")
    return dumps([event, text])


class Publisher:
    """A client of its own, opened at the first use; safe to use from any thread."""

    def __init__(self, url: str, names: Names) -> None:
        self._address = Address(url)
        self._names = names
        self._lock = threading.Lock()
        self._client: Any = None
        self._rules: Optional[Tuple[float, Rules]] = None
        self._warned = False

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

    def publish(
        self,
        channel: str,
        data: Any,
        event: Optional[str] = None,
        key: Optional[str] = None,
        history: Optional[Tuple[int, float]] = None,
    ) -> Published:
        """Publish; see `App.publish`. Raises what the client raises, and ValueError where an argument is wrong."""
        if not channel:
            raise ValueError("a channel has a name")
        if key is not None and not (1 <= len(key) <= LONGEST_KEY and key.isascii() and key.isprintable()):
            raise ValueError(f"a key is 1 to {LONGEST_KEY} characters of printable ASCII")
        sent = payload(data, event)
        keep = self._keep(channel) if history is None else keep_of(history[0], round(history[1] * 1000))
        once = [] if key is None else [self._names.once(channel, key)]
        remembered = [] if key is None else [KEY_MS]
        if keep is not None:
            keys = [self._names.log(channel), *once]
            return self._call("publish", keys, [sent, keep.messages, keep.ms, *remembered])
        if once:
            return self._call("once", once, [channel, sent, *remembered])
        return Published(int(self.client.publish(channel, sent)))

    def _call(self, script: str, keys: List[str], arguments: List[Any]) -> Published:
        try:
            try:
                reply = self.client.evalsha(_NAMES[script], len(keys), *keys, *arguments)
            except NoScriptError:
                reply = self.client.eval(TEXTS[script], len(keys), *keys, *arguments)
        except NoPermissionError as error:
            # Published without, the message would be lost to the history and nobody would know.
            raise NoPermissionError(
                f"{error}; a history or a key needs a user with +evalsha +eval and the rights that the manual names"
            ) from error
        found = reply[0].decode()
        return Published(int(reply[1]), found or None, bool(reply[2]))

    def _keep(self, channel: str) -> Optional[Keep]:
        known = self._rules
        now = time.monotonic()
        if known is None or now - known[0] >= RULES_SECONDS:
            known = self._rules = (now, self._read_rules())
        return known[1].keep(channel)

    def _read_rules(self) -> Rules:
        where = self._names.history
        try:
            text = self.client.get(where)
        except NoPermissionError as error:
            # A user from before there were histories: what it publishes arrives as before.
            if not self._warned:
                self._warned = True
                log.warning("this user may not read %s (+get): nothing that it publishes is kept: %s", where, error)
            return Rules([])
        if text is None:
            return Rules([])
        try:
            return read_rules(text)
        except ValueError as error:
            raise ResponseError(f"{where}: {error}") from error
