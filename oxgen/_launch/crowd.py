"""Crowd: many runs under way at once, for whom one thread is enough."""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections import deque
from collections.abc import Callable

from ..errors import LaunchError, LostError, OxgenError, UsageError
from ..living import Living
from ..request import Request
from ..result import Completed
from . import keeper
from .execution import Execution, interruptible_ms
from .files import Archive
from .launcher import Launcher, Lease, Turn
from .loop import Loop, deliver, kill_all
from .order import CAPTURE, NOTHING, Order, Plan, Stream, archive_of, planned
from .program import Program
from .turnlock import TurnLock

__all__ = ["Crowd", "Job"]

_OTHER_SLICE_MS = 1000
#: How long the keeper holds a crowd whose owner may come back.
_KEEPER_SLICE_MS = 20
#: How often somebody may press Ctrl-C while it waits for the ends of killed runs.
_CLOSE_TRIES = 100
_FORK_WAIT_SECONDS = 2.0
_TRIES = 2


class Job:
    """One run on its way: it waits for a cell, runs, and has ended.

    ``failure`` or ``completed`` say how, once it is ``ended``. ``on_start`` and ``on_end`` are
    called by ``Crowd.step``, with the job.
    """

    __slots__ = (
        "__weakref__",
        "cancelled",
        "completed",
        "copies",
        "ended",
        "execution",
        "failure",
        "files",
        "launcher",
        "lease",
        "on_end",
        "on_start",
        "plan",
        "program",
        "request",
        "run_id",
        "streams",
        "tries",
        "turn",
    )

    def __init__(
        self,
        request: Request,
        launcher: Launcher,
        run_id: str,
        *,
        streams: tuple[Stream, Stream, Stream] | None = None,
        on_start: Callable[[Job], object] | None = None,
        on_end: Callable[[Job], object] | None = None,
    ) -> None:
        self.request = request
        self.launcher = launcher
        self.run_id = run_id
        captured = CAPTURE if request.capture_output else NOTHING
        self.streams = (NOTHING, captured, captured) if streams is None else streams
        self.copies = streams is not None
        self.on_start = on_start
        self.on_end = on_end
        self.program: Program | None = None
        self.plan: Plan | None = None
        self.files: Archive | None = None
        self.turn: Turn | None = None
        self.lease: Lease | None = None
        self.execution: Execution | None = None
        self.completed: Completed | None = None
        self.failure: Exception | None = None
        self.ended = False
        self.cancelled = False
        self.tries = 0

    def result(self) -> Completed:
        """Return how it ended, or raise why it never ran."""
        if self.failure is not None:
            raise self.failure
        if self.completed is None:
            raise LaunchError("queue", 0, "was cancelled before it had a cell")
        return self.completed


