"""Ends: from what the kernel said to why a run ended."""

from __future__ import annotations

import functools
import os
import signal as signals
from dataclasses import dataclass
from typing import Literal

from ..limits import Limits
from ..result import Termination, signal_name

__all__ = ["Cause", "Facts", "classify"]

_TICKS_RUN_AHEAD = 0.75

Cause = Literal["none", "timeout", "cpu", "cancelled"]


@dataclass(eq=False, slots=True, kw_only=True)
class Facts:
    """What is known of an end without guessing.

    ``cause`` is our own flag, set before the kill was sent. ``status`` is the wait status of the
    first process, None when the warden vanished with it.
    """

    cause: Cause
    status: int | None
    cpu_seconds: float
    oom_kills: int


def classify(facts: Facts, limits: Limits) -> tuple[int, Termination]:
    """Return the return code, as ``subprocess`` has it, and the termination."""
    status = facts.status
    exit_code = signal = None
    if status is not None and os.WIFEXITED(status):
        exit_code = os.WEXITSTATUS(status)
    elif status is not None and os.WIFSIGNALED(status):
        signal = os.WTERMSIG(status)
    returncode = exit_code if exit_code is not None else -(signal or signals.SIGKILL)

    def end(
        reason: str | None, detail: str = "", *, certain: bool = True
    ) -> tuple[int, Termination]:
        return returncode, Termination(
            reason=reason,  # type: ignore[arg-type]
            exit_code=exit_code,
            signal=signal,
            certain=certain,
            detail=detail,
        )

    # A program that exited by itself while our kill was under way was not ended by it.
    if facts.cause != "none" and exit_code is None:
        return end(*_own_kill(facts, limits))
    if facts.oom_kills > 0:
        return end("memory_limit", _memory_detail(facts, limits))
    if status is None:
        return end("lost", "the cell's first process ended before it could report", certain=False)
    if signal is None:
        return returncode, _exited(returncode)
    if (
        limits.cpu_seconds is not None
        and signal in (signals.SIGXCPU, signals.SIGKILL)
        and facts.cpu_seconds >= limits.cpu_seconds
    ):
        return end("cpu_limit", _cpu_detail(facts, limits))
    if (
        limits.cpu_seconds is not None
        and signal == signals.SIGXCPU
        and facts.cpu_seconds >= limits.cpu_seconds * _TICKS_RUN_AHEAD
    ):
        # RLIMIT_CPU counts ticks, the cgroup what was really had: near the limit the first may win.
        return end("cpu_limit", _cpu_detail(facts, limits), certain=False)
    if signal == signals.SIGSYS:
        # The kernel's filter sends it, and so can the program itself.
        return end(
            "syscall_denied",
            "ended by SIGSYS, as the system call filter sends it; run it with --explain to see"
            " which call it was",
            certain=False,
        )
    return end("killed", _signal_detail(signal, limits))


@functools.lru_cache(maxsize=256)
def _exited(code: int) -> Termination:
    return Termination(reason=None, exit_code=code, signal=None)


def _own_kill(facts: Facts, limits: Limits) -> tuple[str, str]:
    if facts.cause == "timeout":
        return "timeout", f"wall_seconds limit of {limits.wall_seconds:g} s reached"
    if facts.cause == "cpu":
        return "cpu_limit", _cpu_detail(facts, limits)
    return "cancelled", "the run was cancelled by its host"


def _cpu_detail(facts: Facts, limits: Limits) -> str:
    return (
        f"cpu_seconds limit of {limits.cpu_seconds:g} s reached:"
        f" all processes together used {facts.cpu_seconds:.2f} s"
    )


def _memory_detail(facts: Facts, limits: Limits) -> str:
    many = "process" if facts.oom_kills == 1 else "processes"
    bound = "" if limits.memory_bytes is None else f" of {limits.memory_bytes} bytes"
    return (
        f"memory_bytes limit{bound} reached: the kernel killed {facts.oom_kills} {many};"
        " files in the writable directories count as memory"
    )


def _signal_detail(signal: int, limits: Limits) -> str:
    if signal == signals.SIGXFSZ and limits.file_bytes is not None:
        return (
            "ended by SIGXFSZ, as the kernel sends it when a file grows beyond the file_bytes limit"
            f" of {limits.file_bytes} bytes"
        )
    return f"ended by {signal_name(signal)}"
