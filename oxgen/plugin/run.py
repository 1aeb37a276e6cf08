"""Run: an approved plugin, from its launch to its end."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from .. import _launch
from ..errors import UsageError
from ..integrity import Approved
from ..limits import Limits
from ..process import new_run_id
from ..result import Completed
from ..sandbox import Runtime, Sandbox
from .connection import Connection, Serves

__all__ = ["BROKER_DESCRIPTOR", "run_plugin"]

#: The descriptor on which a plugin finds its broker.
BROKER_DESCRIPTOR = 3
_BROKER = f"fd:{BROKER_DESCRIPTOR}"
_LIMITS = Limits()


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
    else the default. The broker serves in a thread of its own from the plugin's first byte on;
    ``token`` must be bound to ``run_id``. Raises as ``oxgen.run`` does, and what ``serve`` raised.
    """
    if not isinstance(approved, Approved):
        raise UsageError(f"a plugin must have been approved, got {approved!r}")
    manifest = approved.manifest
    bounds = limits or manifest.limits or _LIMITS
    runtime = manifest.runtime
    program = _program(approved.descriptor, approved.digest, manifest.entry, runtime, approved.path)
    pool = launcher or _launch.default_launcher()
    with Connection(broker) as connection:
        order = _launch.Order(
            args=(manifest.entry, *args),
            program=program,
            sandbox=_sandbox(runtime),
            limits=bounds,
            run_id=run_id or new_run_id(),
            stdout=_launch.standard_stream(1, capture=capture_output),
            stderr=_launch.standard_stream(2, capture=capture_output),
            broker=connection.theirs,
            env={"OXGEN_BROKER": _BROKER, "OXGEN_CAPABILITY_TOKEN": token},
            task_id=task_id,
        )
        with _launch.under_way(pool, order, tenant=tenant) as (lease, execution):
            connection.begin()
            execution.run_to_end()
            if not capture_output:
                execution.flush(execution.patience())
            completed = execution.complete(on_end=connection.end)
    return lease.account(completed)


@functools.lru_cache(maxsize=256)
def _program(
    descriptor: int, digest: str, entry: str, runtime: Runtime, path: str
) -> _launch.Program:
    # A value made of these words alone: a descriptor's number may come to mean other bytes, but
    # then the digest, which the caller has from the very same object, is another one too.
    return _launch.verified_program(descriptor, digest, entry=entry, runtime=runtime, path=path)


@functools.lru_cache(maxsize=8)
def _sandbox(runtime: Runtime) -> Sandbox:
    return Sandbox(runtime=runtime)
