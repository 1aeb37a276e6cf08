"""The rate of CPU time: how many processors a tree keeps busy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from control import watch

import oxgen
from oxgen import Launcher, Limits, Sandbox

if TYPE_CHECKING:
    from control.confined import Probe

pytestmark = pytest.mark.root

#: So many processes, each busy for so many seconds of wall time.
BUSY = """
import os, sys, time
processes, seconds = int(sys.argv[1]), float(sys.argv[2])
end = time.monotonic() + seconds
for _ in range(processes - 1):
    if os.fork() == 0:
        break
while time.monotonic() < end:
    pass
"""


def busy(processes: int, seconds: float, limits: Limits, **rest: Any) -> oxgen.Completed:
    argv = [sys.executable, "-c", BUSY, str(processes), str(seconds)]
    return oxgen.run(argv, limits=limits, **rest)


def quota_of(pid: int) -> tuple[int, int] | None:
    """Quota and period in microseconds of a process's own cgroup; None where it has no quota."""
    for line in Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8").splitlines():
        _, controllers, path = line.split(":", 2)
        if "cpu" in controllers.split(","):
            place = Path(f"/sys/fs/cgroup/{controllers}{path}")
            names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
            quota, period = (int((place / name).read_text()) for name in names)
            return None if quota < 0 else (quota, period)
    for base in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"):
        limit = Path(f"{base}{path}/cpu.max")
        if limit.exists():
            words = limit.read_text().split()
            return None if words[0] == "max" else (int(words[0]), int(words[1]))
    return None


# --- it holds -------------------------------------------------------------------------------------


def test_four_busy_processes_get_half_a_processor() -> None:
    done = busy(4, 1, Limits(cpus=0.5))
    assert (done.returncode, done.termination.reason) == (0, None)  # slowed down is no end
    assert "cpu_tree" in done.confinement.enforced
    assert 0.3 <= done.usage.cpu_seconds <= 0.7


def test_control_without_the_limit_they_get_more() -> None:
    def used() -> float:
        done = busy(4, 1, Limits())
        assert done.returncode == 0
        return done.usage.cpu_seconds

    # Others may be busy on this machine, too.
    assert any(used() > 0.7 for _ in range(5))


@pytest.mark.parametrize(
    ("cpus", "quota"),
    ((0.01, 1000), (0.5, 50_000), (1, 100_000), (2.75, 275_000), (1024, 102_400_000)),
)
def test_the_quota_is_that_of_its_cgroup(probe: Probe, tag: str, cpus: float, quota: int) -> None:
    argv = [str(probe.path), "announce", "20", tag]
    with oxgen.spawn(argv, limits=Limits(cpus=cpus)) as process:
        process.stdout.readline()
        assert [quota_of(pid) for pid in watch.processes(tag)] == [(quota, 100_000)]


def test_cells_without_namespaces_have_it_too(probe: Probe, tag: str) -> None:
    argv = [str(probe.path), "announce", "20", tag]
    box = Sandbox(level="chroot", enforce_except=("disk",))
    with oxgen.spawn(argv, limits=Limits(cpus=0.5), sandbox=box) as process:
        process.stdout.readline()
        assert {quota_of(pid) for pid in watch.processes(tag)} == {(50_000, 100_000)}


def test_a_cell_without_the_limit_has_no_quota_even_after_one_that_had(
    probe: Probe, tag: str
) -> None:
    argv = [str(probe.path), "announce", "20", tag]
    with Launcher(cells=1) as launcher:
        assert busy(1, 0, Limits(cpus=0.5), launcher=launcher).returncode == 0
        with oxgen.spawn(argv, launcher=launcher) as process:
            process.stdout.readline()
            assert [quota_of(pid) for pid in watch.processes(tag)] == [None]


def test_nothing_is_left_of_it() -> None:
    before = watch.control_groups()
    with Launcher(cells=1) as launcher:
        assert busy(1, 0, Limits(cpus=0.5), launcher=launcher).returncode == 0
        assert watch.control_groups() > before
    assert watch.wait_until(lambda: not watch.control_groups() - before, 2)


