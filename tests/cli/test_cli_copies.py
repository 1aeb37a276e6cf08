"""``--copy-in`` and ``--copy-out``: files of the caller in, files of the run out, nothing else."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

pytestmark = pytest.mark.root


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_file_goes_in_and_its_result_comes_out(ctl, here: Path) -> None:
    (here / "in.txt").write_text("line\n")
    script = "read l <in.txt; echo got $l >out.txt"
    result = ctl("run", "--copy-in", "in.txt", "--copy-out", "out.txt", "--", "sh", "-c", script)
    assert (result.returncode, result.stderr) == (0, "")
    assert (here / "out.txt").read_text() == "got line\n"


def test_both_may_have_other_names_inside(ctl, here: Path) -> None:
    (here / "a:b").write_text("text\n")
    script = "read l <d/in; echo $l >r"
    result = ctl("run", "--copy-in", "a:b:d/in", "--copy-out", "r:x:y", "--", "sh", "-c", script)
    assert (result.returncode, result.stderr) == (0, "")
    assert (here / "x:y").read_text() == "text\n"


def test_what_is_not_there_is_said_and_the_status_is_the_commands_own(ctl, here: Path) -> None:
    words = ["--copy-out", "no.txt", "--copy-out", "yes.txt", "--json"]
    result = ctl("run", *words, "--", "sh", "-c", ": >yes.txt; exit 7")
    assert result.returncode == 7
    assert "'no.txt' was not copied out: there is no such file" in result.stderr
    assert sorted(os.listdir(here)) == ["yes.txt"]
    collected = json.loads(result.stdout)["collected"]
    assert collected["no.txt"]["skipped"] == "missing"
    assert collected["yes.txt"] == {
        "bytes": 0, "size_bytes": 0, "truncated": False, "skipped": None,
    }  # fmt: skip


def test_a_link_at_the_place_of_the_result_is_replaced_and_not_followed(ctl, here: Path) -> None:
    (here / "precious").write_text("precious")
    (here / "out.txt").symlink_to("precious")
    result = ctl("run", "--copy-out", "out.txt", "--", "sh", "-c", "echo new >out.txt")
    assert result.returncode == 0
    assert (here / "precious").read_text() == "precious"
    assert (here / "out.txt").read_text() == "new\n" and not (here / "out.txt").is_symlink()
    assert sorted(os.listdir(here)) == ["out.txt", "precious"]


def test_a_file_that_is_not_there_stops_the_launch(ctl, here: Path) -> None:
    result = ctl("run", "--copy-in", "no.txt", "--json", "--", "sh", "-c", ":")
    status = json.loads(result.stdout)
    assert result.returncode == 125
    assert (status["phase"], status["error"]["stage"]) == ("setup", "files")


def test_files_beyond_the_disk_limit_are_refused_with_the_option_that_helps(
    ctl, here: Path
) -> None:
    (here / "big").write_bytes(bytes(1 << 20))
    words = ["--copy-in", "big", "--", "sh", "-c", ":"]
    result = ctl("run", "--disk-limit", "512K", *words)
    assert result.returncode == 125 and "raise --disk-limit" in result.stderr
    assert ctl("run", *words).returncode == 0


@pytest.mark.parametrize(
    "words",
    [
        ("--copy-in", ""), ("--copy-in", "-"), ("--copy-in", "a:"), ("--copy-in", "a:/b"),
        ("--copy-in", "a:../b"), ("--copy-in", "d/"), ("--copy-out", ""), ("--copy-out", "/a"),
        ("--copy-out", "a:"), ("--copy-out", "a/../b"), ("--copy-out", "a:no/such/dir"),
        ("--copy-out", "a:-"), ("--copy-in", "a", "--copy-in", "b/a"),
    ],
)  # fmt: skip
def test_what_names_no_file_is_a_usage_error(ctl, here: Path, words: tuple[str, ...]) -> None:
    (here / "a").write_text("")
    result = ctl("run", *words, "--", "sh", "-c", ":")
    assert result.returncode == 2
    assert ctl("run", "--copy-in", "a", "--copy-out", "a", "--", "sh", "-c", ":").returncode == 0


# --- what is opened -------------------------------------------------------------------------------

READ = "read l </data/f; echo $l"


def test_a_mount_is_there_and_in_the_record(ctl, here: Path) -> None:
    here.chmod(0o755)  # the permissions of what is mounted hold inside
    (here / "f").write_text("text\n")
    result = ctl("run", "--ro-bind", ".:/data", "--", "sh", "-c", READ)
    assert (result.returncode, result.stdout) == (0, "text\n")
    status = json.loads(
        ctl("run", "--json", "--ro-bind", "f:/data/f", "--", "sh", "-c", READ).stdout
    )
    assert status["confinement"]["exceptions"] == ["mount=/data/f"]
    assert "cannot open" in ctl("run", "--", "sh", "-c", READ).stderr


def test_network_and_exec_tmp_are_in_the_record(ctl, here: Path) -> None:
    words = ["--json", "--network", "host", "--exec-tmp"]
    opened = json.loads(ctl("run", *words, "--", "sh", "-c", ":").stdout)["confinement"]
    usual = json.loads(ctl("run", "--json", "--", "sh", "-c", ":").stdout)["confinement"]
    assert opened["exceptions"] == ["network=host", "exec_tmp"]
    assert usual["exceptions"] == []
    assert set(usual["enforced"]) - set(opened["enforced"]) == {"network"}
    assert opened["missing"] == usual["missing"] == []


@pytest.mark.parametrize(
    "words",
    [
        ("--ro-bind", ""), ("--ro-bind", ".:"), ("--ro-bind", ".:data"), ("--ro-bind", ".:/bin/x"),
        ("--ro-bind", ".:/a/../b"), ("--ro-bind", ":/data"), ("--network", "some"),
        ("--ro-bind", "a:/data", "--ro-bind", "b:/data"),
    ],
)  # fmt: skip
def test_what_cannot_be_opened_is_a_usage_error(ctl, here: Path, words: tuple[str, ...]) -> None:
    assert ctl("run", *words, "--", "sh", "-c", ":").returncode == 2
    assert ctl("run", "--ro-bind", ".:/data", "--", "sh", "-c", ":").returncode == 0


def test_a_plugin_gets_files_and_gives_them_back(ctl, here: Path) -> None:
    (here / "in").write_text("text\n")
    script = here / "twice.py"
    script.write_text(
        "#!/usr/bin/python3\nopen('/workspace/out', 'w').write(open('/workspace/in').read())\n"
    )
    script.chmod(0o755)
    result = ctl("plugin", "run", "--copy-in", "in", "--copy-out", "out", "./twice.py")
    assert result.returncode == 0
    assert (here / "out").read_text() == "text\n"
