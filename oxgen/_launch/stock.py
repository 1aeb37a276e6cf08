"""Stock: the cells that there are and that are being made, and who that waits gets which."""

from __future__ import annotations

import time
import weakref
from collections import Counter
from collections.abc import Callable

from .cells import Cell, Recipe, Tenancy
from .fair import FairQueue
from .program import Program
from .tickets import Making, Ticket

__all__ = ["Stock"]


class Stock:
    """The books of a pool: it decides, and starts nothing. Its pool's lock is held for every call.

    ``cells`` is how many may serve runs at a time. With ``ahead`` each serves once, so the next
    ones are made while a run is under way, up to as many again.
    """

    def __init__(self, *, cells: int, ahead: bool, queue: int) -> None:
        self.cells = cells
        self.ahead = ahead
        self.total = 2 * cells if ahead else cells
        self.queue: FairQueue[Ticket] = FairQueue(queue)
        #: Oldest first. A line may be empty: a signal handler may raise at any moment.
        self.idle: dict[Tenancy, list[Cell]] = {}
        # Weak: a cell that an exception of a signal handler made its run forget no longer counts.
        self.all: weakref.WeakSet[Cell] = weakref.WeakSet()
        #: What the launcher has been asked for, by the number of the request.
        self.making: dict[int, Making] = {}
        self._recipes: weakref.WeakValueDictionary[Tenancy, Recipe] = weakref.WeakValueDictionary()
        #: So many idle cells of a tenancy are wished for.
        self._wanted: dict[Tenancy, int] = {}
        self._sequence = 0

    def recipe(self, tenancy: Tenancy, program: Program) -> Recipe:
        """Return what cells of this tenancy are made of."""
        recipe = self._recipes.get(tenancy)
        if recipe is None:
            recipe = self._recipes[tenancy] = Recipe(tenancy, program)
        return recipe

    def idle_count(self) -> int:
        """How many cells wait for a run."""
        return sum(map(len, self.idle.values()))

    def count(self) -> int:
        """How many cells there are. Not ``len``: that counts a cell for ever whose removal from the
        set, which is Python code, was cut short by an exception of a signal handler."""
        return sum(1 for _ in self.all)

    def serving(self) -> int:
        """How many cells serve a run."""
        return max(0, self.count() - self.idle_count())

    def busy(self) -> int:
        """How many cells serve a run or are being made for one that waits."""
        return self.serving() + sum(1 for one in self.making.values() if one.claimant() is not None)

    def is_quiet(self) -> bool:
        """Whether at most one cell serves a run, and none is being made."""
        return not self.making and self.serving() <= 1

    # --- cells that there are ---------------------------------------------------------------------

    def take(self, tenancy: Tenancy) -> Cell | None:
        """Take an idle cell of this tenancy, unless others wait."""
        if self.queue or not self.idle.get(tenancy):
            return None
        if self.ahead and self.busy() >= self.cells:
            return None
        return self._take_idle(tenancy)

    def put_back(self, cell: Cell) -> None:
        """Let a clean cell wait for its next run."""
        cell.idle_since = time.monotonic()
        self.idle.setdefault(cell.tenancy, []).append(cell)

    def dispatch(self) -> bool:
        """Give idle cells to those whose turn it is; True when there is something to be made."""
        served = False
        while self.queue and self.busy() < self.cells:
            ticket = self.queue.first(self._busy_of_tenants())
            if ticket is None:
                break
            cell = self._take_idle(ticket.recipe.tenancy)
            if cell is None:
                return True
            ticket.settle(cell, None)
            self.queue.served(ticket)
            served = True
        return served and self.ahead

    def arrived(self, making: Making, cell: Cell) -> bool:
        """Give a new cell to who waits for it, else let it wait; True if it went to nobody."""
        self.all.add(cell)
        ticket = making.claimant()
        if ticket is None:
            self.put_back(cell)
            return True
        ticket.settle(cell, None)
        if self.ahead:
            self._want_ahead(cell.recipe)
        return False

    def expired(self, idle_seconds: float) -> list[Cell]:
        """Take out the cells that nobody has used for so long."""
        now = time.monotonic()
        gone = []
        for tenancy, line in list(self.idle.items()):
            while line and now >= line[0].idle_since + idle_seconds:
                gone.append(self._evict(tenancy))
            if not line:
                del self.idle[tenancy]
        return gone

    def clear_idle(self, launcher: object = None) -> list[Cell]:
        """Take out the cells that wait for a run: of this launcher, or all of them."""
        cells = []
        for line in self.idle.values():
            cells += [one for one in line if launcher is None or one.launcher is launcher]
            line[:] = [one for one in line if launcher is not None and one.launcher is not launcher]
        for cell in cells:
            self.all.discard(cell)
        return cells

    def oldest(self) -> float | None:
        """Since when (``time.monotonic``) the cell waits that has waited longest."""
        return min((line[0].idle_since for line in self.idle.values() if line), default=None)

    def _take_idle(self, tenancy: Tenancy) -> Cell | None:
        line = self.idle.get(tenancy)
        if not line:
            return None
        cell = line.pop()
        if self.ahead:
            self._want_ahead(cell.recipe)
        return cell

    def _evict(self, tenancy: Tenancy) -> Cell:
        """Take out the cell that has waited longest; no more are wished for."""
        cell = self.idle[tenancy].pop(0)
        self.all.discard(cell)
        self._wanted.pop(tenancy, None)
        return cell

    def _busy_of_tenants(self) -> Callable[[str], int]:
        idle = {id(cell) for line in self.idle.values() for cell in line}
        count = Counter(one.tenancy.tenant for one in self.all if id(one) not in idle)
        for making in self.making.values():
            ticket = making.claimant()
            if ticket is not None:
                count[ticket.tenant] += 1
        return count.__getitem__

    # --- cells that are to be made ----------------------------------------------------------------

    def want_one(self, recipe: Recipe) -> None:
        """Wish for an idle cell of this tenancy."""
        self._wanted[recipe.tenancy] = 1

    def _want_ahead(self, recipe: Recipe) -> None:
        """Wish for one more idle cell of this tenancy than serve it now."""
        tenancy = recipe.tenancy
        has = sum(1 for one in self.all if one.recipe is recipe)
        serving = has - len(self.idle.get(tenancy, ()))
        self._wanted[tenancy] = min(self.cells, serving + 1)

    def plan(self) -> tuple[list[int], list[Cell]]:
        """Decide what is to be made, and which cells have to go for it."""
        orders: list[int] = []
        doomed: list[Cell] = []
        while self.busy() < self.cells:
            ticket = self.queue.first(self._busy_of_tenants())
            if ticket is None:
                break
            tenancy = ticket.recipe.tenancy
            cell = self._take_idle(tenancy)
            if cell is not None:
                ticket.settle(cell, None)
            elif not self._claim(ticket):
                if not self._make_room(tenancy, doomed):
                    break
                orders.append(self._order(ticket.recipe, ticket))
            self.queue.served(ticket)
        if not self.queue:
            self._plan_ahead(orders)
        return orders, doomed

    def dropped(self, sequence: int) -> Ticket | None:
        """Forget a request that failed; returns who waits for its cell."""
        making = self.making.pop(sequence, None)
        if making is None:
            return None
        # Not again by ourselves: who comes next asks for one, and hears why there is none.
        self._wanted.pop(making.recipe.tenancy, None)
        return making.claimant()

    def waiting(self) -> list[Ticket]:
        """Return everybody who waits, in the queue or for a cell that is being made."""
        claimants = (making.claimant() for making in self.making.values())
        return [*self.queue, *(ticket for ticket in claimants if ticket is not None)]

    def _claim(self, ticket: Ticket) -> bool:
        """Let it have a cell that is being made ahead for its tenancy."""
        for making in self.making.values():
            if making.recipe is ticket.recipe and making.claimant() is None:
                making.ticket = weakref.ref(ticket)
                ticket.claimed = True
                return True
        return False

    def _make_room(self, tenancy: Tenancy, doomed: list[Cell]) -> bool:
        """Evict from the tenancy whose last run is longest ago, if there are too many cells."""
        if self.count() + len(self.making) < self.total:
            return True
        others = [owner for owner, line in self.idle.items() if line and owner != tenancy]
        if not others:
            return False
        doomed.append(self._evict(min(others, key=lambda one: self.idle[one][-1].idle_since)))
        return True

    def _plan_ahead(self, orders: list[int]) -> None:
        for tenancy, count in list(self._wanted.items()):
            recipe = self._recipes.get(tenancy)
            if recipe is None:
                del self._wanted[tenancy]
                continue
            unclaimed = sum(
                1 for one in self.making.values() if one.recipe is recipe and one.claimant() is None
            )
            lacking = count - unclaimed - len(self.idle.get(tenancy, ()))
            room = self.total - self.count() - len(self.making)
            for _ in range(min(lacking, room)):
                orders.append(self._order(recipe, None))

    def _order(self, recipe: Recipe, ticket: Ticket | None) -> int:
        self._sequence = (self._sequence + 1) & 0xFFFFFFFF
        self.making[self._sequence] = Making(recipe, ticket)
        if ticket is not None:
            ticket.claimed = True
        return self._sequence
