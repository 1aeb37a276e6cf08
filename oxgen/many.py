"""Many runs at once: ``map``, from one thread."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Iterable, Iterator

from . import _launch
from .closing import Closes
from .errors import OxgenError, UsageError
from .process import new_run_id
from .request import Request
from .result import Completed
from .values import check_type

__all__ = ["CONCURRENCY", "Results", "check_concurrency", "failed", "map"]

#: How many requests are under way at once unless the caller says otherwise.
CONCURRENCY = 8


def map(
    requests: Iterable[Request],
    concurrency: int = CONCURRENCY,
    launcher: _launch.Launcher | None = None,
) -> Results:
    """Run requests, ``concurrency`` at once; iterate over the results as they come.

    Each result is a ``Completed``, or the exception of a request that never ran, whose attribute
    ``request`` is that request. ``requests`` may be endless: no more than ``concurrency`` are taken
    from it ahead of the results that were asked for. A cell is needed for each run: more than
    ``Launcher(cells=...)`` allows wait for their turn. Limits hold also while the caller is busy
    with a result. Leaving early (``close``, the end of a ``with``, an exception such as
    ``KeyboardInterrupt`` or one of ``requests`` itself) kills what is under way and waits for it.
    """
    check_type("requests", requests, Iterable, "an iterable of oxgen.Request")
    pool = _launch.check_launcher(launcher)
    return Results(iter(requests), check_concurrency(concurrency), pool)


def check_concurrency(concurrency: object) -> int:
    """Return it if it is a number of runs, else raise ``UsageError``."""
    if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
        raise UsageError(f"concurrency must be a whole number from 1 on, got {concurrency!r}")
    return concurrency


def failed(failure: Exception, request: object) -> Exception:
    """Return the exception with its request as an attribute."""
    failure.request = request  # type: ignore[attr-defined]
    return failure


class Results(Iterator["Completed | Exception"], Closes):
    """Results in the order in which they come; made by ``map``.

    For one thread at a time: ``next`` raises ``UsageError`` while another thread is in it.
    """

    def __init__(
        self, requests: Iterator[Request], concurrency: int, launcher: _launch.Launcher | None
    ) -> None:
        self._requests: Iterator[Request] | None = requests
        self._concurrency = concurrency
        self._launcher = launcher
        self._ready: deque[Completed | Exception] = deque()
        self._closed = False
        #: The thread that is taking a result, under "thread".
        self._taking: dict[str, int] = {}
        # When nobody holds this any more, the keeper ends what is under way: a ``__del__`` is
        # Python code, in which the exception of a signal handler would be lost.
        myself = weakref.ref(self)
        self._crowd = _launch.Crowd(owner_is_gone=lambda: myself() is None)

    def __iter__(self) -> Results:
        return self

    def __next__(self) -> Completed | Exception:
        if self._closed:
            raise StopIteration
        me = threading.get_ident()
        if self._taking.setdefault("thread", me) != me:
            raise UsageError("another thread is taking a result: results are for one at a time")
        try:
            return self._next()
        finally:
            self._taking.clear()

    def _next(self) -> Completed | Exception:
        try:
            self._crowd.check()
            while True:
                taken = self._take_one()
                running = len(self._crowd)
                if running > 0:
                    # Others may be taken: look only, so that cells do not wait for one another.
                    self._gather(0 if taken or self._ready else None)
                if self._ready:
                    return self._ready.popleft()
                if self._requests is None and running == 0:
                    break
        except BaseException:
            self.close()
            raise
        self.close()
        raise StopIteration

    def close(self) -> None:
        """Kill what is under way and wait until it is gone; there are no more results."""
        self._closed = True
        self._requests = None
        self._ready.clear()
        self._crowd.close()

    def _take_one(self) -> bool:
        """Start the next request, if there may be one more; True when another may follow."""
        ahead = len(self._crowd) + len(self._ready)
        if self._requests is None or ahead >= self._concurrency:
            return False
        try:
            request = next(self._requests)
        except StopIteration:
            self._requests = None
            return False
        try:
            if not isinstance(request, Request):
                raise UsageError(f"requests must be oxgen.Request, got {request!r}")
            launcher = self._launcher or _launch.default_launcher()
            self._crowd.submit(_launch.Job(request, launcher, new_run_id()))
        except (OxgenError, OSError) as failure:
            self._ready.append(failed(failure, request))
        return ahead + 1 < self._concurrency

    def _gather(self, slice_ms: int | None) -> None:
        for job in self._crowd.step(slice_ms):
            if job.failure is not None:
                self._ready.append(failed(job.failure, job.request))
            elif job.completed is not None:
                self._ready.append(job.completed)
