"""Which channels have a history, as fronts write it to Redis for everybody who publishes.

Reads the text and finds the rule of a channel. Must not fetch anything or remember when it was fetched.
"""

from __future__ import annotations

from typing import Any, List, NamedTuple, Optional, Tuple

from ._json import loads

#: Rules read at most; a text with more is refused.
MOST_RULES = 1000
#: Above it the numbers of scripts, which have 53 bits, would be rounded.
MOST_MESSAGES = 1 << 50
#: A year, in ms.
MOST_MS = 365 * 24 * 3600 * 1000


class Keep(NamedTuple):
    """How much of a channel is kept."""

    messages: int
    ms: int


def keep_of(messages: Any, ms: Any) -> Keep:
    """Raises ValueError where one of them is no whole number, 0, or more than it can be."""
    for number, most in ((messages, MOST_MESSAGES), (ms, MOST_MS)):
        if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= most:
            raise ValueError("a history keeps at least one message, for at least a millisecond and at most a year")
    return Keep(messages, ms)


def read_rules(text: bytes) -> Rules:
    """What stands at `<prefix>:@history`. Raises ValueError that says what is wrong with it."""
    rules = loads(text)
    if not isinstance(rules, list):
        raise ValueError("it is no JSON array")
    if len(rules) > MOST_RULES:
        raise ValueError(f"it has {len(rules)} rules, more than {MOST_RULES}")
    return Rules([_read_rule(rule) for rule in rules])


def _read_rule(rule: Any) -> Tuple[str, str, Optional[Keep]]:
    if not isinstance(rule, dict):
        raise ValueError("a rule of it is none")
    prefix, pattern = rule.get("prefix", ""), rule.get("pattern")
    messages, ms = rule.get("messages"), rule.get("ms")
    if not isinstance(prefix, str) or not isinstance(pattern, str):
        raise ValueError("a rule of it is none")
    # Both missing or null: nothing is kept.
    keep = None if messages is None and ms is None else keep_of(messages, ms)
    return prefix, pattern, keep


class Rules:
    """The rules, in their order."""

    def __init__(self, rules: List[Tuple[str, str, Optional[Keep]]]) -> None:
        self._rules = rules

    def keep(self, channel: str) -> Optional[Keep]:
        """What is kept of a channel, by its name in Redis: as the first rule that matches says."""
        for prefix, pattern, keep in self._rules:
            if channel.startswith(prefix) and matches(pattern, channel[len(prefix) :]):
                return keep
        return None


def matches(pattern: str, name: str) -> bool:
    """True where the whole of `name` matches: `*` is any text, `?` one character, everything else itself. An expression
    of `re` could be made to take for ever."""
    p = n = 0
    star: Optional[Tuple[int, int]] = None
    while n < len(name):
        if p < len(pattern) and pattern[p] == "*":
            star = (p, n)
            p += 1
        elif p < len(pattern) and pattern[p] in ("?", name[n]):
            p += 1
            n += 1
        elif star is not None:
            star = (star[0], star[1] + 1)
            p, n = star[0] + 1, star[1]
        else:
            return False
    return pattern[p:].strip("*") == ""
