"""Runtimes at the levels without namespaces: what works there, and what docs/compatibility.md says
does not, with the error that a program gets."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from control.contained import USER, contained, place_of_dweller
from control.installed import build_jar, in_path

pytestmark = pytest.mark.root

LANDLOCK_VERSION = int(ctypes.CDLL(None, use_errno=True).syscall(444, None, 0, 1))
LEVELS = (
    "chroot",
    pytest.param(
        "landlock",
        marks=pytest.mark.skipif(
            LANDLOCK_VERSION < 6, reason="needs-landlock: version 6 keeps signals within a cell"
        ),
    ),
)

RUN = """
limits = oxgen.Limits(wall_seconds=30, processes=256, memory_bytes=None)
done = oxgen.run(json.loads(arguments[2]), sandbox=box(arguments[1]), limits=limits,
                 capture_output=True)
say([done.confinement.level, done.returncode, done.stdout.decode(), done.stderr.decode()])
"""
AS_USER = f"drop({USER}, os.path.dirname(arguments[0]))\n"


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that everybody may enter."""
    with place_of_dweller() as directory:
        yield directory


def at(level: str, place: Path, *words: str) -> Any:
    text = RUN if level == "chroot" else AS_USER + RUN
    found = contained(text, place / "dweller", level, json.dumps(words))
    assert found[0] == level
    return found[1:]


def python(level: str, place: Path, text: str) -> Any:
    return at(level, place, os.path.realpath("/usr/bin/python3"), "-c", text)


@pytest.mark.parametrize("level", LEVELS)
def test_a_jar_runs(level: str, place: Path) -> None:
    jar = shutil.copy(build_jar(), place / "work.jar")
    os.chmod(jar, 0o644)
    code, stdout, stderr = at(level, place, str(jar), "hello")
    if level == "chroot":
        assert (code, stdout) == (0, "328350 text hello\n")
    else:
        # It has computed; then it writes to /workspace by that name, which is $OXGEN_WORKSPACE.
        assert (code, stdout) == (1, "") and "NoSuchFileException: /workspace/x" in stderr


@pytest.mark.parametrize("level", LEVELS)
def test_java_starts(level: str, place: Path) -> None:
    code, _, stderr = at(level, place, in_path("java"), "-version")
    assert code == 0 and " version " in stderr


@pytest.mark.parametrize("level", LEVELS)
def test_node_works_with_threads_processes_and_crypto(level: str, place: Path) -> None:
    text = """
    const { Worker } = require("worker_threads");
    const { createHash } = require("crypto");
    const { spawnSync } = require("child_process");
    console.log(createHash("sha256").update("").digest("hex").slice(0, 8));
    console.log(String(spawnSync(process.execPath, ["-p", "6 * 7"]).stdout).trim());
    new Worker("console.log('thread')", { eval: true });
    """
    code, stdout, stderr = at(level, place, in_path("node"), "-e", text)
    assert (code, stdout, stderr) == (0, "e3b0c442\n42\nthread\n", "")


@pytest.mark.parametrize("level", LEVELS)
def test_python_works_with_processes_threads_and_a_database(level: str, place: Path) -> None:
    text = """
import asyncio, multiprocessing, os, pwd, sqlite3, subprocess, sys, threading
ends = multiprocessing.Pipe()
one = multiprocessing.Process(target=lambda: ends[1].send("process"))
one.start(); print(ends[0].recv()); one.join()
two = threading.Thread(target=print, args=("thread",)); two.start(); two.join()
print(subprocess.run([sys.executable, "-c", "print(6 * 7)"], capture_output=True).stdout)
base = sqlite3.connect("base.db"); print(base.execute("pragma journal_mode=wal").fetchall())
print(asyncio.run(asyncio.sleep(0, "task")))
print(pwd.getpwuid(os.getuid()).pw_name if not os.path.exists("/proc") else "nobody")
"""
    code, stdout, stderr = python(level, place, text)
    assert (code, stderr) == (0, "")
    assert stdout.split("\n") == [
        *("process", "thread", "b'42\\n'", "[('wal',)]", "task", "nobody", ""),
    ]


