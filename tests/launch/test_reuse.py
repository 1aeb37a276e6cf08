"""A cell serves one tenancy, and nothing that one run leaves is there for the next."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from control import watch

import oxgen
from oxgen import MIB, Launcher, Limits

if TYPE_CHECKING:
    from control.confined import Portrait, Probe
    from control.unconfined import Unconfined

pytestmark = pytest.mark.root

WRITABLE = ("/home/plugin", "/workspace", "/tmp")
#: What is compared of a place. Times and numbers of inodes differ between two empty cells.
COMPARED = ("mode", "uid", "gid", "links", "xattrs", "entries", "free_bytes", "free_inodes")

FILE_TRACES = (
    "file-in-tmp",
    "file-in-workspace",
    "file-in-home",
    "directory-in-workspace",
    "link-in-tmp",
    "pipe-in-tmp",
    "mode-of-workspace",
    "mode-of-tmp",
    "attribute-of-workspace",
    "attribute-of-home",
    "time-of-workspace",
    "file-made-and-removed",
    "deleted-file-of-daemon",
)
PROCESS_TRACES = ("daemon", "abstract-socket-of-daemon", "deleted-file-of-daemon")
#: The system call filter refuses to make them at all.
KERNEL_TRACES = ("shared-memory", "message-queue", "key")


@pytest.fixture
def one_cell() -> Iterator[Launcher]:
    """A launcher that can only reuse its one cell, or make it afresh."""
    with Launcher(cells=1) as launcher:
        yield launcher


def places(seen: Portrait) -> dict[str, dict[str, Any]]:
    """Return what is to be equal in any two empty cells."""
    return {place: {name: seen.places[place][name] for name in COMPARED} for place in WRITABLE}


def cell_of(probe: Probe, tag: str, launcher: Launcher, **settings: Any) -> str:
    """Run in a cell and return the identity of its process 1, which no other ever has."""
    argv = [str(probe.path), "announce", "20", tag]
    with oxgen.spawn(argv, launcher=launcher, **settings) as process:
        process.stdout.readline()
        (pid,) = watch.processes(tag)
        warden = int(watch.status_of(pid)["PPid"])
        started = watch.started(warden)
    return f"{warden} {started}"


def test_every_trace_of_the_probe_is_looked_for(probe: Probe) -> None:
    assert set(probe.answer("leave-names")) == {*FILE_TRACES, *PROCESS_TRACES, *KERNEL_TRACES}


@pytest.mark.parametrize("trace", FILE_TRACES)
def test_the_next_run_sees_nothing_of_a_trace_in_the_file_tree(
    probe: Probe, one_cell: Launcher, trace: str
) -> None:
    empty = places(probe.look(launcher=one_cell))
    assert probe.answer("leave", trace, launcher=one_cell) == {trace: "ok"}
    assert places(probe.look(launcher=one_cell)) == empty


def test_the_next_run_cannot_read_a_time_that_the_last_one_set(
    probe: Probe, one_cell: Launcher
) -> None:
    probe.answer("leave", "time-of-workspace", launcher=one_cell)
    seen = probe.look(launcher=one_cell).places["/workspace"]
    assert seen["modified_ns"] != 7654321 * 10**9


@pytest.mark.parametrize("trace", PROCESS_TRACES)
def test_the_next_run_finds_no_process_of_the_last_one(
    probe: Probe, one_cell: Launcher, trace: str
) -> None:
    assert probe.answer("leave", trace, launcher=one_cell) == {trace: "ok"}
    found = probe.answer("find-traces", launcher=one_cell)
    assert (found["other_processes"], found["abstract-socket-of-daemon"]) == (0, "ECONNREFUSED")


@pytest.mark.parametrize("trace", KERNEL_TRACES)
def test_what_outlives_processes_in_the_kernel_cannot_be_made(
    probe: Probe, one_cell: Launcher, trace: str
) -> None:
    assert probe.answer("leave", trace, launcher=one_cell) == {trace: "EPERM"}


@pytest.mark.parametrize("trace", (*FILE_TRACES, *PROCESS_TRACES, *KERNEL_TRACES))
def test_control_outside_the_trace_can_be_left(unconfined: Unconfined, trace: str) -> None:
    # Where there is nothing of a cell, its directories are made for the occasion.
    made = (
        "mount -t tmpfs -o mode=777 tmpfs /mnt; mkdir -p /mnt/workspace /mnt/home/plugin /mnt/tmp\n"
        "cat /tmp/box/probe >/mnt/probe; chmod 755 /mnt/probe; mkdir /mnt/proc\n"
        "mount -t proc proc /mnt/proc; chown -R 2000000001 /mnt/workspace /mnt/home /mnt/tmp\n"
    )
    done = unconfined.run("leave", trace, before=made, inside="/mnt")
    assert done.stdout == f'{{"{trace}":"ok"}}\n'.encode()


def test_a_clean_cell_serves_its_tenancy_again(probe: Probe, one_cell: Launcher, tag: str) -> None:
    first = cell_of(probe, tag, one_cell)
    assert one_cell.stats().idle == 1
    assert cell_of(probe, tag, one_cell) == first


def test_a_dirty_cell_is_not_kept(probe: Probe, one_cell: Launcher) -> None:
    probe.answer("leave", "file-in-tmp", launcher=one_cell)
    assert one_cell.stats().idle == 0


@pytest.mark.parametrize(
    "other",
    (
        {"tenant": "other"},
        {"limits": Limits(memory_bytes=64 * MIB)},
        {"limits": Limits(processes=7)},
        {"limits": Limits(disk_bytes=MIB)},
        {"limits": Limits(cpus=0.5)},
    ),
    ids=("tenant", "memory", "processes", "disk", "cpus"),
)
def test_another_tenancy_never_gets_the_cell(probe: Probe, tag: str, other: dict[str, Any]) -> None:
    with Launcher(cells=2) as launcher:
        first = cell_of(probe, tag, launcher)
        assert cell_of(probe, tag, launcher, **other) != first


def test_another_program_never_gets_the_cell(probe: Probe, dynamic_probe: Probe, tag: str) -> None:
    with Launcher(cells=2) as launcher:
        first = cell_of(probe, tag, launcher)
        assert cell_of(dynamic_probe, tag, launcher) != first


def test_where_reuse_is_never_every_run_has_a_new_cell(probe: Probe, tag: str) -> None:
    with Launcher(cells=1, reuse="never") as launcher:
        first = cell_of(probe, tag, launcher)
        assert cell_of(probe, tag, launcher) != first


def test_where_one_cell_is_left_it_changes_hands_empty(probe: Probe, one_cell: Launcher) -> None:
    for _ in range(3):
        probe.answer("leave", "file-in-tmp", tenant="one", launcher=one_cell)
        assert probe.look(tenant="two", launcher=one_cell).places["/tmp"]["entries"] == []


def test_peak_memory_of_a_run_is_not_that_of_the_last_one(probe: Probe, one_cell: Launcher) -> None:
    probe.answer("touch", 64, launcher=one_cell)
    peak = probe.run("exit", 0, launcher=one_cell).usage.peak_memory_bytes
    assert peak is None or peak < 32 * MIB


def test_cpu_time_of_a_run_is_not_that_of_the_last_one(probe: Probe, one_cell: Launcher) -> None:
    assert probe.run("burn", 0.3, launcher=one_cell).usage.cpu_seconds >= 0.3
    assert probe.run("exit", 0, launcher=one_cell).usage.cpu_seconds < 0.1


def test_memory_kill_of_one_run_is_not_told_of_the_next(probe: Probe, one_cell: Launcher) -> None:
    limits = Limits(memory_bytes=32 * MIB)
    done = probe.run("touch", 64, limits=limits, launcher=one_cell)
    assert done.termination.reason == "memory_limit"
    assert probe.run("raise", 9, limits=limits, launcher=one_cell).termination.reason == "killed"


def test_the_cell_is_as_good_as_new_after_a_hundred_runs(probe: Probe, one_cell: Launcher) -> None:
    first = places(probe.look(launcher=one_cell))
    for number in range(100):
        probe.run("exit", number, launcher=one_cell)
    assert places(probe.look(launcher=one_cell)) == first
