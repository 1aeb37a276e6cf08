"""Hosts in namespaces that are thrown away: as an ordinary container's root, or as nobody at all.

A host is a Python text of its own that prints what it has found as JSON. It is process 1 of a pid
namespace: whatever it runs cannot reach a process of the machine, and ends with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import programs

__all__ = ["CONTAINER", "USER", "contained", "dweller", "place_of_dweller"]

#: What an ordinary container leaves to its root.
CONTAINER = [
    *("chown", "dac_override", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap"),
    *("net_bind_service", "net_raw", "sys_chroot", "mknod", "audit_write", "setfcap"),
]

#: A uid that nobody has.
USER = 54321

_BEGIN = """
import ctypes, json, os, shutil, signal, subprocess, sys, time
import oxgen
from oxgen._launch import channel
arguments = sys.argv[1:]

def drop(uid, directory, prepare=None):
    # After the imports: the interpreter may lie where only root can read.
    import psutil, socket, oxgen._launch.interpreter
    from oxgen._launch.program import open_program
    if os.access(arguments[0], os.X_OK):
        open_program(arguments[0], "auto")
    shutil.copy(channel.EXECUTABLE, directory + "/launcher")
    channel.EXECUTABLE = directory + "/launcher"
    os.environ["XDG_RUNTIME_DIR"] = directory + "/run"
    os.mkdir(directory + "/run", 0o700)
    os.chown(directory + "/run", uid, uid)
    if prepare is not None:
        prepare(directory + "/run")
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE, as after exec

def box(level, **options):
    return oxgen.Sandbox(level=level, enforce=oxgen.Enforce.BEST_EFFORT, **options)

def pairs(text):
    return {name: int(number) for name, number in (line.split("=") for line in text.split())}

def with_tag(tag):
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().split(b"\\0")
            with open(f"/proc/{pid}/stat") as file:
                state = file.read().rsplit(")", 1)[1].split()[0]
        except OSError:
            continue
        if tag.encode() in words and int(pid) != os.getpid() and state != "Z":
            found.append(int(pid))
    return found

def until(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)

def directories(place="/run/oxgen"):
    return sorted(name for name in os.listdir(place) if name.startswith("0xgen-sandbox-"))

def say(found):
    print(json.dumps(found))
"""


def dweller(directory: Path) -> Path:
    """Copy the program tests/launch/dweller.c to where everybody may read it."""
    source = programs.ROOT / "tests" / "launch" / "dweller.c"
    target = directory / "dweller"
    if not target.exists():
        shutil.copy(programs.build_c("dweller", sources=[source]), target)
        target.chmod(0o755)
    return target


@contextlib.contextmanager
def place_of_dweller() -> Iterator[Path]:
    """A directory that everybody may enter, with the program in it."""
    with tempfile.TemporaryDirectory(prefix="oxgen-tests-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        dweller(directory)
        yield directory


def contained(
    text: str,
    *words: object,
    cgroups: bool = True,
    capabilities: list[str] | None = None,
    refused: tuple[str, ...] = (),
    masked: bool = False,
) -> Any:
    """Run a host with an ordinary container's capabilities; return what it says.

    ``refused`` are rules for a filter around it (tests/core/refusing.c): ``unshare=1``. ``masked``:
    a part of its /proc is covered, as container engines do.
    """
    kept = CONTAINER if capabilities is None else capabilities
    # Directories of cells are its own, and so are locks: uids count in its own pid namespace.
    hidden = "mkdir -p /run/oxgen && mount -t tmpfs -o mode=0755 tmpfs /run/oxgen && "
    hidden += "" if cgroups else "mount -t tmpfs tmpfs /sys/fs/cgroup && "
    bound = "".join(f",+{name}" for name in kept)
    command = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--mount-proc"]
    command += ["sh", "-c", f'{hidden}exec "$@"', "sh"]
    if masked:
        command[-2] = (
            "mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && "
            + command[-2]
        )
    if refused:
        source = programs.ROOT / "tests" / "core" / "refusing.c"
        command += [str(programs.build_c("refusing", sources=[source])), *refused, "--"]
    command += ["setpriv", f"--bounding-set=-all{bound}", "--inh-caps=-all"]
    command += [sys.executable, "-c", _BEGIN + text, *map(str, words)]
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": str(programs.ROOT)},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])  # what programs wrote comes before
