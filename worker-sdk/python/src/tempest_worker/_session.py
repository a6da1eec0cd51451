"""The client's session: a dict that a handler reads and changes, and the merge patch that comes of it.

The front keeps the session and applies the patch; here is looked at what it would refuse. Must not keep anything from one
request to the next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, Optional

from ._json import dumps, loads

if TYPE_CHECKING:
    from ._request import Request


class Session(Dict[str, Any]):
    """The members of a session. What is changed in it, at any depth, is sent with the answer; `clear()` ends it.

    A member that is None is taken out. Behind the first piece of a streamed answer it is too late for changes.
    """

    __slots__ = ("_before", "_max")

    def __init__(self, fields: Optional[Dict[str, Any]], most: Optional[int]) -> None:
        super().__init__(fields or {})
        #: As JSON: what is inside may be changed in place.
        self._before = dumps(fields or {})
        self._max = most

    def change(self) -> str:
        """The merge patch as JSON; empty where nothing was changed. Raises ValueError where the front would refuse it,
        TypeError for what is no JSON."""
        now = dumps(self)
        if now == self._before:
            return ""
        if self._max is not None and len(now) > self._max:
            raise ValueError(f"the session would have {len(now)} bytes of JSON, the front takes {self._max}")
        before = loads(self._before)
        # By way of JSON, so that keys are texts and tuples lists, as they will be.
        patch = _patch(before, loads(now))
        if not patch:
            return ""
        if before and not any(value is not None for value in self.values()):
            return "null"
        return dumps(patch).decode("utf-8")


def change(request: Request, given: Any) -> str:
    """What an answer says of the session: `given` with the response, or what became of the request's own."""
    if given is not None:
        if not isinstance(given, dict):
            raise TypeError(f"a session is changed by a dict, not by {type(given).__name__}")
        return dumps(given).decode("utf-8")
    session = request.opened_session
    return "" if session is None else session.change()


def _patch(before: Dict[str, Any], now: Dict[str, Any]) -> Dict[str, Any]:
    """RFC 7396, section 2, the other way round."""
    patch: Dict[str, Any] = {name: None for name in before if now.get(name) is None}
    for name, value in now.items():
        known = before.get(name)
        if value is None or (name in before and value == known and type(value) is type(known)):
            continue
        if isinstance(value, dict) and isinstance(known, dict):
            inner = _patch(known, value)
            if inner:
                patch[name] = inner
        else:
            patch[name] = value
    return patch
