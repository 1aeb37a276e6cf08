"""Pool: the cells of one launcher, and who gets which."""

from __future__ import annotations

import errno
import math
import os
import select
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from ..errors import LaunchError, OxgenError, UsageError
from ..limits import MIB
from . import refusals
from .cells import Cell, Recipe, Tenancy
from .channel import Answer, Channel, GoneError
from .fair import FairQueue
from .native import lib
from .program import Program

__all__ = ["Pool", "PoolStats", "Ticket"]

#: How long the launcher may take to make one cell.
_CELL_SECONDS = 15.0
#: How often somebody who waits looks by himself, so that signal handlers get their turn.
_LOOK_SECONDS = 0.1
#: How long close() waits for the launcher to end, which is bounded to less.
_CLOSE_SECONDS = 15.0
#: Memory that may stay charged to a cell that serves again: files that its runs read from disk.
_SLACK_UNBOUNDED = 64 * MIB
_TRIES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolStats:
    """What a pool holds: cells that serve a run, that wait for one, that are being made; and how
    many runs wait for a cell."""

    busy: int
    idle: int
    making: int
    waiting: int


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


class _Making:
    """A cell that the launcher has been asked for."""

    __slots__ = ("deadline", "recipe", "ticket", "tries")

    def __init__(self, recipe: Recipe, ticket: Ticket | None) -> None:
        self.recipe = recipe
        self.ticket = None if ticket is None else weakref.ref(ticket)
        self.deadline = math.inf
        self.tries = 0

    def claimant(self) -> Ticket | None:
        """Return who waits for this very cell."""
        ticket = None if self.ticket is None else self.ticket()
        return ticket if ticket is not None and ticket.waiting else None


