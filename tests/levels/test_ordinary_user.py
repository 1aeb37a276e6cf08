"""An ordinary user's cells hold what they say, one property after the other, and no more is said.

The same probe is refused nothing outside of a cell: controls that need root are in tests/control,
those that any user may run stand beside the promise.
"""

from __future__ import annotations

import json
import os
import resource
import secrets
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from control import watch
from control.attacks import IDS
from control.confined import Probe

import oxgen
from oxgen import MIB, Enforce, Limits, Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.user

NOBODY = 65534
#: With one uid a signal may be sent to process 1, to which the kernel does not deliver it; and a
#: program that runs is "busy" to its owner before the read-only mount refuses it.
OF_ONE_UID = (
    "signal_process_1",
    "stop_process_1",
    "kill_process_1",
    "kill_process_1_by_pidfd",
    "overwrite_own_program",
)


@pytest.fixture(scope="module")
def held() -> oxgen.Confinement:
    """What this machine holds for this user."""
    return oxgen.probe(Sandbox(enforce=Enforce.BEST_EFFORT))


@pytest.fixture(scope="module")
def box(held: oxgen.Confinement) -> Sandbox:
    """A sandbox that does without what this user cannot have, by name."""
    return Sandbox(enforce_except=held.missing)


@pytest.fixture(scope="module")
def cell(probe_path: Path, box: Sandbox) -> Probe:
    """The static probe in a user's cell."""
    return Probe(probe_path, sandbox=box)


@pytest.fixture(scope="module")
def dynamic_cell(dynamic_probe_path: Path, box: Sandbox) -> Probe:
    """The dynamic probe in a user's cell."""
    return Probe(dynamic_probe_path, sandbox=box)


@pytest.fixture(scope="module")
def outside(probe_path: Path) -> Callable[..., Any]:
    """The probe in no cell at all, for what harms nobody."""

    def answer(*words: object) -> Any:
        argv = [str(probe_path), *map(str, words)]
        done = subprocess.run(argv, capture_output=True, timeout=30, check=True)
        return json.loads(done.stdout)

    return answer


# --- what is said ---------------------------------------------------------------------------------


def test_the_level_is_namespaces(held: oxgen.Confinement) -> None:
    assert held.level == "namespaces"


def test_only_what_needs_a_cgroup_may_be_missing(held: oxgen.Confinement) -> None:
    assert set(held.missing) <= {"memory_tree", "cpu_tree", "processes"}
    assert set(held.enforced) | set(held.missing) == set(oxgen.sandbox.PROPERTIES)
    assert (held.limits == "rlimit") == ("memory_tree" in held.missing)
    assert bool(held.missing) == bool(held.cause) == bool(held.remedy)


def test_what_is_weaker_is_said(held: oxgen.Confinement, cell: Probe) -> None:
    assert "devices" in held.weaker
    others = set(os.getgroups()) - {os.getgid()}
    assert ("groups" in held.weaker) == ("uid" in held.weaker and bool(others))
    assert bool(cell.look().groups) == ("groups" in held.weaker)


def test_what_is_missing_stops_a_run_that_requires_it(
    held: oxgen.Confinement, probe_path: Path
) -> None:
    if not held.missing:
        assert oxgen.run([str(probe_path), "exit", "0"]).returncode == 0
        return
    with pytest.raises(oxgen.UnsupportedError) as refused:
        oxgen.run([str(probe_path), "exit", "0"], capture_output=True)
    assert refused.value.missing == held.missing
    assert refused.value.stage == "cgroup_base"
    assert 'enforce_except=("memory_tree", ' in refused.value.remedy


def test_a_limit_of_none_is_not_asked_for(probe_path: Path) -> None:
    limits = Limits(memory_bytes=None, cpu_seconds=None, processes=None)
    done = oxgen.run([str(probe_path), "exit", "3"], limits=limits, capture_output=True)
    assert (done.returncode, done.confinement.missing) == (3, ())
    assert not {"memory_tree", "cpu_tree", "processes"} & set(done.confinement.enforced)


