"""Arguments that reach others: the kernel's memory, files that somebody else uses too."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import oxgen

pytestmark = pytest.mark.root

TRY = """
import ctypes, fcntl, json, socket, struct, sys
found = {}
def attempt(name, call):
    try:
        call()
        found[name] = 0
    except OSError as refused:
        found[name] = refused.errno
attempt("netlink", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0))
attempt("events", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 15))
attempt("names", lambda: socket.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM))
pair = socket.socketpair()
code = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0xFFFF))
program = struct.pack("HP", 1, ctypes.addressof(code))
attempt("program", lambda: pair[0].setsockopt(socket.SOL_SOCKET, 26, program))
attempt("buffer", lambda: pair[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536))
file = open(sys.argv[1], "rb")
attempt("lease", lambda: fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK))
attempt("notify", lambda: fcntl.fcntl(file, fcntl.F_NOTIFY, fcntl.DN_MODIFY))
attempt("lock", lambda: fcntl.flock(file, fcntl.LOCK_SH))
print(json.dumps(found), flush=True)
"""

CONFINED = {
    "netlink": errno.EAFNOSUPPORT,
    "events": errno.EAFNOSUPPORT,
    "names": 0,
    "program": errno.EPERM,
    "buffer": 0,
    "lease": errno.EPERM,
    "notify": errno.EPERM,
    "lock": 0,
}


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    path = tmp_path / "shared"
    path.write_text("text", encoding="utf-8")
    path.chmod(0o644)
    return path


@pytest.mark.parametrize("network", ("none", "host"))
def test_a_program_gets_none_of_them(network: str, shared: Path) -> None:
    box = oxgen.Sandbox(network=network, mounts=(oxgen.Mount(str(shared), "/srv/shared"),))
    done = oxgen.run([sys.executable, "-c", TRY, "/srv/shared"], sandbox=box, capture_output=True)
    assert json.loads(done.stdout) == CONFINED, done.stderr
    # Nobody who writes the file has to wait for a cell.
    descriptor = os.open(shared, os.O_WRONLY | os.O_NONBLOCK)
    assert fcntl.fcntl(descriptor, fcntl.F_GETLEASE) == fcntl.F_UNLCK
    os.close(descriptor)


def test_control_outside_of_a_cell_it_gets_them(shared: Path) -> None:
    done = subprocess.run([sys.executable, "-c", TRY, str(shared)], capture_output=True, timeout=30)
    found = json.loads(done.stdout)
    assert found.pop("notify") in (0, errno.ENOTDIR)
    assert set(found.values()) == {0}
