"""Run programs in cells: ``run``, ``spawn``, ``Process`` and ``probe``."""

from __future__ import annotations

import _thread
import contextlib
import errno
import os
import secrets
import threading
from collections.abc import Mapping, Sequence
from typing import BinaryIO

from . import _launch
from .closing import Closes
from .errors import LaunchError, UnsupportedError, UsageError
from .gate import Gate
from .limits import Limits
from .living import Living
from .request import Request
from .result import Completed, Confinement
from .sandbox import Sandbox
from .values import check_bool, check_type

__all__ = ["Process", "new_run_id", "probe", "run", "spawn"]

_KILL_SECONDS = 5.0
#: How often somebody may press Ctrl-C while it is closed.
_CLOSE_TRIES = 100
_SANDBOX, _LIMITS = "a Sandbox or None", "a Limits or None"


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
        capture_output=capture_output,
        tenant=tenant,
        task_id=task_id,
        files=files,
        collect=collect,
    )
    pool = _launch.chosen_launcher(launcher)
    check_bool("check", check)
    program, plan = _launch.planned(request)
    order = _launch.standard_order(request, program, plan, new_run_id())
    completed = _launch.carry_out(pool, order)
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
    return Process(request, _launch.chosen_launcher(launcher))


def probe(sandbox: Sandbox | None = None, limits: Limits | None = None) -> Confinement:
    """Return what this machine would enforce, by making a cell and taking it apart again.

    Where it cannot be made, ``level`` is None, and ``missing``, ``cause`` and ``remedy`` say what
    stands in the way.
    """
    box = Sandbox() if sandbox is None else check_type("sandbox", sandbox, Sandbox, _SANDBOX)
    bounds = Limits() if limits is None else check_type("limits", limits, Limits, _LIMITS)
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
        self._started = Gate()
        self._finished = Gate()
        self._completed: Completed | None = None
        self._failure: BaseException | None = None
        self._wake_lock = threading.Lock()
        self._pipes = pipes = _launch.Pipes()
        self.stdin: BinaryIO = pipes.open(0)
        self.stdout: BinaryIO = pipes.open(1)
        self.stderr: BinaryIO = pipes.open(2)
        #: Whoever takes it out has the right to begin, or to see to it that nobody does.
        self._beginning = [request]
        _processes.add(self)
        try:
            # Not a Thread: its start() is Python code that waits for the thread.
            _thread.start_new_thread(self._supervise, (launcher,))
            self._started.wait()  # ends: the launch has a deadline at each of its steps
        except RuntimeError as refused:
            self.close()
            raise LaunchError(
                "request",
                errno.EAGAIN,
                f"no thread to watch it: {refused}",
                remedy="raise the limit on processes and threads",
            ) from None
        except BaseException:
            self.close()
            raise
        if self._failure is not None:
            self.close()
            raise self._failure

    # --- the supervising thread -------------------------------------------------------------------

    def _supervise(self, launcher: _launch.Launcher) -> None:
        try:
            request = self._beginning.pop()
        except IndexError:
            return  # given up before it began
        try:
            program, plan = _launch.planned(request)
            stdin, stdout, stderr = self._pipes.streams()
            order = _launch.Order(
                program=program,
                plan=plan,
                run_id=self.run_id,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                task_id=request.task_id,
                confirm=True,
                wake=self._pipes.wake,
                files=_launch.archive_of(request),
                collect=request.collect,
            )
            lease, execution = _launch.begin(launcher, order)
            try:
                self._pipes.close_inner(0)
                self._watch(execution, lease)
            finally:
                _launch.end(lease, execution)
        except BaseException as failure:
            # Not lost: spawn() or wait() raises it in the thread that asked.
            self._failure = failure
        finally:
            for stream in range(3):
                self._pipes.close_inner(stream)
            self._started.open()
            self._finished.open()

    def _watch(self, execution: _launch.Execution, lease: _launch.Lease) -> None:
        while not execution.step(-1):
            continue
        if execution.ended:
            execution.check_started()
        self._started.open()
        while not execution.ended:
            execution.step(-1)
        completed = execution.complete()
        lease.give_back()  # before a slow reader is waited for
        self._completed = lease.account(completed)
        self._finished.open()
        while not execution.flush_slice():
            continue  # ends: the reader reads, or closes its end

    # --- the caller -------------------------------------------------------------------------------

    def poll(self) -> Completed | None:
        """Return how the run ended, or None while it runs."""
        if not self._finished.is_open:
            return None
        return self._result()

    def wait(self, timeout: float | None = None) -> Completed:
        """Wait for the end; after ``timeout`` seconds raise ``TimeoutError``, the run goes on."""
        if timeout is not None:
            check_type("timeout", timeout, (int, float), "a number of seconds or None")
            if timeout != timeout:
                raise UsageError(f"timeout must be a number of seconds or None, got {timeout!r}")
        if not self._finished.wait(timeout):
            raise TimeoutError(f"{self.args[0]!r} still runs after {timeout:g} s")
        return self._result()

    def kill(self) -> None:
        """Kill the program and everything it started; ``wait`` then says ``cancelled``."""
        with self._wake_lock:
            if self._pipes.wake >= 0 and not self._finished.is_open:
                os.eventfd_write(self._pipes.wake, 1)

    def _after_fork_in_child(self) -> None:
        """Let go: the run is the parent's, and its supervising thread does not exist here."""
        self._pipes.close()
        self._wake_lock = threading.Lock()
        self._failure = UsageError("this process was forked off: the run belongs to its parent")
        self._finished = Gate()
        self._finished.open()

    def close(self) -> None:
        """Kill what still runs, wait until it is gone, close the pipes. May be called twice.

        An exception of a signal handler is passed on after that.
        """
        interrupt: BaseException | None = None
        for _ in range(_CLOSE_TRIES):
            try:
                self._end()
                break
            except BaseException as caught:
                interrupt = caught
        if interrupt is not None:
            raise interrupt

    def _end(self) -> None:
        with contextlib.suppress(IndexError):
            self._beginning.pop()
            self._finished.open()  # no thread has begun, and none will
        self.kill()
        for stream in (self.stdin, self.stdout, self.stderr):
            with contextlib.suppress(OSError):
                stream.close()
        self._finished.wait(_KILL_SECONDS)
        with self._wake_lock:
            if self._finished.is_open:
                self._pipes.close_wake()

    def _result(self) -> Completed:
        if self._completed is not None:
            return self._completed
        if self._failure is not None:
            raise self._failure
        raise LaunchError("warden", 0, "the run ended without a result")


_processes: Living[Process] = Living()


def _after_fork_in_child() -> None:
    for process in list(_processes):
        process._after_fork_in_child()


os.register_at_fork(after_in_child=_after_fork_in_child)
