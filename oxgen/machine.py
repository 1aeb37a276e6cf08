"""Machine: settings of this machine that stand in the way of confinement, and what changes them.

Nothing here decides anything: what a level holds is found out by doing its real steps
(``oxgen.probe``). This names the usual reasons, for people who read ``0xgenctl doctor``. What they
are about is explained in docs/machines.md, with the sources.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

__all__ = ["Setting", "settings"]

_READ_BYTES = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting: ``found`` is what it is now, ``remedy`` the narrowest change that helps.

    ``hinders`` names the levels that it stands in the way of; none: it is worth knowing only.
    """

    name: str
    found: str
    remedy: str = ""
    hinders: tuple[str, ...] = ()


def settings(
    root: str = "/", *, uid: int | None = None, launcher: str = "", has_cgroup: bool = False
) -> tuple[Setting, ...]:
    """Return what is worth knowing of the machine whose files are below ``root``.

    ``uid`` is whom the launcher runs as (default: this process), ``launcher`` the path of its
    executable, for remedies that name it; ``has_cgroup`` says that cgroups of ours hold already, as
    was found out by trying. A file that cannot be read says nothing.
    """
    who = os.geteuid() if uid is None else uid

    def read(path: str) -> str:
        try:
            with open(os.path.join(root, path), encoding="utf-8", errors="replace") as stream:
                return stream.read(_READ_BYTES)
        except OSError:
            return ""

    found: list[Setting] = []
    for look in (_namespaces, _apparmor, _selinux, _container, _proc, _wsl):
        found.extend(look(read, who, launcher))
    if not has_cgroup:
        found.extend(_cgroups(read, who))
    return tuple(found)


_Read = Callable[[str], str]


def _namespaces(read: _Read, uid: int, launcher: str) -> Iterator[Setting]:
    if uid != 0 and read("proc/sys/kernel/unprivileged_userns_clone").strip() == "0":
        yield Setting(
            name="user namespaces",
            found="kernel.unprivileged_userns_clone is 0: only root may make one",
            remedy="sysctl kernel.unprivileged_userns_clone=1, or run as root",
            hinders=("namespaces",),
        )
    for kind in ("user", "pid", "mnt", "net", "ipc", "uts"):
        if read(f"proc/sys/user/max_{kind}_namespaces").strip() == "0":
            yield Setting(
                name=f"{kind} namespaces",
                found=f"user.max_{kind}_namespaces is 0: nobody may make one",
                remedy=f"sysctl user.max_{kind}_namespaces=15000",
                hinders=("namespaces",),
            )


def _apparmor(read: _Read, uid: int, launcher: str) -> Iterator[Setting]:
    restricted = read("proc/sys/kernel/apparmor_restrict_unprivileged_userns").strip() == "1"
    if restricted and uid != 0:
        yield Setting(
            name="AppArmor",
            found="kernel.apparmor_restrict_unprivileged_userns is 1: a user namespace can be made,"
            " and nothing can be mounted in it",
            remedy="a profile for the launcher alone"
            f" ({launcher or 'oxgen/_launcher'}): docs/machines.md has it; do not switch the"
            " restriction off for all programs",
            hinders=("namespaces",),
        )


def _selinux(read: _Read, uid: int, launcher: str) -> Iterator[Setting]:
    if read("sys/fs/selinux/enforce").strip() == "1":
        label = read("proc/self/attr/current").strip("\0\n ") or "unknown"
        confined = ":unconfined_t:" not in f"{label}:"
        yield Setting(
            name="SELinux",
            found=f"enforcing; this process is {label}",
            remedy="if a step is refused: ausearch -m avc -ts recent, and allow what it names for"
            " this domain (in a container: --security-opt label=disable)"
            if confined
            else "",
        )


def _container(read: _Read, uid: int, launcher: str) -> Iterator[Setting]:
    status = dict(
        line.split(":", 1) for line in read("proc/self/status").splitlines() if ":" in line
    )
    if status.get("Seccomp", "0").strip() == "2":
        yield Setting(
            name="outer filter",
            found="a seccomp filter is on this process already: a container's, or a service's",
            remedy="if clone, unshare or mount is refused: a profile that allows them (docker run"
            f" --security-opt seccomp=FILE), or --level {'chroot' if uid == 0 else 'landlock'}",
        )
    bounding = status.get("CapBnd", "").strip()
    if uid == 0 and re.fullmatch("[0-9a-f]+", bounding) and not int(bounding, 16) >> 21 & 1:
        yield Setting(
            name="capabilities",
            found="root without CAP_SYS_ADMIN, as in an ordinary container: level 'namespaces'"
            " needs a user namespace then, as for an ordinary user",
            remedy="where that is refused, level 'chroot' works, or give the container"
            " CAP_SYS_ADMIN (docker run --cap-add SYS_ADMIN)",
        )


