"""A plugin has the descriptors 0, 1 and 2, with a broker 3, and nothing of its host's."""

from __future__ import annotations

import os
import pty
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import oxgen

if TYPE_CHECKING:
    from control.confined import Portrait, Probe
    from control.hosts import Host
    from control.unconfined import Unconfined

pytestmark = pytest.mark.root


def test_there_are_three(portrait: Portrait) -> None:
    assert sorted(portrait.descriptors) == ["0", "1", "2"]


def test_an_inheritable_file_of_the_host_does_not_leak(probe: Probe) -> None:
    with open(os.devnull) as kept:
        os.set_inheritable(kept.fileno(), True)
        assert sorted(probe.look().descriptors) == ["0", "1", "2"]


def test_an_inheritable_directory_of_the_host_does_not_leak(probe: Probe) -> None:
    directory = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.set_inheritable(directory, True)
        assert sorted(probe.look().descriptors) == ["0", "1", "2"]
    finally:
        os.close(directory)


def test_nothing_leaks_through_a_launcher_that_starts_among_open_descriptors(probe: Probe) -> None:
    opened = [os.dup(2) for _ in range(100)]
    listener = socket.create_server(("127.0.0.1", 0))
    try:
        for fd in (*opened, listener.fileno()):
            os.set_inheritable(fd, True)
        with oxgen.Launcher(cells=1) as launcher:
            assert sorted(probe.look(launcher=launcher).descriptors) == ["0", "1", "2"]
    finally:
        listener.close()
        for fd in opened:
            os.close(fd)


def test_control_a_descriptor_that_is_kept_open_is_seen(unconfined: Unconfined) -> None:
    seen = unconfined.answer(prefix=("sh", "-c", 'exec 7</usr; exec "$@"', "sh"))
    assert seen["descriptors"]["7"]["type"] == "directory"


def test_standard_input_without_input_is_an_empty_pipe_and_no_device_of_the_host(
    portrait: Portrait,
) -> None:
    assert portrait.descriptors["0"]["type"] == "pipe"


def test_standard_input_with_input_is_a_pipe(probe: Probe) -> None:
    assert probe.look(input=b"x").descriptors["0"]["type"] == "pipe"


@pytest.mark.parametrize("fd", ("1", "2"))
def test_output_is_a_pipe_that_blocks(portrait: Portrait, fd: str) -> None:
    stream = portrait.descriptors[fd]
    assert (stream["type"], stream["access"], stream["nonblocking"]) == ("pipe", "write", False)


def test_no_descriptor_is_the_terminal_of_the_host(
    host: Callable[..., Host], probe_path: Path
) -> None:
    main, inner = pty.openpty()
    try:
        started = host(
            "oxgen.run([sys.argv[1]])", probe_path, stdin=inner, stdout=inner, env=os.environ
        )
        started.process.wait(timeout=30)
        os.close(inner)
        seen = b""
        while not seen.rstrip().endswith(b"}"):
            seen += os.read(main, 65536)
    finally:
        os.close(main)
    assert b'"terminal":true' not in seen
    assert seen.count(b'"terminal":false') == 4  # three descriptors, and /dev/tty


def test_many_runs_in_one_cell_do_not_gather_descriptors(probe: Probe) -> None:
    with oxgen.Launcher(cells=1) as launcher:
        for _ in range(20):
            probe.run("exit", 0, launcher=launcher)
        assert sorted(probe.look(launcher=launcher).descriptors) == ["0", "1", "2"]


def test_runs_leave_no_descriptor_open_in_the_host(probe: Probe) -> None:
    probe.run("exit", 0)
    before = os.listdir("/proc/self/fd")
    for _ in range(20):
        probe.run("print", "x", input=b"y")
    assert len(os.listdir("/proc/self/fd")) == len(before)
