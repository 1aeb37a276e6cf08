"""Run: an approved plugin, from its launch to its end."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

from .. import _launch
from ..errors import UsageError
from ..integrity import Approved
from ..limits import Limits
from ..manifest import Manifest
from ..process import new_run_id
from ..request import Request
from ..result import Completed
from ..sandbox import Runtime, Sandbox, is_encodable
from .connection import Connection, Serves

__all__ = ["BROKER_DESCRIPTOR", "run_plugin"]

#: The descriptor on which a plugin finds its broker.
BROKER_DESCRIPTOR = 3
_BROKER = f"fd:{BROKER_DESCRIPTOR}"
_LIMITS = Limits()


def run_plugin(
    approved: Approved,
    *,
    broker: Serves | None = None,
    token: str = "",
    sandbox: Sandbox | None = None,
    limits: Limits | None = None,
    args: Sequence[str] = (),
    files: Mapping[str, bytes | os.PathLike[str]] | None = None,
    collect: Sequence[str] = (),
    capture_output: bool = False,
    tenant: str = "",
    task_id: str | None = None,
    run_id: str | None = None,
    launcher: _launch.Launcher | None = None,
) -> Completed:
    """Run an approved plugin to its end and return how it ended.

    What starts is the sealed object that ``approve`` hashed. ``limits`` None takes the manifest's,
    else the default; of ``sandbox`` all holds but the runtime, which is the manifest's. The broker
    serves in a thread of its own from the plugin's first byte on; ``token`` must be bound to
    ``run_id``. A plugin whose manifest lists no capability can do without a broker and a token:
    then its descriptor 3 and both variables are missing. ``files`` and ``collect`` are as for
    ``oxgen.run``. Raises as ``oxgen.run`` does, ``UsageError`` where a broker is missing, and what
    ``serve`` raised.
    """
    if not isinstance(approved, Approved):
        raise UsageError(f"a plugin must have been approved, got {approved!r}")
    manifest = approved.manifest
    if isinstance(args, (str, bytes)) or not isinstance(args, Sequence):
        raise UsageError(f"args must be a sequence of text, got {args!r}")
    if not isinstance(token, str) or "\0" in token or not is_encodable(token):
        raise UsageError("token must be text without NUL, as Issuer.grant returns it")
    if broker is not None and not token:
        raise UsageError("token is empty: a broker serves nobody without one (Issuer.grant)")
    # Checks what it is given, as for any other run.
    request = Request(
        (manifest.entry, *args),
        sandbox=sandbox,
        limits=limits,
        capture_output=capture_output,
        tenant=tenant,
        task_id=task_id,
        files=files,
        collect=collect,
    )
    program = _program(approved)
    plan = _launch.plan_of(
        program,
        request.words,
        _sandbox(manifest.runtime, sandbox),
        limits or manifest.limits or _LIMITS,
        request.tenant,
    )
    order = _launch.standard_order(request, program, plan, run_id or new_run_id())
    pool = _launch.chosen_launcher(launcher)
    if broker is None:
        _check_needs_none(manifest, token)
        return _launch.carry_out(pool, order)
    broker.check_is_for(order.run_id)
    with Connection(broker) as connection:
        order.broker = connection.theirs
        order.env = {"OXGEN_BROKER": _BROKER, "OXGEN_CAPABILITY_TOKEN": token}
        return _launch.carry_out(pool, order, on_start=connection.begin, on_end=connection.end)


def _check_needs_none(manifest: Manifest, token: str) -> None:
    if manifest.capabilities or token:
        wants = ", ".join(manifest.capabilities) or "a token"
        raise UsageError(
            f"{manifest.name} has {wants} and no broker; give it one, only a plugin without"
            " capabilities can do without"
        )


def _program(approved: Approved) -> _launch.Program:
    """Return what starts the sealed bytes; it is kept with them, for the next run."""
    sealed = approved.sealed
    known = sealed.program
    if isinstance(known, _launch.Program):
        return known
    program = sealed.program = _launch.verified_program(
        sealed.descriptor,
        approved.digest,
        entry=approved.entry,
        runtime=approved.manifest.runtime,
        path=approved.path,
    )
    return program


@functools.lru_cache(maxsize=8)
def _sandbox(runtime: Runtime, base: Sandbox | None) -> Sandbox:
    return replace(base or Sandbox(), runtime=runtime)
