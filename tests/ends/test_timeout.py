"""The wall limit ends a run at its time, whatever the program does, and says so."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from control import watch

from oxgen import Limits

if TYPE_CHECKING:
    from control.confined import Probe
    from control.unconfined import Unconfined

pytestmark = pytest.mark.root

WALL = 0.5
#: run() promises to return one second after the limit at the latest.
LATE = 1.0

#: Programs that would go on for a minute.
ENDLESS = {
    "sleeping": ("sleep", 60),
    "burning": ("burn", 60),
    "stopped": ("stop",),
    "ignoring-signals": ("burn-ignoring", 60),
    "with-children": ("burn-children", 4, 60),
    "flooding": ("flood", 1e15),
    "hopping": ("hop", 60, 60),
    "forking": ("fork", 30, 60),
    "with-a-daemon": ("daemonise", 60, 60),
    "bombing": ("bomb", 60),
}


@pytest.mark.parametrize("name", sorted(ENDLESS))
def test_a_run_ends_at_its_wall_limit(probe: Probe, tag: str, name: str) -> None:
    begin = time.monotonic()
    done = probe.run(*ENDLESS[name], tag, limits=Limits(wall_seconds=WALL))
    took = time.monotonic() - begin
    end = done.termination
    assert (end.reason, end.signal, end.exit_code, end.certain) == ("timeout", 9, None, True)
    assert WALL <= took < WALL + LATE and WALL <= done.usage.wall_seconds < WALL + LATE
    assert watch.processes(tag) == []


def test_returncode_is_that_of_a_kill(probe: Probe) -> None:
    assert probe.run("sleep", 60, limits=Limits(wall_seconds=0.1)).returncode == -9


def test_the_limit_to_raise_is_named(probe: Probe) -> None:
    detail = probe.run("sleep", 60, limits=Limits(wall_seconds=0.1)).termination.detail
    assert "wall_seconds" in detail and "0.1" in detail


def test_a_run_that_ends_in_time_has_not_timed_out(probe: Probe) -> None:
    done = probe.run("sleep", 0.2, limits=Limits(wall_seconds=5))
    assert (done.termination.reason, done.returncode) == (None, 0)


def test_no_wall_limit_is_none(probe: Probe) -> None:
    done = probe.run("sleep", 0.2, limits=Limits(wall_seconds=None))
    assert (done.termination.reason, done.returncode) == (None, 0)


def test_the_smallest_wall_limit_is_one(probe: Probe) -> None:
    done = probe.run("sleep", 60, limits=Limits(wall_seconds=0.001))
    assert done.termination.reason == "timeout"


def test_what_was_written_before_is_kept(probe: Probe) -> None:
    done = probe.run("announce", 60, limits=Limits(wall_seconds=0.3))
    assert done.termination.reason == "timeout" and done.stdout is not None
    assert done.stdout.startswith(b'{"pid":')


def test_the_cell_is_used_again_after_a_timeout(probe: Probe) -> None:
    for _ in range(3):
        assert probe.run("stop", limits=Limits(wall_seconds=0.1)).termination.reason == "timeout"
    assert probe.run("exit", 0).returncode == 0


@pytest.mark.parametrize("name", ("sleeping", "ignoring-signals", "stopped", "hopping"))
def test_control_outside_the_program_goes_on(unconfined: Unconfined, name: str) -> None:
    from control.unconfined import Refused

    words: tuple[Any, ...] = ENDLESS[name]
    with pytest.raises(Refused, match="did not end"):
        unconfined.run(*words, seconds=WALL + LATE)
