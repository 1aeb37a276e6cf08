"""The pool: bounded, fair between tenants, made ahead, trimmed; nobody waits for ever."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from control import watch

import oxgen
from oxgen import Launcher, Limits

if TYPE_CHECKING:
    from control.confined import Probe

pytestmark = pytest.mark.root


def start(action: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    return thread


def nap(probe: Probe, seconds: str, launcher: Launcher, **settings: object) -> oxgen.Completed:
    argv = [str(probe.path), "announce", seconds, "pool"]
    return oxgen.run(argv, launcher=launcher, capture_output=True, **settings)  # type: ignore[arg-type]


def test_a_full_queue_refuses_at_once(probe: Probe) -> None:
    with Launcher(cells=1, queue=1) as launcher:
        threads = [start(lambda: nap(probe, "2", launcher)) for _ in range(2)]
        assert watch.wait_until(
            lambda: (launcher.stats().busy, launcher.stats().waiting) == (1, 1), 5
        )
        begun = time.monotonic()
        with pytest.raises(oxgen.LaunchError) as refused:
            nap(probe, "0", launcher)
        assert time.monotonic() - begun < 1
        assert refused.value.stage == "queue"
        assert "1 runs wait" in str(refused.value)
        for thread in threads:
            thread.join(20)


def test_a_tenant_with_many_runs_does_not_hold_up_another(probe: Probe) -> None:
    """With one cell: of ten runs of one tenant, at most two are over before the other's one is."""
    ended: list[str] = []
    with Launcher(cells=1) as launcher:

        def one(tenant: str) -> None:
            nap(probe, "0.3", launcher, tenant=tenant)
            ended.append(tenant)

        greedy = [start(lambda: one("greedy")) for _ in range(10)]
        assert watch.wait_until(lambda: launcher.stats().waiting == 9, 5)
        modest = start(lambda: one("modest"))
        modest.join(30)
        assert ended.index("modest") <= 2
        for thread in greedy:
            thread.join(30)
    assert len(ended) == 11


def test_cells_that_nobody_uses_end(probe: Probe) -> None:
    with Launcher(cells=2, idle_seconds=0.5) as launcher:
        nap(probe, "0", launcher)
        assert launcher.stats().idle == 1
        assert watch.wait_until(lambda: launcher.stats().idle == 0, 5)
        assert nap(probe, "0", launcher).termination.reason is None


def test_where_cells_serve_once_the_next_one_is_made_ahead(probe: Probe) -> None:
    with Launcher(cells=2, reuse="never") as launcher:
        nap(probe, "0", launcher)
        assert watch.wait_until(lambda: launcher.stats().idle >= 1, 5)
        assert launcher.stats().busy == 0


def test_a_dirty_cell_is_replaced_before_the_next_run_asks(probe: Probe) -> None:
    with Launcher(cells=1) as launcher:
        limits = Limits(wall_seconds=0.3)
        assert nap(probe, "30", launcher, limits=limits).termination.reason == "timeout"
        assert watch.wait_until(lambda: launcher.stats().idle == 1, 5)


def test_a_launcher_that_dies_while_runs_wait_is_replaced_for_them(probe: Probe) -> None:
    with Launcher(cells=1) as launcher:
        assert nap(probe, "0", launcher).termination.reason is None
        results: list[object] = []
        threads = [
            start(lambda number=number: results.append(nap(probe, "0.4", launcher)))  # type: ignore[misc]
            for number in range(4)
        ]
        time.sleep(0.2)
        os.kill(launcher.pid, signal.SIGKILL)
        for thread in threads:
            thread.join(20)
        assert len(results) == 4, "a run was lost without a word"
        assert nap(probe, "0", launcher).termination.reason is None


