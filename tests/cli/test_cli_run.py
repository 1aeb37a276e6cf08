"""``0xgenctl run`` end to end: exit statuses, the status object, output and cancellation."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from cli_program import SECONDS, program_environment, program_words

pytestmark = pytest.mark.root


def status_of(result: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Return the status object: what ``--json`` prints, and nothing else on stdout."""
    (line,) = result.stdout.splitlines()
    return json.loads(line)


def python_file(folder: Path, text: str, name: str = "program.py") -> str:
    """Write a program for the ``python`` runtime."""
    path = folder / name
    path.write_text(f"#!/usr/bin/env python3\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_exit_status_is_the_commands_own(ctl) -> None:
    result = ctl("run", "--", "/bin/sh", "-c", "exit 7")
    assert (result.returncode, result.stderr) == (7, "")


def test_output_is_copied_on(ctl) -> None:
    result = ctl("run", "--", "/bin/sh", "-c", "echo out; echo err >&2")
    assert (result.returncode, result.stdout, result.stderr) == (0, "out\n", "err\n")


def test_options_after_the_command_are_its_own(ctl) -> None:
    result = ctl("run", "/bin/sh", "-c", 'echo "$@"', "x", "--wall-limit", "--", "0")
    assert result.stdout == "--wall-limit -- 0\n"


def test_wall_limit_is_124_and_timeout(ctl) -> None:
    result = ctl("run", "--json", "--wall-limit", "0.5", "/bin/sh", "-c", "while :; do :; done")
    status = status_of(result)
    assert result.returncode == 124
    assert (status["phase"], status["reason"]) == ("run", "timeout")
    assert "--wall-limit" in result.stderr


def test_cpu_limit_is_152_and_cpu_limit(ctl) -> None:
    result = ctl("run", "--json", "--cpu-limit", "0.5", "/bin/sh", "-c", "while :; do :; done")
    assert result.returncode == 152
    assert status_of(result)["reason"] == "cpu_limit"


def test_memory_limit_is_137_and_memory_limit(ctl, tmp_path: Path) -> None:
    program = python_file(
        tmp_path, "b = bytearray(200 << 20)\nfor i in range(0, len(b), 4096): b[i] = 1"
    )
    result = ctl("run", "--json", "--memory-limit", "64M", "--runtime", "python", "--", program)
    assert result.returncode == 137
    assert status_of(result)["reason"] == "memory_limit"


def test_status_137_of_the_command_itself_is_no_memory_limit(ctl) -> None:
    result = ctl("run", "--json", "--", "/bin/sh", "-c", "exit 137")
    status = status_of(result)
    assert result.returncode == 137
    assert (status["reason"], status["exit_code"]) == (None, 137)


def test_signal_is_128_plus_its_number_and_killed(ctl) -> None:
    result = ctl("run", "--json", "--", "/bin/sh", "-c", "kill -15 $$")
    status = status_of(result)
    assert result.returncode == 143
    assert (status["reason"], status["signal"]) == ("killed", 15)


def test_command_that_is_not_there_is_127_and_never_ran(ctl) -> None:
    result = ctl("run", "--json", "--", "/nonexistent/program")
    status = status_of(result)
    assert result.returncode == 127
    assert status["phase"] in ("setup", "exec")
    assert status["error"]["errno"] == 2


def test_name_that_is_not_in_path_is_127(ctl) -> None:
    assert ctl("run", "--", "no-such-program-anywhere").returncode == 127


def test_file_that_is_not_executable_is_126_and_never_ran(ctl, tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("no program\n")
    path.chmod(0o755)
    result = ctl("run", "--json", "--", str(path))
    assert result.returncode == 126
    assert status_of(result)["phase"] in ("setup", "exec")


def test_enforcement_is_what_the_command_line_says(ctl) -> None:
    result = ctl(
        "run", "--json", "--level", "namespaces", "--enforce", "best-effort",
        "--enforce-except", "disk", "--enforce-except", "network", "--", "/bin/true",
    )  # fmt: skip
    assert result.returncode == 0
    box = status_of(result)["confinement"]
    assert (box["level"], box["missing"], box["weaker"]) == ("namespaces", [], [])


def test_remedy_for_a_script_without_its_first_line_can_be_typed(ctl, tmp_path: Path) -> None:
    path = tmp_path / "check.py"
    path.write_text("print('hello')\n")
    path.chmod(0o755)
    result = ctl("run", "--", "./check.py")
    assert result.returncode == 126
    assert "use --runtime python" in result.stderr
    assert ctl("run", "--runtime", "python", "--", "./check.py").stdout == "hello\n"


def test_file_limit_that_ended_the_command_is_named_by_its_option(ctl, tmp_path: Path) -> None:
    source = (
        "import signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_DFL)\n"
        "with open('/tmp/big', 'wb') as f:\n    f.write(bytes(1 << 16)); f.flush()"
    )
    result = ctl("run", "--file-limit", "4K", "--", python_file(tmp_path, source))
    assert result.returncode == 128 + signal.SIGXFSZ
    assert "--file-limit raises it" in result.stderr
    assert ctl("run", "--", python_file(tmp_path, source)).stderr == ""


def test_limits_of_the_command_line_are_those_of_the_record(ctl) -> None:
    result = ctl(
        *("run", "--json", "--cpu-limit", "2s", "--memory-limit", "64M", "--wall-limit", "2m"),
        *("--process-limit", "7", "--open-files-limit", "33", "--file-limit", "1M"),
        *(
            "--disk-limit",
            "2M",
            "--output-limit",
            "none",
            "--cpus",
            ".75",
            "--",
            "/bin/sh",
            "-c",
            ":",
        ),
    )
    assert status_of(result)["limits"] == {
        "wall_seconds": 120.0,
        "cpu_seconds": 2.0,
        "memory_bytes": 64 << 20,
        "processes": 7,
        "open_files": 33,
        "file_bytes": 1 << 20,
        "disk_bytes": 2 << 20,
        "output_bytes": None,
        "cpus": 0.75,
    }


def test_open_files_limit_reaches_the_command(ctl) -> None:
    result = ctl("run", "--open-files-limit", "33", "--", "/bin/sh", "-c", "ulimit -n")
    assert result.stdout == "33\n"


def test_environment_of_the_caller_stays_outside(ctl) -> None:
    script = 'echo "${PYTHONPATH-unset} ${MODE-unset}"'
    result = ctl("run", "--env", "MODE=quick", "--", "/bin/sh", "-c", script)
    assert result.stdout == "unset quick\n"


def test_cwd_is_inside(ctl) -> None:
    assert ctl("run", "--cwd", "/tmp", "--", "/bin/sh", "-c", "pwd").stdout == "/tmp\n"


def test_stdin_is_empty(ctl) -> None:
    assert ctl("run", "--", "/bin/sh", "-c", "read x || echo end").stdout == "end\n"


def test_task_id_is_in_the_record(ctl) -> None:
    result = ctl("run", "--json", "--task-id", "scan 7", "--", "/bin/sh", "-c", ":")
    assert status_of(result)["task_id"] == "scan 7"


def test_json_keeps_stdout_for_the_status_object(ctl) -> None:
    result = ctl("run", "--json", "--", "/bin/sh", "-c", "echo noise")
    assert status_of(result)["schema"] == "oxgen.status/1"
    assert result.stderr == "noise\n"


def test_output_beyond_its_limit_is_counted_and_dropped(ctl) -> None:
    script = "i=0; while [ $i -lt 4000 ]; do echo 0123456789; i=$((i+1)); done"
    result = ctl("run", "--json", "--output-limit", "1K", "--", "/bin/sh", "-c", script)
    output = status_of(result)["output"]
    assert (output["stdout_bytes"], output["truncated"]) == (44000, True)
    noise, said = result.stderr[:1024], result.stderr[1024:]
    assert noise.startswith("0123456789\n")
    assert said.startswith("0xgenctl: ")


TALK = "i=0; while [ $i -lt 400 ]; do echo 0123456789; i=$((i+1)); done; exit 3"


def test_output_beyond_its_limit_is_said_in_bytes(ctl) -> None:
    result = ctl("run", "--output-limit", "1K", "--", "/bin/sh", "-c", TALK)
    assert (result.returncode, len(result.stdout)) == (3, 1024)
    assert result.stderr == (
        "0xgenctl: /bin/sh: stdout and stderr: 3376 bytes beyond the output limit were dropped;"
        " --output-limit raises it\n"
    )


def test_output_up_to_its_limit_goes_without_a_word(ctl) -> None:
    result = ctl("run", "--output-limit", "4400", "--", "/bin/sh", "-c", TALK)
    assert (result.returncode, len(result.stdout), result.stderr) == (3, 4400, "")


@pytest.mark.parametrize("words", [["run", "--"], ["plugin", "run"]], ids=" ".join)
def test_output_that_cannot_be_written_is_125_and_said(words: list[str], tmp_path: Path) -> None:
    bare = python_file(tmp_path, "print('out', flush=True)")
    # The plugin's output is noise and goes to stderr, so there nobody can be told.
    streams = ["stdout", "stderr"] if words[0] == "run" else ["stderr", "stdout"]
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [*program_words(), *words, bare],
            cwd=tmp_path,
            env=program_environment(),
            stdin=subprocess.DEVNULL,
            timeout=SECONDS,
            text=True,
            **{streams[0]: full, streams[1]: subprocess.PIPE},  # type: ignore[call-overload]
        )
    assert result.returncode == 125
    if words[0] == "run":
        assert result.stderr == (
            f"0xgenctl: {bare}: stdout or stderr could not be written, so output is lost\n"
        )


# --- the status descriptor -----------------------------------------------------------------------


def test_status_object_goes_to_the_descriptor(ctl) -> None:
    reader, writer = os.pipe()
    with open(reader) as stream:
        result = ctl(
            *("run", "--json-status-fd", str(writer), "--", "/bin/sh", "-c", "echo out; exit 3"),
            pass_fds=[writer],
        )
        os.close(writer)
        lines = stream.readlines()
    assert (result.returncode, result.stdout) == (3, "out\n")
    (line,) = lines
    assert json.loads(line)["exit_code"] == 3


def test_status_object_of_a_run_that_never_was_goes_to_the_descriptor(ctl) -> None:
    reader, writer = os.pipe()
    with open(reader) as stream:
        result = ctl(
            "run", "--json-status-fd", str(writer), "--", "/nonexistent", pass_fds=[writer]
        )
        os.close(writer)
        (line,) = stream.readlines()
    assert result.returncode == 127
    assert json.loads(line)["error"]["message"] != ""


def test_status_descriptor_is_not_open_in_the_command(ctl, tmp_path: Path) -> None:
    script = 'for fd in 1 "$0"; do [ -e /proc/self/fd/$fd ] && echo $fd; done; :'
    with open(tmp_path / "status.json", "w") as stream:
        number = stream.fileno()
        result = ctl(
            *("run", "--json-status-fd", str(number), "/bin/sh", "-c", script, str(number)),
            pass_fds=[number],
        )
    assert result.stdout == "1\n"


def test_status_object_that_cannot_be_written_is_125(ctl) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    result = ctl(
        *("run", "--json-status-fd", str(writer), "--", "/bin/sh", "-c", ":"), pass_fds=[writer]
    )
    os.close(writer)
    assert result.returncode == 125
    assert "status object" in result.stderr


# --- being stopped -------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_signal_to_0xgenctl_kills_the_run_and_is_130(
    number: signal.Signals, tmp_path: Path
) -> None:
    program = [
        *program_words(),
        *("run", "--json", "--", "/bin/sh", "-c", "echo started; while :; do :; done"),
    ]
    with subprocess.Popen(
        program,
        cwd=tmp_path,
        env=program_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "started\n"
        began = time.monotonic()
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=SECONDS)
        took = time.monotonic() - began
    assert process.returncode == 130
    assert "Traceback" not in stderr
    assert json.loads(stdout)["reason"] == "cancelled"
    assert took < 2


