"""Pool: the cells of one launcher, and who gets which."""

from __future__ import annotations

import errno
import math
import os
import select
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from ..errors import LaunchError, OxgenError, UnsupportedError, UsageError
from ..limits import MIB
from . import refusals
from .apart import run_apart
from .cells import Cell, Tenancy
from .channel import Answer, Channel, GoneError
from .channels import Channels
from .levels import confinement
from .native import lib
from .program import Program
from .stock import Stock
from .tickets import Ticket

__all__ = ["Pool", "PoolStats"]

#: How long the launcher may take to make one cell.
_CELL_SECONDS = 15.0
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
        self._ahead = ahead
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
        self.stock = Stock(cells=self.cells, ahead=self._ahead, queue=self._queue_bound)
        # More than there are: those that were given up are on their way to the launcher.
        self._channels = Channels(self._uids, 4 * self.stock.total + 8)
        self._doomed: list[Cell] = []
        self._jobs: list[tuple[Callable[[], Any], Future[Any]]] = []
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._bell = -1
        self._rung = False

    # --- for runs ---------------------------------------------------------------------------------

    def take(self, tenancy: Tenancy) -> Cell | None:
        """Return an idle cell of this tenancy, None when there is none or others wait."""
        with self.lock:
            self._check_open()
            cell = self.stock.take(tenancy)
            if cell is not None and self._ahead:
                self._ring()
            return cell

    def is_quiet(self) -> bool:
        """Whether at most one cell serves a run, and none is being made."""
        with self.lock:
            return self.stock.is_quiet()

    def ticket(self, tenancy: Tenancy, program: Program) -> Ticket:
        """Queue for a cell of this tenancy; raises ``LaunchError`` when the queue is full."""
        with self.lock:
            self._check_open()
            stock = self.stock
            recipe = stock.recipe(tenancy, program)
            ticket = Ticket(self, recipe, time.monotonic() + self.queue_seconds)
            # Those for whom a cell is free do not wait: they only pass through the queue.
            if not stock.queue.push(ticket, passing=max(0, self.cells - stock.busy())):
                raise LaunchError(
                    "queue",
                    errno.EAGAIN,
                    f"{self._queue_bound} runs wait for a cell already",
                    remedy="start fewer at once, or allow a longer queue or more cells",
                )
            try:
                self._dispatch()
                if not ticket.ready:
                    self._ring()
            except BaseException:
                ticket.withdraw()  # nobody will: a cell must not wait for it
                raise
        return ticket

    def is_empty(self, cell: Cell) -> bool:
        """Whether a cell whose processes are gone is as it was when it was new."""
        bound = cell.tenancy.memory_bytes
        slack = _SLACK_UNBOUNDED if bound is None else bound // 8
        return bool(lib.ox_cell_is_empty(cell.native, slack))

    def keep(self, cell: Cell) -> bool:
        """Take back a cell that is proved empty; False when it is of no use any more."""
        with self.lock:
            if self.closed or self._channels.of(cell) is None:
                return False
            self.put_back(cell)
            return True

    def put_back(self, cell: Cell) -> None:
        """Let a clean cell wait for its next run. The lock is held."""
        self.stock.put_back(cell)
        if self.stock.queue:
            self._dispatch()

    def discard(self, cell: Cell) -> None:
        """Have a cell taken apart, and another one made in its place. Nothing is waited for."""
        with self.lock:
            self.stock.all.discard(cell)
            if self.closed:
                lib.ox_cell_forget(cell.native)
                return
            self._doomed.append(cell)
            if not self._ahead:
                self.stock.want_one(cell.recipe)
            self._ring()

    def stats(self) -> PoolStats:
        """Return what the pool holds at this moment."""
        with self.lock:
            stock = self.stock
            return PoolStats(
                busy=stock.serving(),
                idle=stock.idle_count(),
                making=len(stock.making),
                waiting=sum(1 for _ in stock.queue),
            )

    def call(self, job: Callable[[Channel], Any]) -> Any:
        """Have the thread that talks to the launcher do something; returns what that returned."""
        future: Future[Any] = Future()
        with self.lock:
            self._check_open()
            self._jobs.append((lambda: job(self._channels.start(None)[0]), future))
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
        cells, channels, bell = list(self.stock.all) + self._doomed, self._channels, self._bell
        self._reset()
        channels.forget()
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

    def _dispatch(self) -> None:
        """Let those have idle cells whose turn it is; for the rest the thread has cells made."""
        if self.stock.dispatch():
            self._ring()

    def _ring(self) -> None:
        """Wake the thread, which is started if need be."""
        if self._thread is None:
            self._start_thread()
        if not self._rung:
            self._rung = True
            os.eventfd_write(self._bell, 1)

    def _start_thread(self) -> None:
        try:
            run_apart(self._start_apart)
        except OSError as full:
            raise LaunchError(
                "launcher", full.errno or errno.EIO, "no descriptor for its wake-ups"
            ) from None
        except RuntimeError as refused:
            raise LaunchError(
                "launcher",
                errno.EAGAIN,
                f"the thread of its pool cannot start: {refused}",
                remedy="raise the limit on processes and threads",
            ) from None

    def _start_apart(self) -> None:
        with self._starting:
            if self._thread is not None:
                return
            if self._bell < 0:
                self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            thread = threading.Thread(target=self._serve, name="oxgen-pool", daemon=True)
            thread.start()
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
        if self.closed:
            return False
        self._act()
        for channel in self._wait(bell):
            try:
                for answer in channel.answers():
                    self._deliver(channel, answer)
            except GoneError as gone:
                self._lost(channel, gone.number)
        self._tend()
        return True

    def _act(self) -> None:
        """Do what there is to do. A method of its own: nothing of it is held while we wait."""
        with self.lock:
            given_up, self._doomed = self._doomed, []
            jobs, self._jobs = self._jobs, []
            orders, evicted = self.stock.plan()
        for job, future in jobs:
            _do(job, future)
        for cell in (*given_up, *evicted):
            self._destroy(cell)
        for sequence in orders:
            self._order(sequence)

    def _destroy(self, cell: Cell) -> None:
        channel = self._channels.of(cell)
        # The cell of a launcher that is gone has ended with it; its number is another's now.
        if channel is None:
            lib.ox_cell_forget(cell.native)
            return
        try:
            channel.destroy(cell)
        except GoneError as gone:
            self._lost(channel, gone.number)

    def _wait(self, bell: int) -> list[Channel]:
        """Wait for the bell, a launcher or the next deadline; returns the launchers with news."""
        sockets = {one.native.socket: one for one in self._channels.running()}
        poller = select.poll()
        poller.register(bell, select.POLLIN)
        for socket in sockets:
            poller.register(socket, select.POLLIN)
        with self.lock:
            patience = self._patience()
        news = poller.poll(patience)
        with self.lock:
            if self._rung:
                self._rung = False
                os.eventfd_read(bell)
        return [sockets[descriptor] for descriptor, _ in news if descriptor in sockets]

    def _patience(self) -> int:
        """How long nothing needs to be looked at, in milliseconds."""
        stock = self.stock
        seconds = 3600.0
        if stock.count() > 0:
            # One that serves a run now may be idle a moment later: nobody rings for that.
            seconds = self.idle_seconds
        oldest = stock.oldest()
        if oldest is not None:
            seconds = min(seconds, oldest + self.idle_seconds - time.monotonic())
        if stock.making or stock.queue:
            seconds = min(seconds, 0.25)
        return max(1, min(3_600_000, math.ceil(seconds * 1000)))

    def _order(self, sequence: int) -> None:
        try:
            self._send(sequence)
        except GoneError as gone:
            channel = self.stock.making[sequence].channel
            assert channel is not None
            self._lost(channel, gone.number)

    def _send(self, sequence: int) -> None:
        making = self.stock.making[sequence]
        making.tries += 1
        making.deadline = time.monotonic() + _CELL_SECONDS
        tenancy = making.recipe.tenancy
        try:
            channel, better = self._channels.start(
                tenancy.demand.level, system=making.recipe.program.needed.system
            )
            making.channel = channel
            making.confinement = confinement(tenancy, channel.native, better)
            channel.request(making.recipe, sequence)
        except OxgenError as refused:
            self._fail(sequence, refused)

    def _fail_or_retry(self, channel: Channel, sequence: int, failure: OxgenError) -> None:
        """A file that was replaced on its way into the cell costs one more try, not the run; and
        what the machine refuses at one level is tried at the next."""
        making = self.stock.making.get(sequence)
        if (
            making is not None
            and isinstance(failure, UnsupportedError)
            and self._channels.falls(channel, making.recipe, failure)
        ):
            self._send(sequence)
            return
        gone = isinstance(failure, LaunchError) and failure.errno == errno.ENOENT
        if making is None or not gone or making.tries >= _TRIES:
            self._fail(sequence, failure)
            return
        try:
            making.recipe.program.preserve()
        except OxgenError as refused:
            self._fail(sequence, refused)
        else:
            self._send(sequence)  # which opens by their paths whatever else is mounted

    def _fail(self, sequence: int, failure: OxgenError) -> None:
        making = self.stock.making.get(sequence)
        if making is not None and isinstance(failure, UnsupportedError):
            failure = self._channels.advised(failure, making.recipe)
        with self.lock:
            ticket = self.stock.dropped(sequence)
            if ticket is not None:
                ticket.settle(None, failure)

    def _deliver(self, channel: Channel, answer: Answer) -> None:
        if answer.failure is not None:
            self._fail_or_retry(channel, answer.sequence, answer.failure)
            return
        with self.lock:
            making = self.stock.making.pop(answer.sequence, None)
            if making is None:
                return  # collected, and ended by that
            assert making.confinement is not None
            cell = Cell(making.recipe, answer.native, channel.native, making.confinement)
            if self.stock.arrived(making, cell):
                self._dispatch()

    def _lost(self, channel: Channel, number: int) -> None:
        """The launcher is dead: its cells are, and what was asked of it is asked of a new one."""
        with self.lock:
            for cell in self.stock.clear_idle(channel.native):
                lib.ox_cell_forget(cell.native)
            pending = [at for at, one in self.stock.making.items() if one.channel is channel]
        channel.stop()
        for sequence in pending:
            making = self.stock.making[sequence]
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
            for ticket in self.stock.queue:
                if now >= ticket.deadline:
                    ticket.settle(None, self.no_turn())
            late = {
                one.channel
                for one in self.stock.making.values()
                if one.channel is not None and now >= one.deadline
            }
            expired = self.stock.expired(self.idle_seconds)
            if expired:
                self._doomed += expired
                self._ring()
        for channel in late:
            # The answer is still to come or never will: this launcher cannot be talked to.
            self._lost(channel, errno.ETIMEDOUT)

    def _end(self, bell: int, failure: OxgenError) -> None:
        with self.lock:
            self.closed = True
            for ticket in self.stock.waiting():
                ticket.settle(None, failure)
            cells = self._doomed + self.stock.clear_idle()
            jobs, self._jobs = self._jobs, []
            self.stock.making.clear()
            self._doomed.clear()
            self._bell = -1
            self._rung = True  # nobody is to ring any more
        for cell in cells:
            lib.ox_cell_forget(cell.native)
        for _, future in jobs:
            future.set_exception(failure)
        self._channels.stop()
        os.close(bell)


def _do(job: Callable[[], Any], future: Future[Any]) -> None:
    try:
        future.set_result(job())
    except Exception as failure:
        # Not lost: whoever asked for it gets it.
        future.set_exception(failure)