def test_a_waiver_waives_nothing_else(held: oxgen.Confinement, probe_path: Path) -> None:
    if len(held.missing) < 2:
        pytest.fail("this run is for users without a cgroup of their own")
    with pytest.raises(oxgen.UnsupportedError) as refused:
        oxgen.run([str(probe_path), "exit", "0"], sandbox=Sandbox(enforce_except=held.missing[:1]))
    assert refused.value.missing == held.missing[1:]


def test_what_is_missing_is_in_the_record(cell: Probe, held: oxgen.Confinement) -> None:
    box = cell.run("exit", 0).confinement
    assert (box.missing, box.enforced, box.weaker) == (held.missing, held.enforced, held.weaker)


# --- syscalls, filesystem and the rest, by attack -------------------------------------------------


@pytest.fixture(scope="module")
def static(cell: Probe) -> Any:
    """What came of the attacks in a static cell."""
    return cell.answer("attack", *[name for name in IDS if name not in OF_ONE_UID])


@pytest.fixture(scope="module")
def dynamic(dynamic_cell: Probe) -> Any:
    """What came of the attacks where there are /proc, /dev, /etc and libraries."""
    return dynamic_cell.answer("attack", *[name for name in IDS if name not in OF_ONE_UID])


@pytest.mark.parametrize("name", [name for name in IDS if name not in OF_ONE_UID])
def test_the_attack_fails(static: Any, dynamic: Any, name: str) -> None:
    assert static[name]["outcome"] in ("refused", "killed"), static[name]
    assert dynamic[name]["outcome"] in ("refused", "killed"), dynamic[name]


@pytest.mark.parametrize("name", ("read_host_file", "walk_up"))
def test_control_outside_the_attack_succeeds(outside: Callable[..., Any], name: str) -> None:
    assert outside("attack", name)[name]["outcome"] == "escaped"


def test_signals_to_process_1_do_it_no_harm(cell: Probe) -> None:
    """The run ends as it would have: process 1 of the cell has lived to say so."""
    cell.answer("attack", "kill_process_1", "stop_process_1", "signal_process_1")
    with oxgen.Launcher(cells=1) as launcher:
        for _ in range(2):  # the second in the same cell
            done = cell.run("attack", "kill_process_1", "stop_process_1", launcher=launcher)
            assert (done.returncode, done.termination.reason) == (0, None)


def test_directories_of_the_caller_are_read_only_to_its_own_uid(dynamic_cell: Probe) -> None:
    """On the host a plugin has the uid of their owner: what refuses is the read-only mount."""
    written = dynamic_cell.answer("write", "/bin", "/etc", "/lib")
    assert set(written.values()) == {"EROFS"}, written


@pytest.mark.parametrize("kind", ("real", "effective", "saved", "filesystem"))
def test_inside_it_is_nobody(cell: Probe, kind: str) -> None:
    seen = cell.look()
    assert (seen.uids[kind], seen.gids[kind]) == (NOBODY, NOBODY)


@pytest.mark.parametrize("name", ("inheritable", "permitted", "effective", "bounding", "ambient"))
def test_capability_set_is_empty(cell: Probe, name: str) -> None:
    assert cell.look().capabilities[name] == 0


def test_the_filter_and_no_new_privileges_are_set(cell: Probe, outside: Callable[..., Any]) -> None:
    seen = cell.look()
    assert (seen.no_new_privs, seen.seccomp) == (1, 2)
    bare = subprocess.run([str(cell.path)], capture_output=True, timeout=30, check=True)
    assert json.loads(bare.stdout)["seccomp"] == 0


@pytest.mark.parametrize("kind", ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts"))
def test_namespace_is_not_the_hosts(cell: Probe, tag: str, kind: str) -> None:
    argv = [str(cell.path), "announce", "20", tag]
    with oxgen.spawn(argv, sandbox=cell.settings["sandbox"]) as process:
        process.stdout.readline()
        (pid,) = watch.processes(tag)
        assert watch.namespace(pid, kind) != watch.namespace("self", kind)


# --- network --------------------------------------------------------------------------------------


@pytest.fixture
def port() -> Iterator[tuple[int, str]]:
    """A port of the loopback and the name of an abstract socket on which the host listens."""
    name = f"@oxgen-test-{secrets.token_hex(8)}"
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as unix,
    ):
        unix.bind("\0" + name[1:])
        unix.listen()
        yield tcp.getsockname()[1], name


