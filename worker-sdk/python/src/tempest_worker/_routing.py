"""Which handler takes a job: by method and path for requests, by name for background jobs.

Small on purpose: a pattern is literal text with `{name}` for one piece of the path and `{name:path}` for the rest.
Must not run a handler.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Pattern, Tuple

from ._request import Request, decode_segment

Handler = Callable[[Request], Any]

_FIELD = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(:path)?\}")


@dataclass(frozen=True)
class Endpoint:
    """A handler and how it is called."""

    function: Handler
    #: True: a coroutine function, run on the event loop.
    is_async: bool
    #: True: an async generator function, streamed from the event loop.
    is_async_stream: bool


class NoHandler(Exception):
    """No handler takes the job; carries the answer to give."""

    def __init__(self, status: int, text: str, allow: str = "") -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.allow = allow


class Router:
    """All handlers of one application."""

    def __init__(self) -> None:
        self.default: Optional[Endpoint] = None
        self.actions: Dict[str, Endpoint] = {}
        self._fixed: Dict[str, Dict[str, Endpoint]] = {}
        self._patterns: List[Tuple[Pattern[str], Dict[str, Endpoint]]] = []

    def add(self, pattern: str, methods: List[str], function: Handler) -> None:
        """Register one route. Raises ValueError for a pattern that cannot work or one that is taken."""
        table = self._table(pattern)
        for method in methods:
            if method.upper() in table:
                raise ValueError(f"{method} {pattern} has a handler already")
            table[method.upper()] = endpoint(function)

    def _table(self, pattern: str) -> Dict[str, Endpoint]:
        if not pattern.startswith("/"):
            raise ValueError(f"route {pattern!r} must begin with /")
        if "{" not in pattern and "}" not in pattern:
            return self._fixed.setdefault(pattern, {})
        compiled = _compile(pattern)
        for known, table in self._patterns:
            if known.pattern == compiled.pattern:
                return table
        self._patterns.append((compiled, {}))
        return self._patterns[-1][1]

    @property
    def any_async(self) -> bool:
        """True where some handler needs the event loop."""
        return any(each.is_async or each.is_async_stream for each in self._all())

    @property
    def empty(self) -> bool:
        """True where nothing can be answered."""
        return not self._all()

    def _all(self) -> List[Endpoint]:
        tables = [*self._fixed.values(), *(table for _, table in self._patterns)]
        found = [each for table in tables for each in table.values()]
        return found + list(self.actions.values()) + ([self.default] if self.default else [])

    def find(self, request: Request) -> Endpoint:
        """The handler of a job; fills `request.params`. Raises NoHandler."""
        fields = request.fields
        action = fields["action"]
        if action != "http":
            found = self.actions.get(action)
            if found is None:
                raise NoHandler(501, f"this worker has no handler for the action {action!r}")
            return found
        path = fields.get("path", "")
        table = self._fixed.get(path)
        if table is None:
            table = self._match(path, request)
        if table is None:
            return self._fallback(404, "not found", "")
        method = fields.get("method", "")
        return table.get(method) or self._by_method(table, method)

    def _match(self, path: str, request: Request) -> Optional[Dict[str, Endpoint]]:
        for pattern, table in self._patterns:
            matched = pattern.fullmatch(path)
            if matched:
                request.params = {name: decode_segment(text) for name, text in matched.groupdict().items()}
                return table
        if "%" in path and "%2f" not in path.lower():
            return self._fixed.get(decode_segment(path))
        return None

    def _by_method(self, table: Dict[str, Endpoint], method: str) -> Endpoint:
        """Where no handler names the method."""
        if method == "HEAD" and "GET" in table:
            return table["GET"]
        allowed = sorted(table) + (["HEAD"] if "GET" in table and "HEAD" not in table else [])
        return self._fallback(405, "method not allowed", ", ".join(allowed))

    def _fallback(self, status: int, text: str, allow: str) -> Endpoint:
        if self.default is None:
            raise NoHandler(status, text, allow)
        return self.default


def endpoint(function: Handler) -> Endpoint:
    """Look once at how a handler has to be called. Raises TypeError if it cannot be called."""
    if not callable(function):
        raise TypeError(f"a handler must be callable, not {type(function).__name__}")
    # An object is as asynchronous as its __call__.
    called = function if inspect.isroutine(function) else type(function).__call__
    return Endpoint(
        function,
        is_async=inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called),
        is_async_stream=inspect.isasyncgenfunction(function) or inspect.isasyncgenfunction(called),
    )


def _compile(pattern: str) -> Pattern[str]:
    literal = _FIELD.sub("", pattern)
    if "{" in literal or "}" in literal:
        raise ValueError(f"route {pattern!r} has a brace that is no {{name}} or {{name:path}}")
    regex, at = "", 0
    for field in _FIELD.finditer(pattern):
        regex += re.escape(pattern[at : field.start()])
        regex += f"(?P<{field[1]}>{'.*' if field[2] else '[^/]+'})"
        at = field.end()
    try:
        return re.compile(regex + re.escape(pattern[at:]), re.DOTALL)
    except re.error as error:
        raise ValueError(f"route {pattern!r} names a field twice: {error}") from None
