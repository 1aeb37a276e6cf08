"""Connection: the socket pair between one plugin and its broker."""

from __future__ import annotations

import _socket
import contextlib
import errno
import socket
import threading
from typing import Protocol

from ..errors import LaunchError
from .service import service

__all__ = ["Connection", "Serves"]

_JOIN_SECONDS = 5.0


class Serves(Protocol):
    """What answers a plugin's calls. The plugin speaks first."""

    def check_is_for(self, run_id: str) -> None:
        """Raise ``UsageError``, before anything starts, if it does not serve this run."""

    def serve(self, connection: socket.socket) -> None:
        """Answer calls until the connection ends or ``close`` is called, and close it.

        Called in a thread of its own for the session, when the plugin has written its first byte or
        closed its end.
        """

    def silent(self) -> None:
        """Take note that the plugin ended and never spoke: ``serve`` will not be called."""

    def close(self) -> None:
        """Make ``serve`` return."""


class Connection:
    """Both ends, and who answers at ours.

    Our copy of the plugin's end stays open until the plugin speaks: so its end alone wakes nobody.
    From then on only the plugin holds its end, and a broker that writes to one that is gone is told
    so (``EPIPE``).
    """

    __slots__ = (
        "__weakref__",
        "_begun",
        "_broker",
        "_ended",
        "_failure",
        "_ours",
        "_served",
        "_service",
        "_serving",
        "_theirs",
    )

    def __init__(self, broker: Serves) -> None:
        self._broker = broker
        self._served = threading.Lock()
        self._served.acquire()
        self._failure: BaseException | None = None
        self._begun = self._ended = False
        self._serving: socket.socket | None = None
        try:
            self._service = service()
            # Those of the C module: they own their descriptors from the first instant, whereas
            # socket.socketpair() has them as bare numbers for a moment, in which an interrupt
            # would leak them.
            self._ours, self._theirs = _socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        except OSError as exc:
            raise LaunchError(
                "broker",
                exc.errno or errno.EMFILE,
                f"the plugin's connection cannot be made: {exc.strerror}",
                remedy="raise the limit of open files (ulimit -n), or run fewer at once",
            ) from exc
        self._service.get_ready()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *exc: object) -> None:
        self.end()

    @property
    def number(self) -> int:
        """The descriptor of our end."""
        return self._ours.fileno()

    @property
    def theirs(self) -> int:
        """The descriptor of the plugin's end."""
        return self._theirs.fileno()

    def begin(self) -> None:
        """Serve from now on: the plugin has its end."""
        self._service.watch(self)
        # Not before: after an interrupt in between, nobody may ever come to serve.
        self._begun = True

    def heard(self) -> None:
        """Serve, in a thread of the service (where no interrupt is raised)."""
        try:
            self._theirs.close()
            number = self._ours.detach()
            if number < 0:
                return  # the run was interrupted in the moment in which this was begun
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, number) as ours:
                # It closes with the session whatever comes: a plugin must not wait for who is gone.
                self._serving = ours
                self._broker.serve(ours)
        except BaseException as exc:
            self._failure = exc  # raised by `end`, in the thread that runs the plugin
        finally:
            self._served.release()

    def end(self) -> None:
        """Answer what the plugin wrote before it ended, then stop. May be called twice.

        Raises what the broker raised.
        """
        if self._ended:
            return
        if self._begun:
            self._begun = False
            self._finish()
        else:
            self._service.withdraw(self._ours.fileno())
        self._theirs.close()
        self._broker.close()
        self._ours.close()
        self._ended = True
        if self._failure is not None:
            raise self._failure

    def _finish(self) -> None:
        # Withdrawn before anything is closed, or the end of the stream would wake a thread.
        if self._service.withdraw(self._ours.fileno()):
            # Nobody else has the plugin's end any more, or it is no use to them.
            self._ours.shutdown(socket.SHUT_RD)
            if not self._ours.recv(1, socket.MSG_PEEK):
                self._broker.silent()
                return
            self._service.watch(self)  # it spoke in its last moment
        # Everybody who could write is dead: the thread reads to the end of what they wrote. Copies
        # of their end may still be there, in flight or in a child that was forked off meanwhile: so
        # nobody waits for their end, nor for one of them to read.
        self._theirs.close()
        if self._serving is not None:
            with contextlib.suppress(OSError):  # it has ended
                self._serving.shutdown(socket.SHUT_RDWR)
        if not self._served.acquire(timeout=_JOIN_SECONDS):
            self._broker.close()
            self._served.acquire(timeout=_JOIN_SECONDS)
