"""The memory limit counts the whole tree, and an end by it is told apart from every other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from control import watch

from oxgen import MIB, Limits

if TYPE_CHECKING:
    from control.confined import Probe
    from control.unconfined import Unconfined

pytestmark = pytest.mark.root

LIMITS = Limits(memory_bytes=64 * MIB)


def test_a_program_that_uses_too_much_is_ended(probe: Probe, tag: str) -> None:
    done = probe.run("touch", 256, tag, limits=LIMITS)
    end = done.termination
    assert (end.reason, end.signal, end.exit_code, end.certain) == ("memory_limit", 9, None, True)
    assert watch.processes(tag) == []


def test_a_program_below_the_limit_runs_to_its_end(probe: Probe) -> None:
    assert probe.answer("touch", 48, limits=LIMITS) == {"touch": "ok", "mebibytes": 48}


def test_the_limit_to_raise_is_named(probe: Probe) -> None:
    assert "memory_bytes" in probe.run("touch", 256, limits=LIMITS).termination.detail


def test_a_child_that_was_killed_is_told_though_its_leader_exits_with_0(probe: Probe) -> None:
    done = probe.run("touch-children", 1, 256, limits=LIMITS)
    end = done.termination
    assert done.stdout == b'{"children":[-9]}\n'
    assert (end.reason, end.exit_code, end.signal, done.returncode) == ("memory_limit", 0, None, 0)


def test_children_are_counted_together(probe: Probe) -> None:
    done = probe.run("touch-children", 4, 30, limits=LIMITS)
    assert done.termination.reason == "memory_limit" and done.returncode == 0


def test_one_such_child_is_within_the_limit(probe: Probe) -> None:
    assert probe.answer("touch-children", 1, 30, limits=LIMITS) == {"children": [0]}


def test_many_small_processes_are_the_ones_that_are_killed(probe: Probe) -> None:
    # And not the cell's first process, which is as small as they are.
    done = probe.run("touch-children", 30, 8, limits=LIMITS)
    assert (done.termination.reason, done.termination.exit_code) == ("memory_limit", 0)


def test_files_count_as_memory(probe: Probe) -> None:
    limits = Limits(memory_bytes=32 * MIB)
    done = probe.run("fill", "/tmp", limits=limits)
    assert done.termination.reason is None
    peak = done.usage.peak_memory_bytes
    assert peak is None or peak >= 20 * MIB


def test_a_run_after_a_kill_is_as_good_as_any(probe: Probe) -> None:
    for _ in range(3):
        assert probe.run("touch", 256, limits=LIMITS).termination.reason == "memory_limit"
        assert probe.answer("touch", 32, limits=LIMITS)["touch"] == "ok"


def test_peak_is_what_was_used(probe: Probe) -> None:
    peak = probe.run("touch", 40, limits=LIMITS).usage.peak_memory_bytes
    assert peak is None or 40 * MIB <= peak <= 64 * MIB


def test_address_space_alone_is_not_counted(probe: Probe) -> None:
    assert probe.answer("reserve", 4096, limits=LIMITS) == {"reserve": "ok"}


def test_a_dynamic_program_is_held_as_well(dynamic_probe: Probe) -> None:
    assert dynamic_probe.run("touch", 256, limits=LIMITS).termination.reason == "memory_limit"


def test_swap_is_no_way_round(probe: Probe) -> None:
    # Memory that is not touched again would go there.
    done = probe.run("touch", 80, limits=LIMITS)
    assert done.termination.reason == "memory_limit"


def test_control_outside_a_program_may_use_so_much(unconfined: Unconfined) -> None:
    assert unconfined.answer("touch", 128) == {"touch": "ok", "mebibytes": 128}


def test_control_outside_children_may_use_so_much(unconfined: Unconfined) -> None:
    assert unconfined.answer("touch-children", 4, 30) == {"children": [0, 0, 0, 0]}
