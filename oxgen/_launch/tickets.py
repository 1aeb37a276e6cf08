"""Tickets: a place in the queue for a cell, and the order for a cell that is being made."""

from __future__ import annotations

import math
import threading
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import OxgenError, UsageError
from .cells import Cell, Recipe

if TYPE_CHECKING:
    from ..result import Confinement
    from .channel import Channel
    from .pool import Pool

__all__ = ["Making", "Ticket"]

#: How often somebody who waits looks by himself, so that signal handlers get their turn.
_LOOK_SECONDS = 0.1


class Ticket:
    """A place in the queue; when it is ready, a cell, or why there is none."""

    __slots__ = (
        "__weakref__",
        "_callback",
        "_cell",
        "_failure",
        "_gate",
        "_pool",
        "claimed",
        "deadline",
        "recipe",
        "waiting",
    )

    def __init__(self, pool: Pool, recipe: Recipe, deadline: float) -> None:
        self._pool = pool
        self.recipe = recipe
        self.deadline = deadline
        #: Neither ready nor withdrawn.
        self.waiting = True
        #: A cell is being made for it.
        self.claimed = False
        self._cell: Cell | None = None
        self._failure: OxgenError | None = None
        self._callback: Callable[[], object] | None = None
        self._gate = threading.Lock()
        self._gate.acquire()

    @property
    def tenant(self) -> str:
        """Whose turn it takes in the queue."""
        return self.recipe.tenancy.tenant

    @property
    def ready(self) -> bool:
        """Whether ``cell`` returns or raises at once."""
        return self._cell is not None or self._failure is not None

    def notify(self, callback: Callable[[], object]) -> None:
        """Have it called once, from any thread, when the ticket is ready; at once if it is."""
        with self._pool.lock:
            if not self.ready:
                self._callback = callback
                return
        callback()

    def wait(self) -> Cell:
        """Wait for the cell, no longer than the pool's ``queue_seconds`` before one is made."""
        while not self.ready:
            left = self.deadline - time.monotonic()
            if left <= 0 and not self.claimed:
                self.withdraw()
                raise self._pool.no_turn()
            self._gate.acquire(timeout=_LOOK_SECONDS if self.claimed else min(left, _LOOK_SECONDS))
        return self.cell()

    def cell(self) -> Cell:
        """Return the cell of a ready ticket, or raise why there is none. Only once."""
        if self._failure is not None:
            raise self._failure
        cell, self._cell = self._cell, None
        if cell is None:
            raise UsageError("the ticket is not ready, or its cell has been taken")
        return cell

    def withdraw(self) -> None:
        """Leave the queue; a cell that has been granted goes back to the pool."""
        with self._pool.lock:
            self.waiting = False
            self._callback = None
            cell, self._cell = self._cell, None
            if cell is not None:
                self._pool.put_back(cell)

    def settle(self, cell: Cell | None, failure: OxgenError | None) -> None:
        """Make it ready. The pool's lock is held."""
        self.waiting = False
        self._cell, self._failure = cell, failure
        callback, self._callback = self._callback, None
        if self._gate.locked():
            self._gate.release()
        if callback is not None:
            callback()


class Making:
    """A cell that the launcher has been asked for."""

    __slots__ = ("channel", "confinement", "deadline", "recipe", "ticket", "tries")

    def __init__(self, recipe: Recipe, ticket: Ticket | None) -> None:
        self.recipe = recipe
        self.ticket = None if ticket is None else weakref.ref(ticket)
        self.deadline = math.inf
        self.tries = 0
        #: Whom it was asked of, and what the cell will enforce; both None until then.
        self.channel: Channel | None = None
        self.confinement: Confinement | None = None

    def claimant(self) -> Ticket | None:
        """Return who waits for this very cell."""
        ticket = None if self.ticket is None else self.ticket()
        return ticket if ticket is not None and ticket.waiting else None
