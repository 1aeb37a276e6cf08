"""What a host did to itself does not reach its plugins: exec keeps more than the environment."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from control.hosts import Host
    from control.unconfined import Unconfined

pytestmark = pytest.mark.root

#: What survives exec, set in a host before it starts its launcher, or after.
SPOIL = """
def spoil():
    os.umask(0o077)
    os.nice(5)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.valid_signals()) - {signal.SIGINT})
    for number in set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}:
        try:
            signal.signal(number, signal.SIG_IGN)
        except OSError:
            pass
    signal.setitimer(signal.ITIMER_REAL, 500)
    signal.setitimer(signal.ITIMER_PROF, 500)
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.syscall(251, 1, 0, (3 << 13)) == 0  # ioprio_set: the idle class
    assert libc.prctl(29, 12345678, 0, 0, 0) == 0  # PR_SET_TIMERSLACK
    assert libc.personality(0x0040000) != -1  # ADDR_NO_RANDOMIZE
    assert libc.prctl(36, 1, 0, 0, 0) == 0  # PR_SET_CHILD_SUBREAPER
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    os.setgroups([0, 1, 2, 3])
    os.chdir("/usr")

"""

SPOILED_FIRST = (
    SPOIL
    + """
spoil()
done = oxgen.run([sys.argv[1]], capture_output=True)
say(json.loads(done.stdout))
"""
)

SPOILED_LATER = (
    SPOIL
    + """
oxgen.run([sys.argv[1]], capture_output=True)
spoil()
done = oxgen.run([sys.argv[1]], capture_output=True)
say(json.loads(done.stdout))
"""
)

#: What a process has that nobody changed, whatever started this test-suite.
STATE: dict[str, Any] = {
    "umask": 0o022,
    "nice": 0,
    "scheduling_policy": 0,
    "scheduling_priority": 0,
    "timers": [],
    "timer_slack_ns": 50_000,
    "personality": 0,
    "subreaper": 0,
    "parent_death_signal": 0,
    "groups": [],
    "cwd": "/workspace",
}


@pytest.fixture(scope="module")
def spoiled(probe_path: Path) -> dict[str, Any]:
    """What the probe sees in hosts that changed everything, by when they did."""
    from control.hosts import Host

    seen = {}
    for name, text in (("first", SPOILED_FIRST), ("later", SPOILED_LATER)):
        one = Host(text, probe_path)
        try:
            seen[name] = one.hear()
        finally:
            one.close()
    return seen


@pytest.fixture(scope="module")
def fresh(unconfined: Unconfined) -> dict[str, Any]:
    """What a new process has outside, which differs where a control changed something."""
    seen: dict[str, Any] = unconfined.answer()
    return seen


@pytest.mark.parametrize("when", ("first", "later"))
@pytest.mark.parametrize("name", sorted(STATE))
def test_state_is_that_of_a_new_process(spoiled: dict[str, Any], when: str, name: str) -> None:
    assert spoiled[when][name] == STATE[name]


@pytest.mark.parametrize("when", ("first", "later"))
def test_every_processor_may_be_used(spoiled: dict[str, Any], when: str) -> None:
    question = "import os; os.sched_setaffinity(0, range(1024)); print(os.sched_getaffinity(0))"
    answer = subprocess.run([sys.executable, "-c", question], capture_output=True, check=True)
    assert set(spoiled[when]["affinity"]) == ast.literal_eval(answer.stdout.decode())


@pytest.mark.parametrize("when", ("first", "later"))
def test_input_and_output_have_no_class_of_their_own(spoiled: dict[str, Any], when: str) -> None:
    # The class is in the bits from 13 on; 0 is none (ioprio_set(2)).
    assert spoiled[when]["io_priority"] >> 13 == 0


@pytest.mark.parametrize("when", ("first", "later"))
def test_no_signal_is_blocked(spoiled: dict[str, Any], when: str) -> None:
    assert spoiled[when]["signals"]["blocked"] == []


@pytest.mark.parametrize("when", ("first", "later"))
def test_no_signal_is_ignored(spoiled: dict[str, Any], when: str) -> None:
    assert spoiled[when]["signals"]["not_default"] == []


@pytest.mark.parametrize("when", ("first", "later"))
def test_no_signal_is_pending(spoiled: dict[str, Any], when: str) -> None:
    assert spoiled[when]["signals"]["pending"] == []


@pytest.mark.parametrize(
    ("prefix", "name"),
    (
        (("sh", "-c", 'umask 077; exec "$@"', "sh"), "umask"),
        (("nice", "-n", "5"), "nice"),
        (("ionice", "-c", "3"), "io_priority"),
        (("taskset", "1"), "affinity"),
        (("chrt", "--batch", "0"), "scheduling_policy"),
        (("setarch", "-R"), "personality"),
        (("perl", "-e", "alarm 500; exec @ARGV"), "timers"),
    ),
)
def test_control_the_state_survives_exec_outside(
    unconfined: Unconfined, fresh: dict[str, Any], prefix: tuple[str, ...], name: str
) -> None:
    assert unconfined.answer(prefix=prefix)[name] != fresh[name]


def test_control_groups_survive_exec_outside(unconfined: Unconfined) -> None:
    seen = unconfined.answer(rights=("setgid",), prefix=("setpriv", "--groups", "7"))
    assert seen["groups"] == [7]


@pytest.mark.parametrize(
    ("option", "kind"),
    (("--ignore-signal=USR1", "not_default"), ("--block-signal=USR1", "blocked")),
)
def test_control_signal_state_survives_exec_outside(
    unconfined: Unconfined, option: str, kind: str
) -> None:
    assert 10 in unconfined.answer(prefix=("env", option))["signals"][kind]


def test_the_host_keeps_its_own_state(host: Callable[..., Host], probe_path: Path) -> None:
    text = (
        SPOIL
        + """
spoil()
def state():
    return [
        os.nice(0), sorted(os.sched_getaffinity(0)), os.sched_getscheduler(0), os.getcwd(),
        sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])), os.getgroups(),
        {n: str(signal.getsignal(n)) for n in sorted(signal.valid_signals())},
        signal.getitimer(signal.ITIMER_REAL)[0] > 400,
    ]
before = state()
oxgen.run([sys.argv[1]], capture_output=True)
say(before == state())
mask = os.umask(0)
say(mask)
"""
    )
    started = host(text, probe_path)
    assert started.end() == [True, 0o077]
