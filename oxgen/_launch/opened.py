"""Opened programs: what many runs start is opened once, and again when the file is another."""

from __future__ import annotations

import contextlib
import os
from collections import OrderedDict

from ..sandbox import Runtime
from .program import Program, find, identity_of, open_program

__all__ = ["Opened", "OpenedPrograms"]

_KEPT = 16


class Opened:
    """A program that stays open as long as anybody holds this."""

    def __init__(self, path: str, runtime: Runtime) -> None:
        with contextlib.ExitStack() as opening:
            self.program: Program = opening.enter_context(open_program(path, runtime))
            self._stack = opening.pop_all()

    def is_current(self, path: str) -> bool:
        """Whether the path still names the same file, unchanged."""
        try:
            now = os.stat(path)
        except OSError:
            return False
        return self.program.identity[1:] == identity_of(now)

    def __del__(self) -> None:
        stack = getattr(self, "_stack", None)
        if stack is not None:
            stack.close()


class OpenedPrograms:
    """The last few of them."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, Runtime], Opened] = OrderedDict()

    def get(self, name: str, runtime: Runtime) -> Opened:
        """Return ``args[0]`` opened; raises as ``open_program`` does."""
        path = find(name)
        key = (path, runtime)
        opened = self._known.get(key)
        if opened is None or not opened.is_current(path):
            opened = self._known[key] = Opened(path, runtime)
            if len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return opened

    def close(self) -> None:
        """Keep none of them open any longer than their runs."""
        self._known.clear()
