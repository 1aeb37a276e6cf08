"""When run() returns, everything that the program started is gone, and nothing held it up."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

import pytest
from control import watch

import oxgen
from oxgen import Limits

if TYPE_CHECKING:
    from control.confined import Probe
    from control.unconfined import Unconfined

pytestmark = pytest.mark.root

#: Where the control counts who is left in its pid namespace after the probe has ended.
# The shell's own commands only: where a bomb has used up the processes, it can start no other.
COUNT_OTHERS = (
    "sh",
    "-c",
    '"$@" >/dev/null; n=0; i=0; while [ $n = 0 ] && [ $i -lt 500 ]; do i=$((i+1)); '
    "for p in /proc/[0-9]*/comm; do "
    'if { read -r name <"$p"; } 2>/dev/null && [ "$name" = probe ]; then n=$((n+1)); fi; '
    'done; done; echo "$n"',
    "sh",
)

#: Each leaves processes behind that would live for a minute; the leader is done at once.
LEAVERS = {
    "orphan": ("orphan", 60),
    "daemon": ("daemonise", 60),
    "hopper": ("hop", 60),
    "children": ("fork", 20),
    "bomb": ("bomb", 0.2),
}


@pytest.mark.parametrize("name", sorted(LEAVERS))
def test_nothing_is_left_when_run_returns(probe: Probe, tag: str, name: str) -> None:
    begin = time.monotonic()
    done = probe.run(*LEAVERS[name], tag)
    left = watch.processes(tag)
    took = time.monotonic() - begin
    assert left == []
    assert (done.returncode, done.termination.reason) == (0, None)
    assert took < 3


@pytest.mark.parametrize("name", sorted(set(LEAVERS) - {"hopper"}))
def test_control_outside_somebody_is_left(unconfined: Unconfined, name: str) -> None:
    done = unconfined.run(*LEAVERS[name], prefix=("prlimit", "--nproc=100", *COUNT_OTHERS))
    assert int(done.stdout) > 0


def test_a_grandchild_with_our_output_open_neither_delays_nor_adds(probe: Probe, tag: str) -> None:
    begin = time.monotonic()
    done = probe.run("orphan", 1, tag)
    assert time.monotonic() - begin < 0.9
    assert done.stdout == b"done\n"
    assert watch.processes(tag) == []


def test_a_hopper_is_gone_for_good(probe: Probe, tag: str) -> None:
    probe.run("hop", 60, 0.2, tag)
    # One look can miss a process that is another one every millisecond.
    seen = []
    for _ in range(20):
        seen += watch.processes(tag)
        time.sleep(0.02)
    assert seen == []


def test_orphans_are_reaped_while_the_program_runs(probe: Probe) -> None:
    # Were they to stay zombies, they would use up the limit.
    answer = probe.answer("zombies", 500, limits=Limits(processes=16))
    assert answer == {"made": 500, "error": "ok"}


def test_no_zombie_is_left_in_the_host(probe: Probe) -> None:
    for words in LEAVERS.values():
        probe.run(*words)
    zombies = [
        pid
        for pid in map(int, filter(str.isdigit, os.listdir("/proc")))
        if watch.status_of(pid).get("PPid") == str(os.getpid()) and watch.state_of(pid) == "Z"
    ]
    assert zombies == []


def test_a_fork_bomb_stays_within_its_process_limit(probe: Probe, tag: str) -> None:
    answer = probe.answer("bomb", 0.5, tag, limits=Limits(processes=32))
    assert answer["forks"] <= 31
    assert watch.processes(tag) == []


def test_another_plugin_starts_while_a_fork_bomb_goes_on(probe: Probe, tag: str) -> None:
    limits = Limits(wall_seconds=5, processes=64)
    bomb = threading.Thread(target=probe.run, args=("bomb", 1, tag), kwargs={"limits": limits})
    bomb.start()
    try:
        assert watch.wait_until(lambda: len(watch.processes(tag)) > 30, 5)
        begin = time.monotonic()
        assert probe.run("exit", 0, tenant="other").returncode == 0
        assert time.monotonic() - begin < 1
    finally:
        bomb.join()
    assert watch.processes(tag) == []


def test_a_host_thread_sees_the_tree_gone_at_every_return(probe: Probe) -> None:
    for _ in range(10):
        tag = watch.new_tag()
        probe.run("fork", 10, tag)
        assert watch.processes(tag) == []


def test_the_leader_is_not_blamed_for_the_death_of_its_children(probe: Probe) -> None:
    done = probe.run("touch-children", 3, 1)
    assert (done.termination.reason, done.returncode) == (None, 0)


def test_wall_time_is_that_of_the_leader(probe: Probe) -> None:
    done = oxgen.run([str(probe.path), "orphan", "60"], capture_output=True)
    assert done.usage.wall_seconds < 1
