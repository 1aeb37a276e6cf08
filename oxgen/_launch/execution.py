"""Execution: one run in one cell, driven through the C loop."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Literal

from ..errors import LaunchError, LostError, OxgenError
from ..limits import Limits
from ..result import Completed, Output, Usage
from ..sandbox import Sandbox
from . import ends
from .launcher import Launcher, Lease, Turn
from .native import ffi, lib, stage_name
from .program import Program

__all__ = [
    "CAPTURE",
    "NOTHING",
    "Execution",
    "Order",
    "Stream",
    "interruptible_ms",
    "standard_stream",
    "timestamp",
    "under_way",
]

#: Python-level signal handlers run in the main thread between two calls into C, so there it comes
#: back this often; a signal that reaches the thread itself ends the wait at once.
_MAIN_THREAD_SLICE_MS = 100
#: A run returns within a second after its wall limit, with its cell given back.
_GIVE_BACK_SECONDS = 0.75
_CAUSES: dict[int, ends.Cause] = {0: "none", 1: "timeout", 2: "cpu", 3: "cancelled"}
_FIXED_ENVIRONMENT = {
    "PATH": "/bin",
    "HOME": "/home/plugin",
    "TMPDIR": "/tmp",
    "TMP": "/tmp",
    "TEMP": "/tmp",
    "LANG": "C.UTF-8",
    "OXGEN_WORKSPACE": "/workspace",
}
_PLAIN_ENVIRONMENT = [f"{name}={value}" for name, value in _FIXED_ENVIRONMENT.items()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Where a stream of the program goes. A descriptor to ``copy`` to stays the caller's."""

    mode: Literal["null", "capture", "copy", "direct"] = "null"
    descriptor: int = -1
    escape: bool = False
    exclusive: bool = False


NOTHING = Stream()
CAPTURE = Stream(mode="capture")


@dataclass(eq=False, slots=True, kw_only=True)
class Order:
    """One run as its caller wants it; no descriptor is owned, nothing changes it."""

    args: tuple[str, ...]
    program: Program
    sandbox: Sandbox
    limits: Limits
    run_id: str
    input: bytes | None = None
    stdin: Stream = NOTHING
    stdout: Stream = NOTHING
    stderr: Stream = NOTHING
    broker: int = -1
    env: Mapping[str, str] = field(default_factory=dict)
    task_id: str | None = None
    confirm: bool = False
    wake: int = -1


