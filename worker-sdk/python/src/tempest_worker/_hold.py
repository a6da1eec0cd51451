"""Answers that hand the client's connection to channels.

What the contract does not allow is refused where it is written down, with the reason. Must not subscribe to anything:
the front holds, the worker only says what.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Iterable, Mapping, Optional, Tuple, Union

from ._codec import HeaderValue
from ._json import quote
from ._response import Response

#: Channels of one hold at most.
MAX_CHANNELS = 64
#: Longest time of a hold.
MAX_SECONDS = 86_400
_MAX_NAME_BYTES = 1024
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_START = re.compile(r"[\x21-\x7e]{1,1024}")


@dataclass(frozen=True)
class Hold:
    """What a connection is handed to. Raises ValueError or TypeError for what no front would take.

    `timeout` is in seconds: when a stream ends (None: never), or how long `once` waits (None: 25 s).
    """

    channels: Tuple[str, ...]
    once: bool = False
    timeout: Optional[float] = None
    first: Optional[str] = None
    history: Optional[str] = None

    def __post_init__(self) -> None:
        if isinstance(self.channels, str):
            raise TypeError(f"a hold names a list of channels, not {self.channels!r}")
        object.__setattr__(self, "channels", tuple(self.channels))
        if not 1 <= len(self.channels) <= MAX_CHANNELS:
            raise ValueError(f"a hold names 1 to {MAX_CHANNELS} channels, this one {len(self.channels)}")
        for name in self.channels:
            _check_name(name)
        if type(self.once) is not bool:
            raise TypeError(f"`once` is True or False, not {self.once!r}")
        if self.timeout is not None:
            if type(self.timeout) not in (int, float):
                raise TypeError(f"a timeout is a number of seconds, not {self.timeout!r}")
            if not 0.001 <= self.timeout <= MAX_SECONDS:
                raise ValueError(f"a hold lasts 0.001 to {MAX_SECONDS} seconds, not {self.timeout!r}")
        if self.first is not None:
            if not isinstance(self.first, str):
                raise TypeError(f"a first message is a text, not {self.first!r}")
            # A lone surrogate is no character, and JSON with one is malformed.
            self.first.encode("utf-8")
            if self.once:
                raise ValueError("a hold for one message has no first one: what is published is its body")
        if self.history is not None and (not isinstance(self.history, str) or not _START.fullmatch(self.history)):
            raise ValueError(f"{self.history!r} is no start point: use 1 to 1024 visible characters of ASCII")

    def check(self, body: object, status: int) -> None:
        """Raises ValueError where an answer with this body and status cannot hold."""
        if not (body is None or (isinstance(body, (str, bytes, bytearray)) and not body)):
            raise ValueError("an answer with a hold has no body; a stream may have a first message")
        if self.once and status in (204, 304):
            raise ValueError(f"an answer with status {status} has no body, and the message would be it")
        if not self.once and status != 200:
            raise ValueError(f"a stream has status 200, not {status!r}")

    def encode(self) -> str:
        """The value of the field `hold`, as JSON in ASCII."""
        fields = [f'"channels":[{",".join(map(quote, self.channels))}]']
        if self.once:
            fields.append('"mode":"once"')
        if self.timeout is not None:
            fields.append(f'"timeout":{round(self.timeout * 1000)}')
        if self.first is not None:
            fields.append(f'"first":{quote(self.first)}')
        if self.history is not None:
            fields.append(f'"history":{quote(self.history)}')
        return "{" + ",".join(fields) + "}"


def _check_name(name: Any) -> None:
    if not isinstance(name, str):
        raise TypeError(f"the name of a channel is a text, not {name!r}")
    if not 1 <= len(name.encode("utf-8")) <= _MAX_NAME_BYTES or _CONTROL.search(name):
        raise ValueError(
            f"{name!r} is no name of a channel: use 1 to {_MAX_NAME_BYTES} bytes without control characters"
        )


def hold(
    channels: Iterable[str],
    once: bool = False,
    timeout: Optional[float] = None,
    first: Optional[str] = None,
    history: Optional[str] = None,
    status: int = 200,
    headers: Optional[Mapping[str, HeaderValue]] = None,
    content_type: Optional[str] = None,
) -> Response:
    """Hand the client's connection to channels and be done with it: the worker may end, and the stream lives in the
    front. The channels need not be public; this answer is the permission.

    Without a content type, or with `text/event-stream`, the client gets Server-Sent Events; with any other one the
    data as it is published. `once`: the next message is the body, or 204 after `timeout` seconds. `first` is the
    first message of a stream; `history` is where it begins in channels with history (`earliest`, an id, a time).
    Raises ValueError or TypeError for what no front would take.
    """
    names: Union[str, Tuple[str, ...]] = channels if isinstance(channels, str) else tuple(channels)
    held = Hold(names, once, timeout, first, history)  # type: ignore[arg-type]
    return Response(b"", status, headers, content_type, hold=held)
