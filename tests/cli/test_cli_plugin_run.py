"""``0xgenctl plugin run`` end to end: verified and unverified plugins, findings, records."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_program import SECONDS, program_environment, program_words

from oxgen.findings import validate_lines
from oxgen.integrity import TrustRoot, approve_files, keygen, sign_file

pytestmark = pytest.mark.root

CAPABILITIES = ["CAP_EMIT_FINDINGS", "CAP_HTTP_PASSIVE"]
EMIT = """\
import oxgen_plugin, sys
print("noise on stdout")
with oxgen_plugin.connect() as session:
    session.emit(type="x.args", message=" ".join(sys.argv[1:]) or "none", severity="low")
    for flow in session.flows():
        session.emit(type="x.flow", message=flow["method"], severity="info", target=flow["url"])
"""
FLOWS = {
    "log": {
        "entries": [
            {
                "request": {"method": "GET", "url": "http://127.0.0.1/a", "headers": []},
                "response": {"status": 200, "headers": [], "content": {}},
            },
            {"request": "broken"},
        ]
    }
}

Make = Callable[..., Path]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Make a trust root with one key."""
    root = tmp_path / "plugins"
    for folder in (root, root / "keys"):
        folder.mkdir()
        folder.chmod(0o755)
    keygen(tmp_path / "release.key", root / "keys" / "release.pub")
    return root


@pytest.fixture
def make(root: Path, tmp_path: Path) -> Make:
    """Put a signed and approved plugin, written in Python, into the trust root."""

    def build(source: str | bytes = EMIT, name: str = "hydra", **members: object) -> Path:
        folder = root / name
        folder.mkdir()
        folder.chmod(0o755)
        (folder / "scan.py").write_bytes(source if isinstance(source, bytes) else source.encode())
        manifest = {
            "name": name,
            "version": "1.0",
            "entry": "scan",
            "artifact": "scan.py",
            "runtime": "python",
            "capabilities": CAPABILITIES,
            **members,
        }
        (folder / "manifest.json").write_text(json.dumps(manifest))
        sign_file(folder / "scan.py", tmp_path / "release.key")
        approve_files(TrustRoot(str(root)), folder)
        return folder

    return build


@pytest.fixture
def bad_plugin(tmp_path: Path) -> str:
    """Put a bare executable that never ends into the current directory."""
    bare(tmp_path / "bad-plugin", "while True: pass")
    return "bad-plugin"


def bare(path: Path, source: str) -> None:
    """Write an executable that has no manifest."""
    path.write_text(f"#!/usr/bin/env python3\n{source}\n")
    path.chmod(0o755)


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


# --- verified ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["hydra", "plugins/hydra", "plugins/hydra/manifest.json"])
def test_plugin_runs_by_name_folder_and_manifest(ctl, make: Make, name: str) -> None:
    make()
    result = ctl("plugin", "run", "--json", name)
    status = json.loads(result.stdout)
    assert result.returncode == 0, result.stderr
    assert (status["plugin"], status["integrity"], status["phase"]) == ("hydra", "verified", "run")
    assert len(status["artifact_digest"]) == 64


def test_findings_are_json_lines_on_a_pipe_and_noise_is_on_stderr(ctl, make: Make) -> None:
    make()
    result = ctl("plugin", "run", "hydra", "--", "--depth", "2", "--", "-x")
    (found,) = lines(result.stdout)
    assert (found["plugin"], found["type"], found["message"]) == (
        "hydra",
        "x.args",
        "--depth 2 -- -x",
    )
    assert result.stderr == "noise on stdout\n"


def test_findings_file_is_appended_to_and_keeps_stdout_empty(
    ctl, make: Make, tmp_path: Path
) -> None:
    make()
    for _ in range(2):
        assert ctl("plugin", "run", "--findings", "found.jsonl", "hydra").stdout == ""
    with open(tmp_path / "found.jsonl", "rb") as stream:
        reports = list(validate_lines(stream))
    assert [report.error for report in reports] == ["", ""]