def test_what_an_interrupt_leaves_of_an_idle_cell_ends_no_pool(probe: Probe) -> None:
    """The line of a tenancy whose last cell was taken, a moment before its name was."""
    with Launcher(cells=1, idle_seconds=0.3) as launcher:
        nap(probe, "0", launcher)
        (tenancy,) = launcher.pool.stock.idle
        for tenant in "abc":
            launcher.pool.stock.idle[replace(tenancy, tenant=tenant)] = []
            nap(probe, "0", launcher, tenant="other")
            nap(probe, "0", launcher)
        assert watch.wait_until(lambda: not launcher.pool.stock.idle, 5)
        assert nap(probe, "0", launcher).termination.reason is None


def test_closing_ends_the_wait_of_those_in_the_queue(probe: Probe) -> None:
    launcher = Launcher(cells=1)
    failures: list[BaseException] = []

    def one() -> None:
        try:
            nap(probe, "20", launcher)
        except oxgen.OxgenError as failure:
            failures.append(failure)

    threads = [start(one) for _ in range(3)]
    assert watch.wait_until(lambda: launcher.stats().waiting == 2, 10)
    begun = time.monotonic()
    launcher.close()
    for thread in threads:
        thread.join(10)
    assert time.monotonic() - begun < 8
    assert sum("closed" in str(failure) for failure in failures) >= 2


def test_descriptors_and_cells_do_not_add_up(probe: Probe) -> None:
    with Launcher(cells=2, reuse="never") as launcher:
        for _ in range(20):
            nap(probe, "0", launcher)
        time.sleep(0.5)
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(100):
            nap(probe, "0", launcher)
        time.sleep(0.5)
        after = len(os.listdir("/proc/self/fd"))
    assert after <= before + 8


@pytest.mark.parametrize("spare", range(10))
def test_a_host_without_descriptors_gets_a_clear_error(probe: Probe, spare: int) -> None:
    """Wherever the last descriptor is missed, it is an error of ours, and the next run works."""
    code = (
        "import os, resource, sys, oxgen\n"
        "words, spare = sys.argv[1:-1], int(sys.argv[-1])\n"
        "with oxgen.Launcher(cells=1) as other:\n"
        "    oxgen.run(words, launcher=other, capture_output=True)  # all modules are loaded\n"
        "soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "used = len(os.listdir('/proc/self/fd')) - 1\n"
        "with oxgen.Launcher(cells=1) as launcher:\n"
        "    resource.setrlimit(resource.RLIMIT_NOFILE, (used + spare, hard))\n"
        "    try:\n"
        "        oxgen.run(words, launcher=launcher, capture_output=True)\n"
        "    except oxgen.OxgenError as failed:\n"
        "        print(type(failed).__name__)\n"
        "    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))\n"
        "    done = oxgen.run(words, launcher=launcher, capture_output=True)\n"
        "    print(done.returncode)\n"
    )
    words = [sys.executable, "-c", code, str(probe.path), "announce", "0", "pool", str(spare)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "0"
    assert len(done.stdout.splitlines()) == 2


def test_a_program_is_not_held_open_once_its_cells_are_gone(probe: Probe, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    program = tmp_path / "own-copy"  # other launchers of this process may hold the probe itself
    shutil.copy(probe.path, program)

    def held() -> bool:
        where = "/proc/self/fd"
        links = [f"{where}/{name}" for name in os.listdir(where)]
        return str(program) in [os.readlink(one) for one in links if os.path.islink(one)]

    with Launcher(cells=1) as launcher:
        oxgen.run([program, "exit", "0"], launcher=launcher)
        assert held()
        oxgen.run(["true"], launcher=launcher)  # needs the only cell
        assert watch.wait_until(lambda: not held(), 5)


def test_runs_of_a_launcher_that_is_closed_say_cancelled(probe: Probe, tag: str) -> None:
    """Its own kill is certain: it is not "lost", as a cell that vanished is."""
    launcher = oxgen.Launcher(cells=1)
    with oxgen.spawn([str(probe.path), "sleep", "60", tag], launcher=launcher) as process:
        launcher.close()
        ended = process.wait(5).termination
    assert (ended.reason, ended.certain) == ("cancelled", True)
    with pytest.raises(oxgen.UsageError, match="closed"):
        oxgen.run([str(probe.path), "exit", "0"], launcher=launcher)
