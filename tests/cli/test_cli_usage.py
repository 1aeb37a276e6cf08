"""Usage: what the command line refuses before anything happens, each with its allowed twin."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from cli_program import SECONDS, program_environment, program_words

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
    ["bench"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_works_for_every_command(invoke, command: list[str]) -> None:
    result = invoke(*command, "--help")
    assert result.exit_code == 0
    assert result.stdout.startswith("Usage: 0xgenctl")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_teaches_by_example(invoke, command: list[str]) -> None:
    text = invoke(*command, "--help").stdout
    assert text.count("  0xgenctl ") >= 2


@pytest.mark.parametrize("command", [[], ["plugin"], ["findings"]], ids=" ".join)
def test_group_without_a_command_is_2_and_shows_its_help(invoke, command: list[str]) -> None:
    result = invoke(*command)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr == invoke(*command, "--help").stdout


@pytest.mark.parametrize("command", [[], ["plugin"], ["findings"]], ids=" ".join)
def test_help_of_a_group_says_whole_sentences(invoke, command: list[str]) -> None:
    commands = invoke(*command, "--help").stdout.partition("\nCommands:\n")[2].split("\n\n")[0]
    assert all(line.endswith(".") for line in commands.splitlines())
    assert "..." not in commands


@pytest.mark.root
def test_examples_of_run_work_as_they_stand(invoke, tmp_path: Path) -> None:
    words = shlex.join(program_words())
    examples = []
    for command in ([], ["run"]):
        examples += re.findall(r"^ +0xgenctl (run .*)$", invoke(*command, "--help").stdout, re.M)
    assert len(examples) >= 4
    for example in examples:
        result = subprocess.run(
            ["/bin/bash", "-c", f"{words} {example}"],
            cwd=tmp_path,
            env=program_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        assert (result.returncode, result.stderr) == (0, ""), example
        assert result.stdout != ""


def test_help_of_run_says_what_is_not_inside(invoke) -> None:
    text = " ".join(invoke("run", "--help").stdout.split())
    assert "Nothing else is copied in" in text
    assert "Its stdin is empty" in text
    assert "(| head), the rest is dropped" in text


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
        ["plugin", "run", "--findings", "", "x"],
        ["plugin", "run", "--audit-log", "", "x"],
        ["plugin", "run", "--audit-log", "-", "x"],
        ["plugin", "keygen", ""],
        ["plugin", "keygen", "-"],
        ["plugin", "approve", ""],
        ["plugin", "verify", ""],
        ["plugin", "sign", "--key", "k", ""],
        ["plugin", "sign", "--key", "k", "--signature", "-", "x"],
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
    result = invoke("run", "--seatbelt", "profile", "--", "true")
    assert result.exit_code == 2
    assert "--seatbelt" in result.stderr


@pytest.mark.parametrize(
    "words",
    [["doctor"], ["plugin", "list"], ["plugin", "run", "x"], ["plugin", "verify", "x"]],
    ids=" ".join,
)
def test_empty_trust_root_is_a_usage_error_that_names_the_option(invoke, words: list[str]) -> None:
    result = invoke(*words, "--trust-root", "")
    assert result.exit_code == 2
    assert "--trust-root" in result.stderr
    assert "accepted: the path of a directory" in result.stderr


def test_findings_to_a_dash_are_refused_with_the_way_to_stdout(
    invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke("plugin", "run", "--findings", "-", "x")
    assert result.exit_code == 2
    assert "without --findings, stdout gets them" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_level_that_does_not_exist_is_refused_with_those_of_this_build(invoke) -> None:
    result = invoke("run", "--level", "foo", "--", "true")
    assert result.exit_code == 2
    assert "'namespaces', 'chroot', 'landlock'" in result.stderr


def test_a_property_that_does_not_exist_is_refused_with_those_that_do(invoke) -> None:
    result = invoke("run", "--enforce-except", "memory", "--", "true")
    assert result.exit_code == 2
    assert "memory_tree" in result.stderr


@pytest.mark.parametrize("path", ["", "tmp", "/" + "x" * 1024])
def test_directory_that_cannot_be_inside_is_a_usage_error_that_names_the_option(
    invoke, path: str
) -> None:
    result = invoke("run", "--cwd", path, "--", "true")
    assert result.exit_code == 2
    assert "--cwd" in result.stderr
    assert "accepted: an absolute path" in result.stderr


def test_help_names_the_levels(invoke) -> None:
    for command in (("run",), ("plugin", "run")):
        text = invoke(*command, "--help").stdout
        assert "--level [namespaces|chroot|landlock]" in text
        assert "--enforce [require|best-effort]" in text
        assert "--enforce-except P" in text


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


def test_path_through_a_file_is_there_but_cannot_be_read(here: Path) -> None:
    (here / "hydra").touch()
    with pytest.raises(IntegrityError) as caught:
        resolve("hydra/scan")
    assert caught.value.reason == "not_readable"


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
