"""Files that appear in the place of others: a device, a pipe or a socket is never done away with.

All nodes are of the test's own, in its own directory.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cli_program import SECONDS, program_environment, program_words

from oxgen.values import why_not_replaced

RAN = ("--", "/bin/sh", "-c", "echo ran; echo new >out.txt")


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _device(path: Path) -> None:
    os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as named:
        before = os.getcwd()
        os.chdir(path.parent)  # names of sockets are short
        named.bind(path.name)
        os.chdir(before)


def _link_to_a_pipe(path: Path) -> None:
    os.mkfifo(path.with_name("far"))
    path.symlink_to("far")


KINDS = {
    "named pipe": _pipe,
    "device": _device,
    "socket": _socket,
    "directory": Path.mkdir,
    "link to a pipe": _link_to_a_pipe,
}


@pytest.mark.root
@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize(
    "option", [("--copy-out", "out.txt:node"), ("--learn", "node")], ids=["copy-out", "learn"]
)
def test_what_is_no_file_is_refused_before_anything_runs(
    ctl, tmp_path: Path, option: tuple[str, str], make: Callable[[Path], None]
) -> None:
    node = tmp_path / "node"
    make(node)
    before = os.lstat(node)
    result = ctl("run", *option, *RAN)
    assert (result.returncode, result.stdout) == (2, "")
    assert "'node' is refused: it is a " in result.stderr
    assert "accepted: a name that a regular file has, or nothing" in result.stderr
    after = os.lstat(node)
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)


@pytest.mark.root
@pytest.mark.parametrize("option", ["--copy-out", "--learn"])
def test_a_pipe_that_comes_meanwhile_is_left_and_the_file_is_said_to_be_lost(
    tmp_path: Path, option: str
) -> None:
    name = "node" if option == "--learn" else "out.txt:node"
    script = "echo started; while ((SECONDS < 2)); do :; done; echo new >out.txt"
    words = ["run", "--json", option, name, "--", "bash", "-c", script]
    with subprocess.Popen(
        [*program_words(), *words],
        cwd=tmp_path,
        env=program_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stderr is not None
        assert program.stderr.readline() == "started\n"
        os.mkfifo(tmp_path / "node")
        stdout, stderr = program.communicate(timeout=SECONDS)
    assert program.returncode == 125
    assert "'node' could not be written: it is a named pipe" in stderr
    assert stat.S_ISFIFO(os.lstat(tmp_path / "node").st_mode)
    assert sorted(os.listdir(tmp_path)) == ["node"]
    assert json.loads(stdout)["exit_code"] == 0


@pytest.mark.root
def test_a_file_and_a_link_to_one_are_replaced(ctl, tmp_path: Path) -> None:
    (tmp_path / "far").write_text("precious")
    (tmp_path / "node").symlink_to("far")
    (tmp_path / "other").write_text("old")
    copied = ("--copy-out", "out.txt:node", "--copy-out", "out.txt:other")
    result = ctl("run", *copied, *RAN)
    assert (result.returncode, result.stderr) == (0, "")
    assert (tmp_path / "far").read_text() == "precious"
    assert (tmp_path / "node").read_text() == (tmp_path / "other").read_text() == "new\n"


@pytest.mark.parametrize("path", ["/dev/stdout", "/dev/nothing", "/dev/fd/1", "/proc/self/nothing"])
def test_names_of_the_machine_are_not_taken(path: str) -> None:
    # Only the question is asked: nothing is written.
    assert "where names are the machine's" in why_not_replaced(path)
    assert why_not_replaced("/dev/shm/nothing-of-this-name") == ""


@pytest.mark.parametrize("make", [_pipe, _socket, Path.mkdir], ids=["pipe", "socket", "directory"])
def test_no_signature_takes_the_place_of_what_is_no_file(
    ctl, tmp_path: Path, make: Callable[[Path], None]
) -> None:
    (tmp_path / "program").write_text("#!/bin/sh\n")
    assert ctl("plugin", "keygen", "private").returncode == 0
    make(tmp_path / "node")
    make(tmp_path / "program.sig")
    before = os.lstat(tmp_path / "node"), os.lstat(tmp_path / "program.sig")
    named = ctl("plugin", "sign", "--key", "private", "--signature", "node", "./program")
    assert named.returncode == 2 and "'node' is refused: it is a " in named.stderr
    usual = ctl("plugin", "sign", "--key", "private", "./program")
    assert usual.returncode == 1 and "no signature takes that place" in usual.stderr
    after = os.lstat(tmp_path / "node"), os.lstat(tmp_path / "program.sig")
    assert [one.st_ino for one in after] == [one.st_ino for one in before]


@contextlib.contextmanager
def _waiting_for_a_writer(path: Path) -> Iterator[Callable[[], bool]]:
    """Open a pipe in a process that waits until it is opened for writing; tell whether it was."""
    if not stat.S_ISFIFO(os.lstat(path).st_mode):
        yield lambda: False
        return
    with subprocess.Popen(["/bin/sh", "-c", ': <"$0"', str(path)]) as reader:
        try:
            yield lambda: reader.poll() is not None
            # It was waiting: without a reader this is ENXIO.
            os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
            assert reader.wait(timeout=10) == 0
        finally:
            reader.kill()


@pytest.mark.parametrize("option", ["--plot"])
def test_a_chart_goes_into_a_file_only(ctl, tmp_path: Path, option: str) -> None:
    _pipe(tmp_path / "node.svg")
    with _waiting_for_a_writer(tmp_path / "node.svg") as opened:
        result = ctl("bench", option, "node.svg", "--seconds", "0.5")
        assert not opened(), "somebody has opened it"
    assert result.returncode != 0 and "is not a regular file" in result.stderr


@pytest.mark.root
@pytest.mark.parametrize("make", [_pipe, _device], ids=["pipe", "device"])
@pytest.mark.parametrize("option", ["--findings", "--audit-log"])
def test_records_are_appended_to_files_only(
    ctl, tmp_path: Path, option: str, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "node")
    (tmp_path / "bare").write_text("#!/bin/sh\necho ran\n")
    (tmp_path / "bare").chmod(0o755)
    begun = time.monotonic()
    with _waiting_for_a_writer(tmp_path / "node") as opened:
        result = ctl("plugin", "run", option, "node", "./bare")
        assert not opened(), "somebody has opened it"
    assert time.monotonic() - begun < 30
    assert result.returncode == 2 and "ran" not in result.stdout
    assert "regular file" in result.stderr
    assert not stat.S_ISREG(os.lstat(tmp_path / "node").st_mode)
