"""Status: the one status object of a run, and where it goes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

from .terminal import say, silence_stdout, write_to, write_within

__all__ = ["StatusSink", "cancellable", "noise_on_stderr"]


class StatusSink:
    """Writes the status object, once, to the places that were asked for."""

    def __init__(self, descriptor: int | None, *, on_stdout: bool) -> None:
        self.on_stdout = on_stdout
        self._descriptor = descriptor

    def send(self, status: dict[str, Any]) -> bool:
        """Write ``status`` as one line of ASCII; return False (and say so) where one got lost."""
        line = json.dumps(status, ensure_ascii=True, allow_nan=False).encode("ascii") + b"\n"
        delivered = True
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            try:
                write_within(descriptor, line)
            except OSError as exc:
                say(f"the status object could not be written: --json-status-fd: {exc.strerror}")
                delivered = False
            finally:
                os.close(descriptor)
        if self.on_stdout:
            try:
                write_to(sys.stdout, line.decode("ascii"))
            except OSError as exc:
                silence_stdout()
                if not isinstance(exc, BrokenPipeError):
                    say(f"the status object could not be written: stdout: {exc.strerror}")
                    delivered = False
        return delivered


@contextlib.contextmanager
def cancellable() -> Iterator[None]:
    """Let SIGTERM, SIGHUP and SIGQUIT end a run as Ctrl-C does: tree killed, record written."""

    def cancel(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {}
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        # A SIGHUP that the caller ignores (nohup) stays ignored.
        if signal.getsignal(number) is signal.SIG_DFL:
            before[number] = signal.signal(number, cancel)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def noise_on_stderr() -> Iterator[int]:
    """Send descriptor 1, which a run's output is copied to, to stderr; yield the real stdout.

    stdout then holds results only, so that a program can read it.
    """
    sys.stdout.flush()
    real = os.dup(1)
    try:
        os.dup2(2, 1)
        try:
            yield real
        finally:
            sys.stdout.flush()
            os.dup2(real, 1)
    finally:
        os.close(real)
