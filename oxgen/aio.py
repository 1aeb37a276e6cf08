"""The same for asyncio: ``run``, ``spawn`` and ``map``, without a thread for each run.

::

    from oxgen import aio

    done = await aio.run(["./scan"], limits=oxgen.Limits(wall_seconds=5))

All runs of an event loop are watched through one descriptor that it polls. ``asyncio.timeout`` and
``Task.cancel`` kill a run, and go on when everything it started is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import threading
import weakref
from collections import deque
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from types import TracebackType

from . import _launch
from .errors import OxgenError, UsageError
from .limits import Limits
from .living import Living
from .many import CONCURRENCY, check_concurrency, failed
from .process import new_run_id
from .request import Request
from .result import Completed
from .sandbox import Sandbox
from .values import check_bool, check_type

__all__ = ["Process", "map", "run", "spawn"]

_NOTHING = object()
_REQUESTS = "an iterable or asynchronous iterable of oxgen.Request"


async def run(
    args: Sequence[str | os.PathLike[str]],
    *,
    sandbox: Sandbox | None = None,
    limits: Limits | None = None,
    input: bytes | None = None,
    files: Mapping[str, bytes | os.PathLike[str]] | None = None,
    collect: Sequence[str] = (),
    capture_output: bool = True,
    check: bool = False,
    tenant: str = "",
    task_id: str | None = None,
    launcher: _launch.Launcher | None = None,
) -> Completed:
    """Run a program in a cell and wait until it and everything it started is gone.

    As ``oxgen.run``, but output is kept or, without ``capture_output``, dropped: it is not copied
    on. Cancelling the task kills the run and waits for its end, less than a second, before
    ``CancelledError`` goes on.
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
    crowd = _crowd()
    changed = asyncio.Event()
    job = _launch.Job(
        request,
        pool,
        new_run_id(),
        on_end=lambda _: changed.set(),
    )
    crowd.submit(job)
    await _until(lambda: job.ended, changed, lambda: crowd.cancel(job))
    completed = job.result()
    if check:
        completed.check_returncode()
    return completed


