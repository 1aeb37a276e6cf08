"""Loop: many runs watched by one thread, through the C one."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from typing import Any

from ..errors import LaunchError, LostError
from .execution import Execution
from .native import ffi, lib

__all__ = ["Loop", "deliver", "kill_all"]

#: How many runs one step reports; the next one has the rest.
_NEWS = 64


def deliver(execution: Execution) -> bool:
    """Write what an ended run has left for its readers; True when nothing of it is left.

    False: the pipes that cannot be written to now are those that something waits for.
    """
    run = execution.native_run
    return run is None or bool(lib.ox_run_flush(run, 0))


def kill_all(executions: Sequence[Execution]) -> None:
    """Kill runs that no loop watches, wait for their ends: less than a second for all of them.

    One that was freed has ended.
    """
    executions = [one for one in executions if one.native_run is not None]
    for execution in executions:
        lib.ox_run_cancel(execution.native_run)
        lib.ox_run_step(execution.native_run, 0)
    for execution in executions:
        while lib.ox_run_step(execution.native_run, 100) == lib.OX_RUNNING:
            continue
        execution.mark_ended()


class Loop:
    """Watches executions that have been started. One thread at a time; ``wake`` from any."""

    def __init__(self) -> None:
        # Its owner before there is anything to own: an interrupt may come at any moment.
        self._holder = holder = ffi.gc(ffi.new("struct ox_loop **"), lib.ox_loop_release)
        r = lib.ox_loop_open(holder)
        if r < 0:
            raise LaunchError(
                "request",
                -r,
                f"no loop to watch runs: {os.strerror(-r)}",
                remedy="raise the limit on open files",
            )
        self._native: Any = holder[0]
        self._news = ffi.new("struct ox_news[]", _NEWS)
        self._executions: dict[int, Execution] = {}
        self._tokens: dict[Execution, int] = {}
        self._next = 0
        #: Readable when ``step`` has something to do; it stays the loop's.
        self.fd: int = lib.ox_loop_fd(self._native)

    def add(self, execution: Execution) -> None:
        """Watch it until it has ended or, if it was to be confirmed, started."""
        token = self._next
        self._next += 1
        self._executions[token] = execution
        self._tokens[execution] = token
        r = lib.ox_loop_add(self._native, execution.native_run, token)
        if r < 0:
            self._forget(token)
            raise LostError("request", -r, "the run cannot be watched")

    def step(self, slice_ms: int, ret_news: deque[Execution]) -> None:
        """Go on for at most this long (-1: no bound); append those that are news.

        They have left the loop: the ones that have ended say so (``Execution.ended``), the others
        have started and may be added again. What an exception of a signal handler keeps from being
        appended is appended by the next call.
        """
        if self._news[0].progress == lib.OX_RUNNING:
            r = lib.ox_loop_step(self._native, slice_ms, self._news, _NEWS)
            if r == 0:
                return
            if r < 0:
                raise LostError("warden", -r, "the runs cannot be watched any more")
        for news in self._news:
            if news.progress == lib.OX_RUNNING:
                break
            execution = self._executions.get(news.token)
            if execution is not None:
                if news.progress != lib.OX_STARTED:
                    execution.mark_ended()
                if execution not in ret_news:
                    ret_news.append(execution)
                self._forget(news.token)
        for news in self._news:
            if news.progress == lib.OX_RUNNING:
                break
            news.progress = lib.OX_RUNNING

    def cancel(self, execution: Execution) -> bool:
        """Have it killed: it is news soon, unless it is already. False: it is not in the loop."""
        token = self._tokens.get(execution)
        if token is None:
            return False
        return bool(lib.ox_loop_cancel(self._native, token) == 0)

    def wake(self) -> None:
        """End the wait of ``step``, now or the next time, from any thread."""
        lib.ox_loop_wake(self._native)

    def close(self) -> None:
        """Let go of what is in it, which stays as it is; also in a child after a fork."""
        self._executions.clear()
        self._tokens.clear()
        self.fd = -1
        ffi.release(self._holder)

    def _forget(self, token: int) -> None:
        execution = self._executions.pop(token, None)
        if execution is not None:
            self._tokens.pop(execution, None)
