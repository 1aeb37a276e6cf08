"""The clock of tokens: nanoseconds that go on in suspend and that nobody can set."""

from __future__ import annotations

import sys
import time

__all__ = ["boottime_ns"]


def boottime_ns() -> int:
    """Return nanoseconds since an arbitrary start, time asleep included.

    Linux: CLOCK_BOOTTIME (clock_gettime(2)); CLOCK_MONOTONIC stands still in suspend there, so a
    token of one minute would live through a night. macOS: its CLOCK_MONOTONIC goes on while the
    system is asleep (clock_gettime(3)), unlike ``time.monotonic()``. Windows: ``time.monotonic()``
    counts time asleep.
    """
    if sys.platform == "linux":
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    if sys.platform == "darwin":
        return time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    return time.monotonic_ns()
