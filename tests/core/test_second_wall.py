"""Landlock holds what the mounts and the network namespace of a cell hold, when those do not.

A copy of the launcher is linked whose cells have their first wall open (opened.c). Hosts of it run
in mount and network namespaces that are thrown away.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from control import programs

pytestmark = pytest.mark.root

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
WRAPPED = ("mount", "unshare", "setns", "syscall", "ox_done_apart", "ox_done_read_only")

#: What the first wall holds back, and the second one as well.
HELD = ("root_file", "root_directory", "exec_workspace", "connect", "bind")
ALLOWED = ("home_file", "tmp_file", "workspace_move", "workspace_kinds", "read_self", "exec_bin")

HOST = """
import array, fcntl, json, socket, struct, sys
import oxgen
from oxgen._launch import channel
lo = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
fcntl.ioctl(lo, 0x8914, struct.pack("16sh14x", b"lo", 0x49))  # SIOCSIFFLAGS: up and running
listening = socket.create_server(("127.0.0.1", 0))
channel.EXECUTABLE = sys.argv[1]
done = oxgen.run([sys.argv[2], str(listening.getsockname()[1])], capture_output=True)
print(json.dumps([done.returncode, done.stdout.decode(), done.stderr.decode()]))
"""


def landlock_version() -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    return int(libc.syscall(444, None, 0, 1))


needs_landlock = pytest.mark.skipif(
    landlock_version() < 4, reason="needs-landlock: version 4 holds back TCP"
)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The launcher with its first wall open, and the same without Landlock."""
    directory = tmp_path_factory.mktemp("opened")
    target = directory / "launcher"
    sources = [ROOT / "csrc/stage.c", ROOT / "csrc/launcher_main.c"]
    sources += sorted((ROOT / "csrc/posix").glob("*.c")) + sorted((ROOT / "csrc/linux").glob("*.c"))
    command = ["gcc", "-std=gnu11", "-O1", "-iquote", str(ROOT / "csrc"), "-o", str(target)]
    command += [str(path) for path in (*sources, HERE / "opened.c")]
    subprocess.run([*command, *(f"-Wl,--wrap={name}" for name in WRAPPED)], check=True, timeout=120)
    alone = directory / "launcher-alone"
    os.link(target, alone)
    return {"landlock": target, "alone": alone}


def attempts(launcher: Path | str) -> dict[str, int]:
    """Run the program that tries to get out; errno of each attempt, 0 where it succeeded."""
    escaper = programs.build_c("escaper", sources=[HERE / "escaper.c"])
    command = ["unshare", "--net", "--mount", "--propagation", "private", sys.executable, "-c"]
    done = subprocess.run(
        [*command, HOST, str(launcher), str(escaper)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    code, out, err = json.loads(done.stdout)
    assert (code, err) == (0, "")
    return {name: int(number) for name, number in (line.split("=") for line in out.split())}


@pytest.fixture(scope="module")
def behind_landlock(opened: dict[str, Path]) -> dict[str, int]:
    return attempts(opened["landlock"])


@pytest.fixture(scope="module")
def behind_nothing(opened: dict[str, Path]) -> dict[str, int]:
    return attempts(opened["alone"])


@needs_landlock
@pytest.mark.parametrize("name", HELD)
def test_landlock_holds_when_the_first_wall_is_open(
    name: str, behind_landlock: dict[str, int]
) -> None:
    assert behind_landlock[name] == errno.EACCES


@pytest.mark.parametrize("name", HELD)
def test_with_both_walls_open_the_same_succeeds(name: str, behind_nothing: dict[str, int]) -> None:
    assert behind_nothing[name] == 0


@needs_landlock
@pytest.mark.parametrize("name", ALLOWED)
def test_landlock_lets_a_plugin_use_its_own_places(
    name: str, behind_landlock: dict[str, int]
) -> None:
    assert behind_landlock[name] == 0
