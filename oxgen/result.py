"""Results: how a run ended, what it used and what confined it."""

from __future__ import annotations

import signal as signals
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from .errors import LaunchError, OxgenError, RunFailedError, UnsupportedError
from .limits import Limits

__all__ = [
    "Collected",
    "Completed",
    "Confinement",
    "Output",
    "Reason",
    "Termination",
    "Usage",
    "error_status",
    "exit_status",
    "signal_name",
    "status_object",
]

Reason = Literal[
    "timeout", "memory_limit", "cpu_limit", "killed", "syscall_denied", "cancelled", "lost"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Termination:
    """Why a run ended.

    ``reason`` None: it exited by itself. ``exit_code`` and ``signal`` are what the kernel said of
    the first process, whatever the reason; both are None where our side lost it. ``certain`` is
    False where the reason was inferred. ``detail`` names the limit to raise.
    """

    reason: Reason | None
    exit_code: int | None
    signal: int | None
    certain: bool = True
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What the whole tree used. ``peak_memory_bytes`` is None where the kernel cannot reset it."""

    wall_seconds: float
    cpu_seconds: float
    peak_memory_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """Bytes that the run wrote, those that were dropped included.

    ``truncated``: some were dropped, beyond the limit or because nobody took them. ``lost``: some
    could not be written to the caller's stdout or stderr (a full disk, say; a reader that has gone
    away does not count).
    """

    stdout_bytes: int = 0
    stderr_bytes: int = 0
    truncated: bool = False
    lost: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Confinement:
    """What confines a run: the level, what holds its limits, and each property by name.

    ``cause`` and ``remedy`` say why ``missing`` is not empty. ``weaker`` names what is weaker than
    root could have it although every property holds (docs/architecture.md): ``groups``, ``uid``,
    ``devices``. ``exceptions`` are what the policy itself opened: ``network=host`` (``network`` is
    then neither enforced nor missing), ``exec_tmp``, ``mount=PLACE`` for each mount, with ``,exec``
    where it is executable.
    """

    level: str | None
    limits: str | None
    enforced: tuple[str, ...]
    missing: tuple[str, ...] = ()
    weaker: tuple[str, ...] = ()
    cause: str = ""
    remedy: str = ""
    exceptions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What was found in /workspace under a name that ``collect`` asked for.

    ``content`` is None where nothing was read, and ``skipped`` then says why: ``missing``,
    ``link`` (the file, or a directory on the way, is a symbolic link, or the latter is no directory
    at all), ``directory``, ``pipe``, ``socket``, ``device``, ``unreadable`` (the run took its own
    right to read it away), ``lost`` (the cell was gone with its files before they could be read),
    ``failed``. ``size_bytes`` is the file's own size: more than what ``content`` holds where
    ``truncated``.
    """

    content: bytes | None = None
    size_bytes: int = 0
    truncated: bool = False
    skipped: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """A run that took place. ``returncode`` is as ``subprocess`` has it (negative: a signal)."""

    args: tuple[str, ...]
    returncode: int
    stdout: bytes | None
    stderr: bytes | None
    termination: Termination
    usage: Usage
    output: Output
    confinement: Confinement
    limits: Limits
    run_id: str
    started_at: str
    task_id: str | None = None
    artifact_digest: str | None = None
    #: By the names that ``collect`` gave.
    collected: Mapping[str, Collected] = field(default_factory=dict)

    def check_returncode(self) -> None:
        """Raise ``RunFailedError`` unless the run exited by itself with status 0."""
        if self.returncode != 0 or self.termination.reason is not None:
            raise RunFailedError(self)


def exit_status(termination: Termination) -> int:
    """Return the exit status that ``0xgenctl run`` ends with (docs/exit-status.md)."""
    match termination.reason:
        case "timeout":
            return 124
        case "memory_limit":
            return 137
        case "cpu_limit":
            return 152
        case "syscall_denied":
            return 159
        case "cancelled":
            return 130
        case "lost":
            return 125
    if termination.signal is not None:
        return 128 + termination.signal
    return termination.exit_code if termination.exit_code is not None else 125


def status_object(
    completed: Completed, *, plugin: str | None = None, integrity: str = "unverified"
) -> dict[str, Any]:
    """Return the ``oxgen.status/1`` object of a run that took place."""
    ended, usage, box = completed.termination, completed.usage, completed.confinement
    return {
        "schema": "oxgen.status/1",
        "run_id": completed.run_id,
        "task_id": completed.task_id,
        "plugin": plugin,
        "artifact_digest": completed.artifact_digest,
        "started_at": completed.started_at,
        "phase": "run",
        "reason": ended.reason,
        "exit_code": ended.exit_code,
        "signal": ended.signal,
        "certain": ended.certain,
        "detail": ended.detail,
        "limits": completed.limits.as_dict(),
        "usage": {
            "wall_seconds": usage.wall_seconds,
            "cpu_seconds": usage.cpu_seconds,
            "peak_memory_bytes": usage.peak_memory_bytes,
        },
        "output": {
            "stdout_bytes": completed.output.stdout_bytes,
            "stderr_bytes": completed.output.stderr_bytes,
            "truncated": completed.output.truncated,
        },
        "confinement": {
            "level": box.level,
            "limits": box.limits,
            "enforced": list(box.enforced),
            "missing": list(box.missing),
            "weaker": list(box.weaker),
            "exceptions": list(box.exceptions),
        },
        "collected": {
            name: {
                "bytes": None if found.content is None else len(found.content),
                "size_bytes": found.size_bytes,
                "truncated": found.truncated,
                "skipped": found.skipped or None,
            }
            for name, found in completed.collected.items()
        },
        "integrity": integrity,
        "error": None,
    }


def error_status(
    exc: OxgenError,
    *,
    run_id: str,
    started_at: str,
    limits: Limits,
    plugin: str | None = None,
    artifact_digest: str | None = None,
    integrity: str = "unverified",
    task_id: str | None = None,
) -> dict[str, Any]:
    """Return the ``oxgen.status/1`` object of a run that never started."""
    stage = exc.stage if isinstance(exc, (LaunchError, UnsupportedError)) else ""
    number = getattr(exc, "errno", None)
    return {
        "schema": "oxgen.status/1",
        "run_id": run_id,
        "task_id": task_id,
        "plugin": plugin,
        "artifact_digest": artifact_digest,
        "started_at": started_at,
        "phase": "exec" if stage == "exec" else "setup",
        "reason": None,
        "exit_code": None,
        "signal": None,
        "certain": True,
        "detail": "",
        "limits": limits.as_dict(),
        "usage": {"wall_seconds": 0.0, "cpu_seconds": 0.0, "peak_memory_bytes": None},
        "output": {"stdout_bytes": 0, "stderr_bytes": 0, "truncated": False},
        "confinement": {
            "level": None,
            "limits": None,
            "enforced": [],
            "missing": list(exc.missing) if isinstance(exc, UnsupportedError) else [],
            "weaker": [],
            "exceptions": [],
        },
        "collected": {},
        "integrity": integrity,
        "error": {
            "stage": stage or type(exc).__name__.removesuffix("Error").lower(),
            "errno": number if isinstance(number, int) else None,
            "message": str(exc),
            "remedy": getattr(exc, "remedy", ""),
        },
    }


def signal_name(number: int) -> str:
    """Return ``SIGKILL`` for 9, and ``signal 40`` where there is no name."""
    try:
        return signals.Signals(number).name
    except ValueError:
        return f"signal {number}"
