"""Launcher: a pool of cells as its users see it, and the right to use one of them."""

from __future__ import annotations

import atexit
import contextlib
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from ..closing import Closes
from ..errors import UsageError
from ..living import Living
from ..result import Completed
from ..values import check_type
from .cells import Cell, Tenancy
from .native import ffi, lib
from .pool import Pool, PoolStats
from .program import Program
from .tickets import Ticket

__all__ = [
    "UID_BASE",
    "UID_COUNT",
    "Launcher",
    "Lease",
    "Turn",
    "check_launcher",
    "chosen_launcher",
    "default_launcher",
]

#: Host uids and gids of cells, two a cell: above what systemd gives to containers (1879048191) and
#: below what it keeps for foreign images (2147352576); https://systemd.io/UIDS-GIDS/
UID_BASE = 1_880_096_768
UID_COUNT = 65536
#: The one above means "no id" to the kernel.
_UID_MAX = 2**32 - 2

#: How long a cell that is no longer wanted may take to end before others are let on.
_GONE_SECONDS = 5.0


class Launcher(Closes):
    """A pool of cells of its own; leaving it kills and reaps everything in them.

    ``cells`` is how many runs may be in flight. With ``reuse`` "tenancy" a cell that is proved
    empty serves its own tenancy again (same program, same policy, same tenant), and as many cells
    are kept; with "never" every run has a new one, and as many again are made ahead. A run that
    finds no cell free waits: at most ``queue`` runs do so, no longer than ``queue_seconds``, and
    tenants take turns; else ``LaunchError`` with stage ``queue``. Cells that were not used for
    ``idle_seconds`` end. ``uid_base`` and ``uid_count`` are the range of host uids and gids that
    cells use; nobody else may own them. Safe to use from many threads. After a fork the child has
    no cells; its first run starts a launcher anew.
    """

    def __init__(
        self,
        *,
        cells: int = 8,
        reuse: Literal["tenancy", "never"] = "tenancy",
        queue: int = 65536,
        queue_seconds: float = 600.0,
        idle_seconds: float = 60.0,
        uid_base: int = UID_BASE,
        uid_count: int = UID_COUNT,
    ) -> None:
        _check_count("cells", cells, 1, 1024)
        _check_count("queue", queue, 1, 1 << 20)
        if reuse not in ("tenancy", "never"):
            raise UsageError(f"reuse must be 'tenancy' or 'never', got {reuse!r}")
        _check_seconds("queue_seconds", queue_seconds, 0.1)
        _check_seconds("idle_seconds", idle_seconds, 0.1)
        _check_count("uid_base", uid_base, 1000, _UID_MAX - 1)
        _check_count("uid_count", uid_count, 2, _UID_MAX)
        if uid_base + uid_count > _UID_MAX + 1:
            raise UsageError(
                f"uid_base and uid_count must name ids up to {_UID_MAX},"
                f" got {uid_base!r} and {uid_count!r}"
            )
        self._reusable = reuse == "tenancy"
        self.pool = Pool(
            cells=cells,
            ahead=not self._reusable,
            queue=queue,
            queue_seconds=queue_seconds,
            idle_seconds=idle_seconds,
            uids=(uid_base, uid_count),
        )
        _launchers.add(self)

    def close(self) -> None:
        """Kill what runs, end all cells and the launcher process. May be called twice.

        A run that was under way says ``cancelled``; one that waited for a cell never ran
        (``UsageError``).
        """
        self.pool.close()

    @property
    def closed(self) -> bool:
        """Whether it takes no more runs."""
        return self.pool.closed

    @property
    def cells(self) -> int:
        """How many runs may be in flight."""
        return self.pool.cells

    @property
    def build(self) -> str:
        """What the running launcher process says of its own build; starts it if need be."""
        text: bytes = ffi.string(self.pool.call(lambda channel: channel.start().build))
        return text.decode("ascii", "replace")

    @property
    def pid(self) -> int:
        """The launcher process, started if need be."""
        return int(self.pool.call(lambda channel: channel.start().pid))

    def stats(self) -> PoolStats:
        """Return how many cells serve a run, wait for one, are being made; how many runs wait."""
        return self.pool.stats()

    # --- cells ------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def lease(self, program: Program, tenancy: Tenancy) -> Iterator[Lease]:
        """Hold a cell of this tenancy; on leaving it is kept if proved empty, else destroyed."""
        lease = Turn(self, program, tenancy).wait()
        try:
            yield lease
        finally:
            lease.give_back()

    def release(self, lease: Lease) -> None:
        """Take back what was leased."""
        cell, pool = lease.cell, self.pool
        cell.run = None
        if lease.reusable and self._reusable and pool.is_empty(cell):
            cell.native.runs += 1
            if pool.keep(cell):
                return
        if not lease.emptied:
            # Killed here and now: the word to the launcher goes by way of another thread.
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(cell.native.pidfd, signal.SIGKILL)
            left = lease.give_back_by - time.monotonic()
            patience = min(_GONE_SECONDS, max(0.05, left))
            lease.gone = lib.ox_cell_wait_gone(cell.native, round(patience * 1000)) == 0
        pool.discard(cell)