def test_flows_reach_the_plugin_and_skipped_ones_are_named(ctl, make: Make, tmp_path: Path) -> None:
    make()
    (tmp_path / "traffic.har").write_text(json.dumps(FLOWS))
    result = ctl("plugin", "run", "--flows", "traffic.har", "hydra")
    assert [found.get("target") for found in lines(result.stdout)] == [None, "http://127.0.0.1/a"]
    assert "traffic.har: skipped entry 1" in result.stderr


def test_capture_that_is_none_is_2_and_never_ran(ctl, make: Make, tmp_path: Path) -> None:
    make()
    (tmp_path / "traffic.har").write_text("no capture")
    result = ctl("plugin", "run", "--json", "--flows", "traffic.har", "hydra")
    status = json.loads(result.stdout)
    assert result.returncode == 2
    assert (status["phase"], status["error"]["stage"]) == ("setup", "capture")
    assert "noise" not in result.stderr


def test_capture_that_is_no_regular_file_is_2_and_never_ran(
    ctl, make: Make, tmp_path: Path
) -> None:
    make()
    os.mkfifo(tmp_path / "traffic.har")
    result = ctl("plugin", "run", "--json", "--flows", "traffic.har", "hydra")
    assert result.returncode == 2
    assert json.loads(result.stdout)["phase"] == "setup"


def test_limit_of_the_manifest_holds(ctl, make: Make) -> None:
    make("while True: pass", limits={"wall_seconds": 0.5})
    assert ctl("plugin", "run", "hydra").returncode == 124


def test_limit_of_the_command_line_wins_over_the_manifest(ctl, make: Make) -> None:
    make(limits={"wall_seconds": 0.01, "processes": 7})
    result = ctl("plugin", "run", "--json", "--wall-limit", "30s", "hydra")
    limits = json.loads(result.stdout)["limits"]
    assert result.returncode == 0
    assert (limits["wall_seconds"], limits["processes"]) == (30.0, 7)


def test_termination_is_the_last_finding(ctl, make: Make) -> None:
    make(EMIT + "while True: pass\n")
    result = ctl("plugin", "run", "--cpu-limit", "0.5", "hydra")
    found = lines(result.stdout)
    assert result.returncode == 152
    assert [each["type"] for each in found] == ["x.args", "oxg.supervisor.termination"]
    assert found[-1]["meta"]["sandbox.termination_reason"] == "cpu_limit"


def test_plugin_without_a_capability_is_denied_and_audited(ctl, make: Make, tmp_path: Path) -> None:
    make(capabilities=[])
    result = ctl("plugin", "run", "--audit-log", "audit.jsonl", "hydra")
    events = [record["event"] for record in lines((tmp_path / "audit.jsonl").read_text())]
    assert result.returncode != 0
    assert result.stdout == ""
    assert {"plugin_load", "capability_grant", "launch", "termination"} <= set(events)
    assert {"capability_denied", "rpc_denied"} & set(events)


def test_changed_artifact_is_126_and_never_ran(ctl, make: Make) -> None:
    folder = make()
    (folder / "scan.py").write_text("print('evil')\n")
    result = ctl("plugin", "run", "--json", "hydra")
    status = json.loads(result.stdout)
    assert result.returncode == 126
    assert (status["phase"], status["integrity"]) == ("setup", "unverified")
    assert "evil" not in result.stderr
    assert "digest_mismatch" in status["error"]["message"]


def test_plugin_that_is_not_listed_is_126(ctl, make: Make, root: Path) -> None:
    make()
    (root / "ALLOWLIST").write_text("")
    assert ctl("plugin", "run", "hydra").returncode == 126


def test_refusal_is_audited_with_its_reason(ctl, make: Make, root: Path, tmp_path: Path) -> None:
    folder = make()
    (folder / "scan.py.sig").unlink()
    ctl("plugin", "run", "--audit-log", "audit.jsonl", "hydra")
    (record,) = lines((tmp_path / "audit.jsonl").read_text())
    assert (record["event"], record["decision"]) == ("plugin_load", "deny")
    assert record["reason"] == "missing_signature"


