"""What a machine's own files say about confinement: one file, one finding, one remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from oxgen.machine import settings

_CGROUP2 = "30 22 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n"
_PROC = "22 27 0:21 / /proc rw,relatime - proc proc rw\n"
#: A machine with nothing in the way: what each test changes one file of.
_PLAIN = {
    "proc/sys/user/max_user_namespaces": "96365\n",
    "proc/sys/kernel/osrelease": "6.12.1-amd64\n",
    "proc/self/status": "CapBnd:\t000001ffffffffff\nSeccomp:\t0\n",
    "proc/self/mountinfo": _PROC + _CGROUP2,
    "sys/fs/cgroup/cgroup.controllers": "cpu memory pids\n",
}


def machine(tmp_path: Path, **changed: str) -> str:
    for path, text in {**_PLAIN, **{k.replace("__", "/"): v for k, v in changed.items()}}.items():
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return str(tmp_path)


def test_nothing_is_said_of_a_plain_machine_as_root(tmp_path: Path) -> None:
    assert settings(machine(tmp_path), uid=0) == ()


@pytest.mark.parametrize(
    ("changed", "uid", "name", "hinders", "remedy"),
    [
        (
            {"proc__sys__kernel__unprivileged_userns_clone": "0\n"},
            1000,
            "user namespaces",
            ("namespaces",),
            "kernel.unprivileged_userns_clone=1",
        ),
        (
            {"proc__sys__user__max_user_namespaces": "0\n"},
            0,
            "user namespaces",
            ("namespaces",),
            "user.max_user_namespaces=",
        ),
        (
            {"proc__sys__user__max_net_namespaces": "0\n"},
            0,
            "net namespaces",
            ("namespaces",),
            "user.max_net_namespaces=",
        ),
        (
            {"proc__sys__kernel__apparmor_restrict_unprivileged_userns": "1\n"},
            1000,
            "AppArmor",
            ("namespaces",),
            "/opt/oxgen/_launcher",
        ),
        (
            {
                "sys__fs__selinux__enforce": "1",
                "proc__self__attr__current": "system_u:system_r:container_t:s0\0",
            },
            0,
            "SELinux",
            (),
            "ausearch",
        ),
        (
            {"proc__self__status": "CapBnd:\t00000000a80425fb\nSeccomp:\t0\n"},
            0,
            "capabilities",
            (),
            "'chroot'",
        ),
        (
            {"proc__self__status": "CapBnd:\t000001ffffffffff\nSeccomp:\t2\n"},
            0,
            "outer filter",
            (),
            "seccomp=",
        ),
        (
            {
                "proc__self__mountinfo": _PROC
                + _CGROUP2
                + "41 22 0:40 / /proc/kcore ro - tmpfs tmpfs rw\n"
            },
            0,
            "masked /proc",
            ("namespaces",),
            "systempaths=unconfined",
        ),
        ({"proc__self__mountinfo": _PROC}, 0, "cgroups", (), "mount -t cgroup2"),
        (
            {
                "proc__self__mountinfo": _PROC,
                "proc__self__cgroup": "4:memory:/\n3:cpu,cpuacct:/\n2:freezer:/\n0::/\n",
            },
            0,
            "cgroups",
            (),
            "as root: mkdir -p /run/cgroup/memory && mount -t cgroup -o memory cgroup"
            " /run/cgroup/memory && mkdir -p /run/cgroup/cpu,cpuacct && mount -t cgroup"
            " -o cpu,cpuacct cgroup /run/cgroup/cpu,cpuacct",
        ),
        (
            {
                "proc__self__mountinfo": _PROC
                + "31 22 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
            },
            1000,
            "cgroups",
            (),
            "one below each of memory, pids and cpuacct",
        ),
        (
            {"proc__self__status": "CapBnd:\t000001ffffffffff\nSeccomp:\t2\n"},
            1000,
            "outer filter",
            (),
            "--level landlock",
        ),
        (
            {"sys__fs__cgroup__cgroup.controllers": "hugetlb\n"},
            0,
            "cgroups",
            (),
            "cgroup_disable=memory",
        ),
        ({}, 1000, "cgroups", (), "Delegate=yes"),
        (
            {"proc__sys__kernel__osrelease": "4.4.0-19041-Microsoft\n"},
            0,
            "WSL",
            ("namespaces", "chroot", "landlock"),
            "--set-version",
        ),
        (
            {
                "proc__sys__kernel__osrelease": "5.15.90.1-microsoft-standard-WSL2\n",
                "proc__sys__fs__binfmt_misc__WSLInterop": "enabled\ninterpreter /init\n",
            },
            0,
            "WSL",
            (),
            "/etc/wsl.conf",
        ),
    ],
)
def test_each_hindrance_is_named_with_its_remedy(
    tmp_path: Path,
    changed: dict[str, str],
    uid: int,
    name: str,
    hinders: tuple[str, ...],
    remedy: str,
) -> None:
    found = settings(machine(tmp_path, **changed), uid=uid, launcher="/opt/oxgen/_launcher")
    (one,) = [setting for setting in found if setting.name == name]
    assert one.hinders == hinders
    assert remedy in one.remedy
    assert one.found


def test_nothing_is_said_of_cgroups_that_hold_already(tmp_path: Path) -> None:
    root = machine(tmp_path)
    assert [one.name for one in settings(root, uid=1000)] == ["cgroups"]
    assert settings(root, uid=1000, has_cgroup=True) == ()


def test_what_hinders_ordinary_users_only_is_not_said_to_root(tmp_path: Path) -> None:
    root = machine(
        tmp_path,
        proc__sys__kernel__unprivileged_userns_clone="0\n",
        proc__sys__kernel__apparmor_restrict_unprivileged_userns="1\n",
    )
    assert settings(root, uid=0) == ()


def test_no_file_at_all_says_only_that_there_are_no_cgroups(tmp_path: Path) -> None:
    assert [one.name for one in settings(str(tmp_path), uid=0)] == ["cgroups"]


def test_hostile_bytes_in_a_file_are_read_as_text(tmp_path: Path) -> None:
    root = machine(tmp_path)
    (tmp_path / "proc/self/mountinfo").write_bytes(b"\xff\xfe - \x00\n" * 3 + _CGROUP2.encode())
    assert settings(root, uid=0) == ()
