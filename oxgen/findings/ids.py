"""Ids: ULIDs, ordered by time."""

from __future__ import annotations

import os
import secrets
import threading
import time

__all__ = ["ULID_ALPHABET", "new_id"]

#: Crockford's base 32: no I, L, O, U.
ULID_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


class _Ids:
    """ULIDs that never go back within a process, whatever thread asks or the clock does."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew: after a fork the child must not go on where the parent does."""
        self._lock = threading.Lock()
        self._last = 0

    def new(self) -> str:
        with self._lock:
            fresh = (time.time_ns() // 1_000_000 << 80) | secrets.randbits(80)
            # The same millisecond, or a clock set back: count on; a carry moves on the time.
            if fresh >> 80 <= self._last >> 80:
                fresh = self._last + 1
            self._last = fresh
        return "".join(ULID_ALPHABET[fresh >> shift & 31] for shift in range(125, -1, -5))


_ids = _Ids()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_ids.reset)


def new_id() -> str:
    """Return a new ULID: 48 bits of milliseconds, 80 random bits, in Crockford's base 32.

    Strictly increasing within a process (https://github.com/ulid/spec, "Monotonicity").
    """
    return _ids.new()
