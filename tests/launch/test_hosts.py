"""Hosts fork, grow, are interrupted and killed; nothing of their plugins outlives them."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from control import watch

if TYPE_CHECKING:
    from control.hosts import Host

pytestmark = pytest.mark.root

TEN_PLUGINS = """
launcher = oxgen.Launcher(cells=10)
running = [
    oxgen.spawn([sys.argv[1], "announce", "60", sys.argv[2]], launcher=launcher, tenant=str(n))
    for n in range(10)
]
for one in running:
    one.stdout.readline()
"""


def remains(tag: str) -> dict[str, list[str]]:
    """Return what belongs to a host with running plugins: what must be gone soon after it."""
    plugins = watch.plugins(tag)
    wardens = {int(watch.status_of(pid)["PPid"]) for pid in plugins}
    makers = {int(watch.status_of(pid)["PPid"]) for pid in wardens}
    everybody = {*plugins, *wardens, *makers}
    return {
        "processes": [f"{pid} {watch.started(pid)}" for pid in sorted(everybody)],
        "cgroups": sorted({group for pid in plugins for group in watch.control_groups_of(pid)}),
        "plugins": [str(pid) for pid in plugins],
    }


def left_of(before: dict[str, list[str]]) -> list[str]:
    """Return what of it is still there."""
    found = [group for group in before["cgroups"] if os.path.isdir(group)]
    for line in before["processes"]:
        pid, started = map(int, line.split())
        # A zombie has ended; the machine's init, to which it fell, takes its time to reap it.
        if watch.started(pid) == started and watch.state_of(pid) not in ("", "Z"):
            found.append(f"process {pid} {watch.command_line(pid)}")
    return found


def test_kill_9_of_the_host_leaves_nothing_within_two_seconds(
    host: Callable[..., Host], probe_path: Path, tag: str
) -> None:
    mounts, temporary = watch.mounts(), set(os.listdir(tempfile.gettempdir()))
    started = host(TEN_PLUGINS + "say(1); time.sleep(60)", probe_path, tag)
    started.hear()
    before = remains(tag)
    assert len(before["plugins"]) == 10 and before["cgroups"] and len(before["processes"]) == 21
    started.kill()
    assert watch.wait_until(lambda: not left_of(before), 2), left_of(before)
    assert watch.mounts() == mounts
    new = set(os.listdir(tempfile.gettempdir())) - temporary
    assert not [name for name in new if "0xgen" in name or "oxgen" in name]


def test_kill_9_of_the_host_leaves_nothing_though_a_forked_child_lives_on(
    host: Callable[..., Host], probe_path: Path, tag: str
) -> None:
    text = (
        TEN_PLUGINS
        + """
child = os.fork()
if child == 0:
    time.sleep(60)
    os._exit(0)
say(child)
time.sleep(60)
"""
    )
    started = host(text, probe_path, tag)
    child = started.hear()
    before = remains(tag)
    assert len(before["plugins"]) == 10
    started.kill()
    gone = watch.wait_until(lambda: not left_of(before), 2)
    alive = watch.state_of(child)
    os.kill(child, signal.SIGKILL)
    watch.wait_until(lambda: watch.state_of(child) in ("", "Z"), 2)
    assert alive in ("S", "R")  # else the test would prove nothing
    assert gone, left_of(before)


def test_kill_9_of_the_host_leaves_nothing_though_a_program_it_started_lives_on(
    host: Callable[..., Host], probe_path: Path, tag: str
) -> None:
    text = (
        TEN_PLUGINS
        + """
import subprocess
other = subprocess.Popen(["sleep", "60"], close_fds=False, stdout=subprocess.DEVNULL,
                         stderr=subprocess.DEVNULL)
say(other.pid)
time.sleep(60)
"""
    )
    started = host(text, probe_path, tag)
    other = started.hear()
    before = remains(tag)
    started.kill()
    gone = watch.wait_until(lambda: not left_of(before), 2)
    alive = watch.state_of(other)
    os.kill(other, signal.SIGKILL)
    assert alive in ("S", "R")
    assert gone, left_of(before)


def test_an_ordinary_end_of_the_host_leaves_nothing(
    host: Callable[..., Host], probe_path: Path, tag: str
) -> None:
    text = TEN_PLUGINS + "say(1); sys.stdin.read()"
    started = host(text, probe_path, tag, stdin=subprocess.PIPE)
    started.hear()
    before = remains(tag)
    assert len(before["plugins"]) == 10
    started.end(20)
    assert watch.wait_until(lambda: not left_of(before), 2), left_of(before)


def test_a_forked_child_can_run_plugins_and_so_can_its_parent(
    host: Callable[..., Host], probe_path: Path
) -> None:
    text = """
def one(code):
    return oxgen.run([sys.argv[1], "exit", str(code)]).returncode
before = one(1)
child = os.fork()
if child == 0:
    os._exit(one(42))
