"""Execution: one run in one cell, driven through the C loop."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections.abc import Callable
from typing import Any

from ..errors import LaunchError, LostError, OxgenError
from ..result import Collected, Completed, Output, Usage
from ..timestamps import timestamp
from . import ends, files
from .launcher import Launcher, Lease, Turn
from .native import ffi, lib, stage_name
from .order import Order

__all__ = ["Execution", "begin", "carry_out", "end", "interruptible_ms"]

#: Python-level signal handlers run in the main thread between two calls into C, so there it comes
#: back this often; a signal that reaches the thread itself ends the wait at once.
_MAIN_THREAD_SLICE_MS = 100
#: A run returns within a second after its wall limit, with its cell given back.
_GIVE_BACK_SECONDS = 0.75
#: So long a caller looks for the end of a run without sleeping, if the last one was short.
_SPIN_NS = 200_000
_SHORT_NS = 3 * _SPIN_NS
_CAUSES: dict[int, ends.Cause] = {0: "none", 1: "timeout", 2: "cpu", 3: "cancelled"}


class Execution:
    """A run under way in a leased cell."""

    def __init__(self, lease: Lease, order: Order, *, spin: bool = False) -> None:
        self._lease = lease
        self._order = order
        self._started_at = timestamp()
        self._begun = time.monotonic()
        self._run: Any = None
        self._ended = False
        spec, self._kept = order.plan.spec(order, _SPIN_NS if spin else 0)
        # Freed when it is collected, should a signal handler's exception come before close().
        run = ffi.gc(ffi.new("struct ox_run **"), lib.ox_run_release)
        error = ffi.new("struct ox_error *")
        cell = lease.cell
        cell.run = run
        # The one that is used stays open, so that the next run need not open it again.
        cell.recipe.program = order.program
        if lib.ox_run_start(cell.native, spec, run, error) < 0:
            raise _never_ran(error, order)
        wall = order.plan.limits.wall_seconds
        if wall is not None:
            lease.give_back_by = self._begun + wall + _GIVE_BACK_SECONDS
        self._holder = run
        self._run = run[0]

    def step(self, slice_ms: int) -> bool:
        """Go on for at most this long (-1: no bound); True when there is news: started or ended."""
        progress = lib.ox_run_step(self._run, slice_ms)
        if progress < 0:
            raise LostError("warden", -progress, "the run cannot be watched any more")
        self._ended = progress == lib.OX_ENDED
        return bool(progress != lib.OX_RUNNING)

    @property
    def ended(self) -> bool:
        """Whether the program and its whole tree are gone."""
        return self._ended

    @property
    def native_run(self) -> Any:
        """The ``struct ox_run *``, for a loop that watches it."""
        return self._run

    def mark_ended(self) -> None:
        """Say that it has ended, as whoever watched it has seen."""
        self._ended = True

    def run_to_end(self) -> None:
        """Pump until the run ends.

        An exception that a signal handler raises kills it first, and then carries how the run ended
        as its attribute ``completed`` (unless the program never ran).
        """
        slice_ms = interruptible_ms(-1)
        try:
            while not self._ended:
                self.step(slice_ms)
        except BaseException as interrupt:
            self.kill()
            with contextlib.suppress(OxgenError):
                interrupt.__dict__["completed"] = self.complete()
            raise

    def cancel(self) -> None:
        """Have the next step kill the run (any thread; wake the descriptor ``wake`` as well)."""
        if self._run is not None:
            lib.ox_run_cancel(self._run)

    def kill(self) -> None:
        """Kill the run and wait for its end, which the C side bounds to less than a second."""
        self.cancel()
        while not self._ended:
            try:
                self.step(50)
            except KeyboardInterrupt:
                continue  # the one that brought us here is raised by the caller
            except LostError:
                self._ended = True

    def flush(self, seconds: float) -> None:
        """Deliver output that waits for a slow reader, at most this long; the rest is dropped."""
        deadline = time.monotonic() + seconds
        while not lib.ox_run_flush(self._run, 100):
            if time.monotonic() >= deadline:
                lib.ox_run_abandon(self._run)
                return

    def flush_slice(self) -> bool:
        """Deliver for a moment; True when everything is delivered or nobody reads."""
        return bool(lib.ox_run_flush(self._run, 200))

    def abandon(self) -> None:
        """Drop what was not delivered."""
        lib.ox_run_abandon(self._run)

    def patience(self) -> float:
        """How long a slow reader of our own output may hold us up: the rest of the wall limit."""
        wall = self._order.plan.limits.wall_seconds
        left = (300.0 if wall is None else wall) - (time.monotonic() - self._begun)
        return max(0.5, left)

    def check_started(self) -> None:
        """Raise ``LaunchError`` if the program never ran."""
        self._check(self._outcome())

    def complete(self, on_end: Callable[[], None] | None = None) -> Completed:
        """Judge the end. ``on_end`` closes what could hold files of the cell, before its proof."""
        if on_end is not None:
            on_end()
        outcome = self._outcome()
        self._check(outcome)
        lease, plan = self._lease, self._order.plan
        cause = _CAUSES[outcome.cause]
        if outcome.lost and cause == "none" and not outcome.oom_kills and lease.launcher.closed:
            cause = "cancelled"  # its cell was killed by ``Launcher.close``: nobody has to guess
        facts = ends.Facts(
            cause=cause,
            status=None if outcome.lost else outcome.status,
            cpu_seconds=outcome.cpu_ns / 1e9,
            oom_kills=outcome.oom_kills,
            is_counted=lease.cell.native.oom >= 0,
            process_peak_bytes=outcome.process_peak_bytes,
        )
        returncode, termination = ends.classify(facts, plan.limits)
        # After an out-of-memory kill the kernel may take a while to give the memory back.
        lease.emptied = bool(outcome.emptied)
        lease.reusable = lease.emptied and facts.oom_kills == 0
        lease.cell.apart = bool(outcome.apart)
        plan.is_short = outcome.wall_ns < _SHORT_NS
        peak, written = outcome.peak_memory_bytes, outcome.written
        order = self._order
        collected = self._collect() if order.collect else {}
        return Completed(
            args=plan.args,
            returncode=returncode,
            stdout=self._captured(1, written[0]),
            stderr=self._captured(2, written[1]),
            termination=termination,
            usage=Usage(
                wall_seconds=outcome.wall_ns / 1e9,
                cpu_seconds=facts.cpu_seconds,
                peak_memory_bytes=None if peak < 0 else peak,
            ),
            output=Output(
                stdout_bytes=written[0],
                stderr_bytes=written[1],
                truncated=bool(outcome.truncated),
                lost=bool(outcome.undelivered),
            ),
            confinement=lease.cell.confinement,
            limits=plan.limits,
            run_id=order.run_id,
            started_at=self._started_at,
            task_id=order.task_id,
            artifact_digest=order.program.digest,
            collected=collected,
        )

    def _collect(self) -> dict[str, Collected]:
        """Read back what was asked for. Its processes are gone: none can change it meanwhile."""
        lease, names = self._lease, self._order.collect
        if not lease.emptied:
            return files.lost(names)
        found, answered = files.collect(lease.cell.native, names, self._order.plan.limits)
        if not answered:
            lease.emptied = lease.reusable = False
        return found

    def close(self) -> None:
        """Free the run; one that has not ended is killed first."""
        if self._run is None:
            return
        if not self._ended:
            self.kill()
        self._run = None
        self._lease.cell.run = None  # a child that is forked from here on looks at it
        ffi.release(self._holder)

    def _check(self, outcome: Any) -> None:
        if outcome.error.stage != lib.OX_STAGE_NONE:
            self._lease.reusable = self._lease.emptied = bool(outcome.emptied)
            raise _never_ran(outcome.error, self._order, outcome.file)

    def _outcome(self) -> Any:
        outcome = ffi.new("struct ox_outcome *")
        lib.ox_run_outcome(self._run, outcome)
        return outcome

    def _captured(self, stream: int, written: int) -> bytes | None:
        wanted = self._order.stdout if stream == 1 else self._order.stderr
        if wanted.mode != "capture":
            return None
        if written == 0:
            return b""
        size = ffi.new("uint64_t *")
        text = lib.ox_run_captured(self._run, stream, size)
        return bytes(ffi.buffer(text, size[0])) if size[0] else b""


def begin(pool: Launcher, order: Order, *, waits: bool = False) -> tuple[Lease, Execution]:
    """Lease a cell and send it the launch. Both are to be ended by the caller.

    With ``waits`` the caller only waits for the end. While nobody else runs anything, it looks for
    that without sleeping at first, if the last such run was short: to be roused costs more.
    A cell that turns out to be dead before the request reached it costs one more try, not the run.
    """
    for last_try in (False, True):
        lease = Turn(pool, order.program, order.plan.tenancy).wait()
        try:
            return lease, Execution(
                lease,
                order,
                spin=waits and lease.cell.apart and order.plan.is_short and pool.pool.is_quiet(),
            )
        except BaseException as failure:
            lease.give_back()
            if last_try or not isinstance(failure, LostError):
                raise
    raise AssertionError("the second try returns or raises")


def carry_out(
    pool: Launcher,
    order: Order,
    *,
    on_start: Callable[[], None] | None = None,
    on_end: Callable[[], None] | None = None,
) -> Completed:
    """Run to the end, with the output delivered and the cell given back.

    ``on_start`` is called when the launch has been requested, ``on_end`` when the run is over: it
    closes what could hold files of the cell, before its proof.
    """
    lease, execution = begin(pool, order, waits=True)
    try:
        if on_start is not None:
            on_start()
        execution.run_to_end()
        if order.copies():
            execution.flush(execution.patience())
        completed = execution.complete(on_end)
    finally:
        end(lease, execution)
    return lease.account(completed)


def end(lease: Lease, execution: Execution) -> None:
    """Kill the run if it has not ended, and give its cell back."""
    try:
        execution.close()
    finally:
        lease.give_back()


def interruptible_ms(otherwise: int) -> int:
    """How long a call into C may take: signal handlers of Python run between two of the main
    thread; another thread has none and may wait ``otherwise``."""
    main = threading.current_thread() is threading.main_thread()
    return _MAIN_THREAD_SLICE_MS if main else otherwise


def _not_put_in(number: int, names: tuple[str, ...], file: int) -> LaunchError:
    full = "raise disk_bytes, and memory_bytes with it: files there are memory"
    return LaunchError(
        "files",
        number,
        "cannot be put into the workspace: " + os.strerror(number),
        remedy=full if number == errno.ENOSPC else "",
        path=names[file] if file < len(names) else None,
    )


def _never_ran(error: Any, order: Order, file: int = 0) -> LaunchError:
    stage = stage_name(error.stage)
    if stage == "files" and order.files is not None:
        return _not_put_in(error.errnum, order.files.names, file)
    inside = f"/bin/{order.program.entry}"
    if stage == "workdir":
        return LaunchError(
            stage,
            error.errnum,
            "the working directory cannot be entered inside the cell",
            remedy="use /workspace, /tmp or /home/plugin",
            path=order.plan.sandbox.cwd,
        )
    if stage == "request" and error.errnum == errno.E2BIG:
        return LaunchError(
            stage,
            error.errnum,
            "arguments and environment together exceed 128 KiB or 8192 strings",
            remedy="pass large input on stdin",
        )
    # ENODEV: the counters of a cgroup that a new launcher has removed as a dead one's.
    if stage == "warden" or (stage == "cgroup" and error.errnum == errno.ENODEV):
        return LostError(stage, error.errnum, "the cell was gone before the launch")
    if stage == "exec" and error.errnum == errno.EACCES and _is_on_noexec(order.program.descriptor):
        return LaunchError(
            stage,
            error.errnum,
            "lies on a file system that is mounted with noexec",
            remedy="copy it to one that is not",
            path=order.program.path,
        )
    if error.errnum == errno.ECHILD:
        return LaunchError(stage, error.errnum, "was killed before the program started")
    return LaunchError(stage, error.errnum, path=inside if stage == "exec" else None)


def _is_on_noexec(descriptor: int) -> bool:
    return bool(os.fstatvfs(descriptor).f_flag & os.ST_NOEXEC)
