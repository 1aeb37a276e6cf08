"""Start-up: 0xgenctl loads what a command needs, and says so in one line where it cannot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli_program import SECONDS, program_environment, program_words


def python(code: str, **kwargs) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**program_environment(), **kwargs.pop("environment", {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        **kwargs,
    )


@pytest.mark.parametrize("module", ["cryptography", "rich", "elftools", "msgspec", "psutil"])
@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["plugin", "--help"]])
def test_help_does_not_import(module: str, words: list[str]) -> None:
    code = (
        f"import sys; sys.argv = ['0xgenctl', *{words!r}]\n"
        "from oxgen.cli import main\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        f"    assert {module!r} not in sys.modules\n"
    )
    assert python(code).returncode == 0


def test_missing_extension_is_one_sentence_and_125() -> None:
    code = (
        "import sys\n"
        "sys.modules['oxgen._native'] = None\n"
        "sys.argv = ['0xgenctl', 'run', '--', 'true']\n"
        "from oxgenctl import main\n"
        "sys.exit(main())\n"
    )
    result = python(code)
    assert result.returncode == 125
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert "install" in result.stderr


UNEXPECTED = (
    "import sys\n"
    "import oxgen.cli.findings as module\n"
    "def broken(path): raise RuntimeError('a \\x1b surprise')\n"
    "module._validate_file = broken\n"
    "sys.argv = ['0xgenctl', 'findings', 'validate', '-']\n"
    "from oxgen.cli import main\n"
    "main()\n"
)


def test_unexpected_exception_is_one_line_and_125() -> None:
    result = python(UNEXPECTED)
    assert result.returncode == 125
    (line,) = result.stderr.splitlines()
    assert line.startswith("0xgenctl: unexpected RuntimeError: a \\x1b surprise")
    assert "OXGEN_TRACEBACK=1" in line


def test_unexpected_exception_shows_its_traceback_on_request() -> None:
    result = python(UNEXPECTED, environment={"OXGEN_TRACEBACK": "1"})
    assert result.returncode == 125
    assert "Traceback" in result.stderr


def test_version_is_one_line(ctl) -> None:
    result = ctl("--version")
    assert result.returncode == 0
    assert result.stdout.startswith("0xgenctl ")
    assert len(result.stdout.splitlines()) == 1


def test_closed_stdout_is_quiet() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        result = subprocess.run(
            [*program_words(), "--help"],
            env=program_environment(),
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            timeout=SECONDS,
        )
    finally:
        os.close(writer)
    assert result.stderr == ""


def test_full_disk_behind_stderr_does_not_change_the_exit_status() -> None:
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [*program_words(), "nonsense"],
            env=program_environment(),
            stdin=subprocess.DEVNULL,
            stderr=full,
            timeout=SECONDS,
        )
    assert result.returncode == 2


def in_a_deleted_directory(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run 0xgenctl where the current directory does not exist any more."""
    gone = folder / "gone"
    gone.mkdir()
    return subprocess.run(
        ["/bin/sh", "-c", 'rmdir "$PWD" && exec "$@"', "x", *program_words(), *words],
        cwd=gone,
        env=program_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )


def test_doctor_works_in_a_directory_that_is_gone(tmp_path: Path) -> None:
    result = in_a_deleted_directory(tmp_path, "doctor", "--json")
    (check,) = [c for c in json.loads(result.stdout)["checks"] if c["name"] == "trust root"]
    assert check["state"] in ("note", "yes")
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["plugin", "list"], 1),
        (["plugin", "verify", "hydra"], 1),
        (["plugin", "approve", "--trust-root", "root", "hydra"], 1),
        (["plugin", "run", "--trust-root", "root", "hydra"], 127),
    ],
    ids=str,
)
def test_directory_that_is_gone_is_one_clean_line(
    tmp_path: Path, words: list[str], status: int
) -> None:
    result = in_a_deleted_directory(tmp_path, *words)
    (line,) = result.stderr.splitlines()
    assert result.returncode == status
    assert "unexpected" not in line
    if not os.path.exists("/etc/oxgen"):
        assert "current directory does not exist any more" in line


def test_descriptors_closed_by_the_caller_are_not_given_to_files() -> None:
    code = (
        "import os, sys\n"
        "os.close(0); os.close(1)\n"
        "from oxgen.cli import _open_standard_descriptors\n"
        "_open_standard_descriptors()\n"
        "assert os.path.samestat(os.fstat(0), os.stat(os.devnull))\n"
        "assert os.path.samestat(os.fstat(1), os.stat(os.devnull))\n"
    )
    assert python(code).returncode == 0


def test_full_disk_behind_stdout_is_one_line_and_125() -> None:
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [*program_words(), "--help"],
            env=program_environment(),
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=SECONDS,
        )
    assert result.returncode == 125
    assert result.stderr == "0xgenctl: output cannot be written: No space left on device\n"
