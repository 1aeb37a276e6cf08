"""Termination: the supervisor's own finding, on how a plugin ended."""

from __future__ import annotations

from ..errors import UsageError
from ..result import Completed
from ..timestamps import timestamp
from ..values import check_type
from .ids import new_id
from .schema import FIELD_BYTES, Finding

__all__ = ["TERMINATION_TYPE", "termination_finding"]

TERMINATION_TYPE = "oxg.supervisor.termination"


def termination_finding(completed: Completed, *, plugin: str) -> Finding:
    """Return the finding ``oxg.supervisor.termination`` of a run that did not end by itself.

    ``meta`` has, each with the prefix ``sandbox.``: termination_reason, termination_detail, task_id
    (empty: none), run_id, memory_limit_bytes, memory_usage_bytes, cpu_limit, cpu_usage,
    wall_time_limit, wall_time (seconds, as ``1.5s``), exit_code, signal, certain. ``none`` is a
    limit that was not set, ``unknown`` what nobody measured. Names that are no text or too long are
    escaped and cut, because this record must not get lost. Raises ``UsageError`` for a run without
    a reason.
    """
    check_type("completed", completed, Completed, "the Completed of a run")
    ended, usage, limits = completed.termination, completed.usage, completed.limits
    if ended.reason is None:
        raise UsageError("a run that ended by itself has no termination finding (reason is None)")
    meta = {
        "termination_reason": ended.reason,
        "termination_detail": _fitted(ended.detail, 4096),
        "task_id": _fitted(completed.task_id or "", 1024),
        "run_id": _fitted(completed.run_id, 1024),
        "memory_limit_bytes": _number(limits.memory_bytes, "none"),
        "memory_usage_bytes": _number(usage.peak_memory_bytes, "unknown"),
        "cpu_limit": _seconds(limits.cpu_seconds),
        "cpu_usage": _seconds(usage.cpu_seconds),
        "wall_time_limit": _seconds(limits.wall_seconds),
        "wall_time": _seconds(usage.wall_seconds),
        "exit_code": _number(ended.exit_code, "none"),
        "signal": _number(ended.signal, "none"),
        "certain": "true" if ended.certain else "false",
    }
    name = _fitted(plugin, FIELD_BYTES["plugin"]) or "unknown"
    detail = f": {_fitted(ended.detail, 4096)}" if ended.detail else ""
    return Finding(
        id=new_id(),
        plugin=name,
        type=TERMINATION_TYPE,
        message=f"plugin {name} was ended: {ended.reason}{detail}",
        severity="high",
        ts=timestamp(),
        meta={f"sandbox.{key}": value for key, value in meta.items()},
    )


def _number(value: int | None, absent: str) -> str:
    return absent if value is None else str(value)


def _seconds(value: float | None) -> str:
    if value is None:
        return "none"
    return f"{value:.6f}".rstrip("0").rstrip(".") + "s"


def _fitted(text: str, most: int) -> str:
    """Return text that a finding takes: surrogates escaped, cut to ``most`` bytes."""
    encoded = text.encode("utf-8", "backslashreplace")
    if len(encoded) > most:
        encoded = encoded[: most - 3].decode("utf-8", "ignore").encode("utf-8") + b"..."
    return encoded.decode("utf-8")