def test_folder_without_a_trust_root_is_126(ctl, make: Make, root: Path, tmp_path: Path) -> None:
    make().rename(tmp_path / "hydra")
    words = ("plugin", "run", "--trust-root", "nowhere")
    assert ctl(*words, "./hydra").returncode == 126
    assert ctl(*words, "./nobody").returncode == 127


def test_plugin_whose_artifact_is_missing_is_126(ctl, make: Make) -> None:
    (make() / "scan.py").unlink()
    assert ctl("plugin", "run", "hydra").returncode == 126
    assert ctl("plugin", "run", "plugins/hydra").returncode == 126


def test_name_of_no_plugin_is_127(ctl, root: Path, make: Make) -> None:
    make()
    assert ctl("plugin", "run", "nobody").returncode == 127


def test_findings_file_that_cannot_be_opened_is_125_and_never_ran(ctl, make: Make) -> None:
    make()
    result = ctl("plugin", "run", "--json", "--findings", "no/such/folder.jsonl", "hydra")
    error = json.loads(result.stdout)["error"]
    assert result.returncode == 125
    assert "the findings file cannot be opened: No such file or directory" in error["message"]
    assert error["remedy"] != ""
    assert "noise" not in result.stderr


@pytest.mark.parametrize("path", ["/dev/stdout", "/dev/null"])
def test_findings_file_that_is_a_device_is_refused_with_the_way_to_stdout(
    ctl, make: Make, path: str
) -> None:
    make()
    result = ctl("plugin", "run", "--findings", path, "hydra")
    assert result.returncode == 2
    assert "without --findings, stdout gets them" in result.stderr
    assert "noise" not in result.stderr


def test_noise_beyond_the_output_limit_is_said(ctl, make: Make) -> None:
    make("print('x' * 4999)")
    result = ctl("plugin", "run", "--output-limit", "1K", "hydra")
    assert result.returncode == 0
    assert "3976 bytes beyond the output limit were dropped" in result.stderr
    assert "dropped" not in ctl("plugin", "run", "hydra").stderr