during = one(2)
_, status = os.waitpid(child, 0)
say([before, during, os.waitstatus_to_exitcode(status), one(3)])
"""
    assert host(text, probe_path).end() == [[1, 2, 42, 3]]


def test_a_host_that_forks_while_a_plugin_runs_goes_on(
    host: Callable[..., Host], probe_path: Path, tag: str
) -> None:
    text = """
with oxgen.spawn([sys.argv[1], "announce", "1", sys.argv[2]]) as process:
    process.stdout.readline()
    child = os.fork()
    if child == 0:
        os._exit(oxgen.run([sys.argv[1], "exit", "7"]).returncode)
    say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    say(process.wait(10).returncode)
"""
    assert host(text, probe_path, tag).end() == [7, 0]


def test_the_end_of_a_forked_child_does_not_end_the_cells_of_its_parent(
    host: Callable[..., Host], probe_path: Path, tag: str
) -> None:
    text = """
process = oxgen.spawn([sys.argv[1], "announce", "1", sys.argv[2]])
process.stdout.readline()
child = os.fork()
if child == 0:
    sys.exit(0)  # with the exit handlers
os.waitpid(child, 0)
say(process.wait(10).returncode)
say(oxgen.run([sys.argv[1], "exit", "3"]).returncode)
"""
    assert host(text, probe_path, tag).end() == [0, 3]


def test_a_forked_child_that_leaves_the_context_of_a_process_does_not_kill_it(
    host: Callable[..., Host], probe_path: Path, tag: str
) -> None:
    text = """
with oxgen.spawn([sys.argv[1], "announce", "1", sys.argv[2]]) as process:
    process.stdout.readline()
    child = os.fork()
    if child == 0:
        sys.exit(0)  # with the exit handlers
    os.waitpid(child, 0)
    say(process.wait(10).returncode)
say(oxgen.run([sys.argv[1], "exit", "3"]).returncode)
"""
    started = host(text, probe_path, tag)
    assert started.end() == [0, 3]


def test_launching_from_a_gibibyte_costs_no_copy_of_it(
    host: Callable[..., Host], probe_path: Path
) -> None:
    # A bare fork from such a process takes some 36 ms: the page tables are copied.
    text = """
heap = b"x" * (1 << 30)
def median():
    took = []
    for _ in range(21):
        begin = time.monotonic()
        oxgen.run([sys.argv[1], "exit", "0"])
        took.append(time.monotonic() - begin)
    return sorted(took)[10]
oxgen.run([sys.argv[1], "exit", "0"])
say(median())
"""
    (median,) = host(text, probe_path).end()
    assert median < 0.015


def test_a_launcher_that_starts_in_a_gibibyte_is_small(
    host: Callable[..., Host], probe_path: Path, tag: str
) -> None:
    text = """
heap = b"x" * (1 << 30)
with oxgen.spawn([sys.argv[1], "announce", "20", sys.argv[2]]) as process:
    process.stdout.readline()
    (pid,) = watch.plugins(sys.argv[2])
    warden = int(watch.status_of(pid)["PPid"])
    say(watch.status_of(int(watch.status_of(warden)["PPid"]))["VmRSS"])
"""
    (resident,) = host(text, probe_path, tag).end()
    assert int(resident.split()[0]) < 16 * 1024  # kB


def test_the_host_stays_dumpable(host: Callable[..., Host], probe_path: Path) -> None:
    # A child that shares memory and changes its ids would take that from its parent.
    text = """
import ctypes
oxgen.run([sys.argv[1], "exit", "0"])
say(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
"""
    assert host(text, probe_path).end() == [1]


INTERRUPTED = """
try:
    {call}
    say("came back")
except KeyboardInterrupt:
    now = time.monotonic()
    say([now, len(watch.plugins(sys.argv[2]))])
"""


@pytest.mark.parametrize(
    "call",
    (
        'oxgen.run([sys.argv[1], "sleep", "30", sys.argv[2]])',
        'oxgen.run([sys.argv[1], "sleep", "30", sys.argv[2]], capture_output=True)',
        'oxgen.run([sys.argv[1], "flood", "1e12", sys.argv[2]], capture_output=True)',
        "with oxgen.spawn([sys.argv[1], 'sleep', '30', sys.argv[2]]) as p: p.wait()",
    ),
    ids=("run", "captured", "flooding", "spawn"),
)
def test_keyboard_interrupt_kills_the_plugin_and_is_raised_within_200_ms(
    host: Callable[..., Host], probe_path: Path, tag: str, call: str
) -> None:
    helper = """
signal.signal(signal.SIGINT, signal.default_int_handler)
"""
    started = host(helper + INTERRUPTED.format(call=call), probe_path, tag)
    assert watch.wait_until(lambda: len(watch.plugins(tag)) == 1, 10)
    time.sleep(0.05)
    sent = time.monotonic()
    os.kill(started.pid, signal.SIGINT)
    raised, left = started.hear()
    assert left == 0
    assert raised - sent < 0.2


def test_an_interrupt_says_how_the_run_ended_however_soon_it_comes(
    host: Callable[..., Host], probe_path: Path, tag: str
) -> None:
    """Also in the first moment of a run in a cell that was ready for it."""
    text = """
signal.signal(signal.SIGALRM, signal.default_int_handler)
def run(seconds, **settings):
    words = [sys.argv[1], "sleep", seconds, sys.argv[2]]
    return oxgen.run(words, capture_output=True, **settings)
run("0")
signal.setitimer(signal.ITIMER_REAL, 0.03)
try:
    run("30")
except KeyboardInterrupt as stopped:
    say(stopped.completed.termination.reason)
"""
    assert host(text, probe_path, tag).end() == ["cancelled"]


def test_a_process_may_fork_while_a_cell_is_given_back(
    host: Callable[..., Host], probe_path: Path, tag: str
) -> None:
    """The run is over and freed, and its cell still says that it served one."""
    text = """
from oxgen import _launch
give_back = _launch.Lease.give_back
def fork_first(lease):
    child = os.fork()
    if child == 0:
        os._exit(0)
    say(os.waitpid(child, 0)[1])
    give_back(lease)
_launch.Lease.give_back = fork_first
oxgen.run([sys.argv[1], "sleep", "0", sys.argv[2]], capture_output=True)
"""
    assert host(text, probe_path, tag).end() == [0]


def test_an_exception_of_a_signal_handler_kills_the_plugin_and_is_raised(
    host: Callable[..., Host], probe_path: Path, tag: str
) -> None:
    text = """
class TooLate(Exception):
    pass
def handler(number, frame):
    raise TooLate
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.3)
begin = time.monotonic()
try:
    oxgen.run([sys.argv[1], "sleep", "30", sys.argv[2]], capture_output=True)
