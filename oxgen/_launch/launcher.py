"""Launcher: the pool of cells, and the process that makes them."""

from __future__ import annotations

import atexit
import contextlib
import errno
import math
import os
import threading
import time
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Literal

from ..errors import LaunchError, UsageError
from ..limits import MIB, Limits
from ..result import Completed
from . import refusals
from .cells import Cell, Tenancy, cell_spec, confinement, no_cell
from .native import ffi, lib, stage_name
from .program import Program

__all__ = [
    "EXECUTABLE",
    "UID_BASE",
    "UID_COUNT",
    "Launcher",
    "Lease",
    "default_launcher",
]

#: The launcher executable of this package.
EXECUTABLE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "_launcher")

#: Host uids and gids of cells, two a cell: above what systemd gives to containers (1879048191) and
#: below what it keeps for foreign images (2147352576); https://systemd.io/UIDS-GIDS/
UID_BASE = 1_880_096_768
UID_COUNT = 65536

_GONE = (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN)
#: How long a cell that is no longer wanted may take to end before others are let on.
_GONE_SECONDS = 5.0
#: Memory that may stay charged to a cell that serves again: files that its runs read from disk.
_SLACK_UNBOUNDED = 64 * MIB
_START_MS = 15_000
_CELL_MS = 15_000
_STOP_MS = 5_000