class Crowd:
    """Runs under way, watched by whoever calls ``step``; by the keeper when nobody does.

    Everything but ``look_after`` is called by one owner, in one thread at a time.
    """

    def __init__(self, owner_is_gone: Callable[[], bool] | None = None) -> None:
        self._owner_is_gone = owner_is_gone
        self._lock = TurnLock()
        self._loop = Loop()
        self._jobs: set[Job] = set()
        self._running: dict[Execution, Job] = {}
        self._granted: deque[Job] = deque()
        self._heard: deque[Execution] = deque()
        self._news: deque[tuple[Job, bool]] = deque()
        self._poll = select.poll()
        self._poll.register(self._loop.fd, select.POLLIN)
        self._stepped = time.monotonic()
        self._closed = False
        self._foreign = False
        _crowds.add(self)

    @property
    def fd(self) -> int:
        """Readable when ``step`` has something to do."""
        return self._loop.fd

    @property
    def is_closed(self) -> bool:
        """Whether it takes no more jobs."""
        return self._closed

    def check(self) -> None:
        """Raise ``UsageError`` if it takes no jobs: it was closed, or is a forked parent's."""
        if self._foreign:
            raise UsageError("this process was forked off: the runs belong to its parent")
        if self._closed:
            raise UsageError("it is closed: its runs have ended")

    def __len__(self) -> int:
        """How many jobs ``step`` has still to tell of."""
        return len(self._jobs) + len(self._news)

    def submit(self, job: Job) -> None:
        """Open its program and start it in an idle cell, or queue for one; does not wait.

        Raises why it never ran; what goes wrong later is the job's ``failure``.
        """
        with self._lock:
            self.check()
            self._jobs.add(job)
            try:
                keeper.watch(self)
                job.program, job.plan = planned(job.request)
                job.files = archive_of(job.request)
                self._take_turn(job, job.program, job.plan)
            except BaseException:
                self._drop(job)
                raise

    def step(self, slice_ms: int | None = None) -> list[Job]:
        """Go on for at most this long; return the jobs that have ended.

        Without a slice, as long as signal handlers can wait for their turn.
        """
        if slice_ms is None:
            slice_ms = interruptible_ms(_OTHER_SLICE_MS)
        with self._lock:
            self.check()
            self._drive(0 if self._news else slice_ms)
            news, self._news = self._news, deque()
            self._stepped = time.monotonic()
        ended = []
        for job, has_ended in news:
            if has_ended:
                ended.append(job)
            callback = job.on_end if has_ended else job.on_start
            if callback is not None:
                callback(job)
        return ended

    def cancel(self, job: Job) -> None:
        """Have it end: a run is killed, and is news of ``step`` when it is gone; others at once."""
        with self._lock:
            if job.ended or job.cancelled or self._closed:
                return
            job.cancelled = True
            execution = job.execution
            if execution is None:
                if job.turn is not None:
                    job.turn.withdraw()
                self._end(job)
            elif not self._loop.cancel(execution) and execution not in self._heard:
                kill_all([execution])  # a signal handler's exception has kept it from being watched
                self._heard.append(execution)
                self._loop.wake()

    def close(self) -> None:
        """Kill what runs, wait until it is gone, give back all cells. May be called twice.

        An exception of a signal handler is passed on after that.
        """
        interrupt: BaseException | None = None
        for _ in range(_CLOSE_TRIES):
            try:
                with self._lock:
                    self._end_all()
                break
            except BaseException as caught:
                interrupt = caught
        if interrupt is not None:
            raise interrupt

    # --- the keeper -------------------------------------------------------------------------------

    def look_after(self) -> None:
        """Do what is overdue, if nobody does (the keeper's thread)."""
        if self._owner_is_gone is not None and self._owner_is_gone():
            self.close()
            return
        away = time.monotonic() - self._stepped
        if away < keeper.LOOK_SECONDS or not self._lock.acquire(0):
            return
        try:
            if not self._closed and self._poll.poll(0):
                with contextlib.suppress(OxgenError):  # the owner's next step raises it
                    self._drive(_KEEPER_SLICE_MS)
                if self._news:
                    self._loop.wake()
        finally:
            self._lock.release()

    # --- under the lock ---------------------------------------------------------------------------

    def _wake(self) -> None:
        if not self._closed:
            self._loop.wake()

    def _drive(self, slice_ms: int) -> None:
        self._start_granted()
        heard = self._heard
        self._loop.step(0 if self._news or heard else slice_ms, heard)
        # Each step may be repeated: an exception of a signal handler may come between any two.
        while heard:
            execution = heard[0]
            job = self._running.get(execution)
            if job is not None and execution.ended:
                self._finish(job, execution)
            elif job is not None:
                self._confirm(job, execution)
            heard.popleft()
        self._start_granted()

    def _start_granted(self) -> None:
        while self._granted:
            job = self._granted.popleft()
            if job.ended or job.turn is None:
                continue
            try:
                self._start(job, job.turn)
            except (OxgenError, OSError) as failure:
                self._end(job, failure)

    def _take_turn(self, job: Job, program: Program, plan: Plan) -> None:
        job.tries += 1
        turn = job.turn = Turn(job.launcher, program, plan.tenancy)
        if turn.ready:
            self._start(job, turn)
        else:
            turn.notify(lambda: self._grant(job))

    def _grant(self, job: Job) -> None:
        """Note that its turn has come (any thread)."""
        self._granted.append(job)
        self._loop.wake()

    def _start(self, job: Job, turn: Turn) -> None:
        program, plan, request = job.program, job.plan, job.request
        assert program is not None and plan is not None
        job.lease = turn.lease()
        job.turn = None
        order = Order(
            program=program,
            plan=plan,
            run_id=job.run_id,
            input=request.input,
            stdin=job.streams[0],
            stdout=job.streams[1],
            stderr=job.streams[2],
            task_id=request.task_id,
            confirm=job.on_start is not None,
            files=job.files,
            collect=request.collect,
        )
        try:
            execution = Execution(job.lease, order)
        except LostError:
            # The cell was dead before the request reached it: that costs one more try.
            self._give_back(job)
            if job.tries >= _TRIES:
                raise
            self._take_turn(job, program, plan)
            return
        job.execution = execution
        self._running[execution] = job
        self._loop.add(execution)

    def _confirm(self, job: Job, execution: Execution) -> None:
        self._loop.add(execution)
        if job.cancelled:
            self._loop.cancel(execution)
        self._news.append((job, False))

    def _finish(self, job: Job, execution: Execution) -> None:
        failure: Exception | None = None
        lease = job.lease
        try:
            if job.completed is None:
                job.completed = execution.complete()
            self._give_back(job)
            if lease is not None:
                job.completed = lease.account(job.completed)
        except (OxgenError, OSError) as caught:
            failure = caught
        self._end(job, failure)

    def _end(self, job: Job, failure: Exception | None = None) -> None:
        if failure is not None:
            job.failure, job.completed = failure, None
        self._drop(job)
        self._news.append((job, True))

    def _drop(self, job: Job) -> None:
        """Release what a job holds, but for an execution that still has output to deliver."""
        job.ended = True
        execution = job.execution
        if execution is not None:
            self._running.pop(execution, None)
            if job.failure is not None or not job.copies or deliver(execution):
                execution.close()
                job.execution = None
        self._give_back(job)
        job.turn = None
        job.program = job.plan = job.files = None
        self._jobs.discard(job)
        if not self._jobs:
            keeper.unwatch(self)

    def _give_back(self, job: Job) -> None:
        if job.lease is not None:
            job.lease.give_back()
            job.lease = None

    def _end_all(self) -> None:
        if self._closed:
            return
        for job in self._jobs:
            if job.turn is not None:
                job.turn.withdraw()
        self._loop.close()  # nobody wakes it any more
        running = [job.execution for job in self._jobs if job.execution is not None]
        kill_all(running)
        for execution in running:
            if execution.native_run is not None:
                with contextlib.suppress(OxgenError):
                    execution.complete()  # says whether its cell may serve again
        for job in list(self._jobs):
            self._drop(job)
        self._closed = True
        keeper.unwatch(self)
        for rest in (self._granted, self._heard, self._news, self._running):
            rest.clear()

    # --- forks ------------------------------------------------------------------------------------

    def hold_for_fork(self) -> bool:
        """Have no thread inside the C loop while the process forks."""
        return self._lock.acquire(_FORK_WAIT_SECONDS, meanwhile=self._wake)

    def release_after_fork(self) -> None:
        """Go on, in the parent."""
        self._lock.release()

    def let_go_after_fork(self, held: bool) -> None:
        """In the child: the runs are the parent's."""
        self._lock = TurnLock()
        self._foreign = self._closed = True
        if held:
            self._loop.close()
        for job in self._jobs:
            job.execution = job.lease = job.turn = None
        self._jobs.clear()
        self._running.clear()
        self._granted.clear()
        self._news.clear()


_crowds: Living[Crowd] = Living()
_held: list[tuple[Crowd, bool]] = []


def _before_fork() -> None:
    _held[:] = [(crowd, crowd.hold_for_fork()) for crowd in list(_crowds)]


def _after_fork_in_parent() -> None:
    for crowd, held in _held:
        if held:
            crowd.release_after_fork()
    _held.clear()


def _after_fork_in_child() -> None:
    for crowd, held in _held:
        crowd.let_go_after_fork(held)
    _held.clear()


os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