class Turn:
    """An idle cell of the tenancy at once, else a place in the queue.

    Raises ``LaunchError`` when the queue is full.
    """

    __slots__ = ("_launcher", "_lease", "_program", "_tenancy", "_ticket")

    def __init__(self, launcher: Launcher, program: Program, tenancy: Tenancy) -> None:
        self._launcher = launcher
        self._program = program
        self._tenancy = tenancy
        self._lease: Lease | None = None
        self._ticket: Ticket | None = None
        self._take()

    def _take(self) -> None:
        pool = self._launcher.pool
        while (cell := pool.take(self._tenancy)) is not None:
            if lib.ox_cell_is_alive(cell.native):
                self._lease = Lease(self._launcher, cell)
                return
            pool.discard(cell)  # it died while nothing ran in it: that costs no run
        self._ticket = pool.ticket(self._tenancy, self._program)

    @property
    def ready(self) -> bool:
        """Whether ``lease`` returns or raises at once."""
        return self._ticket is None or self._ticket.ready

    def notify(self, callback: Callable[[], object]) -> None:
        """Have it called once, from any thread, when the turn has come; at once if it has."""
        if self._ticket is None:
            callback()
        else:
            self._ticket.notify(callback)

    def wait(self) -> Lease:
        """Wait until it has come; raises as ``lease`` does, and when it takes too long."""
        if self._ticket is not None:
            return Lease(self._launcher, self._ticket.wait())
        return self.lease()

    def lease(self) -> Lease:
        """Return the right to the cell, or raise why there is none. Only once, when it is ready."""
        lease, self._lease = self._lease, None
        if lease is None:
            assert self._ticket is not None
            lease = Lease(self._launcher, self._ticket.cell())
        return lease

    def withdraw(self) -> None:
        """Want it no more: leave the queue, or give back the cell as it is."""
        if self._ticket is not None:
            self._ticket.withdraw()
        lease, self._lease = self._lease, None
        if lease is not None:
            self._launcher.pool.keep(lease.cell)


@dataclass(eq=False, slots=True)
class Lease:
    """The right to use one cell.

    ``reusable`` is set by a run that ended as it should, ``emptied`` by one whose last process was
    seen to go; ``gone`` is False where the cell was given back and its processes, though killed,
    could not be seen to end by ``give_back_by`` (of ``time.monotonic``).
    """

    launcher: Launcher
    cell: Cell
    reusable: bool = False
    emptied: bool = False
    gone: bool = True
    returned: bool = False
    give_back_by: float = math.inf

    def give_back(self) -> None:
        """Keep the cell for the next run of its tenancy if it is proved empty, else destroy it."""
        if not self.returned:
            self.returned = True
            self.launcher.release(self)

    def account(self, completed: Completed) -> Completed:
        """Say in the result if processes were still ending when the cell was given back."""
        if self.gone:
            return completed
        ended = completed.termination
        note = "processes were killed and still ended when this was written"
        detail = f"{ended.detail}; {note}" if ended.detail else note
        return replace(completed, termination=replace(ended, certain=False, detail=detail))


def _check_count(name: str, value: object, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise UsageError(f"{name} must be a whole number from {least} to {most}, got {value!r}")


def _check_seconds(name: str, value: object, least: float) -> None:
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or not least <= value <= 86400
    ):
        raise UsageError(f"{name} must be between {least} and 86400 seconds, got {value!r}")


_launchers: Living[Launcher] = Living()
_default: Launcher | None = None
_default_lock = threading.Lock()


def default_launcher() -> Launcher:
    """Return the launcher that runs without one of their own share."""
    global _default
    known = _default
    if known is not None and not known.closed:
        return known
    with _default_lock:
        if _default is None or _default.closed:
            _default = Launcher()
        return _default


def check_launcher(launcher: object) -> Launcher | None:
    """Return what a caller named, None where it named none; else raise ``UsageError``."""
    if launcher is None:
        return None
    return check_type("launcher", launcher, Launcher, "an oxgen.Launcher or None")


def chosen_launcher(launcher: object) -> Launcher:
    """Return the launcher that a caller named, or that of all who name none."""
    return check_launcher(launcher) or default_launcher()


def _after_fork_in_child() -> None:
    global _default_lock
    _default_lock = threading.Lock()
    for launcher in list(_launchers):
        launcher.pool.after_fork_in_child()


def _at_exit() -> None:
    for launcher in list(_launchers):
        launcher.close()


os.register_at_fork(after_in_child=_after_fork_in_child)
atexit.register(_at_exit)
