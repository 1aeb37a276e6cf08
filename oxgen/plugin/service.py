"""Service: the threads that answer plugins, shared by all runs of this process.

Most plugins say little and many say nothing, so no run has a thread of its own. The threads wait
together, in one epoll instance, for the first byte of any plugin (or its half-close); the one that
gets it serves that plugin alone, for as long as the session lasts, while another one goes on
waiting. So a plugin that floods its broker, or a host's own code that takes long to answer, holds
up its own run only, and a first call never waits for a thread to be made.
"""

from __future__ import annotations

import _thread
import contextlib
import errno
import os
import select
import threading
import weakref
from typing import Protocol

from ..errors import LaunchError

__all__ = ["IDLE_SECONDS", "Heard", "Service", "service"]

#: A thread that nobody needed for so long ends.
IDLE_SECONDS = 5.0
#: So many wait at most once there is nothing to do; one that has served ends if there are as many.
_IDLE_MOST = 4
_START_SECONDS = 5.0
#: EPOLLONESHOT: one thread is told, once. A forked child that still holds a connection's file keeps
#: the kernel's entry alive after we have closed ours (epoll(7), Q6), and must not make us spin.
_EVENTS = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLONESHOT


class Heard(Protocol):
    """Somebody whose first byte is waited for; a weak reference to it is kept."""

    @property
    def number(self) -> int:
        """The descriptor that is watched."""

    def heard(self) -> None:
        """The first byte is there: answer, in this thread, until the session ends."""


class Service:
    """One epoll instance and the threads that wait in it.

    A caller may be interrupted between any two steps: an entry whose owner is gone does nothing,
    and each entry is taken out by one thread only (``dict.pop``).
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._awaited: dict[int, weakref.ref[Heard]] = {}
        self._idle: set[threading.Thread] = set()
        self._starting = threading.Lock()

    def get_ready(self) -> None:
        """See to it that a thread waits; ``LaunchError`` where there can be none."""
        if not self._idle:
            self._start()

    def watch(self, plugin: Heard) -> None:
        """Have ``heard`` called when the first byte comes, at once if it is there."""
        number = plugin.number
        # First the entry, then the look at the threads; a thread that ends looks in the other
        # order, so that one of the two sees the other.
        self._awaited[number] = weakref.ref(plugin)
        self.get_ready()
        self._epoll.register(number, _EVENTS)

    def withdraw(self, number: int) -> bool:
        """Watch no more; False where a thread has begun to serve."""
        if self._awaited.pop(number, None) is None:
            return False
        self._leave(number)
        return True

    def _leave(self, number: int) -> None:
        # Before it is closed: of what a forked child still holds, the kernel would keep the entry.
        try:
            self._epoll.unregister(number)
        except FileNotFoundError:
            return  # an interrupt, or a look at an older event, came before it was registered

    def abandon(self) -> None:
        """After a fork, in the child: the threads are the parent's, and so are the entries."""
        self._epoll.close()

    def _start(self) -> None:
        with self._starting:
            if self._idle:
                return
            refused: list[RuntimeError] = []
            started = threading.Lock()
            started.acquire()
            try:
                # A thread that starts the thread: Thread.start() in a main thread that is
                # interrupted may leave one that ends with a traceback.
                _thread.start_new_thread(self._start_here, (started, refused))
                started.acquire(timeout=_START_SECONDS)
            except RuntimeError as exc:
                refused.append(exc)
            if refused:
                raise LaunchError(
                    "broker",
                    errno.EAGAIN,
                    "no thread can be started to answer the plugin",
                    remedy="raise the limit of processes (ulimit -u, pids.max), or run fewer",
                ) from refused[0]

    def _start_here(self, started: threading.Lock, refused: list[RuntimeError]) -> None:
        thread = threading.Thread(target=self._run, name="oxgen-broker", daemon=True)
        self._idle.add(thread)
        try:
            thread.start()
        except RuntimeError as exc:
            self._idle.discard(thread)
            refused.append(exc)
        finally:
            started.release()

    def _run(self) -> None:
        me = threading.current_thread()
        while True:
            self._idle.add(me)
            events = self._epoll.poll(IDLE_SECONDS, 1)
            self._idle.discard(me)
            if not events:
                if self._idle or not self._is_needed():
                    return
                continue
            self._serve(events[0][0])
            if len(self._idle) >= _IDLE_MOST:
                return

    def _is_needed(self) -> bool:
        # Of a run that was interrupted an entry may be left, until its number is used again.
        return any(entry() is not None for entry in list(self._awaited.values()))

    def _serve(self, number: int) -> None:
        # The number may be that of a later connection by now. That one is then served before it
        # has spoken, which costs a thread and changes nothing.
        entry = self._awaited.pop(number, None)
        plugin = None if entry is None else entry()
        if plugin is None:
            return
        self._leave(number)
        if not self._idle and self._is_needed():
            # Without one more thread the others are heard when this session ends; ``watch`` has
            # told the next caller.
            with contextlib.suppress(LaunchError):
                self._start()
        plugin.heard()


_service: Service | None = None
_making = threading.Lock()


def service() -> Service:
    """Return the threads of this process; they start when they are needed."""
    global _service
    if _service is None:
        with _making:
            if _service is None:
                _service = Service()
    return _service


def _after_fork_in_child() -> None:
    global _service, _making
    _making = threading.Lock()
    if _service is not None:
        _service.abandon()
        _service = None


os.register_at_fork(after_in_child=_after_fork_in_child)