#: What is done, and what it ends with at each level: a word of its message, or nothing.
DIFFERENT = {
    "a lock between processes": ("import multiprocessing as m; m.Lock()", "", "PermissionError"),
    "shared memory": (
        "from multiprocessing.shared_memory import SharedMemory as S\n"
        "one = S(create=True, size=9); one.unlink()",
        "",
        "PermissionError",
    ),
    "a mode that is changed": (
        "import shutil; open('a', 'w').close(); shutil.copy('a', 'b')",
        "",
        "Operation not permitted",
    ),
    "content that is copied": (
        "import shutil; open('a', 'w').close(); shutil.copyfile('a', 'b')",
        "",
        "",
    ),
    "times that are changed": (
        "import os; open('a', 'w').close(); os.utime('a')",
        "",
        "Operation not permitted",
    ),
    "a socket with a name": (
        "import socket; socket.socketpair(); socket.socket(socket.AF_UNIX)",
        "Address family not supported",
        "Address family not supported",
    ),
    "the SDK": ("import oxgen_plugin", "", "ModuleNotFoundError"),
    "its directories by variables": (
        "import os\nfor name in 'OXGEN_WORKSPACE', 'TMPDIR': open(os.environ[name] + '/a', 'w')",
        "",
        "",
    ),
    "its directories by name": ("open('/tmp/a', 'w')", "", "Permission denied"),
    "a look into /proc": (
        "open('/proc/self/status')",
        "No such file or directory",
        "Permission denied",
    ),
}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("what", DIFFERENT)
def test_what_is_different_is_as_documented(level: str, what: str, place: Path) -> None:
    text, at_chroot, at_landlock = DIFFERENT[what]
    wanted = at_chroot if level == "chroot" else at_landlock
    code, _, stderr = python(level, place, text)
    assert (code, wanted in stderr) == (1 if wanted else 0, True), stderr


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("where", ["usual", "odd"])
def test_a_script_of_another_language_needs_its_interpreter_in_the_usual_place(
    level: str, where: str, place: Path
) -> None:
    odd = shutil.copy(os.path.realpath("/bin/sh"), place / "odd-shell")
    script = place / "script"
    script.write_text(f"#!{'/bin/sh' if where == 'usual' else odd}\necho ran\n")
    script.chmod(0o755)
    if (level, where) == ("landlock", "odd"):
        with pytest.raises(AssertionError, match="stage exec"):
            at(level, place, str(script))
    else:
        assert at(level, place, str(script)) == [0, "ran\n", ""]


#: Asked about process 1, which is the host and no process of the cell.
FOREIGN = """
import ctypes, json, os, signal, time
libc = ctypes.CDLL(None, use_errno=True)
room = ctypes.create_string_buffer(256)
def call(name, *words):
    function = getattr(libc, name)
    ctypes.set_errno(0)
    return 0 if function(*words) >= 0 else ctypes.get_errno()
def python(function, *words):
    try:
        function(*words)
        return 0
    except OSError as refused:
        return refused.errno
zero = ctypes.c_long(0)
ioprio_get, sched_getattr = (252, 315) if os.uname().machine == "x86_64" else (31, 275)
told = {
    "kill, signal 0": python(os.kill, 1, 0),
    "pidfd_open": python(os.pidfd_open, 1),
    "getpgid": python(os.getpgid, 1),
    "getsid": python(os.getsid, 1),
    "getpriority": python(os.getpriority, os.PRIO_PROCESS, 1),
    "ioprio_get": call("syscall", ioprio_get, 1, 1),
    "sched_getaffinity": python(os.sched_getaffinity, 1),
    "sched_getscheduler": python(os.sched_getscheduler, 1),
    "sched_getparam": python(os.sched_getparam, 1),
    "sched_getattr": call("syscall", sched_getattr, 1, room, 48, 0),
    "sched_rr_get_interval": python(os.sched_rr_get_interval, 1),
    "clock_gettime": python(time.clock_gettime, (~1 << 3) | 2),
}
import resource
changed = {
    "kill": python(os.kill, 1, signal.SIGCONT),
    "pidfd_send_signal": python(signal.pidfd_send_signal, os.pidfd_open(1), signal.SIGCONT),
    "prlimit": python(resource.prlimit, 1, resource.RLIMIT_CORE),
    "setpriority": python(os.setpriority, os.PRIO_PROCESS, 1, 5),
    "sched_setaffinity": python(os.sched_setaffinity, 1, {0}),
    "process_vm_readv": call("process_vm_readv", 1, None, zero, None, zero, zero),
}
print(json.dumps([told, changed]))
"""


@pytest.mark.parametrize("level", LEVELS)
def test_calls_that_tell_of_foreign_processes_are_those_of_the_list(
    level: str, place: Path
) -> None:
    code, stdout, stderr = python(level, place, FOREIGN)
    assert code == 0, stderr
    told, changed = json.loads(stdout)
    assert told.pop("kill, signal 0") == errno.EPERM
    assert set(told.values()) == {0}, told
    assert set(changed.values()) == {errno.EPERM}, changed


def test_control_outside_of_a_cell_a_foreign_process_is_told_of_and_changed(place: Path) -> None:
    text = """
done = subprocess.run([sys.executable, "-c", arguments[1]], capture_output=True, text=True)
say(json.loads(done.stdout))
"""
    told, changed = contained(text, place / "dweller", FOREIGN)
    # To read another's memory something else may be in the way (Yama).
    changed.pop("process_vm_readv")
    assert {*told.values(), *changed.values()} == {0}