async def spawn(
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
    """Start a program in a cell and return once it has started; raises as ``run`` does."""
    request = Request(
        args,
        sandbox=sandbox,
        limits=limits,
        tenant=tenant,
        task_id=task_id,
        files=files,
        collect=collect,
    )
    process = Process(request, _crowd(), _launch.chosen_launcher(launcher))
    try:
        await process._start()
    except BaseException:
        await process.close()
        raise
    return process


async def map(
    requests: Iterable[Request] | AsyncIterable[Request],
    concurrency: int = CONCURRENCY,
    launcher: _launch.Launcher | None = None,
) -> AsyncIterator[Completed | Exception]:
    """Run requests, ``concurrency`` at once; iterate over the results as they come.

    As ``oxgen.map``; ``requests`` may be asynchronous as well. Leaving early kills what is under
    way and waits for it: at once with ``contextlib.aclosing``; after a mere ``break`` when the
    event loop gets to it.
    """
    check_concurrency(concurrency)
    check_type("requests", requests, (Iterable, AsyncIterable), _REQUESTS)
    launcher = _launch.check_launcher(launcher)
    crowd = _crowd()
    changed = asyncio.Event()
    source = _Source(requests, changed)
    running: set[_launch.Job] = set()
    ready: deque[Completed | Exception] = deque()

    def note(job: _launch.Job) -> None:
        if job not in running:
            return
        running.discard(job)
        if job.completed is not None:
            ready.append(job.completed)
        elif job.failure is not None:
            ready.append(failed(job.failure, job.request))
        changed.set()

    def cancel() -> None:
        for job in list(running):
            crowd.cancel(job)
            if job.ended:
                running.discard(job)  # it waited for a cell

    try:
        while True:
            changed.clear()
            room = len(running) + len(ready) < concurrency
            request = source.take() if source.is_open and room else _NOTHING
            if request is not _NOTHING:
                try:
                    if not isinstance(request, Request):
                        raise UsageError(f"requests must be oxgen.Request, got {request!r}")
                    pool = _launch.chosen_launcher(launcher)
                    job = _launch.Job(request, pool, new_run_id(), on_end=note)
                    crowd.submit(job)
                    running.add(job)  # it is news of a later step at the earliest
                except (OxgenError, OSError) as failure:
                    ready.append(failed(failure, request))
                    await asyncio.sleep(0)  # an endless supply of them must not hold up the loop
            elif not ready:
                if not source.is_open and not running:
                    return
                await changed.wait()
            if ready:
                yield ready.popleft()
    finally:
        cancel()
        try:
            await source.close()
        finally:
            await _until(lambda: not running, changed, cancel)


class Process:
    """A program that runs in a cell, for asyncio. Leaving the context kills the tree and reaps it.

    ``stdin`` is an ``asyncio.StreamWriter``, ``stdout`` and ``stderr`` are ``StreamReader``. Made
    by ``spawn``; belongs to the event loop that it was made in.
    """

    stdin: asyncio.StreamWriter
    stdout: asyncio.StreamReader
    stderr: asyncio.StreamReader

    def __init__(self, request: Request, crowd: _launch.Crowd, launcher: _launch.Launcher) -> None:
        self.args = request.words
        self.run_id = new_run_id()
        self._crowd = crowd
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._ended = asyncio.Event()
        self._started = False
        self._transports: list[asyncio.BaseTransport] = []
        #: Our ends of the pipes, by stream.
        self._ours: dict[int, int] = {}
        self._theirs: dict[int, int] = {}
        for stream in range(3):
            ends = os.pipe2(os.O_CLOEXEC)
            self._ours[stream], self._theirs[stream] = ends if stream == 0 else ends[::-1]
        for stream in (1, 2):
            os.set_blocking(self._ours[stream], False)
        source = _launch.Stream(mode="direct", descriptor=self._ours[0])
        out, err = (
            _launch.Stream(mode="copy", descriptor=self._ours[stream], exclusive=True)
            for stream in (1, 2)
        )
        self._job = _launch.Job(
            request,
            launcher,
            self.run_id,
            streams=(source, out, err),
            on_start=self._note_start,
            on_end=self._note_end,
        )
        _processes.add(self)

    async def _start(self) -> None:
        loop = self._loop
        readers = []
        for stream in (1, 2):
            reader = asyncio.StreamReader()
            file = os.fdopen(self._theirs.pop(stream), "rb", buffering=0)
            source, _ = await loop.connect_read_pipe(
                lambda reader=reader: asyncio.StreamReaderProtocol(reader),  # type: ignore[misc]
                file,
            )
            self._transports.append(source)
            readers.append(reader)
        self.stdout, self.stderr = readers
        sink, protocol = await loop.connect_write_pipe(
            lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()),
            os.fdopen(self._theirs.pop(0), "wb", buffering=0),
        )
        self._transports.append(sink)
        self.stdin = asyncio.StreamWriter(sink, protocol, None, loop)
        self._crowd.submit(self._job)
        await _until(lambda: self._started or self._job.ended, self._changed, self.kill)
        if not self._started:
            self._job.result()

    def _note_start(self, job: _launch.Job) -> None:
        self._started = True
        self._close_ours(0)
        self._changed.set()

    def _note_end(self, job: _launch.Job) -> None:
        self._started = self._started or job.completed is not None
        self._deliver()
        self._ended.set()
        self._changed.set()

    def _deliver(self) -> None:
        """Hand on what a slow reader has not taken yet; then it sees the end of its stream."""
        sinks = [fd for stream, fd in self._ours.items() if stream > 0]
        for fd in sinks:
            self._loop.remove_writer(fd)
        execution = self._job.execution
        if execution is None or _launch.deliver(execution):
            self._give_up_output()
            return
        poll = select.poll()
        for fd in sinks:
            poll.register(fd, select.POLLOUT)
        writable = {fd for fd, _ in poll.poll(0)}
        for fd in sinks:
            if fd not in writable:
                self._loop.add_writer(fd, self._deliver)
        if len(writable) == len(sinks):
            self._loop.call_soon(self._deliver)

    def _give_up_output(self) -> None:
        execution, self._job.execution = self._job.execution, None
        if execution is not None:
            execution.close()
        for stream in list(self._ours):
            self._close_ours(stream)

    def _close_ours(self, stream: int) -> None:
        fd = self._ours.pop(stream, -1)
        if fd >= 0:
            if stream > 0 and not self._loop.is_closed():
                self._loop.remove_writer(fd)
            os.close(fd)

    # --- the caller -------------------------------------------------------------------------------

    async def __aenter__(self) -> Process:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def returncode(self) -> int | None:
        """As ``Completed`` has it, None while it runs."""
        completed = self._job.completed
        return None if completed is None else completed.returncode

    def poll(self) -> Completed | None:
        """Return how the run ended, or None while it runs."""
        return self._job.result() if self._job.ended else None

    async def wait(self) -> Completed:
        """Wait for the end. Cancelling this leaves the run alone, unlike that of ``run``."""
        await self._ended.wait()
        return self._job.result()

    async def communicate(self, input: bytes = b"") -> tuple[bytes, bytes]:
        """Send ``input``, read stdout and stderr to their ends, wait for that of the run."""
        _, out, err = await asyncio.gather(
            self._feed(input), self.stdout.read(), self.stderr.read()
        )
        await self.wait()
        return out, err

    async def _feed(self, input: bytes) -> None:
        # A program that does not want the rest has ended, or closed its stdin: no error of ours.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.stdin.write(input)
            await self.stdin.drain()
        self.stdin.close()

    def kill(self) -> None:
        """Kill the program and everything it started; ``wait`` then says ``cancelled``."""
        self._crowd.cancel(self._job)
        if self._job.ended:
            self._ended.set()
            self._changed.set()

    async def close(self) -> None:
        """Kill what still runs, wait until it is gone, close the pipes. May be called twice."""
        self.kill()
        try:
            await _until(lambda: self._job.ended, self._changed, self.kill)
        finally:
            for transport in self._transports:
                transport.close()
            self._let_go()

    def _let_go(self) -> None:
        self._give_up_output()
        while self._theirs:
            os.close(self._theirs.popitem()[1])

    def __del__(self) -> None:
        # Its event loop is gone, and the keeper has ended the run.
        if getattr(self, "_ours", None):
            for fd in [*self._ours.values(), *self._theirs.values()]:
                os.close(fd)

    def _after_fork_in_child(self) -> None:
        while self._ours:
            os.close(self._ours.popitem()[1])


