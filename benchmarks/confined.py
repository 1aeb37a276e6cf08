"""Proof that a pool confines: a probe in it says what it sees, and is looked at from outside.

Every row of ours is proved before it is measured, in the very pool it is measured in. A row that is
not confined as it promises ends the benchmark: its figures would be of something else.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import oxgen

__all__ = [
    "PROMISES",
    "NotConfinedError",
    "check",
    "faults_inside",
    "faults_outside",
    "prove",
]

#: The nine properties of docs/architecture.md.
PROMISES = (
    "filesystem",
    "network",
    "memory_tree",
    "cpu_tree",
    "processes",
    "disk",
    "whole_tree_kill",
    "syscalls",
    "neighbours",
)
_NAMESPACES = ("user", "pid", "mnt", "net", "ipc", "uts")
_CGROUPS = Path("/sys/fs/cgroup")
_NOBODY = 65534
_FIND_SECONDS = 10.0


class NotConfinedError(Exception):
    """A row of ours does not keep what it promises."""


def faults_inside(seen: dict[str, Any], limits: oxgen.Limits) -> list[str]:
    """Compare what the probe says of itself with what every row promises; one sentence each."""
    wanted: dict[str, Any] = {
        "seccomp": 2,
        "no_new_privs": 1,
        "uids": [_NOBODY] * 3,
        "groups": 0,
        "effective": 0,
        "permitted": 0,
        "open_files": limits.open_files,
    }
    found = [
        f"{name} is {seen.get(name)!r}, not {value!r}"
        for name, value in wanted.items()
        if seen.get(name) != value
    ]
    if seen.get("interfaces") not in (None, [], ["lo"]):
        found.append(f"the host's network is there: {seen['interfaces']}")
    return found


def faults_outside(seen: dict[str, Any], limits: oxgen.Limits) -> list[str]:
    """Compare what the host's /proc and cgroups say of the probe with what every row promises."""
    wanted: dict[str, Any] = {
        "Seccomp": "2",
        "NoNewPrivs": "1",
        "CapEff": "0000000000000000",
        "memory_bytes": limits.memory_bytes,
        # The cell's first process, which is ours, counts as well.
        "processes": None if limits.processes is None else limits.processes + 1,
        "shared_namespaces": [],
    }
    found = [
        f"{name} is {seen.get(name)!r}, not {value!r}"
        for name, value in wanted.items()
        if seen.get(name) != value
    ]
    if len(str(seen.get("NSpid", "")).split()) < 2:
        found.append(f"no pid namespace of its own: NSpid is {seen.get('NSpid')!r}")
    if any(int(word) < 1000 for word in str(seen.get("Uid", "0")).split()):
        found.append(f"a user of the host: Uid is {seen.get('Uid')!r}")
    if not any("oxgen-" in path for path in seen.get("cgroups", ())):
        found.append(f"in no cgroup of ours: {seen.get('cgroups')}")
    return found


def check(faults: list[str]) -> None:
    """Raise ``NotConfinedError`` unless there are none."""
    if faults:
        raise NotConfinedError("; ".join(faults))


def prove(
    probe: str, launcher: oxgen.Launcher, run: Callable[[str], oxgen.Completed] | None = None
) -> dict[str, Any]:
    """Show that runs of this pool are confined; raises ``NotConfinedError`` where one is not.

    ``run`` launches the probe the way the row does; None is ``oxgen.run``.
    """
    limits = oxgen.Limits()
    launch = run or (lambda path: oxgen.run([path], launcher=launcher, capture_output=True))
    done = launch(probe)
    if done.returncode != 0 or not done.stdout:
        raise NotConfinedError(f"the probe did not run: {done}")
    inside = json.loads(done.stdout)
    outside = _look_from_outside(probe, launcher)
    found = faults_inside(inside, limits) + faults_outside(outside, limits)
    missing = [name for name in PROMISES if name not in done.confinement.enforced]
    if missing:
        found.append(f"the result does not list {', '.join(missing)} as enforced")
    check(found)
    return {"inside": inside, "outside": outside, "enforced": list(done.confinement.enforced)}


def _look_from_outside(probe: str, launcher: oxgen.Launcher) -> dict[str, Any]:
    tag = "tag-" + secrets.token_hex(12)
    with oxgen.spawn([probe, "hold", tag], launcher=launcher) as held:
        held.stdout.readline()
        return describe(_find(tag))


def _find(tag: str) -> int:
    """Find the process that has this word on its command line."""
    deadline = time.monotonic() + _FIND_SECONDS
    while time.monotonic() < deadline:
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            try:
                words = Path("/proc", entry, "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue  # it ended while we looked
            if tag.encode() in words:
                return int(entry)
        time.sleep(0.01)
    raise NotConfinedError("the held probe is not to be found in /proc")


def describe(pid: int) -> dict[str, Any]:
    """Say what the host's kernel knows of a process: identity, filter, namespaces, cgroups."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    names = ("Seccomp", "NoNewPrivs", "NSpid", "Uid", "CapEff")
    seen: dict[str, Any] = {name: " ".join(fields.get(name, "").split()) for name in names}
    seen["shared_namespaces"] = [
        kind
        for kind in _NAMESPACES
        if os.readlink(f"/proc/{pid}/ns/{kind}") == os.readlink(f"/proc/self/ns/{kind}")
    ]
    groups = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    seen["cgroups"] = sorted(line.split(":", 1)[1] for line in groups if "oxgen-" in line)
    seen["memory_bytes"] = _limit(groups, "memory", ("memory.limit_in_bytes", "memory.max"))
    seen["processes"] = _limit(groups, "pids", ("pids.max", "pids.max"))
    return seen


def _limit(groups: list[str], controller: str, names: tuple[str, str]) -> int | None:
    """Read a limit of the cgroup a process is in; ``names`` are those of versions 1 and 2."""
    places = []
    for line in groups:
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            places.append(Path(f"{_CGROUPS}/{controllers}{path}/{names[0]}"))
        elif not controllers:
            places += [
                Path(f"{base}{path}/{names[1]}") for base in (_CGROUPS, _CGROUPS / "unified")
            ]
    for place in places:
        if place.exists() and (text := place.read_text().strip()).isdigit():
            return int(text)
    return None
