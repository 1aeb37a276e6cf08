"""Timestamps: the time of day as records and findings have it."""

from __future__ import annotations

import functools
import time

__all__ = ["timestamp"]


def timestamp() -> str:
    """Return the time as RFC 3339 in UTC with microseconds."""
    seconds, micros = divmod(time.time_ns() // 1000, 1_000_000)
    return f"{_second(seconds)}.{micros:06d}Z"


@functools.lru_cache(maxsize=4)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
