"""Notices: a run whose system calls somebody answers, to see which are made and which refused."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import signal
import threading
from typing import TYPE_CHECKING, Any

from ..errors import LostError
from ..result import Completed, Termination
from .execution import begin, end
from .filters import floor, native_arch, policy_of, syscall_table
from .launcher import Launcher
from .native import ffi, lib
from .order import Order, Plan
from .program import Program

if TYPE_CHECKING:
    from ..syscalls import Policy

__all__ = ["Sighting", "Watcher", "carry_out_watched", "watched_plan"]

#: How long the thread looks for a call before it looks whether it is to end.
_SLICE_MS = 100
_JOIN_SECONDS = 5.0
#: Sets of arguments that are kept for one call with one answer, and calls with one answer each.
_ARGS_MAX = 16
_SIGHTINGS_MAX = 4096


@dataclasses.dataclass(eq=False, slots=True)
class Sighting:
    """A call that was made: how often, with which arguments, and what it got.

    ``name`` is None where the table has none. ``errnum`` is 0 for a call that took place, None for
    one that ended its process. ``args`` holds the first few different sets of six.
    """

    name: str | None
    number: int
    arch: int
    errnum: int | None
    by_default: bool
    count: int = 0
    args: list[tuple[int, ...]] = dataclasses.field(default_factory=list)


class Watcher:
    """Answers the calls of one cell from a thread of its own, as its filters would, and takes note.

    Closing the listener refuses whatever is still to come (ENOSYS), so a watcher that fails lets
    nothing through.
    """

    def __init__(self, native_cell: Any, policy: Policy | None, *, everything: bool) -> None:
        self.sightings: dict[tuple[int, int, int | None], Sighting] = {}
        #: Calls of so many more kinds were made than ``sightings`` has room for.
        self.dropped = 0
        #: The call that ended the first process.
        self.fatal: Sighting | None = None
        self._policy = policy
        self._listener = os.dup(native_cell.listener)
        self._warden = _pid_of(native_cell.pidfd)
        self._leader: int | None = None
        # Only where every call is seen are those before exec seen, and exec itself.
        self._executed = not everything
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._arch = native_arch()
        self._floor = floor(self._arch)
        self._thread = threading.Thread(target=self._serve, name="oxgen-notices", daemon=True)

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join(_JOIN_SECONDS)
        if self._failure is not None and exc[0] is None:
            raise LostError("warden", errno.EIO, f"the watch failed: {self._failure}")

    def _serve(self) -> None:
        try:
            notice = ffi.new("struct ox_notice *")
            while not self._stop.is_set():
                r = lib.ox_notice_receive(self._listener, _SLICE_MS, notice)
                if r == 1:
                    self._answer(notice)
                elif r == -errno.EPIPE:
                    return
                elif r < 0:
                    raise OSError(-r, os.strerror(-r))
        except BaseException as failure:  # it is raised again where the run is waited for
            self._failure = failure
        finally:
            os.close(self._listener)

    def _answer(self, notice: Any) -> None:
        args = tuple(notice.args)
        own = notice.pid == self._warden
        if not own and self._leader is None:
            self._leader = notice.pid
        name = syscall_table().name(notice.arch, notice.number)
        # On its way to exec the child makes calls of ours, which no policy is asked about.
        starting = notice.pid == self._leader and not self._executed
        policy = None if own or starting else self._policy
        errnum, by_default = self._decide(policy, name, notice, args)
        if not own and not starting:
            seen = self._note(name, notice, errnum, by_default, args)
            if errnum is None and notice.pid == self._leader:
                self.fatal = seen
        if starting and name == "execve":
            self._executed = True
        if errnum is None:
            self._kill(notice)
            errnum = errno.EPERM
        lib.ox_notice_answer(self._listener, notice.id, errnum)

    def _decide(
        self, policy: Policy | None, name: str | None, notice: Any, args: tuple[int, ...]
    ) -> tuple[int | None, bool]:
        """Return what the call gets, as in ``Sighting``, and whether ``default`` says so."""
        from ..syscalls import ALLOW, KILL, evaluate

        value = evaluate(self._floor, notice.number, notice.arch, args)
        if policy is None or value == KILL:
            return _errnum_of(value), True
        action = policy.decide(name, args)
        if action.kind == "kill":
            return None, False
        # Between two that refuse with a number the kernel takes the filter that came last.
        if action.kind == "errno":
            return action.errnum, False
        return _errnum_of(value), value != ALLOW

    def _note(
        self,
        name: str | None,
        notice: Any,
        errnum: int | None,
        by_default: bool,
        args: tuple[int, ...],
    ) -> Sighting:
        key = (notice.arch, notice.number, errnum)
        seen = self.sightings.get(key)
        if seen is None:
            seen = Sighting(name, notice.number, notice.arch, errnum, by_default)
            if len(self.sightings) >= _SIGHTINGS_MAX:
                self.dropped += 1
            else:
                self.sightings[key] = seen
        seen.count += 1
        if len(seen.args) < _ARGS_MAX and args not in seen.args:
            seen.args.append(args)
        return seen

    def _kill(self, notice: Any) -> None:
        """End the process of a call. Its number is its own as long as the call waits."""
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            handle = os.pidfd_open(_process_of(notice.pid))
            try:
                if lib.ox_notice_is_valid(self._listener, notice.id):
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
            finally:
                os.close(handle)


def _errnum_of(value: int) -> int | None:
    from ..syscalls import ALLOW, ERRNO

    if value == ALLOW:
        return 0
    return value & 0xFFFF if value & 0xFFFF0000 == ERRNO else None


def _pid_of(pidfd: int) -> int:
    with open(f"/proc/self/fdinfo/{pidfd}", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pid:"))


def _process_of(thread: int) -> int:
    with open(f"/proc/{thread}/status", encoding="utf-8", errors="replace") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Tgid:"))


def watched_plan(program: Program, plan: Plan, *, everything: bool) -> Plan:
    """Return the plan of the same run in a cell that is watched.

    Without ``everything`` only what ``default`` refuses is seen, at the cost of those calls alone.
    """
    notes = lib.OX_NOTES_ALL if everything else lib.OX_NOTES_REFUSED
    tenancy = plan.tenancy
    return Plan(
        program, plan.args, plan.sandbox, plan.limits, tenancy.tenant, tenancy.opened, notes=notes
    )


def carry_out_watched(pool: Launcher, order: Order) -> tuple[Completed, Watcher]:
    """Run to the end as ``carry_out`` does, with every answer given by a watcher."""
    lease, execution = begin(pool, order)
    try:
        watcher = Watcher(
            lease.cell.native,
            policy_of(order.plan.sandbox.syscalls),
            everything=order.plan.tenancy.notes == lib.OX_NOTES_ALL,
        )
        with watcher:
            execution.run_to_end()
            if order.copies():
                execution.flush(execution.patience())
            completed = execution.complete()
    finally:
        # Its warden waits for a watcher, and there will be none.
        lease.reusable = False
        end(lease, execution)
    return _judged(lease.account(completed), watcher), watcher


def _judged(completed: Completed, watcher: Watcher) -> Completed:
    """Say by which call the first process ended: the kernel's kill is SIGSYS, ours was SIGKILL.

    The filter of a watched cell kills for nothing itself, so a SIGSYS that came all the same is no
    answer of ours to a call.
    """
    fatal = watcher.fatal
    if fatal is None and completed.termination.reason == "syscall_denied":
        termination = dataclasses.replace(
            completed.termination,
            reason="killed",
            certain=True,
            detail="ended by SIGSYS, which was sent to it: its sandbox refused no system call so",
        )
        return dataclasses.replace(completed, termination=termination)
    if fatal is None or completed.termination.signal != signal.SIGKILL:
        return completed
    if completed.termination.reason != "killed":
        return completed
    from ..syscalls import arch_name

    where = f"number {fatal.number}, {arch_name(fatal.arch)}"
    what = f"system call {fatal.name or 'without a name'} ({where})"
    termination = Termination(
        reason="syscall_denied",
        exit_code=None,
        signal=int(signal.SIGSYS),
        certain=True,
        detail=f"ended by SIGSYS for {what}",
    )
    return dataclasses.replace(completed, returncode=-int(signal.SIGSYS), termination=termination)
