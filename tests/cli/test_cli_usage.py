"""Usage: what the command line refuses before anything happens, each with its allowed twin."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from oxgen.cli.plugin_run import resolve
from oxgen.errors import IntegrityError

COMMANDS = [
    [],
    ["run"],
    ["plugin"],
    ["plugin", "run"],
    ["plugin", "keygen"],
    ["plugin", "sign"],
    ["plugin", "approve"],
    ["plugin", "verify"],
    ["plugin", "list"],
    ["findings"],
    ["findings", "validate"],
    ["doctor"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_works_for_every_command(invoke, command: list[str]) -> None:
    result = invoke(*command, "--help")
    assert result.exit_code == 0
    assert result.stdout.startswith("Usage: 0xgenctl")


@pytest.mark.parametrize("command", [c for c in COMMANDS if c != ["findings"]], ids=" ".join)
def test_help_teaches_by_example(invoke, command: list[str]) -> None:
    text = invoke(*command, "--help").stdout
    assert text.count("  0xgenctl ") >= 2


@pytest.mark.parametrize(
    "words",
    [
        ["--nonsense"],
        ["nonsense"],
        ["run"],
        ["run", "--nonsense", "--", "true"],
        ["run", "--level", "cardboard", "--", "true"],
        ["run", "--runtime", "cobol", "--", "true"],
        ["run", "--env", "NOEQUALS", "--", "true"],
        ["run", "--env", "=x", "--", "true"],
        ["run", "--env", "HOME=/root", "--", "true"],
        ["run", "--task-id", "", "--", "true"],
        ["run", "--task-id", "two\nlines", "--", "true"],
        ["run", "--", ""],
        ["plugin", "run"],
        ["plugin", "run", "--"],
        ["plugin", "run", ""],
        ["plugin", "run", "-"],
        ["plugin", "run", "--bind=/"],
        ["plugin", "run", "one", "two"],
        ["plugin", "run", "--flows", "/nonexistent.har", "x"],
        ["plugin", "sign", "x"],
        ["plugin", "verify", "--key", "k", "--trust-root", "t", "x"],
        ["findings", "validate"],
        ["findings", "validate", "/nonexistent.jsonl"],
    ],
    ids=" ".join,
)
def test_usage_error_is_exit_status_2_and_one_reason(invoke, words: list[str]) -> None:
    result = invoke(*words)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert all(line.startswith("0xgenctl: ") for line in result.stderr.splitlines())


def test_option_that_this_build_lacks_is_refused(invoke) -> None:
    result = invoke("run", "--network", "host", "--", "true")
    assert result.exit_code == 2
    assert "--network" in result.stderr


def test_hostile_option_is_escaped_in_the_error(invoke) -> None:
    result = invoke("run", "--\x1b[31mred\u202e", "--", "true")
    assert result.exit_code == 2
    assert "\x1b" not in result.stderr
    assert "\u202e" not in result.stderr
    assert "red" in result.stderr


@pytest.mark.parametrize("number", ["-1", "x", "4000", "99999999999999999999"])
@pytest.mark.parametrize("command", [["run"], ["plugin", "run"]], ids=" ".join)
def test_status_descriptor_that_is_none_is_a_usage_error(
    invoke, command: list[str], number: str
) -> None:
    result = invoke(*command, "--json-status-fd", number, "/bin/true")
    assert result.exit_code == 2
    assert "accepted: the number of a descriptor open for writing" in result.stderr


def test_status_descriptor_open_for_reading_only_is_a_usage_error(invoke) -> None:
    with open(os.devnull) as stream:
        result = invoke("run", "--json-status-fd", str(stream.fileno()), "/bin/true")
    assert result.exit_code == 2
    assert "not open for writing" in result.stderr


# --- what PLUGIN means ---------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_name_of_a_file_here_is_that_file_unverified(here: Path) -> None:
    (here / "hydra").write_text("#!/bin/sh\n")
    assert resolve("hydra") == (True, "./hydra")


def test_name_of_a_folder_here_is_that_folder_verified(here: Path) -> None:
    (here / "hydra").mkdir()
    assert resolve("hydra") == (False, "./hydra")


def test_manifest_file_is_verified(here: Path) -> None:
    (here / "manifest.json").write_text("{}")
    assert resolve("manifest.json") == (False, "./manifest.json")


def test_name_of_nothing_here_is_a_name_of_the_trust_root(here: Path) -> None:
    assert resolve("hydra") == (False, "hydra")


def test_path_of_nothing_is_not_found(here: Path) -> None:
    with pytest.raises(IntegrityError) as caught:
        resolve("./hydra")
    assert caught.value.reason == "not_found"


def test_broken_link_is_not_found_and_no_name(here: Path) -> None:
    (here / "hydra").symlink_to("nowhere")
    with pytest.raises(IntegrityError) as caught:
        resolve("hydra")
    assert caught.value.reason == "not_found"


def test_fifo_is_refused_at_once(here: Path) -> None:
    os.mkfifo(here / "hydra")
    with pytest.raises(IntegrityError) as caught:
        resolve("hydra")
    assert caught.value.reason == "not_regular"
