"""Keys of the contract: the one place of this package that spells a Redis key.

The key of the job list is the truth; prefix and queue are read from it. Must not know what is stored under a key.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_QUEUE = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")
_UNSAFE = re.compile(r"[{}\s]")
_SHARD = re.compile(r".*\.[0-9]+")


@dataclass(frozen=True)
class Names:
    """Every key that a worker of one queue touches."""

    #: The job list, for instance ``tempest:web``.
    queue_key: str
    #: The queue's name, for instance ``web``.
    queue: str
    #: An answer goes only to keys that begin with this, for instance ``tempest:@``.
    reply_prefix: str

    @property
    def workers(self) -> str:
        """Sorted set of worker ids by their last beat in ms."""
        return self.derived("workers")

    def worker(self, worker_id: str) -> str:
        """One worker's record, a JSON text that expires."""
        return self.derived("worker:" + worker_id)

    def claimed(self, worker_id: str) -> str:
        """Hash of what a worker holds: claim number to job, and `started`."""
        return self.derived("claimed:" + worker_id)

    def landing(self, worker_id: str) -> str:
        """List of at most one job, between the wait for it and its claim."""
        return self.derived("landing:" + worker_id)

    @property
    def history(self) -> str:
        """JSON text that says which channels have a history."""
        return self.reply_prefix + "history"

    def log(self, channel: str) -> str:
        """The log of a channel with history, and the channel on which it is announced."""
        return self.reply_prefix[:-1] + "log:" + channel

    def once(self, channel: str, key: str) -> str:
        """What remembers a message's own key."""
        return "{" + self.log(channel) + "}:once:" + key

    def derived(self, what: str) -> str:
        """A key that belongs to the queue; the braces keep all of them in one slot of a cluster."""
        return "{" + self.queue_key + "}:" + what


def names_of(queue_key: str) -> Names:
    """Split the full key of a job list (``tempest:web``). Raises ValueError that says what is allowed."""
    prefix, colon, queue = queue_key.rpartition(":")
    if not prefix or not colon or _UNSAFE.search(prefix):
        raise ValueError(
            f"`{queue_key}` is not the key of a queue: write prefix:queue, like tempest:web, without braces or spaces"
        )
    if not _QUEUE.fullmatch(queue):
        raise ValueError(
            f"`{queue}` is not a queue name: use 1 to 63 of a-z 0-9 _ . - and begin with a letter or digit"
        )
    if _SHARD.fullmatch(queue):
        raise ValueError(f"`{queue}` is not a queue name: an ending of a dot and digits is kept for shards")
    return Names(queue_key, queue, prefix + ":@")