def timestamp() -> str:
    """Return the time as RFC 3339 in UTC with microseconds."""
    return datetime.now(timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")


class Execution:
    """A run under way in a leased cell."""

    def __init__(self, lease: Lease, order: Order) -> None:
        self._lease = lease
        self._order = order
        self._started_at = timestamp()
        self._begun = time.monotonic()
        self._run: Any = None
        self._ended = False
        spec, self._kept = _run_spec(order)
        # Freed when it is collected, should a signal handler's exception come before close().
        run = ffi.gc(ffi.new("struct ox_run **"), lib.ox_run_release)
        error = ffi.new("struct ox_error *")
        lease.cell.run = run
        if lib.ox_run_start(lease.cell.native, spec, run, error) < 0:
            raise _never_ran(error, order)
        wall = order.limits.wall_seconds
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
        wall = self._order.limits.wall_seconds
        left = (300.0 if wall is None else wall) - (time.monotonic() - self._begun)
        return max(0.5, left)

    def check_started(self) -> None:
        """Raise ``LaunchError`` if the program never ran."""
        outcome = self._outcome()
        if outcome.error.stage != lib.OX_STAGE_NONE:
            self._lease.reusable = self._lease.emptied = bool(outcome.emptied)
            raise _never_ran(outcome.error, self._order)

    def complete(self, on_end: Callable[[], None] | None = None) -> Completed:
        """Judge the end. ``on_end`` closes what could hold files of the cell, before its proof."""
        if on_end is not None:
            on_end()
        self.check_started()
        outcome = self._outcome()
        limits = self._order.limits
        facts = ends.Facts(
            cause=_CAUSES[outcome.cause],
            status=None if outcome.lost else outcome.status,
            cpu_seconds=outcome.cpu_ns / 1e9,
            oom_kills=outcome.oom_kills,
            strays=outcome.strays,
        )
        returncode, termination = ends.classify(facts, limits)
        # After an out-of-memory kill the kernel may take a while to give the memory back.
        self._lease.emptied = bool(outcome.emptied)
        self._lease.reusable = self._lease.emptied and outcome.oom_kills == 0
        peak = outcome.peak_memory_bytes
        return Completed(
            args=self._order.args,
            returncode=returncode,
            stdout=self._captured(1),
            stderr=self._captured(2),
            termination=termination,
            usage=Usage(
                wall_seconds=outcome.wall_ns / 1e9,
                cpu_seconds=outcome.cpu_ns / 1e9,
                peak_memory_bytes=None if peak < 0 else peak,
            ),
            output=Output(
                stdout_bytes=outcome.written[0],
                stderr_bytes=outcome.written[1],
                truncated=bool(outcome.truncated),
                lost=bool(outcome.undelivered),
            ),
            confinement=self._lease.cell.recipe.confinement,
            limits=limits,
            run_id=self._order.run_id,
            started_at=self._started_at,
            task_id=self._order.task_id,
            artifact_digest=self._order.program.digest,
        )

    def close(self) -> None:
        """Free the run; one that has not ended is killed first."""
        if self._run is None:
            return
        if not self._ended:
            self.kill()
        self._run = None
        ffi.release(self._holder)

    def _outcome(self) -> Any:
        outcome = ffi.new("struct ox_outcome *")
        lib.ox_run_outcome(self._run, outcome)
        return outcome

    def _captured(self, stream: int) -> bytes | None:
        wanted = self._order.stdout if stream == 1 else self._order.stderr
        if wanted.mode != "capture":
            return None
        size = ffi.new("uint64_t *")
        text = lib.ox_run_captured(self._run, stream, size)
        return bytes(ffi.buffer(text, size[0])) if size[0] else b""


@contextlib.contextmanager
def under_way(
    pool: Launcher, order: Order, *, tenant: str = ""
) -> Iterator[tuple[Lease, Execution]]:
    """Lease a cell and send it the launch; on leaving, both end.

    A cell that turns out to be dead before the request reached it costs one more try, not the run.
    """
    lease, execution = _begin(pool, order, tenant)
    try:
        yield lease, execution
    finally:
        try:
            execution.close()
        finally:
            lease.give_back()


def _begin(pool: Launcher, order: Order, tenant: str) -> tuple[Lease, Execution]:
    for last_try in (False, True):
        turn = Turn(pool, order.program, order.limits, runtime=order.sandbox.runtime, tenant=tenant)
        lease = turn.wait()
        try:
            return lease, Execution(lease, order)
        except BaseException as failure:
            lease.give_back()
            if last_try or not isinstance(failure, LostError):
                raise
    raise AssertionError("the second try returns or raises")


def interruptible_ms(otherwise: int) -> int:
    """How long a call into C may take: signal handlers of Python run between two of the main
    thread; another thread has none and may wait ``otherwise``."""
    main = threading.current_thread() is threading.main_thread()
    return _MAIN_THREAD_SLICE_MS if main else otherwise


def _never_ran(error: Any, order: Order) -> LaunchError:
    stage = stage_name(error.stage)
    inside = f"/bin/{order.program.entry}"
    if stage == "workdir":
        return LaunchError(
            stage,
            error.errnum,
            "the working directory cannot be entered inside the cell",
            remedy="use /workspace, /tmp or /home/plugin",
            path=order.sandbox.cwd,
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


def _run_spec(order: Order) -> tuple[Any, list[Any]]:
    """Fill ``struct ox_run_spec``; the second value keeps its memory alive."""
    program, limits = order.program, order.limits
    inside = f"/bin/{program.entry}"
    argv = (*program.needed.prefix, inside, *order.args[1:])
    path = program.needed.prefix[0] if program.needed.prefix else inside
    if order.env or order.sandbox.env:
        environment = {**_FIXED_ENVIRONMENT, **order.sandbox.env, **order.env}
        names = [f"{name}={value}" for name, value in environment.items()]
    else:
        names = _PLAIN_ENVIRONMENT
    # None of them holds a NUL: args and the sandbox have been checked.
    packed = os.fsencode("\0".join((path, order.sandbox.cwd, *argv, *names, "")))

    spec = ffi.new("struct ox_run_spec *")
    text = ffi.from_buffer("char[]", packed)
    kept: list[Any] = [spec, text, packed]
    spec.strings, spec.strings_size = text, len(packed)
    spec.argc, spec.envc = len(argv), len(names)
    spec.broker, spec.wake, spec.confirm = order.broker, order.wake, order.confirm
    for row, stream in zip(spec.streams, (order.stdin, order.stdout, order.stderr), strict=True):
        row.mode = _MODES[stream.mode]
        row.fd, row.escape, row.exclusive = stream.descriptor, stream.escape, stream.exclusive
    if order.input is not None:
        data = ffi.from_buffer("char[]", order.input)
        kept += [data, order.input]
        spec.streams[0].mode = lib.OX_STREAM_CAPTURE
        spec.input, spec.input_size = data, len(order.input)
    spec.wall_ns = _nanoseconds(limits.wall_seconds)
    spec.cpu_ns = _nanoseconds(limits.cpu_seconds)
    spec.output_bytes = _count(limits.output_bytes)
    spec.open_files = _count(limits.open_files)
    spec.file_bytes = _count(limits.file_bytes)
    spec.processes = _count(limits.processes)
    return spec, kept


_MODES = {
    "null": lib.OX_STREAM_NULL,
    "capture": lib.OX_STREAM_CAPTURE,
    "copy": lib.OX_STREAM_COPY,
    "direct": lib.OX_STREAM_DIRECT,
}


def _nanoseconds(seconds: float | None) -> int:
    return -1 if seconds is None else max(1, round(seconds * 1e9))


def _count(value: int | None) -> int:
    return -1 if value is None else value


def standard_stream(number: int, *, capture: bool) -> Stream:
    """Keep a stream, or copy it on to the caller's own, escaped where that is a terminal."""
    if capture:
        return CAPTURE
    try:
        terminal = os.isatty(number)
        os.fstat(number)
    except OSError:
        return NOTHING  # the caller has closed it: nobody would read
    stream = sys.stdout if number == 1 else sys.stderr
    if stream is not None:
        stream.flush()
    return Stream(mode="copy", descriptor=number, escape=terminal)
