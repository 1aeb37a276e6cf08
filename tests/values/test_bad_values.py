"""Bad values are refused by every public function with ``UsageError``, which names the value.

The table holds what callers of every public name really passed by mistake; the twin of each row is
a good value, which is accepted by the same function elsewhere in these tests.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import oxgen
from oxgen import Launcher, Limits, Mount, Request, Sandbox, UsageError, aio, broker, capabilities
from oxgen import findings as finds
from oxgen import integrity as trust
from oxgen.manifest import parse_manifest
from oxgen.plugin import run_plugin

TRUE = ["/bin/true"]
ISSUER, AUDIT = capabilities.Issuer(), capabilities.AuditLog(None)


class NumberPath:
    """A path whose text is none."""

    def __fspath__(self) -> Any:
        return 3

    def __repr__(self) -> str:
        return "NumberPath()"


ODD = NumberPath()


def _soon(make: Callable[[], Any]) -> Callable[[], Any]:
    async def go() -> Any:
        return await make()

    return lambda: asyncio.run(go())


def _each(*args: Any, **options: Any) -> Callable[[], Any]:
    async def go() -> None:
        async for _ in aio.map(*args, **options):
            pass

    return lambda: asyncio.run(go())


def _broker(**wrong: Any) -> Callable[[], Any]:
    good: dict[str, Any] = {
        "issuer": ISSUER,
        "token_plugin": "p",
        "run_id": "r",
        "flows": None,
        "on_finding": print,
        "audit": AUDIT,
    }
    return lambda: broker.Broker(**{**good, **wrong})


def _starts(option: str, value: Any) -> dict[str, Callable[[], Any]]:
    """The same option of every function that starts a program."""
    return {
        f"run {option}": lambda: oxgen.run(TRUE, **{option: value}),
        f"spawn {option}": lambda: oxgen.spawn(TRUE, **{option: value}),
        f"aio.run {option}": _soon(lambda: aio.run(TRUE, **{option: value})),
        f"aio.spawn {option}": _soon(lambda: aio.spawn(TRUE, **{option: value})),
    }


#: "function what" to a call; what stands in the message too.
CALLS: dict[str, Callable[[], Any]] = {
    **_starts("launcher", 3),
    **{f"{name} (falsy)": call for name, call in _starts("launcher", {}).items()},
    **_starts("sandbox", {}),
    **_starts("limits", {}),
    **_starts("tenant", 3),
    **_starts("task_id", 3),
    "run args": lambda: oxgen.run("true"),
    "run args (empty)": lambda: oxgen.run([]),
    "run args (path)": lambda: oxgen.run([ODD]),  # type: ignore[list-item]
    "run input": lambda: oxgen.run(TRUE, input="text"),  # type: ignore[arg-type]
    "run capture_output": lambda: oxgen.run(TRUE, capture_output="no"),  # type: ignore[arg-type]
    "run check": lambda: oxgen.run(TRUE, check="no"),  # type: ignore[arg-type]
    "spawn args": lambda: oxgen.spawn("true"),
    "aio.run args": _soon(lambda: aio.run([])),
    "aio.run check": _soon(lambda: aio.run(TRUE, check="no")),  # type: ignore[arg-type]
    "aio.spawn args": _soon(lambda: aio.spawn("true")),
    "probe sandbox": lambda: oxgen.probe({}),  # type: ignore[arg-type]
    "probe limits": lambda: oxgen.probe(None, "x"),  # type: ignore[arg-type]
    "map requests": lambda: oxgen.map(None),  # type: ignore[arg-type]
    "map requests (number)": lambda: oxgen.map(3),  # type: ignore[arg-type]
    "map concurrency": lambda: oxgen.map([], concurrency="x"),  # type: ignore[arg-type]
    "map launcher": lambda: oxgen.map([], launcher=3),  # type: ignore[arg-type]
    "aio.map requests": _each(3),
    "aio.map concurrency": _each([], concurrency=0),
    "aio.map launcher": _each([], launcher={}),
    "Request args": lambda: Request(3),  # type: ignore[arg-type]
    "Sandbox env": lambda: Sandbox(env=3),  # type: ignore[arg-type]
    "Sandbox env (pairs)": lambda: Sandbox(env=[("A", "b")]),  # type: ignore[arg-type]
    "Sandbox runtime": lambda: Sandbox(runtime=[]),  # type: ignore[arg-type]
    "Sandbox level": lambda: Sandbox(level=[]),  # type: ignore[arg-type]
    "Sandbox cwd": lambda: Sandbox(cwd=3),  # type: ignore[arg-type]
    "Sandbox enforce": lambda: Sandbox(enforce="require"),  # type: ignore[arg-type]
    "Sandbox enforce_except": lambda: Sandbox(enforce_except=3),  # type: ignore[arg-type]
    "Sandbox enforce_except (text)": lambda: Sandbox(enforce_except="disk"),  # type: ignore[arg-type]
    "Sandbox enforce_except (unknown)": lambda: Sandbox(enforce_except=("disc",)),
    "Sandbox mounts": lambda: Sandbox(mounts=3),  # type: ignore[arg-type]
    "Sandbox mounts (text)": lambda: Sandbox(mounts="/usr"),  # type: ignore[arg-type]
    "Sandbox mounts (a text in it)": lambda: Sandbox(mounts=("/usr",)),  # type: ignore[arg-type]
    "Sandbox network": lambda: Sandbox(network=[]),  # type: ignore[arg-type]
    "Sandbox exec_tmp": lambda: Sandbox(exec_tmp=1),  # type: ignore[arg-type]
    "Mount source": lambda: Mount(3),  # type: ignore[arg-type]
    "Mount source (odd path)": lambda: Mount(ODD),
    "Mount source (relative)": lambda: Mount("usr"),
    "Mount destination": lambda: Mount("/usr", 3),  # type: ignore[arg-type]
    "run files": lambda: oxgen.run(TRUE, files=3),  # type: ignore[arg-type]
    "run files (a number as content)": lambda: oxgen.run(TRUE, files={"a": 3}),  # type: ignore[dict-item]
    "run files (odd path)": lambda: oxgen.run(TRUE, files={"a": ODD}),
    "run files (above)": lambda: oxgen.run(TRUE, files={"../a": b""}),
    "run collect": lambda: oxgen.run(TRUE, collect=3),  # type: ignore[arg-type]
    "run collect (text)": lambda: oxgen.run(TRUE, collect="a"),
    "run collect (number)": lambda: oxgen.run(TRUE, collect=[3]),  # type: ignore[list-item]
    "Limits cpu_seconds": lambda: Limits(cpu_seconds=10**400),
    "Limits processes": lambda: Limits(processes=2.5),  # type: ignore[arg-type]
    "Launcher uid_base": lambda: Launcher(uid_base="x"),  # type: ignore[arg-type]
    "Launcher uid_count": lambda: Launcher(uid_count=2.5),  # type: ignore[arg-type]
    "Launcher uid_base (and uid_count)": lambda: Launcher(uid_base=4_294_967_000),
    "Launcher cells": lambda: Launcher(cells="x"),  # type: ignore[arg-type]
    "Launcher reuse": lambda: Launcher(reuse=[]),  # type: ignore[arg-type]
    "Launcher queue": lambda: Launcher(queue=0),
    "Launcher queue_seconds": lambda: Launcher(queue_seconds="x"),  # type: ignore[arg-type]
    "Launcher idle_seconds": lambda: Launcher(idle_seconds=float("nan")),
    "approve plugin": lambda: trust.approve(3, trust.TrustRoot("/x")),  # type: ignore[arg-type]
    "approve plugin (list)": lambda: trust.approve([], trust.TrustRoot("/x")),  # type: ignore[arg-type]
    "approve plugin (path)": lambda: trust.approve(ODD, trust.TrustRoot("/x")),  # type: ignore[arg-type]
    "approve root": lambda: trust.approve("x", "/etc"),  # type: ignore[arg-type]
    "approve root (none)": lambda: trust.approve("x", None),  # type: ignore[arg-type]
    "approve_files root": lambda: trust.approve_files("/etc", "x"),  # type: ignore[arg-type]
    "listed root": lambda: trust.listed(None),  # type: ignore[arg-type]
    "keygen file": lambda: trust.keygen(3, "x"),  # type: ignore[arg-type]
    "sign_file file": lambda: trust.sign_file(None, None),  # type: ignore[arg-type]
    "verify_file file": lambda: trust.verify_file("x", ODD),  # type: ignore[arg-type]
    "parse_allowlist content": lambda: trust.parse_allowlist("text"),  # type: ignore[arg-type]
    "TrustRoot directory": lambda: trust.TrustRoot(3),  # type: ignore[arg-type]
    "TrustRoot.locate file": lambda: trust.TrustRoot.locate(3),  # type: ignore[arg-type]
    "Issuer audit": lambda: capabilities.Issuer(audit=3),  # type: ignore[arg-type]
    "Issuer max_tokens": lambda: capabilities.Issuer(max_tokens="x"),  # type: ignore[arg-type]
    "Issuer.grant plugin": lambda: ISSUER.grant(plugin=3, run_id="r", capabilities=[]),  # type: ignore[arg-type]
    "Issuer.grant capabilities": lambda: ISSUER.grant(plugin="p", run_id="r", capabilities=3),  # type: ignore[arg-type]
    "AuditLog path": lambda: capabilities.AuditLog(3),  # type: ignore[arg-type]
    "parse_capabilities capabilities": lambda: capabilities.parse_capabilities(3),  # type: ignore[arg-type]
    "Broker issuer": _broker(issuer=None),
    "Broker flows": _broker(flows=3),
    "Broker on_finding": _broker(on_finding=None),
    "Broker audit": _broker(audit=None),
    "Broker config": _broker(config=[1]),
    "read_har path": lambda: broker.read_har(3),  # type: ignore[arg-type]
    "sanitise flow": lambda: broker.sanitise({}),  # type: ignore[arg-type]
    "FindingsWriter path": lambda: finds.FindingsWriter(None),  # type: ignore[arg-type]
    "parse_finding source": lambda: finds.parse_finding(3),  # type: ignore[arg-type]
    "escape_text text": lambda: finds.escape_text(b"x"),  # type: ignore[arg-type]
    "termination_finding completed": lambda: finds.termination_finding(None, plugin="p"),  # type: ignore[arg-type]
    "parse_manifest data": lambda: parse_manifest("{}"),  # type: ignore[arg-type]
    "run_plugin approved": lambda: run_plugin("x"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", CALLS)
def test_a_bad_value_is_refused_by_name(name: str) -> None:
    with pytest.raises(UsageError) as refused:
        CALLS[name]()
    text = str(refused.value)
    assert name.split()[1].split(".")[-1] in text, text
    assert "got" in text or "approved" in text, text


#: Values without a rule of their own, enumerations and protocols, what takes no argument at all.
NOT_CALLED = {
    "Allowlist",
    "Approved",
    "Capability",
    "Capture",
    "Collected",
    "Completed",
    "Confinement",
    "Enforce",
    "Entry",
    "Finding",
    "Flow",
    "LineReport",
    "Output",
    "Process",
    "PublicKey",
    "Serves",
    "Severity",
    "Skipped",
    "Termination",
    "Token",
    "Usage",
    "boottime_ns",
    "new_id",
    "validate_lines",
}


def test_the_table_has_every_public_function() -> None:
    """A new function gets a row, or a reason why it needs none."""
    names = {call.split()[0].split(".")[-1] for call in CALLS} | NOT_CALLED
    missing = set()
    for module in ("", ".aio", ".integrity", ".capabilities", ".broker", ".findings", ".plugin"):
        loaded = importlib.import_module(f"oxgen{module}")
        for name in loaded.__all__:
            found = getattr(loaded, name)
            if inspect.isclass(found) and issubclass(found, BaseException):
                continue
            if callable(found) and name not in names:
                missing.add(f"oxgen{module}.{name}")
    assert not missing


def test_what_a_path_raises_itself_goes_on() -> None:
    """Their own fault is not ours to rename."""

    class Broken:
        def __fspath__(self) -> str:
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        oxgen.run([Broken()])


def test_good_values_are_accepted(tmp_path: Path) -> None:
    """The twin: not everything is refused."""
    assert Sandbox(env={"A": "b"}).env["A"] == "b"
    assert Request([Path("/bin/true")]).words == ("/bin/true",)
    assert list(oxgen.map(iter([]))) == []
    with Launcher(cells=1, uid_base=2_000_000_000, uid_count=4) as launcher:
        assert list(oxgen.map([], launcher=launcher)) == []
    with finds.FindingsWriter(tmp_path / "findings") as writer:
        assert writer.path == str(tmp_path / "findings")
    broker.Broker(
        issuer=ISSUER, token_plugin="p", run_id="r", flows=[], on_finding=print, audit=AUDIT
    )
