"""Every field of Limits reaches the kernel, and holds."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from control import watch

import oxgen
from oxgen import MIB, Limits

if TYPE_CHECKING:
    from control.confined import Portrait, Probe
    from control.hosts import Host
    from control.unconfined import Unconfined

pytestmark = pytest.mark.root

RESOURCES = sorted(name for name in vars(resource) if name.startswith("RLIMIT_"))


# --- seen by the plugin ---------------------------------------------------------------------------


def test_open_files_is_seen(probe: Probe) -> None:
    assert probe.look(limits=Limits(open_files=77)).rlimits["nofile"] == [77, 77]


def test_file_bytes_is_seen(probe: Probe) -> None:
    assert probe.look(limits=Limits(file_bytes=12345)).rlimits["fsize"] == [12345, 12345]


def test_cpu_seconds_is_seen_above_the_limit_that_is_watched(probe: Probe) -> None:
    # RLIMIT_CPU is the backstop: whole seconds, not before the limit, soon after it.
    soft, hard = probe.look(limits=Limits(cpu_seconds=7)).rlimits["cpu"]
    assert 7 <= soft < hard <= 7 * 1.25 + 3


def test_disk_bytes_is_seen(probe: Probe) -> None:
    places = probe.look(limits=Limits(disk_bytes=3 * MIB)).places
    sizes = {places[place]["bytes"] for place in ("/tmp", "/workspace", "/home/plugin")}
    assert sizes == {3 * MIB}


def test_disk_is_one_for_all_writable_places(probe: Probe) -> None:
    places = probe.look().places
    devices = {places[place]["device"] for place in ("/tmp", "/workspace", "/home/plugin")}
    assert len(devices) == 1


def test_core_files_are_not_written(portrait: Portrait) -> None:
    # 1 and not 0: a core_pattern that is a pipe ignores 0 (core(5)).
    assert portrait.rlimits["core"] == [1, 1]


@pytest.mark.parametrize("name", ("msgqueue", "nice", "rtprio"))
def test_what_no_plugin_needs_is_limited_to_nothing(portrait: Portrait, name: str) -> None:
    assert portrait.rlimits[name] == [0, 0]


@pytest.mark.parametrize("name", ("as", "data"))
def test_address_space_is_not_limited(portrait: Portrait, name: str) -> None:
    # Go, Node and the JVM reserve far more than they use; memory is counted by the cgroup.
    assert portrait.rlimits[name] == [-1, -1]


@pytest.mark.parametrize(
    ("field", "name"), (("cpu_seconds", "cpu"), ("file_bytes", "fsize"), ("processes", "nproc"))
)
def test_none_is_no_bound(probe: Probe, field: str, name: str) -> None:
    host = resource.getrlimit(getattr(resource, f"RLIMIT_{name.upper()}"))
    seen = probe.look(limits=Limits(**{field: None})).rlimits[name]
    assert seen[1] == host[1]


def test_a_run_without_any_bound_works(probe: Probe) -> None:
    fields = Limits().as_dict()
    assert probe.answer("threads", 4, limits=Limits(**dict.fromkeys(fields)))["joined"] == 4


# --- seen by the host -----------------------------------------------------------------------------


def test_memory_bytes_is_the_limit_of_its_cgroup(probe: Probe, tag: str) -> None:
    argv = [str(probe.path), "announce", "20", tag]
    with oxgen.spawn(argv, limits=Limits(memory_bytes=48 * MIB)) as process:
        process.stdout.readline()
        (pid,) = watch.processes(tag)
        assert watch.memory_limit(pid) == 48 * MIB


def test_processes_is_the_limit_of_its_cgroup_beside_process_1(probe: Probe, tag: str) -> None:
    argv = [str(probe.path), "announce", "20", tag]
    with oxgen.spawn(argv, limits=Limits(processes=9)) as process:
        process.stdout.readline()
        (pid,) = watch.processes(tag)
        assert watch.process_limit(pid) in (9, 10)


def test_limits_of_the_host_stay(probe: Probe) -> None:
    kinds = [getattr(resource, name) for name in RESOURCES]
    before = [resource.getrlimit(kind) for kind in kinds]
    probe.run("exit", 0, limits=Limits(open_files=50, file_bytes=1, cpu_seconds=1, processes=2))
    assert [resource.getrlimit(kind) for kind in kinds] == before


# --- effect ---------------------------------------------------------------------------------------


def test_no_more_files_than_open_files_can_be_open(probe: Probe) -> None:
    answer = probe.answer("open-files", limits=Limits(open_files=40))
    assert answer == {"open": 40, "end": "EMFILE"}


def test_a_file_cannot_grow_beyond_file_bytes(probe: Probe) -> None:
    limits = Limits(file_bytes=MIB)
    assert probe.answer("long-file", "/tmp", 2, "ignore", limits=limits) == {
        "bytes": MIB,
        "end": "EFBIG",
    }


def test_a_file_may_grow_up_to_file_bytes(probe: Probe) -> None:
    limits = Limits(file_bytes=2 * MIB)
    assert probe.answer("long-file", "/tmp", 2, limits=limits) == {"bytes": 2 * MIB, "end": "ok"}


def test_too_long_a_file_ends_a_program_that_does_not_expect_it(probe: Probe) -> None:
    done = probe.run("long-file", "/tmp", 2, limits=Limits(file_bytes=MIB))
    assert (done.termination.reason, done.termination.signal) == ("killed", 25)
    assert "file_bytes" in done.termination.detail


def test_many_files_cannot_hold_more_than_disk_bytes(probe: Probe) -> None:
    answer = probe.answer("fill", "/workspace", limits=Limits(disk_bytes=4 * MIB))
    assert answer["end"] == "ENOSPC" and 3 * MIB <= answer["bytes"] <= 4 * MIB


def test_files_up_to_disk_bytes_can_be_written(probe: Probe) -> None:
    answer = probe.answer("fill", "/workspace", 3, limits=Limits(disk_bytes=4 * MIB))
    assert answer == {"bytes": 3 * MIB, "files": 3, "end": "ok"}


def test_reserving_space_counts_as_writing_it(probe: Probe) -> None:
    limits = Limits(disk_bytes=4 * MIB, file_bytes=None)
    assert probe.answer("allocate", "/tmp", 64, limits=limits) == {"allocate": "ENOSPC"}


def test_a_full_disk_is_an_error_to_the_program_and_not_its_end(probe: Probe) -> None:
    # Files are memory: were the disk as large as the memory, the kernel would kill instead.
    limits = Limits(disk_bytes=512 * MIB, memory_bytes=32 * MIB)
    assert probe.answer("fill", "/tmp", limits=limits)["end"] == "ENOSPC"


def test_the_number_of_files_is_bounded(probe: Probe) -> None:
    limits = Limits(disk_bytes=8 * MIB, memory_bytes=64 * MIB)
    answer = probe.answer("fill-inodes", "/tmp", limits=limits)
    assert answer["end"] == "ENOSPC" and answer["files"] <= 8 * MIB // 4096 + 64


def test_no_more_processes_than_processes_can_live(probe: Probe) -> None:
    answer = probe.answer("fork", 100, limits=Limits(processes=10))
    assert answer == {"made": 9, "error": "EAGAIN"}


def test_as_many_processes_as_processes_can_live(probe: Probe) -> None:
    assert probe.answer("fork", 9, limits=Limits(processes=10)) == {"made": 9, "error": "ok"}


def test_threads_count_as_processes(probe: Probe) -> None:
    done = probe.run("threads", 20, limits=Limits(processes=10))
    assert done.stdout == b'{"made":9,"joined":9,"error":"EAGAIN"}\n'


def test_a_program_that_may_not_fork_runs(probe: Probe) -> None:
    answer = probe.answer("fork", 1, limits=Limits(processes=1))
    assert answer == {"made": 0, "error": "EAGAIN"}


def test_one_plugins_processes_are_not_counted_to_another(probe: Probe, tag: str) -> None:
    limits = Limits(processes=20)
    argv = [str(probe.path), "fork", "19", "20", tag]
    with oxgen.spawn(argv, limits=limits, tenant="forker") as forker:
        assert forker.stdout.readline() == b'{"made":19,"error":"ok"}\n'
        answer = probe.answer("fork", 19, limits=limits, tenant="other")
    assert answer == {"made": 19, "error": "ok"}


@pytest.mark.parametrize("name", ("cpu", "fsize", "core", "nproc", "nofile", "memlock", "msgqueue"))
def test_a_limit_cannot_be_raised_from_inside(probe: Probe, name: str) -> None:
    assert probe.answer("raise-limits")[name] == "EPERM"


def test_a_program_that_reserves_far_more_than_its_memory_runs(probe: Probe) -> None:
    assert probe.answer("reserve", 8192, limits=Limits(memory_bytes=32 * MIB)) == {"reserve": "ok"}


def test_a_go_program_runs_within_32_mebibytes(build_go: Callable[[str, str], Path]) -> None:
    program = build_go("hello", 'package main\n\nfunc main() { println("hello") }\n')
    done = oxgen.run([str(program)], limits=Limits(memory_bytes=32 * MIB), capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"hello\n")


# --- the ends of what is accepted -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "least"),
    (
        ("memory_bytes", 4 * MIB),
        ("processes", 1),
        ("open_files", 5),
        ("file_bytes", 0),
        ("disk_bytes", 65536),
    ),
)
def test_a_program_runs_with_the_least_that_is_accepted(
    probe: Probe, field: str, least: int
) -> None:
    with pytest.raises(oxgen.UsageError, match=field):
        Limits(**{field: least - 1})
    done = probe.run("print", "x", limits=Limits(**{field: least}))
    assert (done.returncode, done.stdout) == (0, b"x\n")


def test_nothing_wraps_at_the_most_that_is_accepted(probe: Probe) -> None:
    most = dict.fromkeys(Limits().as_dict(), 1 << 50)
    century = 100 * 365 * 86400
    limits = Limits(**{**most, "wall_seconds": century, "cpu_seconds": century, "cpus": 1024})
    seen = probe.look(limits=limits).rlimits
    assert seen["fsize"] == [1 << 50, 1 << 50]
    assert century <= seen["cpu"][0] < seen["cpu"][1] <= 2 * century
    assert 5 <= seen["nofile"][0] <= 1 << 50


@pytest.mark.parametrize("amount", (1 << 32, (1 << 32) + 1, 1 << 40, 1 << 50))
def test_nothing_wraps_in_the_cgroup(probe: Probe, tag: str, amount: int) -> None:
    argv = [str(probe.path), "announce", "20", tag]
    limits = Limits(memory_bytes=amount, processes=amount, disk_bytes=amount)
    with oxgen.spawn(argv, limits=limits) as process:
        process.stdout.readline()
        (pid,) = watch.processes(tag)
        # The kernel counts whole pages and knows no more than 4 Mi processes.
        assert amount - 4096 < watch.memory_limit(pid) <= amount
        assert watch.process_limit(pid) >= 1 << 22


@pytest.mark.parametrize("seconds", (0.1, 0.999, 1.001))
def test_a_fraction_of_cpu_time_is_not_cut_to_none(probe: Probe, seconds: float) -> None:
    # In whole seconds 0.1 would be 0, which ends a program before its first instruction.
    soft, hard = probe.look(limits=Limits(cpu_seconds=seconds)).rlimits["cpu"]
    assert seconds <= soft <= hard <= 5


def test_the_shortest_wall_time_is_a_timeout(probe: Probe) -> None:
    done = probe.run("sleep", 60, limits=Limits(wall_seconds=0.001))
    assert done.termination.reason == "timeout" and done.usage.wall_seconds < 5


def test_a_limit_that_the_host_itself_is_under_stays(
    host: Callable[..., Host], probe_path: Path
) -> None:
    text = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
done = oxgen.run([sys.argv[1]], capture_output=True)
say(json.loads(done.stdout)["rlimits"]["fsize"])
"""
    assert host(text, probe_path).end() == [[1 << 20, 1 << 20]]


# --- the same without limits ----------------------------------------------------------------------


def test_control_outside_files_grow(unconfined: Unconfined) -> None:
    assert unconfined.answer("long-file", "/tmp/box", 2) == {"bytes": 2 * MIB, "end": "ok"}


def test_control_outside_there_is_room_for_many_files(unconfined: Unconfined) -> None:
    answer = unconfined.answer("fill", "/tmp/box", 8)
    assert answer == {"bytes": 8 * MIB, "files": 8, "end": "ok"}


def test_control_outside_space_can_be_reserved(unconfined: Unconfined) -> None:
    assert unconfined.answer("allocate", "/tmp/box", 16) == {"allocate": "ok"}


def test_control_outside_many_inodes_can_be_made(unconfined: Unconfined) -> None:
    answer = unconfined.answer("fill-inodes", "/tmp/box", 4000)
    assert answer == {"files": 4000, "end": "ok"}


def test_control_outside_many_processes_can_live(unconfined: Unconfined) -> None:
    assert unconfined.answer("fork", 100) == {"made": 100, "error": "ok"}


def test_control_outside_many_files_can_be_open(unconfined: Unconfined) -> None:
    answer = unconfined.answer("open-files", 500)
    assert answer == {"open": 500, "end": "ok"}
