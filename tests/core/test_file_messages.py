"""What a warden answers to messages about files that no host of ours would send."""

from __future__ import annotations

import errno
import os
import re
import socket
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import oxgen
from oxgen import _launch

pytestmark = pytest.mark.root

#: The names of messages in the order of their numbers, from 1 on.
MESSAGES = re.findall(
    r"OX_MESSAGE_(\w+)",
    (Path(__file__).resolve().parents[2] / "csrc/wire.h").read_text(encoding="utf-8"),
)
COLLECT, COLLECTED = (MESSAGES.index(name) + 1 for name in ("COLLECT", "COLLECTED"))
HEAD = struct.Struct("QII")


def a_file(
    name: bytes, content: bytes, *, size: int | None = None, named: int | None = None
) -> bytes:
    length = len(content) if size is None else size
    return HEAD.pack(length, 0o644, len(name) if named is None else named) + name + content


def run_with(archive: bytes, **settings: Any) -> oxgen.Completed:
    """Run a program that does nothing with these bytes as its archive."""
    program, plan = _launch.planned(oxgen.Request(["true"]))
    descriptor = os.memfd_create("archive")
    try:
        os.write(descriptor, archive)
        order = _launch.Order(
            program=program,
            plan=plan,
            run_id="x",
            files=SimpleNamespace(descriptor=descriptor, names=("one", "two")),  # type: ignore[arg-type]
            **settings,
        )
        return _launch.carry_out(_launch.default_launcher(), order)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(
    "archive",
    [
        a_file(b"../escaped", b"x"),
        a_file(b"/tmp/escaped", b"x"),
        a_file(b"a/../../escaped", b"x"),
        a_file(b"a//b", b"x"),
        a_file(b"a/", b"x"),
        a_file(b".", b"x"),
        a_file(b"", b"x"),
        a_file(b"a\0b", b"x"),
        a_file(b"x" * 256, b"x"),
        a_file(b"y/" * 600 + b"y", b"x"),
        a_file(b"a", b"x", size=2),
        a_file(b"a", b"x", size=2**63),
        a_file(b"a", b"x", size=2**64 - 1),
        a_file(b"a", b"", named=2),
        a_file(b"a", b"", named=2**32 - 1),
        a_file(b"a", b"x") + b"rest",
        b"short",
    ],
)
def test_an_archive_that_is_none_stops_the_launch(archive: bytes) -> None:
    with pytest.raises(oxgen.LaunchError) as refused:
        run_with(archive)
    assert (refused.value.stage, refused.value.errno) == ("files", errno.EBADMSG)


@pytest.mark.parametrize(
    "archive", [a_file(b"a", b"x") * 2, a_file(b"a", b"x") + a_file(b"a/b", b"")]
)
def test_a_name_that_is_taken_is_not_followed_or_replaced(archive: bytes) -> None:
    with pytest.raises(oxgen.LaunchError) as refused:
        run_with(archive)
    assert refused.value.stage == "files" and refused.value.filename == "two"
    assert refused.value.errno in (errno.EEXIST, errno.ENOTDIR)


def test_a_good_archive_is_put_in() -> None:
    done = run_with(a_file(b"a", b"x") + a_file(b"b/c", b""), collect=["a", "b/c"])
    assert [found.content for found in done.collected.values()] == [b"x", b""]
    assert run_with(b"").returncode == 0


# --- collect --------------------------------------------------------------------------------------


def ask(count: int, names: bytes) -> tuple[int, int, list[tuple[int, int]]]:
    """Send COLLECT to the warden of an idle cell; its answer's kind, count and rows."""
    program, plan = _launch.planned(oxgen.Request(["true"]))
    with (
        oxgen.Launcher(cells=1) as launcher,
        launcher.lease(program, plan.tenancy) as lease,
        socket.socket(fileno=os.dup(lease.cell.native.warden)) as warden,
    ):
        warden.settimeout(10)
        warden.send(struct.pack("II", COLLECT, count) + names)
        answer = warden.recv(4096)
    kind, rows = struct.unpack_from("II", answer)
    return kind, rows, [struct.unpack_from("iI", answer, 8 + 8 * row) for row in range(rows)]  # type: ignore[misc]


@pytest.mark.parametrize(
    ("count", "names"),
    [
        (1, b"../etc/passwd\0"), (1, b"/etc/passwd\0"), (1, b"a/../b\0"), (1, b"a"), (1, b""),
        (2, b"a\0"), (1, b"a\0b\0"), (0, b"a\0"), (65, b"a\0" * 65), (2**32 - 1, b"a\0"),
        (1, b"x" * 256 + b"\0"), (1, b"\0"), (1, b"x/" * 600 + b"x\0"),
    ],
)  # fmt: skip
def test_names_that_are_none_are_not_looked_at(count: int, names: bytes) -> None:
    assert ask(count, names) == (COLLECTED, 0, [])


def test_good_names_are(count: int = 64) -> None:
    assert ask(2, b"a\0b/c\0") == (COLLECTED, 2, [(errno.ENOENT, 0)] * 2)
    assert ask(count, b"a\0" * count)[1] == count


def test_while_a_program_runs_nothing_is_collected() -> None:
    """The warden hears nothing but a kill then: this is why no name can change under it."""
    with oxgen.Launcher(cells=1) as launcher, oxgen.spawn(["cat"], launcher=launcher) as process:
        (cell,) = launcher.pool.stock.all
        with socket.socket(fileno=os.dup(cell.native.warden)) as warden:
            warden.send(struct.pack("II", COLLECT, 1) + b"a\0")
        process.stdin.write(b"still here\n")
        process.stdin.close()
        assert process.stdout.read() == b"still here\n"
        assert process.wait(10).returncode == 0
