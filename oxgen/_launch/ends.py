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
#: A process that had so much of the limit in memory was probably refused more: what it did not get
#: was a piece, and not all that it has is touched.
_NEAR_LIMIT = 0.75
#: How programs end that do not get the memory that they asked for.
_FOR_WANT_OF_MEMORY = frozenset(
    {signals.SIGSEGV, signals.SIGABRT, signals.SIGKILL, signals.SIGBUS, signals.SIGTRAP}
)

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
    #: Whether a cgroup counts what the tree uses; else limits are those of each process.
    is_counted: bool = True
    #: The most memory that one process had, where no cgroup counts it; 0: not known.
    process_peak_bytes: int = 0


def classify(facts: Facts, limits: Limits) -> tuple[int, Termination]:
    """Return the return code, as ``subprocess`` has it, and the termination."""
    status = facts.status
    exit_code = signal = None
    if status is not None and os.WIFEXITED(status):
        exit_code = os.WEXITSTATUS(status)
    elif status is not None and os.WIFSIGNALED(status):
        signal = os.WTERMSIG(status)
    returncode = exit_code if exit_code is not None else -(signal or signals.SIGKILL)

    def end(reason: str | None, detail: str = "", certain: bool = True) -> tuple[int, Termination]:
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
        if facts.is_counted or returncode == 0 or limits.memory_bytes is None:
            return returncode, _exited(returncode)
        return end(*_without_memory(facts, limits, None, ""))
    if (
        limits.cpu_seconds is not None
        and signal in (signals.SIGXCPU, signals.SIGKILL)
        and facts.cpu_seconds >= limits.cpu_seconds
    ):
        return end("cpu_limit", _cpu_detail(facts, limits))
    if limits.cpu_seconds is not None and not facts.is_counted and signal == signals.SIGXCPU:
        # Of one process, which may have used it up before others of the tree had ended.
        return end("cpu_limit", _cpu_detail(facts, limits), certain=False)
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
    detail = _signal_detail(signal, limits)
    if facts.is_counted or limits.memory_bytes is None or signal not in _FOR_WANT_OF_MEMORY:
        return end("killed", detail)
    return end(*_without_memory(facts, limits, "killed", detail + "; "))


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
    if not facts.is_counted and facts.cause != "cpu":
        return (
            f"cpu_seconds limit of {limits.cpu_seconds:g} s reached by one process (RLIMIT_CPU, in"
            " whole seconds: no cgroup counts those of all together)"
        )
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


def _without_memory(
    facts: Facts, limits: Limits, reason: str | None, detail: str
) -> tuple[str | None, str, bool]:
    """Reason, detail and certainty of a bad end where the kernel keeps no count of refusals."""
    assert limits.memory_bytes is not None
    bound = (
        f"memory_bytes limit of {limits.memory_bytes} bytes holds for each process (RLIMIT_DATA, as"
        " there is no cgroup), and a process that is refused more may end like this"
    )
    if facts.process_peak_bytes < limits.memory_bytes * _NEAR_LIMIT:
        return reason, f"{detail}the {bound}", True
    had = f"one process had {facts.process_peak_bytes} bytes in memory"
    return "memory_limit", f"{detail}{had}: the {bound}", False


def _signal_detail(signal: int, limits: Limits) -> str:
    if signal == signals.SIGXFSZ and limits.file_bytes is not None:
        return (
            "ended by SIGXFSZ, as the kernel sends it when a file grows beyond the file_bytes limit"
            f" of {limits.file_bytes} bytes"
        )
    return f"ended by {signal_name(signal)}"
