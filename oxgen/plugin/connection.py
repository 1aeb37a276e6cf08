"""Connection: the socket pair between one plugin and its broker."""

from __future__ import annotations

import errno
import socket
import threading
from typing import Protocol

from ..errors import LaunchError
from .service import service

__all__ = ["Connection", "Serves"]

_JOIN_SECONDS = 5.0


class Serves(Protocol):
    """What answers a plugin's calls."""

    def serve(self, connection: socket.socket) -> None:
        """Answer calls until the connection ends or ``close`` is called.

        Called once a run: in a thread of its own for the session when the plugin has written its
        first byte (the plugin speaks first), or, for a plugin that never did, when it has ended,
        with a connection that is at its end.
        """

    def close(self) -> None:
        """Make ``serve`` return."""


class Connection:
    """Both ends, and who answers at ours.

    Our copy of the plugin's end stays open until the plugin speaks: so its end alone wakes nobody.
    From then on only the plugin holds its end, and a broker that writes to one that is gone is told
    so (``EPIPE``).
    """

    __slots__ = ("__weakref__", "_begun", "_broker", "_ended", "_failure", "_ours", "_served", "theirs")

    def __init__(self, broker: Serves) -> None:
        self._broker = broker
        self._served = threading.Lock()
        self._served.acquire()
        self._failure: BaseException | None = None
        self._begun = self._ended = False
        service().get_ready()
        try:
            self._ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        except OSError as exc:
            raise LaunchError(
                "broker",
                exc.errno or errno.EMFILE,
                f"the plugin's connection cannot be made: {exc.strerror}",
                remedy="raise the limit of open files (ulimit -n), or run fewer at once",
            ) from exc

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *exc: object) -> None:
        self.end()

    @property
    def number(self) -> int:
        """The descriptor of our end."""
        return self._ours.fileno()

    def begin(self) -> None:
        """Serve from now on: the plugin has its end."""
        self._begun = True
        service().watch(self)

    def heard(self) -> None:
        """Serve, in a thread of the service."""
        try:
            self.theirs.close()
            self._broker.serve(self._ours)
        except BaseException as exc:
            self._failure = exc  # raised by `end`, in the thread that runs the plugin
        finally:
            self._served.release()

    def end(self) -> None:
        """Answer what the plugin wrote before it ended, then stop. May be called twice.

        Raises what the broker's ``serve`` raised.
        """
        if self._ended:
            return
        if self._begun:
            self._begun = False
            self._finish()
        self.theirs.close()
        self._broker.close()
        self._ours.close()
        self._ended = True
        if self._failure is not None:
            raise self._failure

    def _finish(self) -> None:
        # Withdrawn before anything is closed, or the end of the stream would wake a thread.
        if service().withdraw(self.number):
            # Nobody has the plugin's end any more but us, or it is no use to them.
            self._ours.shutdown(socket.SHUT_RD)
            if not self._ours.recv(1, socket.MSG_PEEK):
                self._broker.serve(self._ours)
                return
            service().watch(self)  # it spoke in its last moment
        # Everybody who could write is dead: the thread reads to the end of the stream.
        self.theirs.close()
        if not self._served.acquire(timeout=_JOIN_SECONDS):
            self._broker.close()
            self._served.acquire(timeout=_JOIN_SECONDS)
