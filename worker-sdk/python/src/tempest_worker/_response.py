"""What a handler gives back, brought into one shape.

Must not encode anything for the wire and must not know how answers travel.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable
from typing import TYPE_CHECKING, Any, Dict, Mapping, Optional

from ._codec import TEXT, HeaderValue
from ._json import dumps

if TYPE_CHECKING:
    from ._hold import Hold

JSON = "application/json"
BYTES = "application/octet-stream"


class Response:
    """An answer with status and headers.

    `body` is a text, bytes, a dict or list (sent as JSON), None, or an iterable of texts and bytes, which is
    streamed. A header's value is a text, a whole number, or a list of texts (several `set-cookie`). `hold` hands the
    connection to channels, see `hold()`. `session` changes the client's session by a merge patch (RFC 7396), in place of
    what became of `request.session`.
    """

    __slots__ = ("body", "headers", "hold", "session", "status")

    def __init__(
        self,
        body: Any = b"",
        status: int = 200,
        headers: Optional[Mapping[str, HeaderValue]] = None,
        content_type: Optional[str] = None,
        hold: Optional[Hold] = None,
        session: Optional[Dict[str, Any]] = None,
    ) -> None:
        self.body = body
        self.session = session
        self.hold = hold
        self.status = status
        self.headers: Dict[str, HeaderValue] = dict(headers or {})
        if content_type is not None:
            self.headers = {name: each for name, each in self.headers.items() if name.lower() != "content-type"}
            self.headers["content-type"] = content_type

    def __repr__(self) -> str:
        return f"<Response {self.status} {type(self.body).__name__}>"


def to_response(result: Any) -> Response:
    """Bring a handler's result into the shape of a response. Raises TypeError for what has no meaning, ValueError for
    a hold that cannot be."""
    if isinstance(result, Response):
        if result.hold is not None:
            result.hold.check(result.body, result.status)
        return result
    if isinstance(result, tuple):
        return _from_tuple(result)
    return Response(result, 204 if result is None else 200)


def _from_tuple(result: Any) -> Response:
    if len(result) not in (2, 3) or type(result[0]) is not int:
        raise TypeError("a tuple must be (status, body) or (status, body, headers)")
    return Response(result[1], result[0], result[2] if len(result) == 3 else None)


def is_stream(body: Any) -> bool:
    """True where the body comes piece by piece."""
    if isinstance(body, (str, bytes, bytearray, memoryview, dict, list)):
        return False
    return isinstance(body, (Iterable, AsyncIterable))


def whole_body(response: Response) -> bytes:
    """The body as bytes; names its content type unless the handler did. Raises TypeError."""
    body = response.body
    if isinstance(body, str):
        default_type(response, TEXT)
        return body.encode("utf-8")
    if isinstance(body, (bytes, bytearray, memoryview)):
        if len(body):
            default_type(response, BYTES)
        return bytes(body)
    if isinstance(body, (dict, list)):
        default_type(response, JSON)
        return dumps(body)
    if body is None:
        return b""
    raise TypeError(
        f"a handler returned {type(body).__name__}; "
        "return str, bytes, dict, list, None, Response, (status, body) or a generator"
    )


def piece(chunk: Any) -> bytes:
    """One piece of a streamed body as bytes. Raises TypeError."""
    if isinstance(chunk, str):
        return chunk.encode("utf-8")
    if isinstance(chunk, (bytes, bytearray, memoryview)):
        return bytes(chunk)
    raise TypeError(f"a streamed body yielded {type(chunk).__name__}; yield str or bytes")


def default_type(response: Response, content_type: str) -> None:
    """Name the content type unless the handler did, in whatever case of letters."""
    if not any(name.lower() == "content-type" for name in response.headers):
        response.headers["content-type"] = content_type
