"""Audit log: whole lines, ASCII only, numbered, and no silent loss."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oxgen.capabilities import AuditLog
from oxgen.errors import LaunchError, UsageError


def records(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


def test_record_has_number_times_and_fields(tmp_path: Path) -> None:
    with AuditLog(tmp_path / "a") as audit:
        assert audit.record("plugin_load", plugin="scan") == 1
        assert audit.record("rpc_call", method="hello") == 2
    first, second = records(tmp_path / "a")
    assert (first["seq"], second["seq"]) == (1, 2)
    assert (first["event"], first["plugin"]) == ("plugin_load", "scan")
    assert str(first["time"]).endswith("Z")
    assert isinstance(first["boottime_ns"], int)
    assert first["log"] == second["log"]


def test_file_is_made_for_its_owner_only(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        AuditLog(tmp_path / "a").close()
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text(max_size=20), st.text(max_size=60), max_size=4))
def test_any_text_makes_one_line_of_ascii(tmp_path_factory, value) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path_factory.mktemp("audit") / "a"
    with AuditLog(path) as audit:
        audit.record("rpc_denied", message=value)
    line = path.read_bytes()
    assert line.endswith(b"\n")
    assert all(0x20 <= byte <= 0x7F for byte in line[:-1])
    assert len(line.decode().splitlines()) == 1
    assert json.loads(line)["message"] == value


def test_lone_surrogate_is_recorded(tmp_path: Path) -> None:
    with AuditLog(tmp_path / "a") as audit:
        audit.record("rpc_denied", message="\udcff")
    assert records(tmp_path / "a")[0]["message"] == "\udcff"


@pytest.mark.parametrize("name", ["token", "secret", "password", "key"])
def test_field_named_like_a_secret_is_refused(tmp_path: Path, name: str) -> None:
    with AuditLog(tmp_path / "a") as audit, pytest.raises(UsageError):
        audit.record("rpc_call", **{name: "x"})


def test_token_id_is_recorded(tmp_path: Path) -> None:
    with AuditLog(tmp_path / "a") as audit:
        audit.record("rpc_call", token_id="0123")
    assert records(tmp_path / "a")[0]["token_id"] == "0123"


@pytest.mark.parametrize("name", ["seq", "time", "log", "event_", "Ab", "a b", ""])
def test_reserved_or_malformed_field_is_refused(tmp_path: Path, name: str) -> None:
    with AuditLog(tmp_path / "a") as audit:
        if name == "event_":
            assert audit.record("rpc_call", **{name: 1}) == 1
            return
        with pytest.raises(UsageError):
            audit.record("rpc_call", **{name: 1})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), b"x", object(), {1, 2}])
def test_field_that_is_no_json_is_refused(tmp_path: Path, value: object) -> None:
    with AuditLog(tmp_path / "a") as audit:
        with pytest.raises(UsageError):
            audit.record("rpc_call", field=value)
        assert audit.record("rpc_call", field=1) == 1


def test_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").touch(0o600)
    (tmp_path / "a").symlink_to(tmp_path / "target")
    with pytest.raises(LaunchError):
        AuditLog(tmp_path / "a")


def test_fifo_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a")
    with pytest.raises((LaunchError, UsageError)):
        AuditLog(tmp_path / "a")


def test_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LaunchError):
        AuditLog(tmp_path)


def test_file_that_others_may_write_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    (tmp_path / "a").chmod(0o622)
    with pytest.raises(UsageError):
        AuditLog(tmp_path / "a")


def test_existing_file_is_appended_to(tmp_path: Path) -> None:
    for _ in range(2):
        with AuditLog(tmp_path / "a") as audit:
            audit.record("launch")
    first, second = records(tmp_path / "a")
    assert (first["seq"], second["seq"]) == (1, 1)
    assert first["log"] != second["log"]


def test_torn_line_of_an_earlier_process_is_closed_off(tmp_path: Path) -> None:
    with AuditLog(tmp_path / "a") as audit:
        audit.record("launch")
    with open(tmp_path / "a", "ab") as stream:
        stream.write(b'{"log":"0a","seq":2,"ev')
    with AuditLog(tmp_path / "a") as audit:
        audit.record("rpc_call")
        audit.record("termination")
    first, torn, *rest = (tmp_path / "a").read_bytes().split(b"\n")[:-1]
    assert json.loads(first)["event"] == "launch"
    assert torn == b'{"log":"0a","seq":2,"ev'
    assert [json.loads(line)["event"] for line in rest] == ["rpc_call", "termination"]


def test_whole_log_gets_no_blank_line(tmp_path: Path) -> None:
    for _ in range(3):
        with AuditLog(tmp_path / "a") as audit:
            audit.record("launch")
    assert b"\n\n" not in (tmp_path / "a").read_bytes()


def test_closed_log_refuses_a_record(tmp_path: Path) -> None:
    audit = AuditLog(tmp_path / "a")
    audit.close()
    with pytest.raises(OSError):
        audit.record("launch")


def test_descriptor_is_not_inherited(tmp_path: Path) -> None:
    with AuditLog(tmp_path / "a"):
        listed = subprocess.run(
            [
                sys.executable,
                "-c",
                "import os; print([os.readlink(f'/proc/self/fd/{n}')"
                " for n in os.listdir('/proc/self/fd') if os.path.exists(f'/proc/self/fd/{n}')])",
            ],
            capture_output=True,
            text=True,
            timeout=30,
            close_fds=False,
            check=True,
        ).stdout
    assert str(tmp_path) not in listed


def test_none_keeps_no_record_and_counts() -> None:
    with AuditLog(None) as audit:
        assert [audit.record("launch"), audit.record("launch")] == [1, 2]


def test_threads_lose_and_tear_nothing(tmp_path: Path) -> None:
    with AuditLog(tmp_path / "a") as audit:
        threads = [
            threading.Thread(
                target=lambda: [audit.record("rpc_call", x="y" * 500) for _ in range(200)]
            )
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert [record["seq"] for record in records(tmp_path / "a")] == list(range(1, 1601))


def test_record_that_does_not_fit_raises_and_the_next_one_is_whole(tmp_path: Path) -> None:
    script = """
import resource, signal, sys
from oxgen.capabilities import AuditLog
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
audit = AuditLog(sys.argv[1])
audit.record("launch")
resource.setrlimit(resource.RLIMIT_FSIZE, (300, resource.RLIM_INFINITY))
try:
    audit.record("rpc_call", x="y" * 400)
except OSError:
    print("raised")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
audit.record("termination")
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "a")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("raised\n", "")
    lines = (tmp_path / "a").read_bytes().split(b"\n")
    assert json.loads(lines[0])["event"] == "launch"
    assert json.loads(lines[-2])["event"] == "termination"
    assert json.loads(lines[-2])["seq"] == 3
