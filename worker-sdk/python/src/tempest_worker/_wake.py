"""Wakes one thread from any other, and from a signal handler.

A byte in a pair of sockets is the only thing a signal handler may safely do: locks may be held by what it interrupted.
Carries no information; the woken thread looks for itself what there is to do.
"""

from __future__ import annotations

import select
import socket
from typing import Optional


class Wake:
    """One thread waits, any may poke."""

    def __init__(self) -> None:
        self._woken, self._waker = socket.socketpair()
        self._woken.setblocking(False)
        self._waker.setblocking(False)
        self._poked = False

    def poke(self) -> None:
        """End the wait, now or the next one. Never waits itself."""
        if not self._poked:
            self._poked = True
            try:
                self._waker.send(b".")
            except OSError:
                # Full: then the thread is awake anyway. Closed: then nothing is left to do.
                pass

    def wait(self, seconds: float, other: Optional[int] = None) -> bool:
        """Wait for a poke, at most so long; True where there is something to read from the descriptor `other`, which
        ends the wait, too."""
        poll = select.poll()
        poll.register(self._woken, select.POLLIN)
        if other is not None:
            poll.register(other, select.POLLIN)
        ready = [descriptor for descriptor, _ in poll.poll(max(seconds, 0.0) * 1000)]
        if self._woken.fileno() in ready:
            try:
                self._woken.recv(64)
            except BlockingIOError:
                pass
        # Last: whoever poked until here needs no byte, since the caller has yet to look.
        self._poked = False
        return other in ready

    def close(self) -> None:
        """Free the sockets."""
        self._woken.close()
        self._waker.close()
