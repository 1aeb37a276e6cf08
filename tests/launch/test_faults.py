"""Launcher and wardens may die or be stopped: limits hold, records are true, the next run works."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import psutil
import pytest
from control import watch

import oxgen
from oxgen import Launcher, Limits

if TYPE_CHECKING:
    from control.confined import Probe

pytestmark = pytest.mark.root


class Running(NamedTuple):
    """A plugin that runs, and the pids of those above it."""

    process: oxgen.Process
    plugin: int
    warden: int
    launcher: int


@pytest.fixture
def pool() -> Iterator[Launcher]:
    """A launcher that a test may harm."""
    with Launcher(cells=2) as one:
        yield one


def start(probe: Probe, tag: str, pool: Launcher, limits: Limits | None = None) -> Running:
    argv = [str(probe.path), "announce", "60", tag]
    process = oxgen.spawn(argv, launcher=pool, limits=limits)
    process.stdout.readline()
    (plugin,) = watch.processes(tag)
    warden = int(watch.status_of(plugin)["PPid"])
    return Running(process, plugin, warden, int(watch.status_of(warden)["PPid"]))


def test_a_run_whose_warden_was_killed_is_lost(probe: Probe, tag: str, pool: Launcher) -> None:
    running = start(probe, tag, pool)
    os.kill(running.warden, signal.SIGKILL)
    with running.process:
        done = running.process.wait(timeout=5)
    assert (done.termination.reason, done.termination.certain) == ("lost", False)
    assert watch.wait_until(lambda: not watch.processes(tag), 1)


def test_the_next_run_after_a_lost_one_works(probe: Probe, tag: str, pool: Launcher) -> None:
    running = start(probe, tag, pool)
    os.kill(running.warden, signal.SIGKILL)
    with running.process:
        running.process.wait(timeout=5)
    assert probe.run("exit", 4, launcher=pool).returncode == 4


def test_an_idle_cell_whose_warden_died_costs_no_run(
    probe: Probe, tag: str, pool: Launcher
) -> None:
    with oxgen.spawn([str(probe.path), "announce", "0.2", tag], launcher=pool) as process:
        process.stdout.readline()
        (plugin,) = watch.processes(tag)
        warden = int(watch.status_of(plugin)["PPid"])
        process.wait(timeout=5)
    assert watch.wait_until(lambda: pool.stats().idle == 1, 2)
    os.kill(warden, signal.SIGKILL)
    assert watch.wait_until(lambda: watch.state_of(warden) in ("", "Z"), 2)
    done = probe.run("exit", 4, launcher=pool)
    assert (done.returncode, done.termination.reason) == (4, None)


def test_a_launcher_that_died_while_nothing_ran_costs_no_run(
    probe: Probe, tag: str, pool: Launcher
) -> None:
    running = start(probe, tag, pool)
    running.process.close()
    os.kill(running.launcher, signal.SIGKILL)
    assert watch.wait_until(lambda: watch.state_of(running.launcher) in ("", "Z"), 2)
    assert watch.wait_until(lambda: watch.state_of(running.warden) in ("", "Z"), 2)
    done = probe.run("exit", 4, launcher=pool)
    assert (done.returncode, done.termination.reason) == (4, None)


def test_a_run_whose_launcher_was_killed_is_lost(probe: Probe, tag: str, pool: Launcher) -> None:
    running = start(probe, tag, pool)
    os.kill(running.launcher, signal.SIGKILL)
    with running.process:
        assert running.process.wait(timeout=5).termination.reason == "lost"
    assert watch.wait_until(lambda: not watch.processes(tag), 2)


def test_the_next_run_after_the_launcher_was_killed_works(
    probe: Probe, tag: str, pool: Launcher
) -> None:
    running = start(probe, tag, pool)
    os.kill(running.launcher, signal.SIGKILL)
    with running.process:
        running.process.wait(timeout=5)
    assert probe.run("exit", 4, launcher=pool).returncode == 4
    assert probe.run("exit", 5, launcher=pool).returncode == 5


def test_the_wall_limit_holds_though_the_warden_is_stopped(
    probe: Probe, tag: str, pool: Launcher
) -> None:
    running = start(probe, tag, pool, Limits(wall_seconds=0.5))
    os.kill(running.warden, signal.SIGSTOP)
    begin = time.monotonic()
    with running.process:
        done = running.process.wait(timeout=10)
    assert time.monotonic() - begin < 1.5
    assert done.termination.reason == "timeout"
    assert watch.wait_until(lambda: not watch.processes(tag), 1)


def test_the_wall_limit_holds_though_the_launcher_is_stopped(
    probe: Probe, tag: str, pool: Launcher
) -> None:
    running = start(probe, tag, pool, Limits(wall_seconds=0.5))
    os.kill(running.launcher, signal.SIGSTOP)
    try:
        begin = time.monotonic()
        assert running.process.wait(timeout=10).termination.reason == "timeout"
        assert time.monotonic() - begin < 1.5
        assert watch.wait_until(lambda: not watch.processes(tag), 1)
    finally:
        os.kill(running.launcher, signal.SIGCONT)
        running.process.close()


def test_closing_a_launcher_that_is_stopped_ends_it(probe: Probe, tag: str) -> None:
    pool = Launcher(cells=2)
    running = start(probe, tag, pool)
    os.kill(running.launcher, signal.SIGSTOP)
    pool.close()
    assert watch.state_of(running.launcher) == ""
    assert watch.wait_until(lambda: not watch.processes(tag), 2)
    running.process.close()


def test_a_launcher_does_not_grow_with_the_cells_that_it_made(probe: Probe, tag: str) -> None:
    with Launcher(cells=2, reuse="never") as pool:
        running = start(probe, tag, pool)
        with running.process:
            probe.run("exit", 0, launcher=pool)

        def settled() -> bool:
            """Two cells are made ahead, and those that served are gone."""
            here = (pool.stats().idle, pool.stats().making) == (2, 0)
            return here and len(psutil.Process(running.launcher).children()) == 2

        def descriptors() -> tuple[list[str], list[str]]:
            """Return what is open of cgroups and network namespaces, and what else."""
            assert watch.wait_until(settled, 5)
            targets = sorted(watch.descriptors_of(running.launcher).values())
            kept = [one for one in targets if re.search(r"^net:|/cell-\d+|/net/sockstat", one)]
            return kept, [one for one in targets if one not in kept]

        def nets(targets: list[str]) -> list[str]:
            return [one for one in targets if one.startswith("net:")]

        _, before = descriptors()
        for _ in range(200):
            probe.run("exit", 0, launcher=pool)
        kept, after = descriptors()
        assert after == before
        # Two cells and at most 16 that have ended, each with one namespace and one cgroup;
        # the launcher's own namespace.
        assert len(nets(kept)) == len(set(nets(kept))) <= 19
        assert len({one.split("/")[-1] for one in kept if re.search(r"/cell-\d+$", one)}) <= 18
        assert int(watch.status_of(running.launcher)["VmRSS"].split()[0]) < 16 * 1024