def test_finding_that_cannot_be_recorded_is_125_and_ran(make: Make, tmp_path: Path) -> None:
    many = "    for _ in range(4000): session.emit(type='x', message='m' * 99, severity='low')\n"
    make(EMIT + many)
    # A file size limit of our own is the full disk here.
    small = ["/bin/sh", "-c", 'ulimit -f 64; trap "" XFSZ; exec "$@"', "x"]
    result = subprocess.run(
        [*small, *program_words(), *("plugin", "run", "--json", "--findings", "f.jsonl", "hydra")],
        cwd=tmp_path,
        env=program_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert result.returncode == 125
    assert json.loads(result.stdout)["phase"] == "run"
    assert "f.jsonl" in result.stderr


def test_audit_log_that_others_can_write_is_2_and_never_ran(
    ctl, make: Make, tmp_path: Path
) -> None:
    make()
    (tmp_path / "audit.jsonl").touch()
    (tmp_path / "audit.jsonl").chmod(0o666)
    result = ctl("plugin", "run", "--json", "--audit-log", "audit.jsonl", "hydra")
    assert result.returncode == 2
    assert json.loads(result.stdout)["phase"] == "setup"
    assert "noise" not in result.stderr


# --- a bare executable ---------------------------------------------------------------------------


def test_bare_executable_runs_unverified_with_one_warning(ctl, bad_plugin: str) -> None:
    result = ctl("plugin", "run", "--json", "--wall-limit", "0.5", bad_plugin)
    status = json.loads(result.stdout)
    assert result.returncode == 124
    assert (status["plugin"], status["integrity"]) == ("bad-plugin", "unverified")
    assert (status["reason"], status["artifact_digest"]) == ("timeout", None)
    assert result.stderr.count("unverified") == 1


def test_bare_executable_gets_its_termination_finding(ctl, bad_plugin: str) -> None:
    result = ctl("plugin", "run", "--wall-limit", "0.5", bad_plugin)
    (found,) = lines(result.stdout)
    assert (found["type"], found["severity"]) == ("oxg.supervisor.termination", "high")
    assert found["meta"]["sandbox.termination_reason"] == "timeout"


def test_bare_executable_gets_no_token_and_no_broker(ctl, tmp_path: Path) -> None:
    bare(tmp_path / "peek", "import os; print(sorted(k for k in os.environ if 'OXGEN' in k))")
    result = ctl("plugin", "run", "./peek")
    assert result.stderr.splitlines()[-1] == "['OXGEN_WORKSPACE']"


def test_bare_script_without_its_first_line_gets_advice_that_fits(ctl, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("print('hello')\n")
    (tmp_path / "a.py").chmod(0o755)
    result = ctl("plugin", "run", "./a.py")
    assert result.returncode == 126
    assert "#!/usr/bin/env python3" in result.stderr
    assert "runtime 'python'" not in result.stderr
    bare(tmp_path / "a.py", "print('hello')")
    assert ctl("plugin", "run", "./a.py").stderr.splitlines()[-1] == "hello"


def test_program_of_a_folder_gets_advice_for_its_manifest(ctl, make: Make) -> None:
    loaded = Path("/bin/sh").read_bytes()
    make(loaded, name="wrong", runtime="static")
    result = ctl("plugin", "run", "wrong")
    assert result.returncode == 126
    assert 'use "runtime": "dynamic" in its manifest' in result.stderr
    make(loaded, name="right", runtime="dynamic")
    assert ctl("plugin", "run", "right").returncode == 0


@pytest.mark.parametrize("option", [["--flows", "bad-plugin"], ["--trust-root", "plugins"]])
def test_option_without_effect_on_a_bare_executable_is_refused(
    ctl, bad_plugin: str, option: list[str]
) -> None:
    result = ctl("plugin", "run", *option, bad_plugin)
    assert result.returncode == 2
    assert option[0] in result.stderr


def test_plugin_that_begins_with_a_dash_runs_after_two_dashes(ctl, tmp_path: Path) -> None:
    bare(tmp_path / "-weird", "raise SystemExit(9)")
    assert ctl("plugin", "run", "-weird").returncode == 2
    assert ctl("plugin", "run", "--", "-weird").returncode == 9


# --- a terminal ----------------------------------------------------------------------------------


def on_terminal(folder: Path, *words: str) -> str:
    """Run 0xgenctl with a terminal for stdout and stderr; return what was shown."""
    controller, terminal = pty.openpty()
    with subprocess.Popen(
        [*program_words(), *words],
        cwd=folder,
        env={**program_environment(), "TERM": "xterm", "COLUMNS": "200"},
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        stderr=terminal,
    ) as process:
        os.close(terminal)
        shown = b""
        while True:
            try:
                chunk = os.read(controller, 65536)
            except OSError:  # EIO: nobody has the terminal open any more
                break
            if not chunk:
                break
            shown += chunk
        process.wait(SECONDS)
    os.close(controller)
    return shown.decode()


HOSTILE = """\
import oxgen_plugin, sys
sys.stdout.write("\\x1b]0;owned\\x07\\x9b31m")
sys.stdout.flush()
with oxgen_plugin.connect() as session:
    session.emit(type="x.y", message="[red]\\x1b[2J\\u202e\\u200bend", severity="low")
"""


def test_terminal_shows_findings_as_a_table_without_anything_that_acts(
    make: Make, tmp_path: Path
) -> None:
    make(HOSTILE)
    shown = on_terminal(tmp_path, "plugin", "run", "hydra")
    assert "1 finding" in shown
    assert "[red]\\x1b[2J\\u202e\\u200bend" in shown
    assert "\x1b]" not in shown
    assert "\x1b[2J" not in shown
    assert "\x07" not in shown
    assert "\x9b" not in shown
