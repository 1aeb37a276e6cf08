"""Fixtures: 0xgenctl in this process for parsing, as a program of its own for the rest."""

from __future__ import annotations

import inspect
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from cli_program import SECONDS, program_environment, program_words
from click.testing import CliRunner, Result

from oxgen.cli import command_line

#: Before click 8.2 the runner mixes stdout and stderr unless it is told not to.
_SEPARATE: dict[str, bool] = (
    {"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner).parameters else {}
)

Program = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def invoke() -> Callable[..., Result]:
    """Run a command line in this process."""
    return lambda *words: CliRunner(**_SEPARATE).invoke(command_line, list(words))


@pytest.fixture
def ctl(tmp_path: Path) -> Program:
    """Run 0xgenctl as a program in an empty directory, with pipes for its output."""

    def run(
        *words: str, pass_fds: Sequence[int] = (), **kwargs: object
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*program_words(), *words],
            cwd=tmp_path,
            env=program_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            pass_fds=pass_fds,
            **kwargs,  # type: ignore[call-overload]
        )

    return run
