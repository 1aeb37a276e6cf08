"""Run programs in cells: ``run``, ``spawn``, ``Process`` and ``probe``."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from typing import BinaryIO

from . import _launch
from .closing import Closes
from .errors import LaunchError, UnsupportedError, UsageError
from .limits import Limits
from .request import Request
from .result import Completed, Confinement
from .sandbox import Sandbox

__all__ = ["Process", "new_run_id", "probe", "run", "spawn"]

_KILL_SECONDS = 5.0


def new_run_id() -> str:
    """Return an id for one run: 128 random bits as 32 hex digits."""
    return secrets.token_hex(16)


def run(
    args: Sequence[str | os.PathLike[str]],
    *,
    sandbox: Sandbox | None = None,
    limits: Limits | None = None,
    input: bytes | None = None,
    files: Mapping[str, bytes | os.PathLike[str]] | None = None,
    collect: Sequence[str] = (),
    capture_output: bool = False,
    check: bool = False,
    tenant: str = "",
    task_id: str | None = None,
    launcher: _launch.Launcher | None = None,
) -> Completed:
    """Run a program in a cell and wait until it and everything it started is gone.

    ``args[0]`` with a slash is a path of the host, without one it is looked up in the caller's
    PATH; inside the cell it is ``/bin/<basename>``. stdin is ``input`` or empty. ``files`` are put
    into /workspace before the start: names below it, and for each its content (bytes) or a file of
    the host (``pathlib.Path``). ``collect`` names files of /workspace that are read back when
    everything has ended: ``Completed.collected``. stdout and stderr
    are kept with ``capture_output``, else copied on to the caller's descriptors 1 and 2.
    Reaching a limit is a result, not an exception: read ``Completed.termination``. Returns at the
    latest one second after ``wall_seconds``, counted from the launch, unless the caller's own
    stdout is not being read. Raises ``LaunchError`` or ``UnsupportedError`` when the program never
    ran, ``RunFailedError`` with ``check``, ``UsageError`` for bad values. ``KeyboardInterrupt``
    kills the run before it is passed on; its attribute ``completed`` then says how the run ended.
    """
    request = Request(
        args,
        sandbox=sandbox,
        limits=limits,
        input=input,
        tenant=tenant,
        task_id=task_id,
        files=files,
        collect=collect,
    )
    program, plan = _launch.planned(request)
    order = _launch.Order(
        program=program,
        plan=plan,
        run_id=new_run_id(),
        input=input,
        stdout=_launch.standard_stream(1, capture=capture_output),
        stderr=_launch.standard_stream(2, capture=capture_output),
        task_id=task_id,
        files=_launch.archive_of(request),
        collect=request.collect,
    )
    completed = _launch.carry_out(launcher or _launch.default_launcher(), order)
    if check:
        completed.check_returncode()
    return completed


def spawn(
    args: Sequence[str | os.PathLike[str]],
    *,
    sandbox: Sandbox | None = None,
    limits: Limits | None = None,
    files: Mapping[str, bytes | os.PathLike[str]] | None = None,
    collect: Sequence[str] = (),
    tenant: str = "",
    task_id: str | None = None,
    launcher: _launch.Launcher | None = None,
) -> Process:
    """Start a program in a cell and return once it has started.

    stdin, stdout and stderr are pipes (``Process.stdin`` and so on). A reader that does not read
    holds the program up; all limits hold whether or not anybody waits. Raises as ``run`` does.
    """
    request = Request(
        args,
        sandbox=sandbox,
        limits=limits,
        tenant=tenant,
        task_id=task_id,
        files=files,
        collect=collect,
    )
    return Process(request, launcher or _launch.default_launcher())


def probe(sandbox: Sandbox | None = None, limits: Limits | None = None) -> Confinement:
    """Return what this machine would enforce, by making a cell and taking it apart again.

    Where it cannot be made, ``level`` is None, and ``missing``, ``cause`` and ``remedy`` say what
    stands in the way.
    """
    box, bounds = sandbox or Sandbox(), limits or Limits()
    try:
        # The launcher's own executable is a program that is surely there.
        program = _launch.open_program(_launch.EXECUTABLE, "auto")
        plan = _launch.plan_of(program, (_launch.EXECUTABLE,), box, bounds, "")
        with (
            _launch.Launcher(cells=1) as pool,
            pool.lease(program, plan.tenancy) as lease,
        ):
            return lease.cell.confinement
    except UnsupportedError as refused:
        return Confinement(
            level=None,
            limits=None,
            enforced=(),
            missing=refused.missing or _launch.PROPERTIES,
            cause=refused.cause,
            remedy=refused.remedy,
        )
    except LaunchError as failed:
        return Confinement(
            level=None,
            limits=None,
            enforced=(),
            missing=_launch.PROPERTIES,
            cause=str(failed),
            remedy=failed.remedy,
        )


class Process(Closes):
    """A program that runs in a cell. Leaving the context kills the tree and reaps it.

    ``stdin``, ``stdout`` and ``stderr`` are binary files. Made by ``spawn``.
    """

    def __init__(
        self,
        request: Request,
        launcher: _launch.Launcher,
    ) -> None:
        self.args = request.words
        self.run_id = new_run_id()
        self._started = threading.Event()
        self._finished = threading.Event()
        self._completed: Completed | None = None
        self._failure: BaseException | None = None
        self._wake = -1
        self._wake_lock = threading.Lock()
        pipes: list[tuple[int, int]] = []
        try:
            self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            for _ in range(3):
                pipes.append(os.pipe2(os.O_CLOEXEC))
        except OSError as full:
            for descriptor in (self._wake, *(end for pipe in pipes for end in pipe)):
                if descriptor >= 0:
                    os.close(descriptor)
            self._wake = -1
            raise LaunchError(
                "streams", full.errno or errno.EIO, f"no pipes for it: {full.strerror}"
            ) from None
        for _, sink in pipes[1:]:
            os.set_blocking(sink, False)
        #: The supervising thread's ends of the pipes.
        self._ours = [pipes[0][0], pipes[1][1], pipes[2][1]]
        self.stdin: BinaryIO = open(pipes[0][1], "wb", buffering=0)  # noqa: SIM115
        self.stdout: BinaryIO = open(pipes[1][0], "rb")  # noqa: SIM115
        self.stderr: BinaryIO = open(pipes[2][0], "rb")  # noqa: SIM115
        supervisor = threading.Thread(
            target=self._supervise,
            args=(request, launcher),
            name=f"oxgen-{self.run_id[:8]}",
            daemon=True,
        )
        _processes.add(self)
        supervisor.start()
        try:
            self._started.wait()  # ends: the launch has a deadline at each of its steps
        except BaseException:
            self.close()
            raise
        if self._failure is not None:
            self.close()
            raise self._failure

    # --- the supervising thread -------------------------------------------------------------------

    def _supervise(self, request: Request, launcher: _launch.Launcher) -> None:
        ours = self._ours
        try:
            program, plan = _launch.planned(request)
            order = _launch.Order(
                program=program,
                plan=plan,
                run_id=self.run_id,
                stdin=_launch.Stream(mode="direct", descriptor=ours[0]),
                stdout=_launch.Stream(mode="copy", descriptor=ours[1], exclusive=True),
                stderr=_launch.Stream(mode="copy", descriptor=ours[2], exclusive=True),
                task_id=request.task_id,
                confirm=True,
                wake=self._wake,
                files=_launch.archive_of(request),
                collect=request.collect,
            )
            lease, execution = _launch.begin(launcher, order)
            try:
                os.close(ours.pop(0))
                self._watch(execution, lease)
            finally:
                _launch.end(lease, execution)
        except BaseException as failure:
            # Not lost: spawn() or wait() raises it in the thread that asked.
            self._failure = failure
        finally:
            while ours:
                os.close(ours.pop())
            self._started.set()
            self._finished.set()

    def _watch(self, execution: _launch.Execution, lease: _launch.Lease) -> None:
        while not execution.step(-1):
            continue
        if execution.ended:
            execution.check_started()
        self._started.set()
        while not execution.ended:
            execution.step(-1)
        completed = execution.complete()
        lease.give_back()  # before a slow reader is waited for
        self._completed = lease.account(completed)
        self._finished.set()
        while not execution.flush_slice():
            continue  # ends: the reader reads, or closes its end

    # --- the caller -------------------------------------------------------------------------------

    def poll(self) -> Completed | None:
        """Return how the run ended, or None while it runs."""
        if not self._finished.is_set():
            return None
        return self._result()

    def wait(self, timeout: float | None = None) -> Completed:
        """Wait for the end; after ``timeout`` seconds raise ``TimeoutError``, the run goes on."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._finished.wait(0.1 if deadline is None else _slice(deadline)):
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"{self.args[0]!r} still runs after {timeout:g} s")
        return self._result()

    def kill(self) -> None:
        """Kill the program and everything it started; ``wait`` then says ``cancelled``."""
        with self._wake_lock:
            if self._wake >= 0 and not self._finished.is_set():
                os.eventfd_write(self._wake, 1)

    def _after_fork_in_child(self) -> None:
        """Let go: the run is the parent's, and its supervising thread does not exist here."""
        while self._ours:
            os.close(self._ours.pop())
        if self._wake >= 0:
            os.close(self._wake)
            self._wake = -1
        self._wake_lock = threading.Lock()
        self._failure = UsageError("this process was forked off: the run belongs to its parent")
        self._finished = threading.Event()
        self._finished.set()

    def close(self) -> None:
        """Kill what still runs, wait until it is gone, close the pipes. May be called twice."""
        self.kill()
        for stream in (self.stdin, self.stdout, self.stderr):
            with contextlib.suppress(OSError):
                stream.close()
        self._finished.wait(_KILL_SECONDS)
        with self._wake_lock:
            if self._wake >= 0 and self._finished.is_set():
                os.close(self._wake)
                self._wake = -1

    def _result(self) -> Completed:
        if self._completed is not None:
            return self._completed
        if self._failure is not None:
            raise self._failure
        raise LaunchError("warden", 0, "the run ended without a result")


_processes: weakref.WeakSet[Process] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for process in list(_processes):
        process._after_fork_in_child()


os.register_at_fork(after_in_child=_after_fork_in_child)


def _slice(deadline: float) -> float:
    return max(0.0, min(0.1, deadline - time.monotonic()))