except TooLate:
    took = time.monotonic() - begin
    say([took, watch.plugins(sys.argv[2])])
"""
    ((took, left),) = host(text, probe_path, tag).end()
    assert left == [] and 0.3 <= took < 0.5


def test_a_signal_handler_that_returns_is_run_meanwhile(
    host: Callable[..., Host], probe_path: Path
) -> None:
    text = """
times = []
signal.signal(signal.SIGALRM, lambda number, frame: times.append(time.monotonic()))
signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
begin = time.monotonic()
done = oxgen.run([sys.argv[1], "sleep", "0.65"])
signal.setitimer(signal.ITIMER_REAL, 0)
say([done.returncode, len([t for t in times if t - begin < 0.64])])
"""
    ((code, rung),) = host(text, probe_path).end()
    assert code == 0 and rung >= 4


def test_many_forked_children_can_run_plugins_at_once(
    host: Callable[..., Host], probe_path: Path
) -> None:
    text = """
import multiprocessing
def work(n):
    return oxgen.run([sys.argv[1], "exit", str(n)]).returncode
oxgen.run([sys.argv[1], "exit", "0"])
with multiprocessing.get_context("fork").Pool(4) as pool:
    say(pool.map(work, range(24), chunksize=1))
    pool.close()
    pool.join()
"""
    assert host(text, probe_path).end() == [list(range(24))]


def test_a_host_that_ignores_sigchld_is_told_how_its_plugins_ended(
    host: Callable[..., Host], probe_path: Path
) -> None:
    # With SIGCHLD ignored, wait4() says ECHILD and whoever takes that for status 0 is wrong.
    text = """
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
say(oxgen.run([sys.argv[1], "exit", "3"]).returncode)
say(oxgen.run([sys.argv[1], "raise", "15"]).returncode)
"""
    assert host(text, probe_path).end() == [3, -15]


def test_a_host_with_closed_standard_descriptors_can_run_plugins(
    host: Callable[..., Host], probe_path: Path, tmp_path: Path
) -> None:
    text = """
report = open(sys.argv[2], "w")
for fd in (0, 1, 2):
    os.close(fd)
done = oxgen.run([sys.argv[1], "print", "hello"], capture_output=True)
print(done.returncode, done.stdout, file=report, flush=True)
os._exit(0)
"""
    report = tmp_path / "report"
    host(text, probe_path, report).end()
    assert report.read_text() == "0 b'hello\\n'\n"


def test_a_host_without_a_working_directory_can_run_plugins(
    host: Callable[..., Host], probe_path: Path
) -> None:
    text = """
import tempfile
with tempfile.TemporaryDirectory() as gone:
    os.chdir(gone)
say(oxgen.run([sys.argv[1], "exit", "4"]).returncode)
"""
    assert host(text, probe_path).end() == [4]


def test_a_host_with_few_descriptors_left_is_told_so(
    host: Callable[..., Host], probe_path: Path
) -> None:
    text = """
import resource
oxgen.run([sys.argv[1], "exit", "0"])
free = os.dup(0); os.close(free)
resource.setrlimit(resource.RLIMIT_NOFILE, (free + 2, 4096))
try:
    oxgen.run([sys.argv[1], "exit", "0"])
    say("ran")
except OSError as exc:
    say([isinstance(exc, oxgen.OxgenError), exc.errno])
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 4096))
say(oxgen.run([sys.argv[1], "exit", "5"]).returncode)
"""
    assert host(text, probe_path).end() == [[True, errno.EMFILE], 5]
