"""Gate: closed until it is opened, once."""

from __future__ import annotations

import threading
import time

__all__ = ["Gate"]

#: How often somebody who waits looks by himself: signal handlers get their turn meanwhile.
_LOOK_SECONDS = 0.1


class Gate:
    """What ``threading.Event`` is for, where the exception of a signal handler may end a wait.

    An event's lock is held by Python code: an exception that comes in between leaves it held for
    ever, or released twice.
    """

    __slots__ = ("_lock", "is_open")

    def __init__(self) -> None:
        self.is_open = False
        self._lock = threading.Lock()
        self._lock.acquire()

    def open(self) -> None:
        """Let everybody through (one thread does this, once or more often)."""
        if not self.is_open:
            self.is_open = True
            self._lock.release()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is open, at most ``timeout`` seconds; return whether it is."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self.is_open:
            left = _LOOK_SECONDS if deadline is None else deadline - time.monotonic()
            if left <= 0:
                break
            if self._lock.acquire(timeout=min(left, _LOOK_SECONDS)):
                # For the others who wait; who does not get it looks at ``is_open``.
                self._lock.release()
        return self.is_open
