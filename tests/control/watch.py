"""Look at the machine from outside: processes by a word of their command line, cgroups, mounts."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path

__all__ = [
    "UNBOUNDED",
    "control_groups",
    "control_groups_of",
    "descriptors_of",
    "memory_limit",
    "mounts",
    "namespace",
    "new_tag",
    "plugins",
    "process_limit",
    "processes",
    "started",
    "state_of",
    "status_of",
    "wait_until",
]


#: A limit that the kernel has as "max".
UNBOUNDED = 1 << 63


def new_tag() -> str:
    """Return a word that the probe ignores and that no other process has on its command line."""
    return f"tag={secrets.token_hex(8)}"


def command_line(pid: int | str) -> list[str]:
    """Return the arguments of a process, [] for a zombie or one that is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    except OSError:
        return []


def processes(tag: str) -> list[int]:
    """Return the pids of all processes of the machine that have ``tag`` as an argument."""
    return [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and tag in command_line(pid)]


def plugins(tag: str) -> list[int]:
    """Return those of them that run in a cell, without hosts that have ``tag`` as well."""
    return [pid for pid in processes(tag) if "".join(command_line(pid)[:1]).startswith("/bin/")]


def status_of(pid: int) -> dict[str, str]:
    """Return /proc/PID/status as a mapping; {} for a process that is gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    return {
        key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())
    }


def state_of(pid: int) -> str:
    """Return the letter of a process's state, "" for one that is gone."""
    return status_of(pid).get("State", "")[:1]


def descriptors_of(pid: int) -> dict[int, str]:
    """Return what the open descriptors of a process point to."""
    found: dict[int, str] = {}
    for number in os.listdir(f"/proc/{pid}/fd"):
        try:
            found[int(number)] = os.readlink(f"/proc/{pid}/fd/{number}")
        except OSError:
            continue
    return found


def control_groups() -> set[str]:
    """Return the cgroups of the machine that bear our name."""
    found = set()
    for directory, names, _ in os.walk("/sys/fs/cgroup"):
        for name in names:
            if name.startswith("oxgen"):
                found.add(os.path.join(directory, name))
    return found


def mounts() -> list[str]:
    """Return the mount points of this namespace that look like ours."""
    with open("/proc/self/mountinfo", encoding="utf-8") as lines:
        return [line for line in lines if "oxgen" in line.split(" - ")[-1] or "0xgen" in line]


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Ask until it holds; False when it does not within ``seconds``."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= end:
            return condition()
        time.sleep(0.005)
    return True


def namespace(pid: int | str, kind: str) -> str:
    """Return the identity of a namespace of a process, as the kernel prints it."""
    return os.readlink(f"/proc/{pid}/ns/{kind}")


def _control_file(pid: int, controller: str, names: tuple[str, str]) -> int:
    """Read a limit of a process's cgroup: ``names`` are those of version 1 and of version 2."""
    for line in Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8").splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return _bound(Path(f"/sys/fs/cgroup/{controller}{path}/{names[0]}").read_text())
    for base in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"):
        limit = Path(f"{base}{path}/{names[1]}")
        if limit.exists():
            return _bound(limit.read_text())
    raise AssertionError(f"process {pid} is in no {controller} cgroup")


def _bound(text: str) -> int:
    return UNBOUNDED if text.strip() == "max" else int(text)


def memory_limit(pid: int) -> int:
    """Return the memory limit of the cgroup that a process is in."""
    return _control_file(pid, "memory", ("memory.limit_in_bytes", "memory.max"))


def process_limit(pid: int) -> int:
    """Return the process limit of the cgroup that a process is in."""
    return _control_file(pid, "pids", ("pids.max", "pids.max"))


def started(pid: int) -> int:
    """Return when a process was started, in clock ticks since boot: with its pid, its identity.

    -1 for one that is gone, which may happen between opening and reading.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return -1
    return int(text.rpartition(")")[2].split()[19])


def control_groups_of(pid: int) -> list[str]:
    """Return the directories of the cgroups with our name that a process is in."""
    found = []
    for line in Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8").splitlines():
        _, controllers, path = line.split(":", 2)
        if "oxgen" in path:
            bases = [f"/sys/fs/cgroup/{controllers}"] if controllers else ["/sys/fs/cgroup"]
            found += [
                base + path
                for base in (*bases, "/sys/fs/cgroup/unified")
                if os.path.isdir(base + path)
            ]
    return found
