"""Pipes: those of a program that its host talks to, which C owns from the first instant."""

from __future__ import annotations

import functools
import os
from typing import Any, BinaryIO

from ..errors import LaunchError
from .native import ffi, lib
from .order import Stream

__all__ = ["Pipes"]

_NAMES = (b"stdin", b"stdout", b"stderr")


class Pipes:
    """Three pipes and a descriptor that ends a run's wait; closed when they are collected.

    Raises ``LaunchError`` where there are no descriptors left.
    """

    __slots__ = ("_native",)

    def __init__(self) -> None:
        # Its owner before there is anything to own: an interrupt may come at any moment.
        self._native: Any = ffi.gc(ffi.new("struct ox_pipes *", _NONE), lib.ox_pipes_close)
        r = lib.ox_pipes_open(self._native)
        if r < 0:
            raise LaunchError("streams", -r, f"no pipes for it: {os.strerror(-r)}")

    def streams(self) -> tuple[Stream, Stream, Stream]:
        """The program's side, for an order."""
        source, out, err = self._native.inner
        return (
            Stream(mode="direct", descriptor=source),
            Stream(mode="copy", descriptor=out, exclusive=True),
            Stream(mode="copy", descriptor=err, exclusive=True),
        )

    def open(self, stream: int) -> BinaryIO:
        """Return the caller's end of a stream as a file, which owns the descriptor. Only once."""
        # Handed over in C: no exception of a signal handler finds it with two owners or none.
        taker = functools.partial(lib.ox_take, ffi.addressof(self._native, "outer", stream))
        if stream == 0:
            return open(_NAMES[0], "wb", buffering=0, opener=taker)
        return open(_NAMES[stream], "rb", opener=taker)

    @property
    def wake(self) -> int:
        """The eventfd; -1 when it is closed."""
        return int(self._native.wake)

    def close_inner(self, stream: int) -> None:
        """Close the program's side of a stream."""
        lib.ox_close(ffi.addressof(self._native, "inner", stream))

    def close_wake(self) -> None:
        """Close the eventfd: nobody waits any more."""
        lib.ox_close(ffi.addressof(self._native, "wake"))

    def close(self) -> None:
        """Close whatever is still ours. May be called twice."""
        lib.ox_pipes_close(self._native)


_NONE = {"wake": -1, "inner": [-1, -1, -1], "outer": [-1, -1, -1]}
