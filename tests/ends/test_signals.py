"""A run that ended by itself or by a signal of its own is not taken for anything else."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from oxgen import Limits

if TYPE_CHECKING:
    from control.confined import Probe
    from control.unconfined import Unconfined

pytestmark = pytest.mark.root

#: Those that end a program, except SIGSYS, which the system call filter also sends.
DEADLY = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 24, 25, 26, 27, 29, 30, 34, 64)


@pytest.mark.parametrize("number", DEADLY)
def test_a_signal_of_its_own_is_killed_by_that_signal(probe: Probe, number: int) -> None:
    done = probe.run("raise", number)
    end = done.termination
    assert (end.reason, end.signal, end.exit_code) == ("killed", number, None)
    assert done.returncode == -number


@pytest.mark.parametrize("number", (1, 6, 9, 15))
def test_control_outside_the_signal_is_the_same(unconfined: Unconfined, number: int) -> None:
    # The shell in between says 128 + n.
    assert unconfined.run("raise", number).returncode == 128 + number


@pytest.mark.parametrize("code", (0, 1, 2, 77, 124, 125, 126, 127, 128, 130, 137, 152, 159, 255))
def test_an_exit_status_is_that_and_nothing_more(probe: Probe, code: int) -> None:
    done = probe.run("exit", code)
    end = done.termination
    assert (end.reason, end.exit_code, end.signal, end.detail) == (None, code, None, "")
    assert done.returncode == code


def test_abort_is_told_as_such(probe: Probe) -> None:
    assert probe.run("abort").termination.signal == signal.SIGABRT


def test_a_bad_access_is_told_as_such(probe: Probe) -> None:
    assert probe.run("segv").termination.signal == signal.SIGSEGV


def test_a_kill_of_its_own_is_not_a_memory_limit(probe: Probe) -> None:
    done = probe.run("raise", 9, limits=Limits(memory_bytes=16 * 2**20))
    assert done.termination.reason == "killed"


def test_sigxcpu_without_any_cpu_time_is_not_a_cpu_limit(probe: Probe) -> None:
    done = probe.run("raise", signal.SIGXCPU, limits=Limits(cpu_seconds=1))
    assert (done.termination.reason, done.termination.signal) == ("killed", 24)


def test_sigsys_of_its_own_is_not_called_certain(probe: Probe) -> None:
    end = probe.run("raise", signal.SIGSYS).termination
    assert (end.reason, end.signal, end.certain) == ("syscall_denied", 31, False)


@pytest.mark.parametrize("number", (17, 18, 23, 28))
def test_a_signal_that_is_ignored_by_default_ends_nothing(probe: Probe, number: int) -> None:
    done = probe.run("raise", number)
    assert (done.termination.reason, done.termination.exit_code) == (None, 3)


def test_signals_reach_the_program_though_it_is_alone(probe: Probe) -> None:
    # Process 1 of a namespace would not be ended by its own SIGTERM.
    assert probe.run("raise", 15).termination.signal == 15


def test_check_raises_for_a_status_other_than_0(probe: Probe) -> None:
    import subprocess

    with pytest.raises(subprocess.CalledProcessError) as caught:
        probe.run("exit", 3, check=True)
    assert caught.value.returncode == 3


def test_check_raises_for_a_limit_though_the_status_is_0(probe: Probe) -> None:
    import oxgen

    with pytest.raises(oxgen.RunFailedError, match="memory_limit"):
        limits = Limits(memory_bytes=32 * 2**20)
        probe.run("touch-children", 1, 64, limits=limits, check=True)


def test_check_is_silent_for_status_0(probe: Probe) -> None:
    assert probe.run("exit", 0, check=True).returncode == 0
