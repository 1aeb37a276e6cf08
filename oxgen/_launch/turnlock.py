"""TurnLock: a lock that the thread that has it most of the time does not keep from others."""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["TurnLock"]


class TurnLock:
    """A re-entrant lock that nobody takes twice while another one waits for it.

    A thread that steps releases and takes it again at once; without turns a thread that wants to
    fork would wait for ever.
    """

    __slots__ = ("_lock", "_next")

    def __init__(self) -> None:
        self._next = threading.RLock()
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        with self._next:
            self._lock.acquire()

    def __exit__(self, *exc: object) -> None:
        self._lock.release()

    def acquire(self, seconds: float, meanwhile: Callable[[], object] | None = None) -> bool:
        """Wait so long for one's turn, and so long again; True when it is taken.

        ``meanwhile`` is called between the two, to get whoever has it out of its wait.
        """
        if not self._next.acquire(timeout=seconds):
            return False
        try:
            if meanwhile is not None:
                meanwhile()
            return self._lock.acquire(timeout=seconds)
        finally:
            self._next.release()

    def release(self) -> None:
        """Let others have it."""
        self._lock.release()
