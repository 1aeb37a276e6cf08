"""Artifacts: a verified plugin against the same program unverified, whatever its size.

A plugin that was approved is a sealed object: it is neither hashed nor copied again. What a plugin
has beside the launch is its broker, so there is a row without one (the manifest lists no
capability), one with a broker that does nothing, one with the real broker and a token, neither of
which the plugin talks to, and one with a plugin that says hello.
Two more approve a plugin without a broker for each launch: one that was approved before and has not
changed, and one that was touched in between, so that all of it is read and hashed.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import oxgen
from oxgen.broker import Broker
from oxgen.capabilities import AuditLog, Issuer, parse_capabilities
from oxgen.integrity import Approved, TrustRoot, approve, approve_files, keygen, sign_file
from oxgen.plugin import run_plugin
from oxgen.process import new_run_id

from .measure import Row, every, measure
from .ours import Ours, checked
from .targets import Workshop

__all__ = [
    "ALONE",
    "ANEW",
    "HELLO",
    "SEEN",
    "SIZES_MIB",
    "UNVERIFIED",
    "VERIFIED",
    "VERIFIED_BROKER",
    "measure_artifacts",
]

SIZES_MIB = (0.1, 2.0, 20.0, 100.0)
UNVERIFIED = "oxgen.run, unverified"
ALONE = "run_plugin, no capability and no broker"
VERIFIED = "run_plugin, broker does nothing"
VERIFIED_BROKER = "run_plugin, broker and token"
HELLO = "run_plugin, the plugin says hello"
SEEN = "approve and run_plugin, approved before"
ANEW = "approve and run_plugin, touched in between"
_PROVED = "run_plugin"


class _Idle:
    """A broker that answers nothing: it waits for the end of the plugin, if that ever speaks."""

    def check_is_for(self, run_id: str) -> None:
        """It serves any run."""

    def serve(self, connection: socket.socket) -> None:
        """Return when the plugin's end of the connection is closed."""
        while connection.recv(4096):
            continue

    def silent(self) -> None:
        """There was nothing to answer."""

    def close(self) -> None:
        """The end of the plugin is the end of the stream."""


class TrustedFolder:
    """A trust root in the workshop, with an operator's key."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "trust"
        (self.path / "keys").mkdir(parents=True, mode=0o755)
        self._secret = directory / "operator.key"
        keygen(self._secret, self.path / "keys" / "operator.pub")

    @property
    def root(self) -> TrustRoot:
        """The trust root as a host locates it."""
        return TrustRoot.locate(str(self.path))

    def add(
        self, name: str, program: str, capabilities: Sequence[str] = ("CAP_EMIT_FINDINGS",)
    ) -> Path:
        """Sign and approve a program as a plugin; return its folder."""
        folder = self.path / name
        folder.mkdir()
        shutil.copy(program, folder / "artifact")
        manifest = {
            "name": name,
            "version": "1.0",
            "entry": "plugin",
            "artifact": "artifact",
            "capabilities": list(capabilities),
            "runtime": "static",
        }
        (folder / "manifest.json").write_text(json.dumps(manifest))
        sign_file(folder / "artifact", self._secret)
        approve_files(self.root, folder)
        return folder


def _with_broker(
    approved: Approved, issuer: Issuer, audit: AuditLog, launcher: oxgen.Launcher
) -> oxgen.Completed:
    """Run a plugin as a scanner does: with a token of its own and the real broker."""
    run_id = new_run_id()
    broker = Broker(
        issuer=issuer,
        token_plugin=approved.name,
        run_id=run_id,
        flows=(),
        on_finding=lambda finding: None,
        audit=audit,
        config=approved.manifest.config,
    )
    token = issuer.grant(
        plugin=approved.name,
        run_id=run_id,
        capabilities=parse_capabilities(approved.manifest.capabilities),
    )
    return run_plugin(
        approved,
        broker=broker,
        token=token,
        run_id=run_id,
        capture_output=True,
        launcher=launcher,
    )


def _idle(approved: Approved, launcher: oxgen.Launcher) -> oxgen.Completed:
    return run_plugin(
        approved, broker=_Idle(), token="idle", capture_output=True, launcher=launcher
    )


def _unverified(program: str, launcher: oxgen.Launcher) -> oxgen.Completed:
    return oxgen.run([program], capture_output=True, launcher=launcher)


def _alone(approved: Approved, launcher: oxgen.Launcher) -> oxgen.Completed:
    return run_plugin(approved, capture_output=True, launcher=launcher)


def _approved(folder: Path, root: TrustRoot, launcher: oxgen.Launcher) -> oxgen.Completed:
    with approve(folder, root) as approved:
        return _alone(approved, launcher)


def _anew(folder: Path, root: TrustRoot, launcher: oxgen.Launcher) -> oxgen.Completed:
    os.utime(folder / "artifact")
    return _approved(folder, root, launcher)


def _row(way: str, size_mib: float, launch: Callable[[], oxgen.Completed]) -> Row:
    turn = every(lambda: checked(launch()))
    return Row(name=f"{way} @{size_mib:g}", kind="oxgen", turn=turn, disturbs=way == ANEW)


def measure_artifacts(
    workshop: Workshop,
    ours: Ours,
    *,
    seconds: float,
    sizes_mib: tuple[float, ...] = SIZES_MIB,
) -> dict[str, Any]:
    """Measure all ways at all sizes in turn."""
    trusted = TrustedFolder(workshop.directory)
    pool = ours.tenancy
    rows: list[Row] = []
    with ExitStack() as held:
        audit = held.enter_context(AuditLog(None))
        issuer = Issuer(audit=audit)
        probe = held.enter_context(approve(trusted.add("probe", ours.probe), trusted.root))
        ours.prove(_PROVED, pool, lambda _: _with_broker(probe, issuer, audit, pool))

        for number, size in enumerate(sizes_mib):
            program = workshop.padded(round(size * oxgen.MIB))
            folder = trusted.add(f"size-{number}", program)
            approved = held.enter_context(approve(folder, trusted.root))
            bare = trusted.add(f"alone-{number}", program, ())
            alone = held.enter_context(approve(bare, trusted.root))
            ways: dict[str, Callable[[], oxgen.Completed]] = {
                UNVERIFIED: partial(_unverified, program, pool),
                ALONE: partial(_alone, alone, pool),
                VERIFIED: partial(_idle, approved, pool),
                VERIFIED_BROKER: partial(_with_broker, approved, issuer, audit, pool),
                SEEN: partial(_approved, bare, trusted.root, pool),
                ANEW: partial(
                    _anew, trusted.add(f"touched-{number}", program, ()), trusted.root, pool
                ),
            }
            rows += [_row(way, size, launch) for way, launch in ways.items()]
        program = workshop.helper("hello")
        approved = held.enter_context(approve(trusted.add("hello", program), trusted.root))
        size = round(approved.size / oxgen.MIB, 2)
        rows += [
            _row(UNVERIFIED, size, partial(_unverified, program, pool)),
            _row(HELLO, size, partial(_with_broker, approved, issuer, audit, pool)),
        ]
        series = measure(rows, seconds)
    found = []
    for row in rows:
        way, _, text = row.name.rpartition(" @")
        figures = series.figures(row.name, {"to_unverified": f"{UNVERIFIED} @{text}"})
        found.append({"name": way, "artifact_mib": float(text)} | figures)
    return {"rows": found}
