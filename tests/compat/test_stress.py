"""stress-ng under limits: each stressor ends as its limit says, and the next run is unharmed."""

from __future__ import annotations

import re

import pytest
from control.installed import in_path

import oxgen
from oxgen import MIB, Limits

pytestmark = pytest.mark.root

LIMITS = Limits(wall_seconds=20, memory_bytes=128 * MIB, processes=32, disk_bytes=32 * MIB)


def stress(*stressor: str, limits: Limits = LIMITS) -> oxgen.Completed:
    """Run one stressor for a second, then see that a run after it works."""
    tool = in_path("stress-ng")
    done = oxgen.run(
        [tool, "--temp-path", "/tmp", "--timeout", "1", "--metrics-brief", *stressor],
        limits=limits,
        capture_output=True,
    )
    after = oxgen.run([tool, "--version"], limits=limits, capture_output=True)
    assert after.returncode == 0, after
    return done


@pytest.mark.parametrize(
    "stressor",
    (
        ("--cpu", "2"),
        ("--vm", "1", "--vm-bytes", "32M"),
        ("--fork", "2"),
        ("--hdd", "1", "--hdd-bytes", "8M"),
        ("--sockpair", "1"),
        ("--futex", "1"),
        ("--kill", "1"),
        ("--mmap", "1", "--mmap-bytes", "8M"),
    ),
    ids=lambda words: words[0].strip("-"),
)
def test_stressor_within_its_limits_does_its_work(stressor: tuple[str, ...]) -> None:
    done = stress(*stressor)
    assert (done.returncode, done.termination.reason) == (0, None), done
    assert b"successful run completed" in (done.stderr or b"")


def test_cpu_stressor_is_ended_by_the_time_of_all_its_processes() -> None:
    limits = Limits(cpu_seconds=0.5, wall_seconds=20)
    done = stress("--cpu", "4", "--timeout", "10", limits=limits)
    assert done.termination.reason == "cpu_limit"
    assert done.usage.wall_seconds < 5


def test_memory_stressor_is_told_its_limit() -> None:
    done = stress("--vm", "1", "--vm-bytes", "400M", "--vm-keep")
    assert done.termination.reason == "memory_limit"
    assert (done.usage.peak_memory_bytes or 0) <= 128 * MIB


def test_fork_stressor_makes_no_more_processes_than_allowed() -> None:
    done = stress("--fork", "1", "--fork-max", "200")
    assert (done.returncode, done.termination.reason) == (0, None), "EAGAIN ends none"


def test_threads_beyond_the_limit_are_refused() -> None:
    done = stress("--pthread", "1", "--pthread-max", "1024")
    assert (done.returncode, done.termination.reason) == (0, None)
    (share,) = re.findall(rb"([0-9.]+) ?% of 1024 pthreads created", done.stderr or b"")
    assert float(share) <= 100 * (LIMITS.processes or 0) / 1024


def test_a_disk_that_is_full_is_an_error_to_the_stressor() -> None:
    done = stress("--fallocate", "1", "--fallocate-bytes", "200M")
    assert done.termination.reason is None
    done = stress("--hdd", "1", "--hdd-bytes", "60M")
    assert done.termination.reason is None and (done.usage.peak_memory_bytes or 0) < 100 * MIB


@pytest.mark.parametrize("name", ("mq", "msg"))
def test_queues_that_would_outlive_the_run_are_refused(name: str) -> None:
    done = stress(f"--{name}", "1")
    assert done.returncode == 2 and b"Operation not permitted" in (done.stderr or b"")
