"""One policy is one policy: whichever way a program is started, the kernel says the same of it.

Compared is what the kernel shows of the running process from outside: limits, status, namespaces,
mounts, environment, cgroups and their limits. A field that one way forgot would differ here.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cli_program import SECONDS, program_environment, program_words
from control import watch

import oxgen
from oxgen import MIB, Limits, Mount, Request, Sandbox, aio

pytestmark = pytest.mark.root

STATUS = (
    "Umask", "State", "Groups", "NSpid", "Threads", "SigBlk", "SigIgn", "SigCgt", "CapInh",
    "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Seccomp_filters",
    "CoreDumping", "THP_enabled", "Cpus_allowed_list",
)  # fmt: skip
#: Limits of a cgroup, of version 1 and of version 2.
CGROUP_FILES = (
    "memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "pids.max", "memory.max",
    "memory.swap.max", "cpu.max", "cpu.cfs_quota_us", "memory.oom.group",
)  # fmt: skip


@dataclass(frozen=True)
class Policy:
    """One policy, as the library and as the command line say it."""

    sandbox: Sandbox | None = None
    limits: Limits | None = None
    words: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)


DEFAULT = Policy()
TIGHT = Policy(
    limits=Limits(
        wall_seconds=41.5, cpu_seconds=7.5, memory_bytes=48 * MIB, processes=9, open_files=33,
        file_bytes=3 * MIB, disk_bytes=5 * MIB, output_bytes=12345, cpus=1.5,
    ),
    words=(
        "--wall-limit", "41.5", "--cpu-limit", "7.5", "--memory-limit", "48M", "--process-limit",
        "9", "--open-files-limit", "33", "--file-limit", "3M", "--disk-limit", "5M",
        "--output-limit", "12345", "--cpus", "1.5",
    ),
)  # fmt: skip
UNBOUNDED = Policy(
    limits=Limits(
        cpu_seconds=None, memory_bytes=None, processes=None, open_files=None, file_bytes=None,
        disk_bytes=None, output_bytes=None,
    ),
    words=tuple(
        word
        for name in ("cpu", "memory", "process", "open-files", "file", "disk", "output")
        for word in (f"--{name}-limit", "none")
    ),
)  # fmt: skip
OPENED = Policy(
    sandbox=Sandbox(
        env={"ONE": "two words"}, cwd="/tmp", exec_tmp=True, network="host",
        mounts=(Mount("/usr/share/zoneinfo"), Mount("/usr/share/zoneinfo/UTC", "/data/utc")),
    ),
    words=(
        "--env", "ONE=two words", "--cwd", "/tmp", "--exec-tmp", "--network", "host",
        "--ro-bind", "/usr/share/zoneinfo", "--ro-bind", "/usr/share/zoneinfo/UTC:/data/utc",
    ),
)  # fmt: skip
POLICIES = {"default": DEFAULT, "tight": TIGHT, "unbounded": UNBOUNDED, "opened": OPENED}

# --- ways to start it -----------------------------------------------------------------------------

Words = list[str]


def by_spawn(words: Words, policy: Policy) -> None:
    with oxgen.spawn(words, sandbox=policy.sandbox, limits=policy.limits) as process:
        process.wait(SECONDS)


def by_map(words: Words, policy: Policy) -> None:
    list(oxgen.map([Request(words, sandbox=policy.sandbox, limits=policy.limits)]))


def by_aio_run(words: Words, policy: Policy) -> None:
    asyncio.run(aio.run(words, sandbox=policy.sandbox, limits=policy.limits))


def by_aio_spawn(words: Words, policy: Policy) -> None:
    async def start() -> None:
        async with await aio.spawn(words, sandbox=policy.sandbox, limits=policy.limits) as process:
            await process.wait()

    asyncio.run(start())


def by_aio_map(words: Words, policy: Policy) -> None:
    async def start() -> None:
        request = Request(words, sandbox=policy.sandbox, limits=policy.limits)
        async for _ in aio.map([request]):
            pass

    asyncio.run(start())


def by_run(words: Words, policy: Policy) -> None:
    oxgen.run(words, sandbox=policy.sandbox, limits=policy.limits, capture_output=True)


def by_command(words: Words, policy: Policy) -> None:
    start([*program_words(), "run", *policy.words, "--", *words])


def by_plugin_run(words: Words, policy: Policy) -> None:
    start([*program_words(), "plugin", "run", *policy.words, words[0], "--", *words[1:]])


def start(words: Words) -> None:
    subprocess.run(words, env=program_environment(), capture_output=True, timeout=SECONDS)


LIBRARY = {
    "spawn": by_spawn,
    "map": by_map,
    "aio.run": by_aio_run,
    "aio.spawn": by_aio_spawn,
    "aio.map": by_aio_map,
    "0xgenctl run": by_command,
}

# --- what the kernel says -------------------------------------------------------------------------


def mounts_of(pid: int) -> list[tuple[str, ...]]:
    """Every mount of it, without the numbers that differ from cell to cell."""
    rows = []
    for line in Path(f"/proc/{pid}/mountinfo").read_text(encoding="utf-8").splitlines():
        own, _, source = line.partition(" - ")
        _, _, _, root, point, options, *shared = own.split(" ")
        kind, _, super_options = source.split(" ", 2)
        uids = [part for part in super_options.split(",") if not part.startswith(("uid=", "gid="))]
        rows.append((root, point, options, *shared, kind, ",".join(uids)))
    return rows


def cgroup_limits_of(pid: int) -> dict[str, str]:
    """What its cgroups, of our name, limit."""
    found: dict[str, str] = {}
    for directory in watch.control_groups_of(pid):
        hierarchy = directory.split("/")[4]
        for name in CGROUP_FILES:
            path = Path(directory, name)
            if path.exists():
                found[f"{hierarchy}/{name}"] = path.read_text().strip()
    return found


def seen(pid: int) -> dict[str, Any]:
    """What is to be equal for equal policies."""
    status = watch.status_of(pid)
    return {
        "limits": Path(f"/proc/{pid}/limits").read_text(),
        "status": {name: status.get(name) for name in STATUS if name not in ("NSpid", "State")},
        "pid namespaces": len(status["NSpid"].split()),
        "ids": [len(set(status[name].split())) for name in ("Uid", "Gid")],
        "namespaces": sorted(
            kind
            for kind in os.listdir("/proc/self/ns")
            if watch.namespace(pid, kind) != watch.namespace("self", kind)
        ),
        "mounts": mounts_of(pid),
        "root": os.readlink(f"/proc/{pid}/root"),
        "directory": os.readlink(f"/proc/{pid}/cwd"),
        "environment": Path(f"/proc/{pid}/environ").read_bytes(),
        "descriptors": sorted(watch.descriptors_of(pid)),
        "cgroups": cgroup_limits_of(pid),
        "scheduling": (os.sched_getscheduler(pid), os.getpriority(os.PRIO_PROCESS, pid)),
        "oom": Path(f"/proc/{pid}/oom_score_adj").read_text(),
    }


def look(way: Callable[[Words, Policy], None], probe_path: Path, policy: Policy) -> dict[str, Any]:
    """Start the probe that way, look at it from outside while it sleeps, end it."""
    tag = watch.new_tag()
    words = [str(probe_path), "announce", "20", tag]
    thread = threading.Thread(target=way, args=(words, policy), daemon=True)
    thread.start()

    def sleeps() -> bool:
        return any(watch.state_of(pid) == "S" for pid in watch.plugins(tag))

    try:
        assert watch.wait_until(sleeps, 10), "it has not started"
        (pid,) = watch.plugins(tag)
        return seen(pid)
    finally:
        for pid in watch.plugins(tag):
            os.kill(pid, 9)
        thread.join(SECONDS)
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def reference(probe_path: Path) -> Callable[[str], dict[str, Any]]:
    """What ``oxgen.run`` gives, for each policy."""
    known: dict[str, dict[str, Any]] = {}

    def of(name: str) -> dict[str, Any]:
        if name not in known:
            known[name] = look(by_run, probe_path, POLICIES[name])
        return known[name]

    return of


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("way", LIBRARY)
def test_every_way_to_start_it_gives_the_same(
    way: str, name: str, probe_path: Path, reference: Callable[[str], dict[str, Any]]
) -> None:
    assert look(LIBRARY[way], probe_path, POLICIES[name]) == reference(name)


@pytest.mark.parametrize("name", ["default", "tight", "unbounded"])
def test_plugin_run_of_a_bare_executable_gives_the_same(
    name: str, probe_path: Path, reference: Callable[[str], dict[str, Any]]
) -> None:
    assert look(by_plugin_run, probe_path, POLICIES[name]) == reference(name)


@pytest.mark.parametrize(
    ("name", "what"),
    [("tight", "limits"), ("tight", "mounts"), ("tight", "cgroups"), ("unbounded", "limits"),
     ("unbounded", "cgroups"), ("opened", "mounts"), ("opened", "namespaces"),
     ("opened", "environment"), ("opened", "directory")],
)  # fmt: skip
def test_another_policy_gives_something_else(
    name: str, what: str, reference: Callable[[str], dict[str, Any]]
) -> None:
    """Or else the comparison would say nothing."""
    assert reference(name)[what] != reference("default")[what]


def test_what_is_compared_is_what_confines(reference: Callable[[str], dict[str, Any]]) -> None:
    usual = reference("default")
    assert {"user", "pid", "mnt", "net", "ipc", "uts", "cgroup"} <= set(usual["namespaces"])
    assert "net" not in reference("opened")["namespaces"]
    status = usual["status"]
    assert (status["Seccomp"], status["NoNewPrivs"]) == ("2", "1")
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {
        "0" * 16
    }
    assert usual["descriptors"] == [0, 1, 2] and usual["ids"] == [1, 1]
    points = [point for _, point, *_ in usual["mounts"]]
    assert all(any(point.endswith(end) for point in points) for end in ("/workspace", "/bin/probe"))
    assert str(48 * MIB) in reference("tight")["cgroups"].values()
    assert "10" in reference("tight")["cgroups"].values()
