"""Ends: the reason follows from facts, never from a number that a program can choose."""

from __future__ import annotations

import signal

import pytest

from oxgen import Limits, Termination
from oxgen._launch.ends import Cause, Facts, classify
from oxgen.result import exit_status


def exited(code: int) -> int:
    return code << 8


def ended(
    status: int | None,
    *,
    cause: Cause = "none",
    cpu: float = 0.0,
    oom: int = 0,
    limits: Limits | None = None,
) -> tuple[int, Termination]:
    facts = Facts(cause=cause, status=status, cpu_seconds=cpu, oom_kills=oom)
    return classify(facts, limits or Limits(wall_seconds=2, cpu_seconds=5))


@pytest.mark.parametrize("code", [0, 1, 2, 124, 125, 126, 127, 128, 137, 152, 159, 255])
def test_a_number_that_the_program_returns_is_no_reason(code: int) -> None:
    returncode, end = ended(exited(code))
    assert (returncode, end.reason, end.exit_code, end.signal) == (code, None, code, None)


def test_a_kill_that_nobody_of_us_sent_is_killed_and_not_memory() -> None:
    returncode, end = ended(signal.SIGKILL)
    assert (returncode, end.reason, end.signal, end.certain) == (-9, "killed", 9, True)


def test_the_signal_of_the_cpu_limit_without_cpu_time_is_killed() -> None:
    assert ended(signal.SIGXCPU, cpu=0.0)[1].reason == "killed"


@pytest.mark.parametrize("number", [signal.SIGXCPU, signal.SIGKILL])
def test_the_backstop_of_the_cpu_limit_is_cpu_limit(number: int) -> None:
    assert ended(number, cpu=5.2)[1].reason == "cpu_limit"


def test_the_backstop_that_came_a_little_early_is_inferred() -> None:
    _, end = ended(signal.SIGXCPU, cpu=4.8)
    assert (end.reason, end.certain) == ("cpu_limit", False)
    assert ended(signal.SIGXCPU, cpu=3.0)[1].reason == "killed"


def by_process(
    status: int, *, cpu: float = 0.0, peak: int = 0, limits: Limits | None = None
) -> Termination:
    """How it is judged where no cgroup counts the tree."""
    facts = Facts(
        cause="none",
        status=status,
        cpu_seconds=cpu,
        oom_kills=0,
        is_counted=False,
        process_peak_bytes=peak,
    )
    return classify(facts, limits or Limits(cpu_seconds=5, memory_bytes=64 << 20))[1]


@pytest.mark.parametrize("status", [exited(1), signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL])
def test_a_bad_end_near_the_memory_limit_of_a_process_is_inferred(status: int) -> None:
    near, far = by_process(status, peak=60 << 20), by_process(status, peak=8 << 20)
    assert (near.reason, near.certain) == ("memory_limit", False)
    assert "RLIMIT_DATA" in near.detail and "RLIMIT_DATA" in far.detail
    assert far.reason == (None if status == exited(1) else "killed")


@pytest.mark.parametrize("status", [exited(0), signal.SIGTERM, signal.SIGXFSZ])
def test_an_end_that_want_of_memory_does_not_bring_says_nothing_of_it(status: int) -> None:
    end = by_process(status, peak=64 << 20)
    assert end.reason == (None if status == exited(0) else "killed")
    assert "RLIMIT_DATA" not in end.detail


def test_without_a_memory_limit_nothing_is_said_of_it() -> None:
    end = by_process(exited(1), peak=64 << 20, limits=Limits(memory_bytes=None))
    assert (end.reason, end.detail) == (None, "")


def test_the_cpu_limit_of_a_process_does_not_speak_of_all_together() -> None:
    end = by_process(signal.SIGXCPU, cpu=5.01)
    assert (end.reason, end.certain) == ("cpu_limit", True)
    assert "one process" in end.detail and "all processes" not in end.detail
    # It has ended others before, whose time is not known.
    early = by_process(signal.SIGXCPU, cpu=0.0)
    assert (early.reason, early.certain) == ("cpu_limit", False)


def test_our_own_kill_is_known_by_its_flag() -> None:
    assert ended(signal.SIGKILL, cause="timeout")[1].reason == "timeout"
    assert ended(signal.SIGKILL, cause="cpu", cpu=5.0)[1].reason == "cpu_limit"
    assert ended(signal.SIGKILL, cause="cancelled")[1].reason == "cancelled"


def test_a_program_that_exits_before_our_kill_arrives_was_not_ended_by_it() -> None:
    assert ended(exited(0), cause="timeout")[1].reason is None


def test_memory_is_said_by_the_kernels_counter_whatever_the_leader_returns() -> None:
    returncode, end = ended(exited(0), oom=1)
    assert (returncode, end.reason, end.exit_code) == (0, "memory_limit", 0)
    assert ended(signal.SIGKILL, oom=3)[1].reason == "memory_limit"


def test_a_timeout_after_a_child_ran_out_of_memory_is_a_timeout() -> None:
    assert ended(signal.SIGKILL, cause="timeout", oom=1)[1].reason == "timeout"


def test_a_lost_warden_is_lost_and_says_that_it_is_not_certain() -> None:
    returncode, end = ended(None)
    assert (returncode, end.reason, end.exit_code, end.signal) == (-9, "lost", None, None)
    assert not end.certain


def test_a_warden_that_the_kernel_killed_for_memory_is_memory_limit() -> None:
    assert ended(None, oom=2)[1].reason == "memory_limit"


def test_a_denied_call_is_inferred_and_says_so() -> None:
    _, end = ended(signal.SIGSYS)
    assert (end.reason, end.certain) == ("syscall_denied", False)


def test_a_file_that_grew_too_large_names_its_limit() -> None:
    assert "file_bytes" in ended(signal.SIGXFSZ)[1].detail


@pytest.mark.parametrize(
    ("status", "facts", "expected"),
    [
        (signal.SIGKILL, {"cause": "timeout"}, 124),
        (signal.SIGKILL, {"oom": 1}, 137),
        (exited(0), {"oom": 1}, 137),
        (signal.SIGKILL, {"cause": "cpu", "cpu": 5.0}, 152),
        (signal.SIGSYS, {}, 159),
        (signal.SIGKILL, {"cause": "cancelled"}, 130),
        (None, {}, 125),
        (signal.SIGTERM, {}, 143),
        (exited(7), {}, 7),
    ],
)
def test_the_exit_status_follows_the_table(
    status: int | None, facts: dict[str, object], expected: int
) -> None:
    assert exit_status(ended(status, **facts)[1]) == expected  # type: ignore[arg-type]


def test_an_unbounded_run_never_reached_a_cpu_limit() -> None:
    assert ended(signal.SIGXCPU, cpu=1e6, limits=Limits(cpu_seconds=None))[1].reason == "killed"
