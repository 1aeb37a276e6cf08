"""Turn: a cell for one run, asked for without waiting."""

from __future__ import annotations

from collections.abc import Callable

from ..limits import Limits
from .cells import Tenancy
from .launcher import Launcher, Lease
from .native import lib
from .pool import Ticket
from .program import Program

__all__ = ["Turn"]


class Turn:
    """An idle cell of the tenancy at once, else a place in the queue.

    Raises ``LaunchError`` when the queue is full.
    """

    __slots__ = ("_launcher", "_lease", "_program", "_tenancy", "_ticket")

    def __init__(
        self, launcher: Launcher, program: Program, limits: Limits, *, runtime: str, tenant: str
    ) -> None:
        self._launcher = launcher
        self._program = program
        self._tenancy = Tenancy.of(program, limits, runtime, tenant)
        self._lease: Lease | None = None
        self._ticket: Ticket | None = None
        pool = launcher.pool
        while (cell := pool.take(self._tenancy)) is not None:
            if lib.ox_cell_is_alive(cell.native):
                self._lease = Lease(launcher, cell)
                return
            pool.discard(cell)  # it died while nothing ran in it: that costs no run
        self._ticket = pool.ticket(self._tenancy, program)

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
