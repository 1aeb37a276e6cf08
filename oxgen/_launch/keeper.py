"""Keeper: limits hold though whoever started the runs is busy with something else.

Runs of a ``Crowd`` are watched by the thread that asks for their results. Between two results of a
``map`` it is in its caller's code, and an event loop can be held up by anybody. So one thread looks
now and then whether there is something to do that nobody does.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from typing import Protocol

from ..errors import LaunchError
from .apart import run_apart

__all__ = ["LOOK_SECONDS", "unwatch", "watch"]

#: How late a limit may be noticed where its owner is away.
LOOK_SECONDS = 0.1
_IDLE_LOOKS = 20


class Kept(Protocol):
    """What is looked after."""

    def look_after(self) -> None:
        """Do what is overdue; returns soon."""


_lock = threading.Lock()
_kept: set[Kept] = set()
_thread: threading.Thread | None = None


def watch(kept: Kept) -> None:
    """Look after it until ``unwatch``: it is not collected meanwhile."""
    _kept.add(kept)
    if _thread is None:
        _start()


def unwatch(kept: Kept) -> None:
    """Do so no more."""
    _kept.discard(kept)


def _start() -> None:
    try:
        run_apart(_start_one)
    except RuntimeError as refused:
        raise LaunchError(
            "request",
            errno.EAGAIN,
            f"no thread to watch its limits: {refused}",
            remedy="raise the limit on processes and threads",
        ) from None


def _start_one() -> None:
    global _thread
    with _lock:
        if _thread is None:
            thread = threading.Thread(target=_keep, name="oxgen-keeper", daemon=True)
            thread.start()
            _thread = thread


def _keep() -> None:
    global _thread
    idle = 0
    try:
        while idle < _IDLE_LOOKS:
            time.sleep(LOOK_SECONDS)
            # A copy in one step of the interpreter: others add and discard.
            for kept in _kept.copy():
                kept.look_after()
            idle = 0 if _kept else idle + 1
    finally:
        with _lock:
            _thread = None
        if _kept:
            _start()  # somebody came while it was about to end, or one of them has failed


def _after_fork_in_child() -> None:
    global _lock, _thread
    _lock = threading.Lock()
    _thread = None
    _kept.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)
