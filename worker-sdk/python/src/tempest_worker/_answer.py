"""From a response to the messages that carry it: whole, cut into parts, or streamed piece by piece.

Must not know how messages travel; it hands them to a function.
"""

from __future__ import annotations

import logging
import traceback
from time import monotonic
from typing import Any, Callable, Dict, List, Optional

from ._codec import PART_BYTES, TEXT, HeaderValue, encode_answer, encode_cut, encode_plain, encode_text
from ._json import dumps
from ._msgpack import PackedFields, spell
from ._request import Request
from ._response import BYTES, JSON, Response, default_type, piece, whole_body
from ._routing import NoHandler
from ._session import change

log = logging.getLogger("tempest_worker")

#: Takes one finished message.
Send = Callable[[bytes], None]

#: Characters of a text that surely fits one message: each has at most 4 bytes.
_SHORT = PART_BYTES // 4
_BODILESS = (204, 304)


def _took(request: Request) -> Optional[int]:
    """Microseconds since a job was taken up, by which the front tells waiting from work; None: nobody looked."""
    began = request.began
    return int((monotonic() - began) * 1e6) if began else None


def _spelled(request: Request, message: bytes) -> bytes:
    """An answer in the spelling of its job."""
    return spell(message) if type(request.fields) is PackedFields else message


def plain(request: Request, status: int, text: str) -> bytes:
    """A short text as an answer."""
    body = text.encode("utf-8", "replace")
    return _spelled(request, encode_plain(request.id, request.attempt, status, TEXT, body, _took(request)))


def usual(request: Request, result: Any) -> Optional[bytes]:
    """The one message of a short text, dict, list or bytes, without a Response in between; None where the result
    is something else. The same bytes as `whole` gives."""
    if request.opened_session is not None or type(request.fields) is PackedFields:
        return None
    kind = type(result)
    if kind is str:
        if len(result) <= _SHORT:
            return encode_text(request.id, request.fields.get("attempt") or 1, result, _took(request))
        return None
    if kind is dict or kind is list:
        body, content_type = dumps(result), JSON
    elif kind is bytes and result:
        body, content_type = result, BYTES
    else:
        return None
    if len(body) > PART_BYTES:
        return None
    return encode_plain(request.id, request.fields.get("attempt") or 1, 200, content_type, body, _took(request))


def whole(request: Request, response: Response) -> List[bytes]:
    """The messages of a response whose body is known: one, or parts of `PART_BYTES`. Raises ValueError or
    TypeError for what HTTP cannot carry."""
    body = whole_body(response)
    if response.status in _BODILESS:
        body = b""
    if len(body) > PART_BYTES:
        return _parts(request, response, body)
    if request.method != "HEAD" and response.status not in _BODILESS:
        _check_length(response.headers, len(body))
    held = "" if response.hold is None else response.hold.encode()
    session = change(request, response.session)
    head = (request.id, request.attempt, response.status, response.headers)
    return [_spelled(request, encode_answer(*head, body, hold=held, session=session, took=_took(request)))]


def _parts(request: Request, response: Response, body: bytes) -> List[bytes]:
    headers = dict(response.headers)
    _check_length(headers, len(body))
    # The length is known, so the client may know it too, although the body comes in parts.
    if not any(name.lower() == "content-length" for name in headers):
        headers["content-length"] = str(len(body))
    messages: List[bytes] = []
    stream = Stream(request, Response(b"", response.status, headers, session=response.session), messages.append)
    stream.write(body)
    stream.end()
    return messages


def _check_length(headers: Dict[str, HeaderValue], length: int) -> None:
    for name, value in headers.items():
        if name.lower() == "content-length" and str(value) != str(length):
            raise ValueError(f"content-length says {value}, the body has {length} bytes; leave it out")


class Stream:
    """A response that is sent as it comes. The first message carries status and headers."""

    def __init__(self, request: Request, response: Response, send: Send) -> None:
        self._request = request
        self._response = response
        self._send = send
        #: Messages sent. Once there is one, no other answer is possible.
        self.n = 0

    def write(self, chunk: object) -> None:
        """Send one piece, cut into parts of `PART_BYTES`. Raises TypeError for what is no text and no bytes."""
        data = piece(chunk)
        if self.n == 0:
            default_type(self._response, TEXT if isinstance(chunk, str) else BYTES)
        for at in range(0, len(data), PART_BYTES):
            self._message(data[at : at + PART_BYTES], True)

    def end(self) -> None:
        """Send the last message."""
        self._message(b"", False)

    def cut(self) -> None:
        """Give up after the first message: the front cuts the response, so that the client can tell."""
        self._send(_spelled(self._request, encode_cut(self._request.id, self._request.attempt, self.n)))

    def _message(self, part: bytes, more: bool) -> None:
        status: Optional[int] = self._response.status if self.n == 0 else None
        headers = self._response.headers
        session = change(self._request, self._response.session) if self.n == 0 else ""
        took = _took(self._request) if self.n == 0 else None
        head = (self._request.id, self._request.attempt, status, headers)
        self._send(_spelled(self._request, encode_answer(*head, part, self.n, more, session=session, took=took)))
        self.n += 1


def refusal(request: Request, error: NoHandler) -> bytes:
    """Log that no handler takes a job, and give the answer."""
    # Paths that are not there are the client's affair; an action that is not there is the operator's.
    log.log(logging.WARNING if error.status == 501 else logging.DEBUG, "request %s: %s", request.id, error)
    headers: Dict[str, HeaderValue] = {"content-type": TEXT}
    if error.allow:
        headers["allow"] = error.allow
    body = f"{error.text}\n".encode("utf-8", "replace")
    return _spelled(request, encode_answer(request.id, request.attempt, error.status, headers, body))


def failure(request: Request, error: BaseException, development: bool) -> bytes:
    """Log that a handler raised, and give the answer: a short text, in development the traceback."""
    log.error("request %s failed: %r", request.id, request, exc_info=error)
    if development:
        own = error.__traceback__
        # The first frame is this package's own and helps nobody.
        frames = own.tb_next if own is not None and own.tb_next is not None else own
        text = "".join(traceback.format_exception(type(error), error, frames))
    else:
        text = f"internal server error, request {request.id}\n"
    return plain(request, 500, text[: PART_BYTES // 4])
