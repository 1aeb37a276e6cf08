"""Apart: steps between which no signal handler runs."""

from __future__ import annotations

import _thread
from collections.abc import Callable

__all__ = ["run_apart"]

_SECONDS = 5.0


def run_apart(action: Callable[[], None]) -> None:
    """Run it in a thread of its own and wait for its end, some seconds at most.

    Python runs signal handlers in the main thread, and their exceptions end whatever it is doing:
    ``Thread.start`` in the middle, say. They end this wait, not the action. Raises what that
    raises, and ``RuntimeError`` where there can be no thread.
    """
    ended = _thread.allocate_lock()
    ended.acquire()
    failures: list[BaseException] = []

    def act() -> None:
        try:
            action()
        except BaseException as failure:
            failures.append(failure)
        finally:
            ended.release()

    _thread.start_new_thread(act, ())
    ended.acquire(timeout=_SECONDS)
    if failures:
        failure = failures.pop()
        try:
            raise failure
        finally:
            del failure  # its traceback holds this frame, and that its callers'
