"""Launches that fail without a fault of the machine: each is named, and nothing runs."""

from __future__ import annotations

import copy
import errno
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

import oxgen
from oxgen import _launch
from oxgen._launch import channel as channel_module
from oxgen._launch.cells import Tenancy

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def pause(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A static program that waits for its stdin to end, then exits with 0."""
    directory = tmp_path_factory.mktemp("pause")
    source = directory / "pause.c"
    source.write_text(
        "#include <unistd.h>\nint main(int n, char **v) { (void)v; if (n > 1) pause();"
        " char c; while (read(0, &c, 1) > 0); return 0; }\n"
    )
    subprocess.run(["gcc", "-static", "-o", directory / "pause", source], check=True, timeout=60)
    directory.chmod(0o755)
    return str(directory / "pause")


def test_a_missing_launcher_is_named(pause: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_module, "EXECUTABLE", "/nonexistent/launcher")
    with oxgen.Launcher(cells=1) as launcher, pytest.raises(oxgen.LaunchError) as failed:
        oxgen.run([pause], launcher=launcher)
    assert (failed.value.stage, failed.value.errno) == ("launcher", errno.ENOENT)
    assert "install oxgen anew" in str(failed.value)


def test_a_launcher_that_does_not_answer_is_named(
    pause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel_module, "EXECUTABLE", "/bin/true")
    with oxgen.Launcher(cells=1) as launcher, pytest.raises(oxgen.LaunchError) as failed:
        oxgen.run([pause], launcher=launcher)
    assert failed.value.stage == "handshake"


def test_a_launcher_started_by_hand_says_so() -> None:
    by_hand = subprocess.run(
        [channel_module.EXECUTABLE], capture_output=True, stdin=subprocess.DEVNULL, timeout=10
    )
    assert (by_hand.returncode, b"not by hand" in by_hand.stderr) == (2, True)


def test_too_many_arguments_are_refused_before_anything_runs(pause: str) -> None:
    with pytest.raises(oxgen.LaunchError) as failed:
        oxgen.run([pause, "x" * 200_000])
    assert (failed.value.stage, failed.value.errno) == ("request", errno.E2BIG)
    assert "128 KiB" in str(failed.value)


def test_as_many_arguments_as_are_documented_are_accepted(pause: str) -> None:
    done = oxgen.run([pause, "x" * 120_000], limits=oxgen.Limits(wall_seconds=0.2))
    assert done.termination.reason == "timeout"


def test_a_run_waits_for_a_cell_no_longer_than_it_was_told(pause: str) -> None:
    with (
        oxgen.Launcher(cells=1, queue_seconds=0.3) as launcher,
        oxgen.spawn([pause, "for ever"], launcher=launcher),
    ):
        begun = time.monotonic()
        with pytest.raises(oxgen.LaunchError) as failed:
            oxgen.run([pause], launcher=launcher)
        assert (failed.value.stage, failed.value.errno) == ("queue", errno.ETIMEDOUT)
        assert 0.25 <= time.monotonic() - begun < 5


def test_a_run_that_waits_for_a_cell_gets_it(pause: str) -> None:
    with oxgen.Launcher(cells=1, queue_seconds=30) as launcher:
        process = oxgen.spawn([pause, "for ever"], launcher=launcher)
        timer = threading.Timer(0.3, process.kill)
        timer.start()
        assert oxgen.run([pause], launcher=launcher, tenant="other").returncode == 0
        timer.join()
        process.close()


def test_a_used_up_uid_range_is_named(pause: str) -> None:
    pool = oxgen.Launcher(cells=2, uid_base=1_990_000_000, uid_count=2)
    with pool, oxgen.spawn([pause, "for ever"], launcher=pool):
        with pytest.raises(oxgen.UnsupportedError) as refused:
            oxgen.run([pause], launcher=pool, tenant="other")
        assert refused.value.stage == "uid_pair"
        assert "larger uid range" in str(refused.value)


def test_two_launchers_never_share_a_uid_pair(pause: str) -> None:
    """The second launcher finds the only pair of the range locked by the first."""
    first = oxgen.Launcher(cells=1, uid_base=1_990_000_100, uid_count=2)
    second = oxgen.Launcher(cells=1, uid_base=1_990_000_100, uid_count=2)
    with first, second:
        assert oxgen.run([pause], launcher=first).returncode == 0
        with pytest.raises(oxgen.UnsupportedError) as refused:
            oxgen.run([pause], launcher=second)
        assert refused.value.stage == "uid_pair"


@pytest.mark.parametrize("base", [1_990_000_099, 1_990_000_100, 1_990_000_101])
def test_launchers_with_overlapping_ranges_never_share_a_uid(pause: str, base: int) -> None:
    first = oxgen.Launcher(cells=1, uid_base=1_990_000_100, uid_count=2)
    second = oxgen.Launcher(cells=1, uid_base=base, uid_count=2)
    with first, second:
        assert oxgen.run([pause], launcher=first).returncode == 0
        with pytest.raises(oxgen.UnsupportedError):
            oxgen.run([pause], launcher=second)


def test_launchers_with_neighbouring_ranges_both_run(pause: str) -> None:
    first = oxgen.Launcher(cells=1, uid_base=1_990_000_100, uid_count=2)
    second = oxgen.Launcher(cells=1, uid_base=1_990_000_102, uid_count=2)
    with first, second:
        assert oxgen.run([pause], launcher=first).returncode == 0
        assert oxgen.run([pause], launcher=second).returncode == 0


def test_a_cell_that_died_while_idle_costs_no_run(pause: str) -> None:
    with oxgen.Launcher(cells=1) as launcher:
        assert oxgen.run([pause], launcher=launcher).returncode == 0
        ((cell,),) = launcher.pool.stock.idle.values()
        signal.pidfd_send_signal(cell.native.pidfd, signal.SIGKILL)
        time.sleep(0.2)
        assert oxgen.run([pause], launcher=launcher).returncode == 0


def test_a_launcher_that_was_killed_is_replaced(pause: str) -> None:
    with oxgen.Launcher(cells=1) as launcher:
        assert oxgen.run([pause], launcher=launcher).returncode == 0
        os.kill(launcher.pid, signal.SIGKILL)
        time.sleep(0.3)
        assert oxgen.run([pause], launcher=launcher).returncode == 0


def test_a_closed_launcher_refuses(pause: str) -> None:
    launcher = oxgen.Launcher(cells=1)
    launcher.close()
    with pytest.raises(oxgen.UsageError, match="closed"):
        oxgen.run([pause], launcher=launcher)


@pytest.mark.parametrize("bad", [0, -1, 1025, True, 1.5, "8"])
def test_a_launcher_refuses_a_number_of_cells(bad: object) -> None:
    with pytest.raises(oxgen.UsageError, match="1 to 1024"):
        oxgen.Launcher(cells=bad)  # type: ignore[arg-type]


def test_the_default_launcher_leaves_no_lock_of_a_dead_cell(pause: str) -> None:
    """The same only pair is free again as soon as its launcher is closed."""
    for _ in range(3):
        with oxgen.Launcher(cells=1, uid_base=1_990_000_200, uid_count=2) as launcher:
            assert oxgen.run([pause], launcher=launcher).returncode == 0


def test_the_lock_file_belongs_to_root_and_nobody_else_may_write() -> None:
    lock = Path("/run/oxgen/uids")
    assert (lock.stat().st_uid, lock.stat().st_mode & 0o777) == (0, 0o600)
    assert lock.parent.stat().st_mode & 0o022 == 0


def test_cells_that_a_host_lost_track_of_do_not_use_up_the_launcher(pause: str) -> None:
    with oxgen.Launcher(cells=2) as launcher:
        for round_number in range(12):
            assert oxgen.run([pause], launcher=launcher, tenant=str(round_number)).returncode == 0
            # As after an exception of a signal handler at a bad moment: nobody holds the cell.
            launcher.pool.stock.idle.clear()
            gc.collect()
        assert oxgen.run([pause], launcher=launcher).returncode == 0


@pytest.mark.parametrize("delay", [i / 200 for i in range(16)])
def test_an_interrupt_at_any_moment_leaves_nothing_behind(pause: str, delay: float) -> None:
    code = (
        "import os, signal, sys, oxgen\n"
        "launcher = oxgen.Launcher(cells=2)\n"
        "oxgen.run([sys.argv[1]], launcher=launcher)\n"
        "before = len(os.listdir('/proc/self/fd'))\n"
        "for _ in range(3):\n"
        "    signal.setitimer(signal.ITIMER_REAL, float(sys.argv[2]) + 0.0005)\n"
        "    try:\n"
        "        oxgen.run([sys.argv[1], 'for ever'], launcher=launcher, tenant=str(_))\n"
        "    except KeyboardInterrupt:\n"
        "        pass\n"
        "    signal.setitimer(signal.ITIMER_REAL, 0)\n"
        "for _ in range(2):\n"
        "    assert oxgen.run([sys.argv[1]], launcher=launcher).returncode == 0\n"
        "launcher.close()\n"
        "import gc; gc.collect()\n"
        "print(len(os.listdir('/proc/self/fd')) <= before)\n"
    )
    code = "import signal\nsignal.signal(signal.SIGALRM, signal.default_int_handler)\n" + code
    host = subprocess.run(
        [sys.executable, "-c", code, pause, str(delay)], capture_output=True, text=True, timeout=60
    )
    assert (host.returncode, host.stdout) == (0, "True\n"), host.stderr


FEW_DESCRIPTORS = """
import os, resource, sys
import oxgen
most = len(os.listdir("/proc/self/fd")) - 1 + int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
try:
    oxgen.run(["/bin/true"], launcher=oxgen.Launcher(cells=1))
except oxgen.LaunchError as refused:
    print(f"{refused.errno} {refused}")
"""


@pytest.mark.parametrize("spare", [*range(24), *range(24, 60, 4)])
def test_a_host_that_runs_out_of_descriptors_is_told_so(spare: int) -> None:
    """The launcher has the same limit: it runs out of them at each point of its start as well."""
    host = subprocess.run(
        [sys.executable, "-c", FEW_DESCRIPTORS, str(spare)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert host.stderr == ""
    if host.stdout.startswith(str(errno.EMFILE)):
        assert "raise the limit on open files" in host.stdout
    elif host.stdout:
        # It could not even receive the descriptors of a request.
        assert "the launcher or the cell ended before it was ready" in host.stdout


@pytest.mark.parametrize("spare", range(8))
def test_spawn_without_descriptors_is_refused_and_leaves_none(spare: int, pause: str) -> None:
    code = FEW_DESCRIPTORS.replace(
        'oxgen.run(["/bin/true"], launcher=oxgen.Launcher(cells=1))', "oxgen.spawn([sys.argv[2]])"
    ).replace("(most, most))", "(most, most + 64))")
    code += "resource.setrlimit(resource.RLIMIT_NOFILE, (most + 64, most + 64))\n"
    code += 'print(len(os.listdir("/proc/self/fd")) - 1 + int(sys.argv[1]) <= most)\n'
    host = subprocess.run(
        [sys.executable, "-c", code, str(spare), pause], capture_output=True, text=True, timeout=60
    )
    assert host.stderr == ""
    assert "raise the limit on open files" in host.stdout
    assert host.stdout.endswith("True\n")


def planned(path: str, tenant: str) -> tuple[_launch.Program, Tenancy]:
    program = _launch.open_program(path, "auto")
    return program, Tenancy.of(program, oxgen.Limits(), oxgen.Sandbox(), tenant)


def test_a_request_that_is_refused_ends_no_other_run(pause: str) -> None:
    """Too many mounts for one message: the launcher lives on, and with it everybody's cells."""
    with (
        oxgen.Launcher(cells=2) as launcher,
        oxgen.spawn([pause], launcher=launcher) as process,
    ):
        program, tenancy = planned(pause, "greedy")
        many = tuple((f"/m/{i}", "/etc/hostname") for i in range(300))
        greedy = copy.copy(program)  # others start the same one
        greedy.needed = replace(program.needed, mounts=many)
        with (
            pytest.raises(oxgen.LaunchError) as refused,
            launcher.lease(greedy, tenancy),
        ):
            pass
        assert (refused.value.stage, refused.value.errno) == ("request", errno.E2BIG)
        process.stdin.close()
        assert process.wait(10).returncode == 0


def test_the_cell_of_a_dead_launcher_is_nobody_elses(pause: str) -> None:
    """Giving it back must not end the cell of the same number of the launcher that came after."""
    with oxgen.Launcher(cells=4) as launcher:
        old = launcher.lease(*planned(pause, "old"))
        lease = old.__enter__()
        os.kill(launcher.pid, signal.SIGKILL)
        time.sleep(0.3)
        others = [
            oxgen.spawn([pause], launcher=launcher, tenant=f"new {number}") for number in range(3)
        ]
        lease.give_back()
        old.__exit__(None, None, None)
        for process in others:
            process.stdin.close()
            assert process.wait(10).termination.reason is None
            process.close()


def test_a_small_uid_range_serves_run_after_run(tmp_path: Path) -> None:
    """The pair of a cell that is ending is waited for."""
    tmp_path.chmod(0o755)
    (tmp_path / "leave.c").write_text(
        '#include <fcntl.h>\nint main(void) { return open("/tmp/x", O_CREAT, 0600) < 0; }\n'
    )
    program = tmp_path / "leave"
    build = ["gcc", "-static", "-o", program, tmp_path / "leave.c"]
    subprocess.run(build, check=True, timeout=60)
    with oxgen.Launcher(cells=1, reuse="never", uid_base=1_990_000_400, uid_count=2) as launcher:
        for _ in range(30):
            assert oxgen.run([str(program)], launcher=launcher).returncode == 0


HAMMER = """
import gc, os, random, signal, sys, threading, time
import oxgen

class Interrupt(Exception):
    pass

def strike(number, frame):
    raise Interrupt

signal.signal(signal.SIGALRM, strike)
pool = oxgen.Launcher(cells=3)
oxgen.run([sys.argv[1]], launcher=pool)
before = len(os.listdir("/proc/self/fd"))
random.seed(1)
end = time.monotonic() + 6
while time.monotonic() < end:
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(0.00005, 0.01))
        for tenant in "abcd":
            oxgen.run([sys.argv[1]], launcher=pool, tenant=tenant, capture_output=True)
        signal.setitimer(signal.ITIMER_REAL, 0)
    except Interrupt:
        pass
    except oxgen.OxgenError as error:
        print("error", error)
signal.setitimer(signal.ITIMER_REAL, 0)
done = []
def last():
    done.extend(oxgen.run([sys.argv[1]], launcher=pool, tenant=str(i)).returncode for i in range(6))
thread = threading.Thread(target=last, daemon=True)
thread.start()
thread.join(20)
pool.close()
gc.collect()
print(done, len(os.listdir("/proc/self/fd")) <= before)
"""


def test_a_storm_of_interrupts_costs_neither_capacity_nor_descriptors(pause: str) -> None:
    host = subprocess.run(
        [sys.executable, "-c", HAMMER, pause], capture_output=True, text=True, timeout=100
    )
    assert host.stdout.splitlines()[-1:] == ["[0, 0, 0, 0, 0, 0] True"], host.stdout + host.stderr
