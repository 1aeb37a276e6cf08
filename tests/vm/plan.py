"""Plan: which tests run in a virtual machine, as whom, in which state of the machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["STAGES", "Stage"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One state of the machine, and the tests that run in it.

    ``cgroup``: "leaf" is one of many below a root with all controllers on, as a service has it;
    "delegated" belongs to the user, and he is in a leaf of it (systemd's ``DelegateSubgroup=``);
    "busy" belongs to him as well, but he is in that one itself; "foreign" belongs to root.
    ``sysctl`` is a file below /proc/sys and what is written to it; on a kernel that has no such
    file the stage is left out. ``ids``: how many the user has of his own in /etc/subuid, and
    newuidmap with it.
    """

    name: str
    user: Literal["root", "user"]
    cgroup: Literal["leaf", "delegated", "busy", "foreign"]
    tests: tuple[str, ...]
    sysctl: tuple[str, str] | None = None
    ids: int = 0


_LIMITS = (
    "tests/launch/test_limits.py",
    "tests/ends/test_memory_limit.py",
    "tests/ends/test_trees.py",
)
_VIEW = (
    "tests/launch/test_filesystem.py",
    "tests/launch/test_network.py",
    "tests/launch/test_attacks.py",
)
_HERE = "tests/vm/check_levels.py"

STAGES = (
    Stage(
        name="root",
        user="root",
        cgroup="leaf",
        tests=("tests/launch/test_identity.py", *_VIEW, *_LIMITS, f"{_HERE}::TestWhole"),
    ),
    Stage(
        name="user, delegated cgroup",
        user="user",
        cgroup="delegated",
        tests=(
            "tests/launch/test_identity.py",
            *_VIEW,
            *_LIMITS,
            f"{_HERE}::TestWhole",
            f"{_HERE}::TestOneId",
        ),
    ),
    Stage(
        name="user, delegated cgroup, own ids",
        user="user",
        cgroup="delegated",
        tests=(
            "tests/launch/test_identity.py",
            *_VIEW,
            "tests/launch/test_limits.py",
            f"{_HERE}::TestWhole",
            f"{_HERE}::TestOwnIds",
        ),
        ids=65536,
    ),
    Stage(
        name="user, no cgroup",
        user="user",
        cgroup="foreign",
        tests=(f"{_HERE}::TestWithoutCgroup",),
    ),
    Stage(
        name="user, busy cgroup",
        user="user",
        cgroup="busy",
        tests=(f"{_HERE}::TestBusyCgroup",),
    ),
    Stage(
        name="user, user namespaces off",
        user="user",
        cgroup="delegated",
        tests=(f"{_HERE}::TestWithoutUserNamespaces",),
        sysctl=("kernel/unprivileged_userns_clone", "0"),
    ),
    Stage(
        name="user, no user namespaces allowed",
        user="user",
        cgroup="delegated",
        tests=(f"{_HERE}::TestWithoutUserNamespaces",),
        sysctl=("user/max_user_namespaces", "0"),
    ),
)