class _Source:
    """Where requests come from, whether or not they have to be waited for."""

    def __init__(
        self, requests: Iterable[Request] | AsyncIterable[Request], changed: asyncio.Event
    ) -> None:
        self.is_open = True
        self._changed = changed
        self._task: asyncio.Task[object] | None = None
        self._given: Iterator[object] | None = None
        self._waited: AsyncIterator[object] | None = None
        if isinstance(requests, AsyncIterable):
            self._waited = aiter(requests)
        else:
            self._given = iter(requests)

    def take(self) -> object:
        """Return the next one, ``_NOTHING`` when there is none yet, or no more (``is_open``)."""
        if self._given is not None:
            request = next(self._given, _NOTHING)
        elif self._task is None:
            self._task = asyncio.ensure_future(self._pull())
            self._task.add_done_callback(lambda _: self._changed.set())
            return _NOTHING
        elif not self._task.done():
            return _NOTHING
        else:
            task, self._task = self._task, None
            request = task.result()
        self.is_open = request is not _NOTHING
        return request

    async def _pull(self) -> object:
        assert self._waited is not None
        return await anext(self._waited, _NOTHING)

    async def close(self) -> None:
        """Stop waiting for the next one."""
        task, self._task = self._task, None
        self.is_open = False
        if task is not None:
            task.cancel()
            await asyncio.wait([task])


async def _until(
    condition: Callable[[], bool], changed: asyncio.Event, kill: Callable[[], object]
) -> None:
    """Wait until it holds. A task that is cancelled meanwhile kills, waits on, and then ends."""
    cancelled: asyncio.CancelledError | None = None
    while not condition():
        changed.clear()
        try:
            await changed.wait()
        except asyncio.CancelledError as caught:
            cancelled = caught
            kill()
        except BaseException:
            kill()  # the event loop is closed, nobody can wait: the keeper sees to the end
            raise
    if cancelled is not None:
        raise cancelled


_crowds: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _launch.Crowd] = (
    weakref.WeakKeyDictionary()
)
_crowds_lock = threading.Lock()
_processes: Living[Process] = Living()


def _crowd() -> _launch.Crowd:
    """Return the crowd of the running event loop."""
    loop = asyncio.get_running_loop()
    known = _crowds.get(loop)
    if known is not None and not known.is_closed:
        return known
    with _crowds_lock:
        for other in [one for one in _crowds if one.is_closed()]:
            _crowds.pop(other).close()
        # The crowd must not hold the loop: it is looked up by a weak one.
        reference = weakref.ref(loop)
        crowd = _launch.Crowd(owner_is_gone=lambda: _is_gone(reference))
        loop.add_reader(crowd.fd, crowd.step, 0)
        _crowds[loop] = crowd
    return crowd


def _is_gone(reference: weakref.ref[asyncio.AbstractEventLoop]) -> bool:
    loop = reference()
    return loop is None or loop.is_closed()


def _after_fork_in_child() -> None:
    global _crowds_lock
    _crowds_lock = threading.Lock()
    for process in list(_processes):
        process._after_fork_in_child()


os.register_at_fork(after_in_child=_after_fork_in_child)
