"""Outcome: how a run, or a run that never was, becomes records and an exit status."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, NoReturn

import click

from ..errors import LaunchError, OxgenError
from ..limits import Limits
from .program import CANCELLED, OURS_FAILED, never_ran_status
from .status import StatusSink
from .terminal import PROGRAM, say

if TYPE_CHECKING:
    from ..result import Completed

__all__ = ["cancelled", "ended_by", "finish", "never_ran"]

_LIMIT_OPTIONS = {
    "timeout": "--wall-limit",
    "memory_limit": "--memory-limit",
    "cpu_limit": "--cpu-limit",
}


def ended_by(interrupt: KeyboardInterrupt) -> Completed:
    """Return how the run ended that this interrupt killed; raise it again if none had started."""
    completed: Completed | None = getattr(interrupt, "completed", None)
    if completed is None:
        raise interrupt
    return completed


def finish(
    ctx: click.Context,
    sink: StatusSink,
    completed: Completed,
    *,
    name: str,
    plugin: str | None = None,
    integrity: str = "unverified",
    recorded: bool = True,
) -> NoReturn:
    """Write the status object, say why the run was ended, and leave with its exit status.

    ``recorded`` False: a record of the run was lost already, which is a failure of ours.
    """
    from ..result import exit_status, status_object

    recorded &= sink.send(status_object(completed, plugin=plugin, integrity=integrity))
    ended = completed.termination
    if ended.reason is not None:
        detail = f": {ended.detail}" if ended.detail else ""
        option = _LIMIT_OPTIONS.get(ended.reason)
        advice = f"; {option} raises it" if option else ""
        say(f"{name}: {ended.reason}{detail}{advice}")
    ctx.exit(exit_status(ended) if recorded else OURS_FAILED)


def never_ran(
    ctx: click.Context,
    sink: StatusSink,
    exc: OxgenError,
    *,
    limits: Limits,
    task_id: str | None,
    plugin: str | None = None,
    integrity: str = "unverified",
    artifact_digest: str | None = None,
) -> NoReturn:
    """Write the status object of a run that ``exc`` prevented, say so, and leave."""
    from .._launch import timestamp
    from ..process import new_run_id
    from ..result import error_status

    sink.send(
        error_status(
            exc,
            plugin=plugin,
            run_id=new_run_id(),
            started_at=timestamp(),
            limits=limits,
            integrity=integrity,
            artifact_digest=artifact_digest,
            task_id=task_id,
        )
    )
    say(exc)
    ctx.exit(never_ran_status(exc))


def cancelled(
    ctx: click.Context,
    sink: StatusSink,
    *,
    launched: bool,
    limits: Limits,
    task_id: str | None,
    plugin: str | None = None,
    integrity: str = "unverified",
    artifact_digest: str | None = None,
) -> NoReturn:
    """Write the status object of a run that Ctrl-C or a signal ended, and leave with 130.

    ``launched``: the launch was requested, so the plugin may have run. What it used then is null:
    the interrupt came instead of the measurement.
    """
    from .._launch import timestamp
    from ..process import new_run_id
    from ..result import error_status

    status = error_status(
        LaunchError("request", errno.ECANCELED, "cancelled before the launch"),
        plugin=plugin,
        run_id=new_run_id(),
        started_at=timestamp(),
        limits=limits,
        integrity=integrity,
        artifact_digest=artifact_digest,
        task_id=task_id,
    )
    status["reason"] = "cancelled"
    if launched:
        status.update(
            phase="run",
            certain=False,
            detail=f"a signal to {PROGRAM} cancelled the run",
            usage={"wall_seconds": None, "cpu_seconds": None, "peak_memory_bytes": None},
            error=None,
        )
    sink.send(status)
    say("cancelled")
    ctx.exit(CANCELLED)
