"""The CPU limit counts user and system time of the whole tree and cannot be ignored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from control import watch

import oxgen
from oxgen import Limits

if TYPE_CHECKING:
    from control.confined import Probe
    from control.unconfined import Unconfined

pytestmark = pytest.mark.root

GO_BURNS = "package main\n\nfunc main() {\n\tfor {\n\t}\n}\n"


def ended_by_cpu(done: oxgen.Completed) -> bool:
    end = done.termination
    return (end.reason, end.signal, end.exit_code, end.certain) == ("cpu_limit", 9, None, True)


def test_five_seconds_end_between_4_9_and_5_5(probe: Probe, tag: str) -> None:
    done = probe.run("burn-ignoring", 60, tag, limits=Limits(cpu_seconds=5))
    assert ended_by_cpu(done), (done.termination, done.usage)
    assert 4.9 <= done.usage.cpu_seconds <= 5.5
    assert watch.processes(tag) == []


def test_a_program_that_does_not_ignore_the_signal_ends_the_same_way(probe: Probe) -> None:
    done = probe.run("burn", 60, limits=Limits(cpu_seconds=1))
    assert done.termination.reason == "cpu_limit"
    assert 0.9 <= done.usage.cpu_seconds <= 1.5


def test_sixteen_children_have_one_limit_together(probe: Probe, tag: str) -> None:
    done = probe.run("burn-children", 16, 60, tag, limits=Limits(cpu_seconds=1))
    assert ended_by_cpu(done), (done.termination, done.usage)
    assert 0.9 <= done.usage.cpu_seconds <= 2.0
    assert watch.processes(tag) == []


def test_children_that_have_ended_count_as_well(probe: Probe) -> None:
    done = probe.run("burn-relay", 0.1, 60, limits=Limits(cpu_seconds=1))
    assert ended_by_cpu(done), (done.termination, done.usage)
    assert 0.9 <= done.usage.cpu_seconds <= 1.5


def test_a_go_program_ends(build_go: Callable[[str, str], Path]) -> None:
    # Its runtime catches SIGXCPU.
    done = oxgen.run([str(build_go("burner", GO_BURNS))], limits=Limits(cpu_seconds=1))
    assert ended_by_cpu(done), (done.termination, done.usage)
    assert 0.9 <= done.usage.cpu_seconds <= 1.5


def test_half_a_second_is_neither_none_nor_one(probe: Probe) -> None:
    done = probe.run("burn", 60, limits=Limits(cpu_seconds=0.5))
    assert done.termination.reason == "cpu_limit"
    assert 0.45 <= done.usage.cpu_seconds < 0.9


def test_the_limit_to_raise_is_named_with_what_was_used(probe: Probe) -> None:
    detail = probe.run("burn", 60, limits=Limits(cpu_seconds=0.2)).termination.detail
    assert "cpu_seconds" in detail and "0.2" in detail


def test_sleeping_is_not_counted(probe: Probe) -> None:
    done = probe.run("sleep", 0.6, limits=Limits(cpu_seconds=0.2))
    assert (done.termination.reason, done.returncode) == (None, 0)


def test_a_program_below_the_limit_runs_to_its_end(probe: Probe) -> None:
    done = probe.run("burn", 0.5, limits=Limits(cpu_seconds=2))
    assert (done.termination.reason, done.returncode) == (None, 0)
    assert 0.5 <= done.usage.cpu_seconds < 0.8


def test_no_cpu_limit_is_none(probe: Probe) -> None:
    done = probe.run("burn", 0.3, limits=Limits(cpu_seconds=None))
    assert (done.termination.reason, done.returncode) == (None, 0)


def test_the_wall_limit_wins_where_it_comes_first(probe: Probe) -> None:
    done = probe.run("burn", 60, limits=Limits(cpu_seconds=5, wall_seconds=0.5))
    assert done.termination.reason == "timeout"


def test_children_that_burn_under_a_sleeping_leader_are_counted(probe: Probe) -> None:
    # The leader's own clock stands still, as does everybody's who waits for children.
    done = probe.run("burn-children", 1, 60, limits=Limits(cpu_seconds=0.5))
    assert done.termination.reason == "cpu_limit"


def test_control_outside_the_program_goes_on(unconfined: Unconfined) -> None:
    assert unconfined.run("burn-ignoring", 1.5).returncode == 0


def test_control_outside_each_child_has_a_clock_of_its_own(unconfined: Unconfined) -> None:
    # RLIMIT_CPU holds for one process: five children of 0.4 s use 2 s under a limit of 1 s.
    limit = ("prlimit", "--cpu=1")
    assert unconfined.run("burn-children", 5, 0.4, prefix=limit).returncode == 0
