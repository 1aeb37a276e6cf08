"""An exception of a signal handler at any moment leaves nothing behind, and says nothing by itself.

A process of its own is interrupted every few milliseconds, wherever it happens to be.
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from control.confined import Probe

pytestmark = pytest.mark.root

#: Prints how many calls came through and how many were interrupted, then what is left over.
STORM = """
import gc, os, random, signal, sys, threading, time, oxgen
kind, words = sys.argv[1], sys.argv[2:]

def descriptors():
    return len(os.listdir("/proc/self/fd"))

def call(launcher):
    if kind == "run":
        oxgen.run(words, capture_output=True, launcher=launcher)
    elif kind == "spawn":
        with oxgen.spawn(words, launcher=launcher) as process:
            process.wait(3)
    else:
        list(oxgen.map([oxgen.Request(words)] * 4, launcher=launcher))

class Interrupt(BaseException):
    pass

def interrupt(*_):
    raise Interrupt

def fill(launcher):
    with oxgen.map([oxgen.Request(words)] * 8, launcher=launcher) as results:
        assert all(isinstance(one, oxgen.Completed) for one in results)

through = interrupted = 0
launcher = oxgen.Launcher(cells=2)
fill(launcher)
time.sleep(0.2)
before, threads = descriptors(), 2
signal.signal(signal.SIGALRM, interrupt)
until = time.monotonic() + 2
while True:
    try:
        while time.monotonic() < until:
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0001 + 0.004 * random.random(), 0.002)
                call(launcher)
                through += 1
            except Interrupt:
                interrupted += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        break
    except Interrupt:
        continue
gc.collect()
fill(launcher)
time.sleep(3)  # a thread that nobody needs ends
stats = launcher.stats()
print(through > 0, interrupted > 100, stats.busy, stats.waiting)
print(descriptors() - before, threading.active_count() - threads)
"""


@pytest.mark.parametrize("kind", ["run", "spawn", "map"])
def test_interrupts_leave_nothing_behind(kind: str, probe: Probe) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STORM, kind, str(probe.path), "exit", "0"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split("\n")[:2] == ["True True 0 0", "0 0"]
