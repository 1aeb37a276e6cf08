"""``run --syscalls``, ``--explain`` and ``--learn``."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

FORKS = ("/bin/sh", "-c", "(echo inner); echo outer")
FULL = {"defaultAction": "SCMP_ACT_ALLOW"}


@pytest.mark.root
def test_strict_refuses_a_second_process(ctl) -> None:
    assert ctl("run", "--", *FORKS).stdout == "inner\nouter\n"
    result = ctl("run", "--syscalls", "strict", "--", *FORKS)
    assert result.returncode != 0
    assert "inner" not in result.stdout


@pytest.mark.root
def test_a_profile_narrows_and_says_what_stays_refused(ctl, tmp_path: Path) -> None:
    rules = [{"names": ["mount", "bpf", "read"], "action": "SCMP_ACT_ALLOW"}]
    (tmp_path / "wide.json").write_text(json.dumps({**FULL, "syscalls": rules}))
    result = ctl("run", "--syscalls", "wide.json", "--", *FORKS)
    assert (result.returncode, result.stdout) == (0, "inner\nouter\n")
    assert "2 calls that it allows stay refused, as default refuses them: bpf, mount" in (
        result.stderr
    )
    rules = [{"names": ["clone", "fork", "vfork"], "action": "SCMP_ACT_ERRNO", "errnoRet": 11}]
    (tmp_path / "narrow.json").write_text(json.dumps({**FULL, "syscalls": rules}))
    result = ctl("run", "--syscalls", "./narrow.json", "--", *FORKS)
    assert result.returncode != 0 and "annot fork" in result.stderr
    assert "stay refused" not in result.stderr


@pytest.mark.root
def test_explain_names_the_refused_call_and_changes_nothing_else(ctl) -> None:
    plain = ctl("run", "--syscalls", "strict", "--", *FORKS)
    result = ctl("run", "--syscalls", "strict", "--explain", "--", *FORKS)
    assert (result.returncode, result.stdout) == (plain.returncode, plain.stdout)
    assert "refused: " in result.stderr and "EPERM, once, by policy" in result.stderr
    quiet = ctl("run", "--explain", "--", "/bin/sh", "-c", "exit 3")
    assert (quiet.returncode, quiet.stderr) == (
        3,
        "0xgenctl: /bin/sh: no system call was refused\n",
    )


@pytest.mark.root
def test_a_call_that_kills_is_in_the_status_object(ctl, tmp_path: Path) -> None:
    rules = [{"names": ["getppid"], "action": "SCMP_ACT_KILL_PROCESS"}]
    (tmp_path / "kill.json").write_text(json.dumps({**FULL, "syscalls": rules}))
    words = ("run", "--json", "--syscalls", "kill.json")
    plain = ctl(*words, "--", "/bin/sh", "-c", ":")
    explained = ctl(*words, "--explain", "--", "/bin/sh", "-c", ":")
    assert plain.returncode == explained.returncode == 159
    one, other = json.loads(plain.stdout), json.loads(explained.stdout)
    assert (one["reason"], one["certain"]) == ("syscall_denied", False)
    assert (other["reason"], other["certain"]) == ("syscall_denied", True)
    assert "--explain" in one["detail"]
    assert "getppid" in other["detail"] and os.uname().machine in other["detail"]


@pytest.mark.root
@pytest.mark.parametrize(
    "way", [("--explain",), ("--learn", "learnt.json")], ids=lambda way: way[0]
)
def test_a_sigsys_that_was_sent_is_told_from_a_refused_call(ctl, way: tuple[str, ...]) -> None:
    words = ("--json", "--", "/bin/sh", "-c", "kill -SYS $$")
    plain, seen = ctl("run", *words), ctl("run", *way, *words)
    assert plain.returncode == 159 and "--explain" in json.loads(plain.stdout)["detail"]
    status = json.loads(seen.stdout)
    assert (status["reason"], status["signal"], status["certain"]) == ("killed", 31, True)
    assert seen.returncode == 159
    assert "--explain" not in seen.stderr and "syscall_denied" not in seen.stderr


@pytest.mark.root
def test_a_learnt_profile_is_written_and_runs_the_program(ctl, tmp_path: Path) -> None:
    program = ("/bin/sh", "-c", "echo $((1 + 1))")
    result = ctl("run", "--learn", "learnt.json", "--", *program)
    assert (result.returncode, result.stdout) == (0, "2\n")
    assert "learnt.json allows the" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["learnt.json"]
    assert stat.S_IMODE((tmp_path / "learnt.json").stat().st_mode) == 0o644
    again = ctl("run", "--syscalls", "learnt.json", "--", *program)
    assert (again.returncode, again.stdout, again.stderr) == (0, "2\n", "")
    assert ctl("run", "--syscalls", "learnt.json", "--", *FORKS).returncode != 0


@pytest.mark.root
def test_nothing_is_left_of_a_profile_that_was_not_learnt(ctl, tmp_path: Path) -> None:
    result = ctl("run", "--learn", "learnt.json", "--", "/no/such/program")
    assert result.returncode == 127
    assert list(tmp_path.iterdir()) == []


def test_a_profile_that_cannot_be_written_is_said_before_anything_runs(ctl) -> None:
    result = ctl("run", "--learn", "/no/such/folder/learnt.json", "--", "/bin/sh", "-c", "echo ran")
    assert (result.returncode, result.stdout) == (2, "")
    assert (
        result.stderr
        == "0xgenctl: --learn: /no/such/folder/learnt.json: No such file or directory\n"
    )


def test_explain_and_learn_are_two_runs(invoke) -> None:
    result = invoke("run", "--explain", "--learn", "x.json", "--", "true")
    assert result.exit_code == 2


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("stict", "must be 'default', 'strict', or the path of an OCI profile, got 'stict'"),
        ("", "must be 'default', 'strict', or the path of an OCI profile, got ''"),
        ("./gone.json", "./gone.json: No such file or directory"),
        ("bad.json", "bad.json: defaultAction: is missing"),
    ],
)
def test_a_policy_that_is_none_is_a_usage_error(
    ctl, tmp_path: Path, value: str, words: str
) -> None:
    (tmp_path / "bad.json").write_text("{}")
    result = ctl("run", "--syscalls", value, "--", "true")
    assert result.returncode == 2
    assert words in result.stderr and "Traceback" not in result.stderr
