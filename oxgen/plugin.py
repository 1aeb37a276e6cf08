"""Running plugins: an approved artifact, in a cell, with a broker beside it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from typing import Protocol

from . import _launch
from .errors import UsageError
from .integrity import Approved
from .limits import Limits
from .process import new_run_id
from .result import Completed
from .sandbox import Sandbox

__all__ = ["BROKER_DESCRIPTOR", "Serves", "run_plugin"]

#: The descriptor on which a plugin finds its broker.
BROKER_DESCRIPTOR = 3
_JOIN_SECONDS = 5.0


class Serves(Protocol):
    """What answers a plugin's calls."""

    def serve(self, connection: socket.socket) -> None:
        """Answer calls until the connection ends or ``close`` is called."""

    def close(self) -> None:
        """Make ``serve`` return."""


def run_plugin(
    approved: Approved,
    *,
    broker: Serves,
    token: str,
    limits: Limits | None = None,
    args: Sequence[str] = (),
    capture_output: bool = False,
    tenant: str = "",
    task_id: str | None = None,
    run_id: str | None = None,
    launcher: _launch.Launcher | None = None,
) -> Completed:
    """Run an approved plugin to its end and return how it ended.

    What starts is the sealed object that ``approve`` hashed. ``limits`` None takes the manifest's,
    else the default. The broker is served in a thread of its own for as long as the run lasts;
    ``token`` must be bound to ``run_id``. Raises as ``oxgen.run`` does.
    """
    if not isinstance(approved, Approved):
        raise UsageError(f"a plugin must have been approved, got {approved!r}")
    manifest = approved.manifest
    bounds = limits or manifest.limits or Limits()
    box = Sandbox(runtime=manifest.runtime)
    program = _launch.verified_program(
        approved.descriptor,
        approved.digest,
        entry=approved.entry,
        runtime=manifest.runtime,
        path=approved.path,
    )
    pool = launcher or _launch.default_launcher()
    with _Connection(broker) as connection:
        order = _launch.Order(
            args=(approved.entry, *args),
            program=program,
            sandbox=box,
            limits=bounds,
            run_id=run_id or new_run_id(),
            stdout=_launch.standard_stream(1, capture=capture_output),
            stderr=_launch.standard_stream(2, capture=capture_output),
            broker=connection.theirs.fileno(),
            env={
                "OXGEN_BROKER": f"fd:{BROKER_DESCRIPTOR}",
                "OXGEN_CAPABILITY_TOKEN": token,
            },
            task_id=task_id,
        )
        with _launch.under_way(pool, order, tenant=tenant) as (lease, execution):
            connection.begin()
            execution.run_to_end()
            if not capture_output:
                execution.flush(execution.patience())
            completed = execution.complete(on_end=connection.end)
    return lease.account(completed)


class _Connection:
    """The socket pair of one run and the thread that serves our end of it."""

    def __init__(self, broker: Serves) -> None:
        self._broker = broker
        self.ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._thread = threading.Thread(
            target=broker.serve, args=(self.ours,), name="oxgen-broker", daemon=True
        )

    def __enter__(self) -> _Connection:
        return self

    def begin(self) -> None:
        """Serve from now on. Our copy of the plugin's end closes: its end is the plugin's end."""
        self.theirs.close()
        self._thread.start()

    def end(self) -> None:
        """Answer what the plugin wrote before it ended, then stop."""
        if self._thread.ident is not None:
            # Everybody who could write is dead: the thread reads to the end of the stream.
            self._thread.join(_JOIN_SECONDS)
        self._broker.close()
        if self._thread.ident is not None:
            self._thread.join(_JOIN_SECONDS)
        self.ours.close()

    def __exit__(self, *exc: object) -> None:
        self.theirs.close()
        self.end()
