"""What a handler is given. Everything that costs time is read when it is first asked for.

A request is only a view of the job's fields. It must not reach Redis and must not change the fields.
"""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Mapping, Optional
from urllib.parse import parse_qsl, unquote

from ._claim import Claim
from ._clock import Clock
from ._json import loads
from ._session import Session

#: Query arguments beyond this many are an error: nobody sends them in good faith.
MAX_ARGUMENTS = 1000


class Headers(Mapping[str, str]):
    """Header values by name, in any case of letters. Repeated headers are joined as RFC 9110 says."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Dict[str, str]) -> None:
        self._fields = fields

    def __getitem__(self, name: str) -> str:
        return self._fields[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __repr__(self) -> str:
        return f"Headers({self._fields!r})"


class Query(Mapping[str, str]):
    """Arguments of a query string, percent-decoded. Of several values under one name, `[]` gives the first."""

    __slots__ = ("_pairs",)

    def __init__(self, query: Optional[str]) -> None:
        self._pairs: Dict[str, List[str]] = {}
        for name, value in parse_qsl(query or "", keep_blank_values=True, max_num_fields=MAX_ARGUMENTS):
            self._pairs.setdefault(name, []).append(value)

    def __getitem__(self, name: str) -> str:
        return self._pairs[name][0]

    def all(self, name: str) -> List[str]:
        """Every value under `name`, in order; an empty list if there is none."""
        return list(self._pairs.get(name, ()))

    def __iter__(self) -> Iterator[str]:
        return iter(self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)

    def __repr__(self) -> str:
        return f"Query({self._pairs!r})"


class Request:
    """One job: an HTTP request, or a background job of the application's own action."""

    __slots__ = (
        "_args",
        "_clock",
        "_cookies",
        "_headers",
        "began",
        "body",
        "claim",
        "fields",
        "id",
        "opened_session",
        "params",
        "withdrawn",
    )

    def __init__(self, fields: Dict[str, Any], body: bytes, clock: Clock, began: float = 0.0) -> None:
        #: The request id; it also stands in the front's log.
        self.id: str = fields["id"]
        #: The body as sent; `b""` if there is none.
        self.body = body
        #: The job's fields as they stand in the message; for an application's own.
        self.fields = fields
        #: What `{name}` in the route's pattern matched, percent-decoded.
        self.params: Dict[str, str] = {}
        #: What the job is held under in Redis; None in base mode. Of this package's own use.
        self.claim: Optional[Claim] = None
        #: When the job was taken up (`time.monotonic()`); 0: nobody looked. Of this package's own use.
        self.began = began
        #: Set by the helper thread when the client has left. Of this package's own use.
        self.withdrawn = False
        #: The session, once a handler has asked for it. Of this package's own use.
        self.opened_session: Optional[Session] = None
        self._clock = clock
        self._headers: Optional[Headers] = None
        self._args: Optional[Query] = None
        self._cookies: Optional[Dict[str, str]] = None

    @property
    def action(self) -> str:
        """`http`, or the application's own name of a background job."""
        action: str = self.fields["action"]
        return action

    @property
    def attempt(self) -> int:
        """1 for the first try; above 1 an earlier try may have run. Workers that this job crashed count."""
        attempt: int = self.fields.get("attempt") or 1
        if self.claim is not None and self.claim[0] is not None and self.claim[0].crashed:
            return attempt + self.claim[0].crashed.get(self.claim[1], (0, b""))[0]
        return attempt

    @property
    def cancelled(self) -> bool:
        """True when nobody wants the answer any more: the client has left, or this worker was declared dead and the
        job is another's. Always False in base mode. The answer goes nowhere; a handler may stop or finish its work."""
        claim = self.claim
        return self.withdrawn or (
            claim is not None and claim[0] is not None and claim[0].over and not claim[0].forgotten
        )

    @property
    def method(self) -> str:
        """The method as sent, for instance `GET`; empty for a background job."""
        return self._text("method")

    @property
    def path(self) -> str:
        """The path, percent-encoding untouched; empty for a background job."""
        return self._text("path")

    @property
    def query(self) -> Optional[str]:
        """The query string as sent; None without a `?`, empty for a bare one."""
        return self.fields.get("query")

    @property
    def args(self) -> Query:
        """The query string's arguments. Raises ValueError above `MAX_ARGUMENTS`."""
        if self._args is None:
            self._args = Query(self.query)
        return self._args

    @property
    def headers(self) -> Headers:
        """Headers, looked up in any case of letters."""
        if self._headers is None:
            self._headers = Headers(self.fields.get("headers") or {})
        return self._headers

    @property
    def cookies(self) -> Dict[str, str]:
        """Cookies by name, values as sent without surrounding quotes; the first of a name counts."""
        if self._cookies is None:
            self._cookies = _cookies(self.headers.get("cookie", ""))
        return self._cookies

    @property
    def session(self) -> Session:
        """The client's session: a dict; what is changed in it goes to the front with the answer, `clear()` ends it. Empty
        where there is none, and where the front keeps none."""
        if self.opened_session is None:
            self.opened_session = Session(self.fields.get("session"), self.fields.get("session_max"))
        return self.opened_session

    @property
    def host(self) -> Optional[str]:
        """The host the client named."""
        return self.fields.get("host")

    @property
    def scheme(self) -> str:
        """`http` or `https`."""
        return self._text("scheme")

    @property
    def peer(self) -> str:
        """The client's address as `ip:port`, as the front saw it."""
        return self._text("peer")

    @property
    def reply_to(self) -> Optional[str]:
        """The list on which the answer is awaited; None: nobody waits."""
        return self.fields.get("reply_to")

    @property
    def traceparent(self) -> Optional[str]:
        """W3C trace context of what the handler does, as the front states it; to be passed on with whatever the handler
        asks of others. None: this request is not traced. The client's own header may say anything."""
        return self.fields.get("traceparent")

    @property
    def tracestate(self) -> Optional[str]:
        """What the trace's vendors carry along; to be passed on beside `traceparent`."""
        return self.fields.get("tracestate")

    @property
    def deadline(self) -> Optional[int]:
        """Milliseconds since the epoch by the clock of Redis; None: no deadline."""
        return self.fields.get("deadline") or None

    @property
    def remaining(self) -> Optional[float]:
        """Seconds until the deadline, below zero after it; None: no deadline."""
        deadline = self.deadline
        return None if deadline is None else (deadline - self._clock.now_ms()) / 1000

    @property
    def text(self) -> str:
        """The body as text; invalid UTF-8 is replaced."""
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """The body read as JSON. Raises ValueError."""
        return loads(self.body)

    def _text(self, name: str) -> str:
        text: str = self.fields.get(name, "")
        return text

    def __repr__(self) -> str:
        what = f"{self.method} {self.path}" if self.action == "http" else self.action
        return f"<Request {self.id} {what}>"


def _cookies(header: str) -> Dict[str, str]:
    found: Dict[str, str] = {}
    for pair in header.split(";"):
        name, equals, value = pair.strip().partition("=")
        if equals:
            found.setdefault(name, value.strip().strip('"'))
    return found


def decode_segment(text: str) -> str:
    """Percent-decode one piece of a path; invalid UTF-8 is replaced."""
    return unquote(text) if "%" in text else text
