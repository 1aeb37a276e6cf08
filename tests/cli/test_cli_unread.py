"""A caller that does not read holds 0xgenctl up for a while, not for ever."""

from __future__ import annotations

import os
import time

import pytest

from oxgen.cli import terminal


def test_an_unread_pipe_ends_in_a_timeout() -> None:
    reader, writer = os.pipe()
    try:
        begun = time.monotonic()
        with pytest.raises(TimeoutError, match="nobody has read"):
            terminal.write_within(writer, b"x" * 1_000_000, 0.2)
        assert time.monotonic() - begun < 5
    finally:
        os.close(reader)
        os.close(writer)


def test_a_pipe_that_is_read_takes_everything() -> None:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writer)
        total = 0
        while chunk := os.read(reader, 65536):
            total += len(chunk)
        os._exit(0 if total == 1_000_000 else 1)
    os.close(reader)
    terminal.write_within(writer, b"x" * 1_000_000, 5)
    os.close(writer)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_reader_that_has_gone_is_a_broken_pipe() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        terminal.write_within(writer, b"x", 1)
    os.close(writer)