class Launcher:
    """A pool of cells of its own; leaving it kills and reaps everything in them.

    ``cells`` is how many runs may be in flight, and how many cells are kept. With ``reuse``
    "tenancy" a cell that is proved empty serves its own tenancy again (same program, same policy,
    same tenant), with "never" every run has a new one. ``queue_seconds`` is how long a run waits
    for a free cell before ``LaunchError`` with stage ``queue``. ``uid_base`` and ``uid_count`` are
    the range of host uids and gids that cells use; nobody else may own them. Safe to use from
    many threads. After a fork the child has no cells; its first run starts a launcher anew.
    """

    def __init__(
        self,
        *,
        cells: int = 8,
        reuse: Literal["tenancy", "never"] = "tenancy",
        queue_seconds: float = 600.0,
        uid_base: int = UID_BASE,
        uid_count: int = UID_COUNT,
    ) -> None:
        if isinstance(cells, bool) or not isinstance(cells, int) or not 1 <= cells <= 1024:
            raise UsageError(f"cells must be a whole number from 1 to 1024, got {cells!r}")
        if reuse not in ("tenancy", "never"):
            raise UsageError(f"reuse must be 'tenancy' or 'never', got {reuse!r}")
        if not 0 <= queue_seconds <= 86400:
            raise UsageError(f"queue_seconds must be between 0 and 86400, got {queue_seconds!r}")
        if not (uid_base >= 1000 and uid_count >= 2 and uid_base + uid_count < 2**32 - 1):
            raise UsageError(
                "uid_base and uid_count must name at least 2 ids between 1000 and 4294967294,"
                f" got {uid_base!r} and {uid_count!r}"
            )
        self._cells_max = cells
        self._reuse = reuse
        self._queue_seconds = queue_seconds
        self._uids = (uid_base, uid_count)
        self._closed = False
        self._reset()
        _launchers.add(self)

    def _reset(self) -> None:
        # Not a Condition: its __exit__ is Python code, and an exception of a signal handler at its
        # first instruction would leave the lock held for ever.
        self._lock = threading.RLock()
        self._gates: list[threading.Lock] = []
        self._channel = threading.Lock()
        self._native: Any = None
        self._idle: list[Cell] = []
        self._all: weakref.WeakSet[Cell] = weakref.WeakSet()
        self._making: weakref.WeakSet[_Making] = weakref.WeakSet()

    # --- life -------------------------------------------------------------------------------------

    def __enter__(self) -> Launcher:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Kill what runs, end all cells and the launcher process. May be called twice."""
        with self._lock:
            self._closed = True
            self._wake_waiting()
        with self._channel:
            self._stop()

    def _stop(self) -> None:
        """End the launcher process; cells end with it. The channel is held."""
        with self._lock:
            native, self._native = self._native, None
            idle, self._idle = self._idle, []
        for cell in idle:
            self._forget(cell)
        if native is not None:
            lib.ox_launcher_stop(native, _STOP_MS)

    def _forget(self, cell: Cell) -> None:
        with self._lock:
            self._all.discard(cell)
            self._wake_waiting()
        lib.ox_cell_forget(cell.native)

    def _after_fork_in_child(self) -> None:
        """Close the copies of the parent's descriptors; the parent's cells are not ours to end."""
        native, cells = self._native, list(self._all)
        self._reset()
        for cell in cells:
            lib.ox_cell_forget(cell.native)
        if native is not None:
            for descriptor in (native.socket, native.pidfd):
                with contextlib.suppress(OSError):
                    os.close(descriptor)

    def _start(self) -> Any:
        """Start the launcher process unless it runs. The channel is held."""
        with self._lock:
            if self._closed:
                raise UsageError("the launcher is closed")
            if self._native is not None:
                return self._native
        if os.geteuid() != 0:
            raise refusals.not_root()
        config = ffi.new("struct ox_config *")
        config.uid_base, config.uid_count = self._uids
        # More than there are runs: a cell that is being taken apart still counts.
        config.cells_max = 4 * self._cells_max + 8
        native = ffi.new("struct ox_launcher *")
        problem = ffi.new("struct ox_problem *")
        path = os.fsencode(EXECUTABLE)
        if lib.ox_launcher_start(path, config, _START_MS, native, problem) < 0:
            raise refusals.of_launcher(
                stage_name(problem.error.stage),
                problem.error.errnum,
                ffi.string(problem.cause).decode("utf-8", "replace"),
                ffi.string(problem.remedy).decode("utf-8", "replace"),
            )
        with self._lock:
            self._native = native
        return native

    @property
    def build(self) -> str:
        """What the running launcher process says of its own build; starts it if need be."""
        with self._channel:
            text: bytes = ffi.string(self._start().build)
        return text.decode("ascii", "replace")

    # --- cells ------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def lease(
        self, program: Program, limits: Limits, *, runtime: str, tenant: str
    ) -> Iterator[Lease]:
        """Hold a cell of this tenancy; on leaving it is kept if proved empty, else destroyed."""
        tenancy = Tenancy(
            program.identity,
            runtime,
            limits.memory_bytes,
            limits.processes,
            limits.effective_disk_bytes,
            tenant,
        )
        lease = Lease(self, self._acquire(tenancy, program))
        try:
            yield lease
        finally:
            lease.give_back()

    def _acquire(self, tenancy: Tenancy, program: Program) -> Cell:
        deadline = time.monotonic() + self._queue_seconds
        making = _Making()
        while True:
            cell, victim = self._take(tenancy, deadline, making)
            if cell is not None and lib.ox_cell_is_alive(cell.native):
                return cell
            if cell is None:
                break
            self._destroy(cell)  # it died while nothing ran in it: that costs no run
        try:
            if victim is not None:
                self._destroy(victim)
            return self._make(tenancy, program)
        finally:
            with self._lock:
                self._making.discard(making)
                self._wake_waiting()

    def _take(
        self, tenancy: Tenancy, deadline: float, making: _Making
    ) -> tuple[Cell | None, Cell | None]:
        """Wait for an idle cell of this tenancy, or for the right to make one.

        The second value is then the cell that has to go for it, if any.
        """
        gate = threading.Lock()
        gate.acquire()
        while True:
            with self._lock:
                if self._closed:
                    raise UsageError("the launcher is closed")
                cell = self._take_idle(tenancy)
                if cell is not None:
                    return cell, None
                if len(self._all) + len(self._making) < self._cells_max:
                    self._making.add(making)
                    return None, None
                if self._idle:
                    victim = min(self._idle, key=lambda one: one.idle_since)
                    self._idle.remove(victim)
                    self._making.add(making)
                    return None, victim
                if gate not in self._gates:
                    self._gates.append(gate)
            left = deadline - time.monotonic()
            if left <= 0:
                raise LaunchError(
                    "queue",
                    errno.ETIMEDOUT,
                    f"all {self._cells_max} cells were busy for {self._queue_seconds:g} s",
                    remedy="allow more cells, or shorter wall_seconds",
                )
            # Waits are cut short so that a signal handler of the main thread gets its turn.
            gate.acquire(timeout=min(left, 0.1))

    def _wake_waiting(self) -> None:
        """Let everybody who waits for a cell look again. The lock is held."""
        gates, self._gates = self._gates, []
        for gate in gates:
            if gate.locked():
                gate.release()

    def _take_idle(self, tenancy: Tenancy) -> Cell | None:
        for cell in reversed(self._idle):
            if cell.tenancy == tenancy:
                self._idle.remove(cell)
                return cell
        return None

    def _make(self, tenancy: Tenancy, program: Program) -> Cell:
        native = ffi.gc(no_cell(), lib.ox_cell_forget)
        error = ffi.new("struct ox_error *")
        with contextlib.ExitStack() as opened, self._channel:
            spec, kept = cell_spec(tenancy, program, opened)
            for last_try in (False, True):
                launcher = self._start()
                r = lib.ox_cell_create(launcher, spec, _CELL_MS, native, error)
                if r == 0:
                    break
                stage = stage_name(error.stage)
                gone = error.errnum in _GONE
                if stage == "launcher" or (stage == "request" and gone):
                    # The answer is still to come or never will: this launcher cannot be talked to.
                    self._stop()
                    if gone and not last_try:
                        continue  # it died while nothing was asked of it: that costs no run
                raise refusals.of_cell(stage, error.errnum)
            del kept
            cell = Cell(tenancy, native, confinement(tenancy), launcher=launcher)
            with self._lock:
                self._all.add(cell)
        return cell

    def _destroy(self, cell: Cell, wait_seconds: float = _GONE_SECONDS) -> bool:
        """Take a cell apart; False when its processes could not be seen to end in time."""
        with self._channel:
            with self._lock:
                self._all.discard(cell)
                launcher = self._native
            # The cell of a launcher that is gone has ended with it; its number is another's now.
            if launcher is not None and launcher is cell.launcher:
                r: int = lib.ox_cell_destroy(launcher, cell.native)
                if r < 0:
                    self._stop()
        # Not under the channel: others need not wait for what this cell has built.
        gone = lib.ox_cell_wait_gone(cell.native, round(wait_seconds * 1000)) == 0
        lib.ox_cell_forget(cell.native)
        with self._lock:
            self._wake_waiting()
        return bool(gone)

    def _release(self, lease: Lease) -> None:
        cell = lease.cell
        with self._lock:
            keep = (
                lease.reusable
                and self._reuse == "tenancy"
                and not self._closed
                and cell in self._all
                and self._native is cell.launcher
            )
            if keep and lib.ox_cell_is_empty(cell.native, _slack(cell.tenancy)):
                cell.native.runs += 1
                cell.idle_since = time.monotonic()
                self._idle.append(cell)
                self._wake_waiting()
                return
        left = lease.give_back_by - time.monotonic()
        lease.gone = self._destroy(cell, min(_GONE_SECONDS, max(0.05, left)))

    def idle_cells(self) -> int:
        """Return how many cells wait for a run of their tenancy."""
        with self._lock:
            return len(self._idle)


class _Making:
    """The right to make one cell: it ends with whoever holds it, however that ends."""


@dataclass(eq=False, slots=True)
class Lease:
    """The right to use one cell.

    ``reusable`` is set by a run that ended as it should; ``gone`` is False where the cell was given
    back and its processes, though killed, could not be seen to end by ``give_back_by`` (of
    ``time.monotonic``).
    """

    launcher: Launcher
    cell: Cell
    reusable: bool = False
    gone: bool = True
    returned: bool = False
    give_back_by: float = math.inf

    def give_back(self) -> None:
        """Keep the cell for the next run of its tenancy if it is proved empty, else destroy it."""
        if not self.returned:
            self.returned = True
            self.launcher._release(self)

    def account(self, completed: Completed) -> Completed:
        """Say in the result if processes were still ending when the cell was given back."""
        if self.gone:
            return completed
        ended = completed.termination
        note = "processes were killed and still ended when this was written"
        detail = f"{ended.detail}; {note}" if ended.detail else note
        return replace(completed, termination=replace(ended, certain=False, detail=detail))


def _slack(tenancy: Tenancy) -> int:
    return _SLACK_UNBOUNDED if tenancy.memory_bytes is None else tenancy.memory_bytes // 8


_launchers: weakref.WeakSet[Launcher] = weakref.WeakSet()
_default: Launcher | None = None
_default_lock = threading.Lock()


def default_launcher() -> Launcher:
    """Return the launcher that runs without one of their own share."""
    global _default
    with _default_lock:
        if _default is None or _default._closed:
            _default = Launcher()
        return _default


def _after_fork_in_child() -> None:
    global _default_lock
    _default_lock = threading.Lock()
    for launcher in list(_launchers):
        launcher._after_fork_in_child()


def _at_exit() -> None:
    for launcher in list(_launchers):
        launcher.close()


os.register_at_fork(after_in_child=_after_fork_in_child)
atexit.register(_at_exit)
