"""spawn() gives a process that can be talked to; leaving its context ends the whole tree."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
from control import watch

import oxgen
from oxgen import Limits

if TYPE_CHECKING:
    from control.confined import Probe

pytestmark = pytest.mark.root


def test_it_returns_once_the_program_has_started(probe: Probe, tag: str) -> None:
    with oxgen.spawn([str(probe.path), "sleep", "20", tag]):
        # The kernel lets go of a vfork's parent a moment before the new arguments can be read.
        assert watch.wait_until(lambda: len(watch.processes(tag)) == 1, 0.5)


def test_leaving_the_context_kills_the_program(probe: Probe, tag: str) -> None:
    with oxgen.spawn([str(probe.path), "sleep", "60", tag]):
        pass
    assert watch.processes(tag) == []


def test_leaving_the_context_kills_everything_it_started(probe: Probe, tag: str) -> None:
    with oxgen.spawn([str(probe.path), "daemonise", "60", "60", tag]):
        assert watch.wait_until(lambda: len(watch.processes(tag)) == 2, 5)
    assert watch.processes(tag) == []


def test_leaving_the_context_by_an_exception_kills_the_program(probe: Probe, tag: str) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        oxgen.spawn([str(probe.path), "sleep", "60", tag]),
    ):
        raise ZeroDivisionError
    assert watch.processes(tag) == []


def test_leaving_the_context_takes_little_time(probe: Probe, tag: str) -> None:
    with oxgen.spawn([str(probe.path), "sleep", "60", tag]):
        begin = time.monotonic()
    assert time.monotonic() - begin < 0.5


def test_the_wall_limit_holds_though_nobody_waits(probe: Probe, tag: str) -> None:
    limits = Limits(wall_seconds=0.3)
    with oxgen.spawn([str(probe.path), "sleep", "60", tag], limits=limits) as process:
        assert watch.wait_until(lambda: not watch.processes(tag), 1.3)
        assert process.wait(timeout=5).termination.reason == "timeout"


def test_the_wall_limit_holds_though_nobody_reads(probe: Probe, tag: str) -> None:
    limits = Limits(wall_seconds=0.3, output_bytes=None)
    with oxgen.spawn([str(probe.path), "flood", "1e12", tag], limits=limits) as process:
        assert watch.wait_until(lambda: not watch.processes(tag), 1.3)
        assert process.wait(timeout=5).termination.reason == "timeout"


def test_the_cpu_limit_holds_though_nobody_waits(probe: Probe, tag: str) -> None:
    limits = Limits(cpu_seconds=0.3)
    with oxgen.spawn([str(probe.path), "burn", "60", tag], limits=limits) as process:
        assert watch.wait_until(lambda: not watch.processes(tag), 5)
        assert process.wait(timeout=5).termination.reason == "cpu_limit"


def test_it_can_be_talked_to_line_by_line(probe: Probe) -> None:
    with oxgen.spawn([str(probe.path), "cat"]) as process:
        for line in (b"one\n", b"two\n"):
            process.stdin.write(line)
            assert process.stdout.readline() == line
        process.stdin.close()
        assert process.wait(timeout=5).returncode == 0


def test_stderr_is_a_stream_of_its_own(probe: Probe) -> None:
    with oxgen.spawn([str(probe.path), "flood", "5", "2"]) as process:
        assert (process.stderr.read(), process.stdout.read()) == (b"xxxxx", b"")


def test_everything_that_it_wrote_can_be_read_after_its_end(probe: Probe) -> None:
    with oxgen.spawn([str(probe.path), "flood", "10000"]) as process:
        process.wait(timeout=5)
        assert process.stdout.read() == b"x" * 10000


def test_more_than_a_pipe_holds_arrives(probe: Probe) -> None:
    with oxgen.spawn([str(probe.path), "flood", str(5 * oxgen.MIB)]) as process:
        assert len(process.stdout.read()) == 5 * oxgen.MIB
        assert process.wait(timeout=5).returncode == 0


def test_a_closed_stdin_is_the_end_of_input(probe: Probe) -> None:
    with oxgen.spawn([str(probe.path), "stdin"]) as process:
        process.stdin.close()
        assert json.loads(process.stdout.read()) == {"bytes": 0, "end": "ok"}


def test_poll_says_nothing_while_it_runs(probe: Probe, tag: str) -> None:
    with oxgen.spawn([str(probe.path), "sleep", "20", tag]) as process:
        assert process.poll() is None


def test_poll_says_how_it_ended(probe: Probe) -> None:
    with oxgen.spawn([str(probe.path), "exit", "5"]) as process:
        assert watch.wait_until(lambda: process.poll() is not None, 5)
        assert process.wait(timeout=1).returncode == 5


def test_waiting_too_long_is_a_timeout_error_and_the_run_goes_on(probe: Probe, tag: str) -> None:
    with oxgen.spawn([str(probe.path), "sleep", "0.6", tag]) as process:
        with pytest.raises(TimeoutError):
            process.wait(timeout=0.1)
        assert process.wait(timeout=5).returncode == 0


def test_kill_is_told_apart_from_other_ends(probe: Probe, tag: str) -> None:
    with oxgen.spawn([str(probe.path), "sleep", "60", tag]) as process:
        process.kill()
        end = process.wait(timeout=5).termination
    assert (end.reason, end.signal, end.exit_code) == ("cancelled", 9, None)


def test_kill_after_the_end_changes_nothing(probe: Probe) -> None:
    with oxgen.spawn([str(probe.path), "exit", "5"]) as process:
        process.wait(timeout=5)
        process.kill()
        assert process.wait(timeout=1).termination.reason is None


def test_closing_twice_is_allowed(probe: Probe) -> None:
    process = oxgen.spawn([str(probe.path), "sleep", "60"])
    process.close()
    process.close()
    assert process.wait(timeout=1).termination.reason == "cancelled"


def test_a_program_that_nobody_reads_from_can_be_left(probe: Probe, tag: str) -> None:
    limits = Limits(output_bytes=None)
    with oxgen.spawn([str(probe.path), "flood", "1e12", tag], limits=limits):
        time.sleep(0.1)
        begin = time.monotonic()
    assert time.monotonic() - begin < 1
    assert watch.processes(tag) == []


def test_a_reader_that_goes_away_leaves_the_host_alone(probe: Probe) -> None:
    with oxgen.spawn([str(probe.path), "flood", "1e6"]) as process:
        process.stdout.close()
        assert process.wait(timeout=10).termination.reason in (None, "killed")


def test_many_can_run_at_once(probe: Probe, tag: str) -> None:
    argv = [str(probe.path), "announce", "20", tag]
    with oxgen.Launcher(cells=6) as launcher:
        running = [oxgen.spawn(argv, launcher=launcher) for _ in range(6)]
        try:
            assert len({json.loads(one.stdout.readline())["pid"] for one in running}) >= 1
            assert len(watch.processes(tag)) == 6
        finally:
            for one in running:
                one.close()
    assert watch.processes(tag) == []


def test_usage_and_confinement_are_those_of_a_run(probe: Probe) -> None:
    with oxgen.spawn([str(probe.path), "burn", "0.1"]) as process:
        done = process.wait(timeout=5)
    assert done.usage.cpu_seconds >= 0.1 and done.confinement.level == "namespaces"


@pytest.mark.parametrize("timeout", ["x", float("nan"), []])
def test_a_time_that_is_none_is_refused(probe: Probe, timeout: object) -> None:
    with oxgen.spawn([str(probe.path), "sleep", "20"]) as process:
        with pytest.raises(oxgen.UsageError, match="timeout"):
            process.wait(timeout)  # type: ignore[arg-type]
        with pytest.raises(TimeoutError):
            process.wait(0.01)
