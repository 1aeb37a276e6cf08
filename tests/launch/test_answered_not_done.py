"""A filter around us that answers 0 to a call which never took place is not believed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from control.contained import CONTAINER, USER, contained, place_of_dweller
from launch.test_level_landlock import landlock_version

pytestmark = pytest.mark.root

ROOT = [*CONTAINER, "sys_admin"]
DROP = f"drop({USER}, os.path.dirname(arguments[0]))\n"

#: Whoever else runs as the same user must not end with a cell that has no wall.
RUN = """
level = arguments[1]
bystander = subprocess.Popen([arguments[0], "sleep", "60"], stdout=subprocess.DEVNULL)
try:
    done = oxgen.run([arguments[0], "look"], sandbox=box(level), capture_output=True)
    found = ["ran", done.confinement.level, pairs(done.stdout.decode()).get("filter")]
except (oxgen.LaunchError, oxgen.UnsupportedError) as refused:
    found = [refused.stage, str(refused)]
time.sleep(0.1)
say([*found, bystander.poll()])
"""


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with place_of_dweller() as directory:
        yield directory


@pytest.fixture
def own_place() -> Iterator[Path]:
    """Another one for each test: a user's launcher is copied there."""
    with place_of_dweller() as directory:
        yield directory


def run(level: str, place: Path, *rules: str, text: str = RUN, as_root: bool = True) -> Any:
    prefix = "" if as_root else DROP
    return contained(
        prefix + text,
        place / "dweller",
        level,
        capabilities=ROOT if as_root else None,
        refused=rules,
    )


@pytest.mark.parametrize("level", ("namespaces", "chroot"))
def test_control_without_such_a_filter_it_runs(level: str, place: Path) -> None:
    assert run(level, place) == ["ran", level, 2, None]
    # A filter that answers 0 to a call which nobody makes is in nobody's way.
    assert run(level, place, "execveat=0") == ["ran", level, 2, None]


@pytest.mark.parametrize(
    ("level", "call", "stage"),
    (
        ("namespaces", "seccomp", "seccomp"),
        ("namespaces", "unshare", "store"),
        ("namespaces", "setns", "store"),
        ("namespaces", "capset", "capabilities"),
        ("namespaces", "setresuid", "cell_ids"),
        ("namespaces", "setresgid", "cell_ids"),
        ("namespaces", "close_range", "warden_descriptors"),
        ("namespaces", "setsid", "session"),
        ("namespaces", "kill", "parent_death"),
        ("chroot", "seccomp", "seccomp"),
        ("chroot", "chroot", "chroot"),
        ("chroot", "setresgid", "cell_ids"),
        ("chroot", "close_range", "warden_descriptors"),
        ("chroot", "setsid", "session"),
        ("chroot", "kill", "parent_death"),
    ),
)
def test_as_root_it_is_refused_at_the_stage(level: str, call: str, stage: str, place: Path) -> None:
    found = run(level, place, f"{call}=0")
    assert (found[0], found[-1]) == (stage, None), found
    assert "EBADE" in found[1] or "Invalid exchange" in found[1]


#: The mounts of the launcher's caller, before and after.
MOUNTS = """
before = open("/proc/self/mountinfo").read()
try:
    oxgen.run([arguments[0], "look"], sandbox=box(arguments[1]), capture_output=True)
    found = "ran"
except (oxgen.LaunchError, oxgen.UnsupportedError) as refused:
    found = refused.stage
say([found, open("/proc/self/mountinfo").read() == before])
"""


@pytest.mark.parametrize("call", ("unshare", "setns"))
def test_nothing_is_mounted_where_the_caller_is(call: str, place: Path) -> None:
    assert run("namespaces", place, f"{call}=0", text=MOUNTS) == ["store", True]


@pytest.mark.skipif(landlock_version() < 6, reason="needs-landlock: version 6 keeps signals")
@pytest.mark.parametrize("level", ("namespaces", "chroot"))
def test_a_wall_that_was_not_raised_is_missed(level: str, place: Path) -> None:
    found = run(level, place, "landlock_restrict_self=0")
    assert (found[0], found[-1]) == ("landlock", None), found


@pytest.mark.skipif(landlock_version() < 6, reason="needs-landlock: version 6 keeps signals")
@pytest.mark.parametrize(
    ("call", "stage"),
    (
        ("landlock_restrict_self", "landlock"),
        ("seccomp", "seccomp"),
        ("close_range", "warden_descriptors"),
        ("setsid", "session"),
        ("kill", "landlock"),
    ),
)
def test_as_a_user_it_is_refused_and_ends_nobody_else(
    call: str, stage: str, own_place: Path
) -> None:
    found = run("landlock", own_place, f"{call}=0", as_root=False)
    assert (found[0], found[-1]) == (stage, None), found
    assert "EBADE" in found[1] or "Invalid exchange" in found[1]


@pytest.mark.skipif(landlock_version() < 6, reason="needs-landlock: version 6 keeps signals")
def test_control_as_a_user_it_runs(own_place: Path) -> None:
    found = run("landlock", own_place, as_root=False)
    assert found == ["ran", "landlock", 2, None]


def test_as_a_user_mounts_that_were_not_made_read_only_are_missed(own_place: Path) -> None:
    found = run("namespaces", own_place, "mount=0", as_root=False)
    assert (found[0], found[-1]) == ("seal", None), found


def test_control_as_a_user_with_namespaces_it_runs(own_place: Path) -> None:
    assert run("namespaces", own_place, as_root=False) == ["ran", "namespaces", 2, None]


def test_as_a_user_the_callers_namespaces_are_left_alone(own_place: Path) -> None:
    found = run("namespaces", own_place, "unshare=0", text=MOUNTS, as_root=False)
    assert found == ["user_namespace", True]