def test_the_host_cannot_be_reached(cell: Probe, port: tuple[int, str]) -> None:
    answer = cell.answer("connect", *port)
    # EACCES: Landlock was asked first (tests/core/test_second_wall.py).
    assert answer["tcp4"] in ("ENETUNREACH", "EACCES")
    assert answer[port[1]] == "ECONNREFUSED"


def test_control_outside_it_can(outside: Callable[..., Any], port: tuple[int, str]) -> None:
    answer = outside("connect", *port)
    assert (answer["tcp4"], answer[port[1]]) == ("ok", "ok")


# --- processes, disk, memory ----------------------------------------------------------------------


def test_processes_are_bounded_to_the_number(cell: Probe, held: oxgen.Confinement) -> None:
    assert "processes" in held.enforced
    assert cell.answer("fork", 30, limits=Limits(processes=10)) == {"made": 9, "error": "EAGAIN"}
    assert cell.answer("fork", 9, limits=Limits(processes=10)) == {"made": 9, "error": "ok"}


def test_control_without_the_bound_more_can_be_made(cell: Probe) -> None:
    assert cell.answer("fork", 30, limits=Limits(processes=None)) == {"made": 30, "error": "ok"}


def test_processes_of_one_cell_are_not_counted_to_another(cell: Probe, tag: str) -> None:
    limits = Limits(processes=20)
    argv = [str(cell.path), "fork", "19", "20", tag]
    with oxgen.spawn(
        argv, limits=limits, tenant="forker", sandbox=cell.settings["sandbox"]
    ) as forker:
        assert forker.stdout.readline() == b'{"made":19,"error":"ok"}\n'
        assert cell.answer("fork", 19, limits=limits, tenant="other")["made"] == 19


def test_disk_is_bounded(cell: Probe) -> None:
    done = cell.answer("fill", "/workspace", limits=Limits(disk_bytes=4 * MIB))
    assert "ENOSPC" in done.values(), done


def test_memory_of_one_process_is_bounded_where_that_of_the_tree_is_not(
    cell: Probe, held: oxgen.Confinement
) -> None:
    bound = cell.look(limits=Limits(memory_bytes=64 * MIB)).rlimits["data"]
    expected = 64 * MIB if "memory_tree" in held.missing else resource.RLIM_INFINITY
    assert bound == [expected, expected]


def test_cpu_time_of_what_has_ended_is_counted(cell: Probe) -> None:
    assert 0.2 <= cell.run("burn", 0.3).usage.cpu_seconds < 3


# --- whole_tree_kill, neighbours ------------------------------------------------------------------


def test_a_deadline_kills_the_whole_tree(cell: Probe, tag: str) -> None:
    done = cell.run("fork", 5, 60, tag, limits=Limits(wall_seconds=0.5))
    assert done.termination.reason == "timeout"
    assert watch.processes(tag) == []


def test_a_neighbour_is_neither_seen_nor_killed(dynamic_cell: Probe, tag: str) -> None:
    argv = [str(dynamic_cell.path), "announce", "20", tag]
    with oxgen.spawn(
        argv, tenant="bystander", sandbox=dynamic_cell.settings["sandbox"]
    ) as bystander:
        bystander.stdout.readline()
        assert dynamic_cell.answer("kill-everyone", 9, tenant="killer") == {"kill": "ESRCH"}
        listing = dynamic_cell.answer("list", "/proc", tenant="killer")["/proc"]
        seen = {name for name in listing if name.isdigit()} if isinstance(listing, list) else set()
        assert len(seen) <= 2, seen
        assert bystander.poll() is None


def test_nothing_is_left_when_the_launcher_is_closed(cell: Probe, tag: str) -> None:
    launcher = oxgen.Launcher(cells=1)
    with oxgen.spawn(
        [str(cell.path), "announce", "20", tag],
        launcher=launcher,
        sandbox=cell.settings["sandbox"],
    ) as process:
        process.stdout.readline()
        launcher.close()
    assert watch.processes(tag) == []