def test_reader_that_goes_away_does_not_change_the_exit_status(ctl, tmp_path: Path) -> None:
    script = "echo one; echo two; exit 5"
    with subprocess.Popen(
        [*program_words(), "run", "--json", "--", "/bin/sh", "-c", script],
        cwd=tmp_path,
        env=program_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        stderr = process.stderr.read()
        process.wait(SECONDS)
    assert process.returncode == 5
    assert stderr == "one\ntwo\n"


def test_reader_of_the_output_that_goes_away_ends_it_without_a_word(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        result = subprocess.run(
            [*program_words(), "run", "--output-limit", "1K", "--", "/bin/sh", "-c", TALK],
            cwd=tmp_path,
            env=program_environment(),
            stdin=subprocess.DEVNULL,
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            timeout=SECONDS,
        )
    finally:
        os.close(writer)
    assert (result.returncode, result.stderr) == (3, "")


def test_output_that_nobody_reads_in_time_is_said(tmp_path: Path) -> None:
    script = "while :; do echo 0123456789012345678901234567890123456789; done"
    with subprocess.Popen(
        [*program_words(), "run", "--wall-limit", "0.5", "--", "/bin/sh", "-c", script],
        cwd=tmp_path,
        env=program_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        stderr = process.stderr.read()
        process.communicate(timeout=SECONDS)
    assert process.returncode == 124
    assert "output was dropped, as it was not read in time" in stderr
    assert "--output-limit" not in stderr
