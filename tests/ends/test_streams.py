"""Input arrives, output is bounded, counted and never what holds a run up."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import oxgen
from oxgen import MIB, Limits

if TYPE_CHECKING:
    from control.confined import Probe
    from control.hosts import Host
    from control.unconfined import Unconfined

pytestmark = pytest.mark.root


# --- output ---------------------------------------------------------------------------------------


def test_a_flood_is_cut_at_the_limit_and_the_program_goes_on(probe: Probe) -> None:
    done = probe.run("flood", 32 * MIB, limits=Limits(output_bytes=MIB))
    assert (done.returncode, done.termination.reason) == (0, None)
    assert done.stdout == b"x" * MIB


def test_what_was_dropped_is_counted(probe: Probe) -> None:
    output = probe.run("flood", 5 * MIB, limits=Limits(output_bytes=MIB)).output
    assert (output.stdout_bytes, output.stderr_bytes, output.truncated) == (5 * MIB, 0, True)


def test_output_of_exactly_the_limit_is_whole(probe: Probe) -> None:
    done = probe.run("flood", MIB, limits=Limits(output_bytes=MIB))
    assert (len(done.stdout or b""), done.output.truncated) == (MIB, False)


def test_one_byte_more_is_not(probe: Probe) -> None:
    done = probe.run("flood", MIB + 1, limits=Limits(output_bytes=MIB))
    assert (len(done.stdout or b""), done.output.truncated) == (MIB, True)


def test_stderr_is_bounded_as_well(probe: Probe) -> None:
    done = probe.run("flood", 5 * MIB, 2, limits=Limits(output_bytes=MIB))
    assert (len(done.stderr or b""), done.output.stderr_bytes) == (MIB, 5 * MIB)


def test_no_output_is_kept_where_none_is_allowed(probe: Probe) -> None:
    done = probe.run("flood", 10, limits=Limits(output_bytes=0))
    assert (done.stdout, done.output.stdout_bytes, done.output.truncated) == (b"", 10, True)


def test_no_output_limit_is_none(probe: Probe) -> None:
    done = probe.run("flood", 20 * MIB, limits=Limits(output_bytes=None))
    assert (len(done.stdout or b""), done.output.truncated) == (20 * MIB, False)


def test_a_flood_does_not_fill_the_memory_of_the_host(
    host: Callable[..., Host], probe_path: Path
) -> None:
    text = """
import resource
oxgen.run([sys.argv[1], "flood", "1"], capture_output=True)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
done = oxgen.run([sys.argv[1], "flood", str(512 << 20)], capture_output=True)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
say([done.output.stdout_bytes, done.output.truncated, len(done.stdout), after - before])
"""
    ((written, truncated, kept, growth),) = host(text, probe_path).end()
    assert (written, truncated, kept) == (512 * MIB, True, 16 * MIB)
    assert growth < 64 * 1024  # kB


def test_control_all_of_it_can_be_written_outside(unconfined: Unconfined) -> None:
    assert len(unconfined.run("flood", 5 * MIB).stdout) == 5 * MIB


def test_without_capture_it_goes_on_to_the_host_s_own_output(
    host: Callable[..., Host], probe_path: Path
) -> None:
    text = """
done = oxgen.run([sys.argv[1], "print", "1", "2"])
say([done.stdout, done.stderr, done.output.stdout_bytes])
"""
    assert host(text, probe_path).end() == [1, 2, [None, None, 4]]


def test_without_capture_it_is_bounded_too(host: Callable[..., Host], probe_path: Path) -> None:
    text = """
limits = oxgen.Limits(output_bytes=1000)
done = oxgen.run([sys.argv[1], "flood", "100000"], limits=limits)
print()
say([done.output.stdout_bytes, done.output.truncated])
"""
    started = host(text, probe_path)
    out, _ = started.process.communicate(timeout=30)
    first, second = out.split(b"\n")[:2]
    assert first == b"x" * 1000 and json.loads(second) == [100000, True]


def test_a_reader_of_the_host_that_does_not_read_does_not_hold_up_the_wall_limit(
    host: Callable[..., Host], probe_path: Path, tag: str
) -> None:
    from control import watch

    text = """