# --- other limits beside it -----------------------------------------------------------------------


@pytest.mark.parametrize("cpus", (0.5, 0.01))
def test_the_wall_limit_holds_for_a_tree_that_is_slowed_down(cpus: float) -> None:
    # Its warden is slowed down with it.
    begun = time.monotonic()
    done = busy(60, 60, Limits(cpus=cpus, wall_seconds=2))
    assert done.termination.reason == "timeout"
    assert time.monotonic() - begun < 2 + 1.5
    assert done.usage.wall_seconds < 2 + 1


def test_the_amount_of_cpu_time_is_a_limit_of_its_own() -> None:
    done = busy(4, 20, Limits(cpus=0.5, cpu_seconds=0.4, wall_seconds=10))
    assert done.termination.reason == "cpu_limit"


def test_a_launch_at_the_least_rate_keeps_to_the_deadline_of_launches(probe: Probe) -> None:
    begun = time.monotonic()
    done = probe.run("print", "x", limits=Limits(cpus=0.01))
    assert (done.returncode, done.stdout) == (0, b"x\n")
    assert time.monotonic() - begun < 10


# --- where it cannot be held ----------------------------------------------------------------------

#: What a program of a machine without the controller is told. Its words come as JSON.
HOST = """
import json, sys
import oxgen
from oxgen import Enforce, Limits, Sandbox
def ask(**words):
    try:
        done = oxgen.run([sys.argv[1], "exit", "0"], **words)
    except oxgen.UnsupportedError as refused:
        return [refused.missing, refused.stage, refused.cause, refused.remedy]
    return [done.confinement.missing, done.returncode]
half = Limits(cpus=0.5)
print(json.dumps([
    ask(), ask(limits=half), ask(limits=half, sandbox=Sandbox(enforce=Enforce.BEST_EFFORT)),
    ask(limits=half, sandbox=Sandbox(enforce_except=("cpu_tree",))),
    ask(limits=Limits(cpu_seconds=None, cpus=0.5)), ask(limits=Limits(cpu_seconds=None)),
]))
"""


def of_its_own() -> Path:
    """Where version 1 has the controller, with nothing else that we need."""
    for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines():
        _, point, kind, options, *_ = line.split(" ")
        if kind == "cgroup" and "cpu" in options.split(",") and "cpuacct" not in options:
            return Path(point)
    pytest.skip("needs-cgroup1: with the controller cpu in a hierarchy of its own")


def answers(change: str, program: Path) -> list[Any]:
    """In a mount namespace where the hierarchy of the controller is changed so."""
    script = f'{change} && shift && exec "$@"'
    words = [sys.executable, "-c", HOST, str(program)]
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh",
         str(of_its_own()), *words],
        capture_output=True, text=True, timeout=60, env={**os.environ},
    )  # fmt: skip
    assert done.stderr == ""
    answered: list[Any] = json.loads(done.stdout)
    return answered


@pytest.mark.parametrize(
    ("change", "cause"),
    (
        ('umount -l "$1"', 'no mount of cgroup version 1 shows our own cgroup for "cpu"'),
        ('mount -o remount,bind,ro "$1"', "no right to bound CPU time by cgroups"),
    ),
    ids=("unmounted", "read-only"),
)
def test_without_the_controller_the_rate_alone_is_refused(
    probe_path: Path, change: str, cause: str
) -> None:
    usual, asked, best, waived, rate_alone, unbounded = answers(change, probe_path)
    assert usual == [[], 0]
    assert asked[:2] == [["cpu_tree"], "cgroup_rate"]
    assert cause in asked[2]
    assert "enforce_except=(" in asked[3] and ("as root" in asked[3])
    assert best == waived == [["cpu_tree"], 0]
    assert rate_alone[0] == ["cpu_tree"]
    assert unbounded == [[], 0]


def test_control_with_the_controller_nothing_is_refused(probe_path: Path) -> None:
    assert answers("true", probe_path) == [[[], 0]] * 6
