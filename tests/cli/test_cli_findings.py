"""``0xgenctl findings validate``: hostile files are judged line by line and shown harmlessly."""

from __future__ import annotations

import subprocess
from pathlib import Path

from cli_program import SECONDS, program_environment, program_words

from oxgen.findings import Finding, new_id


def line(**members) -> bytes:
    given = {
        "id": new_id(),
        "plugin": "hydra",
        "type": "x.y",
        "message": "m",
        "severity": "low",
        "ts": "2024-01-02T03:04:05Z",
    }
    return Finding(**{**given, **members}).to_line()


def test_valid_file_is_yes(invoke, tmp_path: Path) -> None:
    path = tmp_path / "found.jsonl"
    path.write_bytes(line() + line(message="second"))
    result = invoke("findings", "validate", str(path))
    assert result.exit_code == 0
    assert result.stdout == f"{path}: 2 valid, 0 not\n"


def test_bad_line_is_no_and_named_by_number(invoke, tmp_path: Path) -> None:
    path = tmp_path / "found.jsonl"
    path.write_bytes(line() + b"{}\n" + line())
    result = invoke("findings", "validate", str(path))
    assert result.exit_code == 1
    assert f"{path}:2: " in result.stdout
    assert f"{path}: 2 valid, 1 not" in result.stdout


def test_one_bad_file_does_not_hide_the_others(invoke, tmp_path: Path) -> None:
    bad, good = tmp_path / "bad.jsonl", tmp_path / "good.jsonl"
    bad.write_bytes(b"nonsense\n")
    good.write_bytes(line())
    result = invoke("findings", "validate", str(bad), str(good))
    assert result.exit_code == 1
    assert f"{good}: 1 valid, 0 not" in result.stdout


def test_hostile_bytes_of_a_file_do_not_reach_the_terminal(invoke, tmp_path: Path) -> None:
    path = tmp_path / "found\x1b[2J.jsonl"
    path.write_bytes(b'{"\x1b]0;owned\x07": 1, "\xe2\x80\xae": 2}\n\xff\xfe\n')
    result = invoke("findings", "validate", str(path))
    assert result.exit_code == 1
    assert "\x1b" not in result.output
    assert "\x07" not in result.output
    assert "\u202e" not in result.output


def test_complaints_about_one_file_have_an_end(invoke, tmp_path: Path) -> None:
    path = tmp_path / "found.jsonl"
    path.write_bytes(b"x\n" * 5000)
    result = invoke("findings", "validate", str(path))
    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) < 120
    assert "5000 not" in result.stdout


def test_stdin_is_read_for_a_dash() -> None:
    result = subprocess.run(
        [*program_words(), "findings", "validate", "-"],
        input=line(),
        env=program_environment(),
        capture_output=True,
        timeout=SECONDS,
    )
    assert result.returncode == 0
    assert result.stdout == b"stdin: 1 valid, 0 not\n"