class Pool:
    """Cells of one launcher process.

    Whoever wants a cell takes an idle one of its tenancy, or queues. One thread alone talks to the
    launcher: it has cells made, for who waits and ahead of need, and taken apart, so that no run
    waits for either unless it must. Every other method may be called from any thread.
    """

    def __init__(
        self,
        *,
        cells: int,
        ahead: bool,
        queue: int,
        queue_seconds: float,
        idle_seconds: float,
        uids: tuple[int, int],
    ) -> None:
        self.cells = cells
        #: Cells are used once, so the next ones are made while a run is under way.
        self.ahead = ahead
        self._total = 2 * cells if ahead else cells
        self._queue_bound = queue
        self.queue_seconds = queue_seconds
        self.idle_seconds = idle_seconds
        self._uids = uids
        self.closed = False
        self._failure: OxgenError | None = None
        self._reset()

    def _reset(self) -> None:
        # Not a Condition: its __exit__ is Python code, and an exception of a signal handler at its
        # first instruction would leave the lock held for ever.
        self.lock = threading.RLock()
        # More than there are runs: a cell that is being taken apart still counts.
        self._channel = Channel(self._uids, 4 * self._total + 8)
        self._queue: FairQueue[Ticket] = FairQueue(self._queue_bound + self.cells)
        self._idle: dict[Tenancy, list[Cell]] = {}
        # Weak: a cell that an exception of a signal handler made its run forget no longer counts.
        self._all: weakref.WeakSet[Cell] = weakref.WeakSet()
        self._recipes: weakref.WeakValueDictionary[Tenancy, Recipe] = weakref.WeakValueDictionary()
        self._wanted: dict[Tenancy, int] = {}
        self._making: dict[int, _Making] = {}
        self._doomed: list[Cell] = []
        self._jobs: list[tuple[Callable[[], Any], Future[Any]]] = []
        self._sequence = 0
        self._thread: threading.Thread | None = None
        self._bell = -1
        self._rung = False

    # --- for runs ---------------------------------------------------------------------------------

    def take(self, tenancy: Tenancy) -> Cell | None:
        """Return an idle cell of this tenancy, None when there is none or others wait."""
        with self.lock:
            self._check_open()
            if len(self._queue) > 0 or tenancy not in self._idle:
                return None
            if self.ahead and self._busy() >= self.cells:
                return None
            return self._take_idle(tenancy)

    def ticket(self, tenancy: Tenancy, program: Program) -> Ticket:
        """Queue for a cell of this tenancy; raises ``LaunchError`` when the queue is full."""
        with self.lock:
            self._check_open()
            recipe = self._recipe(tenancy, program)
            ticket = Ticket(self, recipe, time.monotonic() + self.queue_seconds)
            # Those for whom a cell is free do not wait: they only pass through the queue.
            passing = max(0, self.cells - self._busy())
            if len(self._queue) >= self._queue_bound + passing or not self._queue.push(ticket):
                raise LaunchError(
                    "queue",
                    errno.EAGAIN,
                    f"{self._queue_bound} runs wait for a cell already",
                    remedy="start fewer at once, or allow a longer queue or more cells",
                )
            self._dispatch()
            if not ticket.ready:
                self._ring()
        return ticket

    def is_empty(self, cell: Cell) -> bool:
        """Whether a cell whose processes are gone is as it was when it was new."""
        bound = cell.tenancy.memory_bytes
        slack = _SLACK_UNBOUNDED if bound is None else bound // 8
        return bool(lib.ox_cell_is_empty(cell.native, slack))

    def keep(self, cell: Cell) -> bool:
        """Take back a cell that is proved empty; False when it is of no use any more."""
        with self.lock:
            if self.closed or cell.launcher is not self._channel.native:
                return False
            self.put_back(cell)
            return True

    def put_back(self, cell: Cell) -> None:
        """Let a clean cell wait for its next run. The lock is held."""
        cell.idle_since = time.monotonic()
        self._idle.setdefault(cell.tenancy, []).append(cell)
        if len(self._queue) > 0:
            self._dispatch()

    def discard(self, cell: Cell) -> None:
        """Have a cell taken apart, and another one made in its place. Nothing is waited for."""
        with self.lock:
            self._all.discard(cell)
            if self.closed:
                lib.ox_cell_forget(cell.native)
                return
            self._doomed.append(cell)
            if not self.ahead:
                self._want(cell.recipe, 1)
            self._ring()

    def stats(self) -> PoolStats:
        """Return what the pool holds at this moment."""
        with self.lock:
            idle = self._idle_count()
            return PoolStats(
                busy=max(0, len(self._all) - idle),
                idle=idle,
                making=len(self._making),
                waiting=sum(1 for _ in self._queue),
            )

    def call(self, job: Callable[[Channel], Any]) -> Any:
        """Have the thread that talks to the launcher do something; returns what that returned."""
        future: Future[Any] = Future()
        with self.lock:
            self._check_open()
            self._jobs.append((lambda: job(self._channel), future))
            self._ring()
        return future.result(timeout=2 * _CELL_SECONDS)

    def no_turn(self) -> LaunchError:
        """The error of a run that has waited too long."""
        return LaunchError(
            "queue",
            errno.ETIMEDOUT,
            f"all {self.cells} cells were busy for {self.queue_seconds:g} s",
            remedy="allow more cells, or shorter wall_seconds",
        )

    # --- life -------------------------------------------------------------------------------------

    def close(self) -> None:
        """Kill what runs, end all cells and the launcher process."""
        with self.lock:
            self.closed = True
            thread = self._thread
            if thread is not None:
                self._ring()
        if thread is not None and thread is not threading.current_thread():
            thread.join(_CLOSE_SECONDS)

    def after_fork_in_child(self) -> None:
        """Let go of the parent's cells: they are not ours to end."""
        cells, channel, bell = list(self._all) + self._doomed, self._channel, self._bell
        self._reset()
        channel.forget()
        if bell >= 0:
            os.close(bell)
        for cell in cells:
            if cell.run is not None:
                lib.ox_run_forget(cell.run[0])
            lib.ox_cell_forget(cell.native)

    # --- under the lock ---------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self.closed:
            raise self._failure or UsageError("the launcher is closed")

    def _recipe(self, tenancy: Tenancy, program: Program) -> Recipe:
        recipe = self._recipes.get(tenancy)
        if recipe is None:
            recipe = self._recipes[tenancy] = Recipe(tenancy, program)
        return recipe

    def _idle_count(self) -> int:
        return sum(map(len, self._idle.values()))

    def _busy(self) -> int:
        claimed = sum(1 for one in self._making.values() if one.claimant() is not None)
        return len(self._all) - self._idle_count() + claimed

    def _take_idle(self, tenancy: Tenancy) -> Cell | None:
        line = self._idle.get(tenancy)
        if not line:
            return None
        cell = line.pop()
        if not line:
            del self._idle[tenancy]
        if self.ahead:
            self._want(cell.recipe, self.cells)
            self._ring()
        return cell

    def _busy_of_tenants(self) -> Callable[[str], int]:
        idle = {id(cell) for line in self._idle.values() for cell in line}
        count = Counter(one.tenancy.tenant for one in self._all if id(one) not in idle)
        for making in self._making.values():
            ticket = making.claimant()
            if ticket is not None:
                count[ticket.tenant] += 1
        return count.__getitem__

    def _dispatch(self) -> None:
        """Give idle cells to those whose turn it is; for the rest the thread has cells made."""
        while len(self._queue) > 0 and self._busy() < self.cells:
            ticket = self._queue.first(self._busy_of_tenants())
            if ticket is None:
                return
            cell = self._take_idle(ticket.recipe.tenancy)
            if cell is None:
                self._ring()
                return
            ticket.settle(cell, None)
            self._queue.served(ticket)

    def _want(self, recipe: Recipe, most: int) -> None:
        """Wish for idle cells of this tenancy: one more than serve it now, so many at most."""
        tenancy = recipe.tenancy
        if most == 1:
            self._wanted[tenancy] = 1
            return
        has = sum(1 for one in self._all if one.recipe is recipe)
        serving = has - len(self._idle.get(tenancy, ()))
        self._wanted[tenancy] = min(most, serving + 1)

    def _ring(self) -> None:
        """Wake the thread, which is started if need be."""
        if self._thread is None:
            self._start_thread()
        if not self._rung:
            self._rung = True
            os.eventfd_write(self._bell, 1)

    def _start_thread(self) -> None:
        try:
            self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        except OSError as full:
            raise LaunchError(
                "launcher",
                full.errno or errno.EIO,
                "no descriptor for its wake-ups",
                remedy="raise the limit on open files",
            ) from None
        thread = threading.Thread(target=self._serve, name="oxgen-pool", daemon=True)
        try:
            thread.start()
        except RuntimeError as refused:
            os.close(self._bell)
            raise LaunchError(
                "launcher",
                errno.EAGAIN,
                f"the thread of its pool cannot start: {refused}",
                remedy="raise the limit on processes and threads",
            ) from None
        self._thread = thread

    # --- the thread -------------------------------------------------------------------------------

    def _serve(self) -> None:
        bell = self._bell
        try:
            while self._round(bell):
                continue
        except BaseException as broken:
            # Nobody may wait for a thread that is gone: all who do, and all who come, hear of it.
            self._failure = LaunchError("launcher", errno.EIO, f"the pool has failed: {broken!r}")
        self._end(bell, self._failure or UsageError("the launcher is closed"))

    def _round(self, bell: int) -> bool:
        with self.lock:
            if self.closed:
                return False
            doomed, self._doomed = self._doomed, []
            jobs, self._jobs = self._jobs, []
            orders = self._plan(doomed)
        try:
            for job, future in jobs:
                _do(job, future)
            for cell in doomed:
                self._channel.destroy(cell)
            for sequence in orders:
                self._send(sequence)
            self._wait(bell)
            for answer in self._channel.answers():
                self._deliver(answer)
        except GoneError as gone:
            self._lost(gone.number)
        self._tend()
        return True

    def _wait(self, bell: int) -> None:
        poller = select.poll()
        poller.register(bell, select.POLLIN)
        if self._channel.native is not None:
            poller.register(self._channel.native.socket, select.POLLIN)
        with self.lock:
            patience = self._patience()
        poller.poll(patience)
        with self.lock:
            if self._rung:
                self._rung = False
                os.eventfd_read(bell)

    def _patience(self) -> int:
        """How long nothing needs to be looked at, in milliseconds."""
        seconds = 3600.0
        if len(self._all) > 0:
            # One that serves a run now may be idle a moment later: nobody rings for that.
            seconds = self.idle_seconds
        if self._idle:
            oldest = min(line[0].idle_since for line in self._idle.values())
            seconds = min(seconds, oldest + self.idle_seconds - time.monotonic())
        if self._making or len(self._queue) > 0:
            seconds = min(seconds, 0.25)
        return max(1, min(3_600_000, math.ceil(seconds * 1000)))

    def _plan(self, doomed: list[Cell]) -> list[int]:
        """Decide what is to be made; what has to go for it is added to ``doomed``."""
        orders: list[int] = []
        while self._busy() < self.cells:
            ticket = self._queue.first(self._busy_of_tenants())
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
            self._queue.served(ticket)
        if len(self._queue) == 0:
            self._plan_ahead(orders)
        return orders

    def _claim(self, ticket: Ticket) -> bool:
        """Let it have a cell that is being made ahead for its tenancy."""
        for making in self._making.values():
            if making.recipe is ticket.recipe and making.claimant() is None:
                making.ticket = weakref.ref(ticket)
                ticket.claimed = True
                return True
        return False

    def _make_room(self, tenancy: Tenancy, doomed: list[Cell]) -> bool:
        """Evict the tenancy whose last run is longest ago, if there are too many cells."""
        if len(self._all) + len(self._making) < self._total:
            return True
        others = [line for owner, line in self._idle.items() if owner != tenancy]
        if not others:
            return False
        line = min(others, key=lambda one: one[-1].idle_since)
        victim = line.pop(0)
        self._wanted.pop(victim.tenancy, None)
        if not line:
            del self._idle[victim.tenancy]
        self._all.discard(victim)
        doomed.append(victim)
        return True

    def _plan_ahead(self, orders: list[int]) -> None:
        for tenancy, count in list(self._wanted.items()):
            recipe = self._recipes.get(tenancy)
            if recipe is None:
                del self._wanted[tenancy]
                continue
            unclaimed = sum(
                1
                for one in self._making.values()
                if one.recipe is recipe and one.claimant() is None
            )
            lacking = count - unclaimed - len(self._idle.get(tenancy, ()))
            room = self._total - len(self._all) - len(self._making)
            for _ in range(min(lacking, room)):
                orders.append(self._order(recipe, None))

    def _order(self, recipe: Recipe, ticket: Ticket | None) -> int:
        self._sequence = (self._sequence + 1) & 0xFFFFFFFF
        self._making[self._sequence] = _Making(recipe, ticket)
        if ticket is not None:
            ticket.claimed = True
        return self._sequence

    def _send(self, sequence: int) -> None:
        making = self._making[sequence]
        making.tries += 1
        making.deadline = time.monotonic() + _CELL_SECONDS
        try:
            self._channel.request(making.recipe, sequence)
        except OxgenError as refused:
            self._fail(sequence, refused)

    def _fail(self, sequence: int, failure: OxgenError) -> None:
        with self.lock:
            making = self._making.pop(sequence, None)
            if making is None:
                return
            # Not again by ourselves: who comes next asks for one, and hears why there is none.
            self._wanted.pop(making.recipe.tenancy, None)
            ticket = making.claimant()
            if ticket is not None:
                ticket.settle(None, failure)

    def _deliver(self, answer: Answer) -> None:
        if answer.failure is not None:
            self._fail(answer.sequence, answer.failure)
            return
        with self.lock:
            making = self._making.pop(answer.sequence, None)
            if making is None:
                return  # collected, and ended by that
            cell = Cell(making.recipe, answer.native, self._channel.native)
            self._all.add(cell)
            ticket = making.claimant()
            if ticket is not None:
                ticket.settle(cell, None)
                if self.ahead:
                    self._want(cell.recipe, self.cells)
            else:
                self.put_back(cell)

    def _lost(self, number: int) -> None:
        """The launcher is dead: its cells are, and what was asked of it is asked of a new one."""
        with self.lock:
            for cells in self._idle.values():
                for cell in cells:
                    self._all.discard(cell)
                    lib.ox_cell_forget(cell.native)
            self._idle.clear()
            pending = list(self._making)
        self._channel.stop()
        for sequence in pending:
            making = self._making[sequence]
            if making.tries >= _TRIES or making.claimant() is None:
                self._fail(sequence, refusals.of_cell("launcher", number))
                continue
            try:
                self._send(sequence)
            except GoneError:
                self._fail(sequence, refusals.of_cell("launcher", number))

    def _tend(self) -> None:
        """Look at deadlines: of those who wait, of the launcher, of cells that nobody uses."""
        now = time.monotonic()
        with self.lock:
            for ticket in self._queue:
                if now >= ticket.deadline:
                    ticket.settle(None, self.no_turn())
            late = any(now >= one.deadline for one in self._making.values())
            for tenancy, line in list(self._idle.items()):
                while line and now >= line[0].idle_since + self.idle_seconds:
                    cell = line.pop(0)
                    self._wanted.pop(tenancy, None)
                    self._all.discard(cell)
                    self._doomed.append(cell)
                    self._ring()
                if not line:
                    del self._idle[tenancy]
        if late:
            # The answer is still to come or never will: this launcher cannot be talked to.
            self._lost(errno.ETIMEDOUT)

    def _end(self, bell: int, failure: OxgenError) -> None:
        with self.lock:
            self.closed = True
            for ticket in self._queue:
                ticket.settle(None, failure)
            for making in self._making.values():
                claimant = making.claimant()
                if claimant is not None:
                    claimant.settle(None, failure)
            cells = [*self._doomed, *(one for line in self._idle.values() for one in line)]
            jobs, self._jobs = self._jobs, []
            self._idle.clear()
            self._making.clear()
            self._doomed.clear()
            self._bell = -1
            self._rung = True  # nobody is to ring any more
        for cell in cells:
            lib.ox_cell_forget(cell.native)
        for _, future in jobs:
            future.set_exception(failure)
        self._channel.stop()
        os.close(bell)


def _do(job: Callable[[], Any], future: Future[Any]) -> None:
    try:
        future.set_result(job())
    except Exception as failure:
        # Not lost: whoever asked for it gets it.
        future.set_exception(failure)