limits = oxgen.Limits(wall_seconds=2, output_bytes=None)
oxgen.run([sys.argv[1], "flood", "1e12", sys.argv[2]], limits=limits)
"""
    started = host(text, probe_path, tag)
    assert watch.wait_until(lambda: len(watch.plugins(tag)) == 1, 10)
    assert watch.wait_until(lambda: not watch.plugins(tag), 3)
    started.kill()


def test_escape_sequences_do_not_reach_a_terminal(
    host: Callable[..., Host], probe_path: Path
) -> None:
    import pty

    main, inner = pty.openpty()
    text = 'oxgen.run([sys.argv[1], "print", "\\x1b]0;owned\\x07", "\\x9b31m", "plain"])'
    try:
        started = host(text, probe_path, stdin=inner, stdout=inner)
        assert started.process.wait(timeout=30) == 0
        os.close(inner)
        seen = b""
        while b"plain" not in seen:
            seen += os.read(main, 65536)
    finally:
        os.close(main)
    assert b"\x1b" not in seen and b"\x07" not in seen and b"owned" in seen


def test_bytes_that_are_no_text_are_captured_as_they_are(probe: Probe) -> None:
    every = bytes(range(256)) * 4
    assert probe.run("cat", input=every).stdout == every


# --- input ----------------------------------------------------------------------------------------


def test_without_input_there_is_nothing_to_read(probe: Probe) -> None:
    assert probe.answer("stdin") == {"bytes": 0, "end": "ok"}


def test_empty_input_is_the_end_of_it(probe: Probe) -> None:
    assert probe.answer("stdin", input=b"") == {"bytes": 0, "end": "ok"}


def test_input_arrives(probe: Probe) -> None:
    assert probe.run("cat", input=b"some words\n").stdout == b"some words\n"


def test_more_input_than_a_pipe_holds_arrives(probe: Probe) -> None:
    assert probe.answer("stdin", input=b"x" * (9 * MIB)) == {"bytes": 9 * MIB, "end": "ok"}


def test_much_input_and_much_output_do_not_wait_for_each_other(probe: Probe) -> None:
    much = os.urandom(8 * MIB)
    assert probe.run("cat", input=much).stdout == much


@pytest.mark.parametrize("words", (("deaf", 0.1), ("sleep", 0.1), ("exit", 0)), ids=str)
def test_a_program_that_does_not_read_its_input_holds_nothing_up(
    probe: Probe, words: tuple[object, ...]
) -> None:
    begin = time.monotonic()
    done = probe.run(*words, input=b"x" * (64 * MIB))
    assert (done.returncode, done.termination.reason) == (0, None)
    assert time.monotonic() - begin < 3


def test_a_program_that_never_reads_is_ended_at_its_wall_limit(probe: Probe) -> None:
    done = probe.run("sleep", 60, input=b"x" * MIB, limits=Limits(wall_seconds=0.3))
    assert done.termination.reason == "timeout"


def test_the_input_of_the_host_is_left_alone(host: Callable[..., Host], probe_path: Path) -> None:
    import subprocess

    text = """
oxgen.run([sys.argv[1], "cat"], capture_output=True)
say(sys.stdin.readline())
"""
    started = host(text, probe_path, stdin=subprocess.PIPE)
    assert started.process.stdin is not None
    started.process.stdin.write(b"for the host\n")
    started.process.stdin.flush()
    assert started.hear() == "for the host\n"


def test_a_host_without_readers_is_not_ended_by_a_signal(
    host: Callable[..., Host], probe_path: Path, tmp_path: Path
) -> None:
    text = """
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
report = open(sys.argv[2], "w")
read, write = os.pipe()
os.close(read)
os.dup2(write, 1)
done = oxgen.run([sys.argv[1], "flood", "1000000"])
print(done.output.stdout_bytes, done.termination.reason, file=report, flush=True)
os._exit(0)
"""
    report = tmp_path / "report"
    assert host(text, probe_path, report).process.wait(timeout=30) == 0
    assert report.read_text().split()[0].isdigit()


def test_usage_of_a_run_is_plausible(probe: Probe) -> None:
    done = oxgen.run([str(probe.path), "sleep", "0.2"], capture_output=True)
    assert 0.2 <= done.usage.wall_seconds < 1 and 0 <= done.usage.cpu_seconds < 0.1