def _proc(read: _Read, uid: int, launcher: str) -> Iterator[Setting]:
    covered = sorted(
        {
            fields[4]
            for fields in (line.split() for line in read("proc/self/mountinfo").splitlines())
            if len(fields) > 4
            and fields[4].startswith("/proc/")
            and not fields[4].startswith("/proc/sys/fs/binfmt_misc")
        }
    )
    if covered:
        shown = ", ".join(covered[:3]) + (", ..." if len(covered) > 3 else "")
        yield Setting(
            name="masked /proc",
            found=f"parts of /proc are covered ({shown}): the kernel refuses a new one in a user"
            " namespace",
            remedy="docker run --security-opt systempaths=unconfined, Kubernetes procMount:"
            " Unmasked; runtime 'static' needs no /proc",
            hinders=("namespaces",),
        )


def _cgroups(read: _Read, uid: int) -> Iterator[Setting]:
    mounts = [line.split() for line in read("proc/self/mountinfo").splitlines()]
    kinds: dict[str, set[str]] = {}
    for fields in mounts:
        if "-" in fields and len(fields) > fields.index("-") + 3:
            after = fields[fields.index("-") + 1 :]
            if after[0] in ("cgroup", "cgroup2"):
                options = set(fields[5].split(",")) | set(after[2].split(","))
                kinds.setdefault(after[0], set()).update(options)
    if not kinds:
        yield Setting(
            name="cgroups",
            found="no cgroup hierarchy is mounted: nothing counts the memory of a tree",
            remedy=_mounting(read),
        )
        return
    has_memory = (
        "memory" in kinds.get("cgroup", set())
        or "memory" in read("sys/fs/cgroup/cgroup.controllers").split()
    )
    if not has_memory:
        yield Setting(
            name="cgroups",
            found="no hierarchy has the memory controller",
            remedy="boot without cgroup_disable=memory (Raspberry Pi: cgroup_enable=memory)",
        )
    elif uid != 0 and "memory" in kinds.get("cgroup", set()):
        yield Setting(
            name="cgroups",
            found="the memory controller is on version 1, where an ordinary user has those cgroups"
            " that root has made for him and put him into",
            remedy="one below each of memory, pids and cpuacct: docs/machines.md has the commands",
        )
    elif uid != 0:
        yield Setting(
            name="cgroups",
            found="an ordinary user has the controllers that were delegated to him, else none",
            remedy="systemd-run --user --scope -p Delegate=yes COMMAND, or Delegate=yes in the"
            " service's unit",
        )


def _mounting(read: _Read) -> str:
    """The commands that mount what the kernel has; /run is there to make directories in."""
    orders = []
    for line in read("proc/self/cgroup").splitlines():
        controllers = line.split(":")[1] if line.count(":") >= 2 else ""
        if {"memory", "pids", "cpuacct"} & set(controllers.split(",")):
            place = f"/run/cgroup/{controllers}"
            orders.append(f"mkdir -p {place} && mount -t cgroup -o {controllers} cgroup {place}")
    if not orders:
        orders = ["mkdir -p /run/cgroup && mount -t cgroup2 cgroup2 /run/cgroup"]
    return f"as root: {' && '.join(orders)}"


def _wsl(read: _Read, uid: int, launcher: str) -> Iterator[Setting]:
    release = read("proc/sys/kernel/osrelease").strip()
    if "microsoft" not in release.lower():
        return
    if "WSL2" not in release and not re.match(r"[5-9]\.|\d\d", release):
        yield Setting(
            name="WSL",
            found=f"version 1 ({release}): its kernel has no namespaces, no cgroups and no seccomp",
            remedy="wsl --set-version DISTRIBUTION 2",
            hinders=("namespaces", "chroot", "landlock"),
        )
        return
    interop = read("proc/sys/fs/binfmt_misc/WSLInterop").startswith("enabled")
    yield Setting(
        name="WSL",
        found="version 2"
        + (
            ": Windows programs start from Linux (binfmt_misc WSLInterop); in a cell they do not,"
            " as their interpreter /init is not there and AF_VSOCK is refused"
            if interop
            else ", interoperability with Windows is off"
        ),
        remedy="" if not interop else "[interop] enabled=false in /etc/wsl.conf takes it away too",
    )
