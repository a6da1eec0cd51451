"""The scripts of the contract: their texts, as data of this package, and how one is called.

The texts are copies of `worker-sdk/protocol/scripts`, byte for byte, held by a test: what one side does is what the
other expects. Must not send anything.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Dict, List

from ._link import pack

#: Those that a worker calls.
NAMES = ("claim", "give_back", "mark", "recover", "register")

#: Those that publish.
PUBLISHING = ("publish", "once")

TEXTS: Dict[str, bytes] = {
    name: (files(__package__) / "scripts" / f"{name}.lua").read_bytes() for name in NAMES + PUBLISHING
}


def load_all() -> List[bytes]:
    """Packed commands that load every script; each gives the name under which Redis knows it."""
    return [pack(b"SCRIPT", b"LOAD", TEXTS[name]) for name in NAMES]


def call(sha: bytes, keys: List[bytes], *arguments: bytes) -> bytes:
    """A packed call of a loaded script."""
    return pack(b"EVALSHA", sha, b"%d" % len(keys), *keys, *arguments)
