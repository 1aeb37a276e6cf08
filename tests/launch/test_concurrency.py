"""Many launches at once: each has its own limits, and nothing is left of them."""

from __future__ import annotations

import gc
import os
import resource
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from control import watch

import oxgen
from oxgen import Launcher, Limits

if TYPE_CHECKING:
    from control.confined import Probe
    from control.hosts import Host

pytestmark = pytest.mark.root

THREADS = 8
LAUNCHES = 250


@pytest.fixture(scope="module")
def storm(probe: Probe) -> dict[str, Any]:
    """What 8 threads with 250 launches each came to; every launch has limits of its own."""
    limits_before = resource.getrlimit(resource.RLIMIT_NOFILE)
    wrong: list[tuple[int, object]] = []

    def work(thread: int) -> None:
        for number in range(LAUNCHES):
            files = 64 + thread * LAUNCHES + number
            limits = Limits(open_files=files, file_bytes=files * 10)
            seen = probe.look(limits=limits, launcher=launcher).rlimits
            if (seen["nofile"], seen["fsize"]) != ([files] * 2, [files * 10] * 2):
                wrong.append((files, seen))

    probe.run("exit", 0)
    gc.collect()  # what exceptions of earlier tests still hold is not ours to count
    descriptors = len(os.listdir("/proc/self/fd"))
    with Launcher(cells=THREADS) as launcher:
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(work, range(THREADS)))
        cells = launcher.stats().idle
    return {
        "wrong": wrong,
        "cells": cells,
        "limits": limits_before == resource.getrlimit(resource.RLIMIT_NOFILE),
        "descriptors": len(os.listdir("/proc/self/fd")) - descriptors,
    }


def test_each_of_2000_launches_has_its_own_limits(storm: dict[str, Any]) -> None:
    assert storm["wrong"] == []


def test_limits_of_the_host_are_as_before(storm: dict[str, Any]) -> None:
    assert storm["limits"]


def test_no_descriptor_is_left_in_the_host(storm: dict[str, Any]) -> None:
    assert storm["descriptors"] == 0


def test_there_were_no_more_cells_than_were_allowed(storm: dict[str, Any]) -> None:
    assert storm["cells"] <= THREADS


def test_no_child_is_left_in_a_host_that_closed_its_launcher(
    host: Callable[..., Host], probe_path: Path
) -> None:
    text = """
with oxgen.Launcher(cells=4) as launcher:
    threads = [
        threading.Thread(target=oxgen.run, args=([sys.argv[1], "exit", "0"],),
                         kwargs={"launcher": launcher})
        for _ in range(20)
    ]
    for one in threads: one.start()
    for one in threads: one.join()
try:
    os.waitpid(-1, os.WNOHANG)
    say("a child")
except ChildProcessError:
    say("nobody")
"""
    assert host(text, probe_path).end() == ["nobody"]


def test_cgroups_and_processes_of_a_closed_launcher_are_gone(probe: Probe, tag: str) -> None:
    with Launcher(cells=3) as launcher:
        argv = [str(probe.path), "announce", "20", tag]
        with oxgen.spawn(argv, launcher=launcher) as process:
            process.stdout.readline()
            (pid,) = watch.processes(tag)
            warden = int(watch.status_of(pid)["PPid"])
            maker = int(watch.status_of(warden)["PPid"])
            groups = watch.control_groups_of(pid)
        assert groups
    assert [group for group in groups if os.path.exists(group)] == []
    assert watch.state_of(warden) == "" and watch.state_of(maker) == ""


def test_more_runs_than_cells_wait_for_their_turn(probe: Probe) -> None:
    with Launcher(cells=2) as launcher, ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda _: probe.run("sleep", 0.1, launcher=launcher), range(8)))
    assert [one.returncode for one in done] == [0] * 8


def test_a_run_that_waits_too_long_for_a_cell_never_ran(probe: Probe, tag: str) -> None:
    with Launcher(cells=1, queue_seconds=0.2) as launcher:
        argv = [str(probe.path), "announce", "20", tag]
        with oxgen.spawn(argv, launcher=launcher), pytest.raises(oxgen.LaunchError) as caught:
            probe.run("exit", 0, launcher=launcher)
    assert caught.value.stage == "queue"


def test_the_end_of_the_thread_that_launched_does_not_end_the_plugin(
    probe: Probe, tag: str
) -> None:
    # A parent-death signal would belong to the thread (prctl(2), PR_SET_PDEATHSIG).
    started: list[oxgen.Process] = []
    argv = [str(probe.path), "announce", "0.5", tag]
    thread = threading.Thread(target=lambda: started.append(oxgen.spawn(argv)))
    thread.start()
    thread.join()
    with started[0] as process:
        assert process.wait(timeout=10).returncode == 0


def test_a_launcher_that_a_thread_started_outlives_it(probe: Probe) -> None:
    with Launcher(cells=1) as launcher:
        thread = threading.Thread(target=probe.run, args=("exit", 0), kwargs={"launcher": launcher})
        thread.start()
        thread.join()
        time.sleep(0.05)
        assert probe.run("exit", 5, launcher=launcher).returncode == 5


def test_a_closed_launcher_says_so(probe: Probe) -> None:
    launcher = Launcher(cells=1)
    launcher.close()
    with pytest.raises(oxgen.UsageError, match="closed"):
        probe.run("exit", 0, launcher=launcher)


def test_closing_a_launcher_ends_what_still_runs(probe: Probe, tag: str) -> None:
    launcher = Launcher(cells=1)
    with oxgen.spawn([str(probe.path), "announce", "60", tag], launcher=launcher) as process:
        process.stdout.readline()
        launcher.close()
        assert watch.wait_until(lambda: not watch.processes(tag), 2)
        assert process.wait(timeout=5).termination.reason == "cancelled"
