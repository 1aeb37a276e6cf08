"""Outcome: how a run, or a run that never was, becomes records and an exit status."""

from __future__ import annotations

import contextlib
import errno
import re
import select
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NoReturn

import click

from ..errors import LaunchError, OxgenError, UnsupportedError
from ..limits import Limits
from ..timestamps import timestamp
from .program import CANCELLED, OURS_FAILED, never_ran_status
from .status import StatusSink
from .terminal import PROGRAM, say

if TYPE_CHECKING:
    from ..result import Completed, Termination

__all__ = ["advice_for", "cancelled", "ended_by", "finish", "in_options", "never_ran"]

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
    copied_to: tuple[int, int] = (1, 2),
) -> NoReturn:
    """Write the status object, say why the run was ended, and leave with its exit status.

    ``recorded`` False: a record of the run was lost already, which is a failure of ours.
    ``copied_to``: our descriptors that the run's stdout and stderr went to.
    """
    from ..result import exit_status, status_object

    recorded &= sink.send(status_object(completed, plugin=plugin, integrity=integrity))
    lost = _report_output(completed, name, copied_to)
    ended = completed.termination
    if ended.reason is not None:
        detail = f": {ended.detail}" if ended.detail else ""
        option = _option_that_raises(ended, completed.limits)
        advice = f"; {option} raises it" if option else ""
        say(f"{name}: {ended.reason}{detail}{advice}")
    ctx.exit(exit_status(ended) if recorded and not lost else OURS_FAILED)


def _option_that_raises(ended: Termination, limits: Limits) -> str | None:
    if ended.reason == "killed" and ended.signal == signal.SIGXFSZ:
        return "--file-limit" if limits.file_bytes is not None else None
    return _LIMIT_OPTIONS.get(ended.reason or "")


def _report_output(completed: Completed, name: str, copied_to: tuple[int, int]) -> bool:
    """Say what of the run's output was not delivered, and why; return whether that is our failure.

    A reader that went away (``| head``) has seen what it wanted: that goes without saying.
    """
    output = completed.output
    if output.lost:
        say(f"{name}: stdout or stderr could not be written, so output is lost")
        return True
    if not output.truncated:
        return False
    gone = [_has_no_reader(descriptor) for descriptor in copied_to]
    written = sum(
        size
        for size, unread in zip((output.stdout_bytes, output.stderr_bytes), gone, strict=True)
        if not unread
    )
    limit = completed.limits.output_bytes
    if limit is not None and written > limit:
        # What went to a reader that is gone used up a part of the limit that nobody counted.
        least = "at least " if any(gone) else ""
        say(
            f"{name}: stdout and stderr: {least}{written - limit} bytes beyond the output limit"
            " were dropped; --output-limit raises it"
        )
    elif not any(gone):
        say(f"{name}: stdout and stderr: output was dropped, as it was not read in time")
    return False


def _has_no_reader(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))


@contextlib.contextmanager
def advice_for(surface: str) -> Iterator[None]:
    """Turn the advice of an error, written for Python, into what this command line can say.

    ``surface`` is ``run``, ``plugin`` (a manifest names the runtime) or ``file`` (nothing does).
    """
    try:
        yield
    except (LaunchError, UnsupportedError) as exc:
        exc.remedy = in_options(exc.remedy, surface)
        raise


def in_options(remedy: str, surface: str) -> str:
    """A remedy written for Python, in words that this command line can say."""
    for pattern, words in _ADVICE[surface]:
        remedy = re.sub(pattern, words, remedy)
    return remedy


def _waiver(match: re.Match[str]) -> str:
    return " ".join(f"--enforce-except {name}" for name in re.findall(r"\w+", match[1]))


#: What every command with ``confinement_options`` can say.
_CONFINEMENT: tuple[tuple[str, Any], ...] = (
    (r'level="(\w+)", (?=enforce_except)', r"--level \1 "),
    (r'level="(\w+)"', r"--level \1"),
    (r"enforce_except=\(([^)]*)\)", _waiver),
)
_ADVICE: dict[str, tuple[tuple[str, Any], ...]] = {
    "run": (
        *_CONFINEMENT,
        (r"runtime '(\w+)'", r"--runtime \1"),
        ("raise disk_bytes, and memory_bytes", "raise --disk-limit, and --memory-limit"),
        ("give its content as bytes", "copy what is in it to a file that stays as it is"),
    ),
    "plugin": (*_CONFINEMENT, (r"runtime '(\w+)'", r'"runtime": "\1" in its manifest')),
    "file": (
        *_CONFINEMENT,
        (
            r"; or use runtime 'python' .*",
            ", or #!/usr/bin/env python3 if it is Python; in a plugin folder the manifest can say"
            ' "runtime": "python" instead',
        ),
        (r"runtime 'static' does", "a program that is linked statically does"),
    ),
}


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
    found: bool = False,
) -> NoReturn:
    """Write the status object of a run that ``exc`` prevented, say so, and leave.

    ``found``: the plugin is there, whatever else was not found.
    """
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
    ctx.exit(never_ran_status(exc, found=found))


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
