"""Findings: schema 0.2, one ASCII line each, whatever a plugin puts into them."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import re
import stat
import threading
import time
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oxgen.errors import FindingError, UsageError
from oxgen.findings import (
    MAX_LINE_BYTES,
    Finding,
    FindingsWriter,
    escape_text,
    new_id,
    parse_finding,
    termination_finding,
    validate_lines,
)
from oxgen.limits import Limits
from oxgen.result import Completed, Confinement, Output, Reason, Termination, Usage

PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
BASE: dict[str, Any] = {
    "version": "0.2",
    "id": "01ARZ3NDEKTSV4RRFFQ69G5FAV",
    "plugin": "hello",
    "type": "demo.startup",
    "message": "hello",
    "severity": "info",
    "ts": "2026-01-31T12:00:00Z",
}
HOSTILE = 'x"\\\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029\0\x1b[2J\x7f\x9b\u202e\u200b\U0001f600'


def read(**changes: Any) -> Finding:
    return parse_finding(json.dumps({**BASE, **changes}).encode())


def fault(**changes: Any) -> str:
    with pytest.raises(FindingError) as caught:
        read(**changes)
    return caught.value.field


def check_line(line: bytes) -> dict[str, Any]:
    """One record for every reader: bytes 0x20 to 0x7e and one newline at the end."""
    assert re.fullmatch(rb"[\x20-\x7e]+\n", line)
    assert len(line.decode("utf-8").splitlines()) == 1
    members: dict[str, Any] = json.loads(line)
    return members


def test_finding_survives_being_written_and_read() -> None:
    found = read(target="t", evidence=HOSTILE, meta={"k\n": HOSTILE, "": ""})
    assert parse_finding(found.to_line()) == found


def test_line_has_the_members_in_the_order_of_the_schema() -> None:
    line = read(meta={"a": "b"}, evidence="e", target="t").to_line()
    order = ["version", "id", "plugin", "type", "message", "target", "evidence", "severity", "ts"]
    assert list(json.loads(line)) == [*order, "meta"]


def test_absent_members_are_left_out() -> None:
    assert sorted(check_line(read(meta={}).to_line())) == sorted(BASE)


@pytest.mark.parametrize("key", sorted(BASE))
def test_missing_required_member_is_named(key: str) -> None:
    with pytest.raises(FindingError) as caught:
        parse_finding({name: value for name, value in BASE.items() if name != key})
    assert caught.value.field == key


@pytest.mark.parametrize("key", sorted([*BASE, "target", "evidence", "meta"]))
@pytest.mark.parametrize("value", [None, 1, True, ["x"], ""])
def test_member_of_another_type_or_empty_is_named(key: str, value: object) -> None:
    assert fault(**{key: value}) == key


def test_unknown_member_is_named() -> None:
    assert "detected_at" in fault(detected_at="x")


@pytest.mark.parametrize(
    "text", ['{"version":"0.2","version":"0.2"}', '{"meta":{"a":"1","a":"1"}}']
)
def test_duplicate_member_is_refused(text: str) -> None:
    with pytest.raises(FindingError, match="twice"):
        parse_finding(text)


@pytest.mark.parametrize("severity", ["info", "low", "med", "high", "crit"])
def test_severity_of_the_schema_is_accepted(severity: str) -> None:
    assert read(severity=severity).severity == severity


@pytest.mark.parametrize("severity", ["High", "medium", "critical", "none", " low"])
def test_other_severity_is_refused(severity: str) -> None:
    assert fault(severity=severity) == "severity"


@pytest.mark.parametrize("version", ["0.1", "0.20", "0.2 ", 0.2])
def test_other_version_is_refused(version: object) -> None:
    assert fault(version=version) == "version"


@pytest.mark.parametrize("ulid", ["0" * 26, "7" + "Z" * 25, "01ARZ3NDEKTSV4RRFFQ69G5FAV"])
def test_ulid_is_accepted(ulid: str) -> None:
    assert read(id=ulid).id == ulid


@pytest.mark.parametrize(
    "ulid",
    [
        "0" * 25,
        "0" * 27,
        "8" + "0" * 25,
        "0" * 25 + "I",
        "0" * 25 + "a",
        "0" * 25 + "U",
        "0" * 26 + "\n",
    ],
)
def test_what_is_no_ulid_is_refused(ulid: str) -> None:
    assert fault(id=ulid) == "id"


@pytest.mark.parametrize(
    "ts",
    [
        "2026-01-31T12:00:00Z",
        "2026-01-31t12:00:00.123456789z",
        "2024-02-29T23:59:59.5+14:00",
        "2026-01-31T12:00:00-00:00",
        "2016-12-31T23:59:60Z",
        "2017-01-01T01:59:60+02:00",
        "0001-01-01T00:00:00Z",
    ],
)
def test_rfc3339_time_is_accepted(ts: str) -> None:
    assert read(ts=ts).ts == ts


@pytest.mark.parametrize(
    "ts",
    [
        "2026-01-31",
        "2026-01-31T12:00Z",
        "2026-01-31T12:00:00",
        "2026-01-31 12:00:00Z",
        "2026-1-31T12:00:00Z",
        "2026-02-29T12:00:00Z",
        "2026-13-01T12:00:00Z",
        "2026-01-31T24:00:00Z",
        "2026-01-31T12:60:00Z",
        "2026-01-31T12:00:60Z",
        "2026-01-31T12:00:61Z",
        "2026-01-31T12:00:00.Z",
        "2026-01-31T12:00:00,5Z",
        "2026-01-31T12:00:00+1:00",
        "2026-01-31T12:00:00+0100",
        "2026-01-31T12:00:00+24:00",
        "2026-01-31T12:00:00Z\n",
        "2026-01-31T12:00:0\u0660Z",
        "20260131T120000Z",
        "0000-01-01T00:00:00Z",
        "1767225600",
    ],
)
def test_time_that_is_not_rfc3339_is_refused(ts: str) -> None:
    assert fault(ts=ts) == "ts"


SIZES = [("plugin", 128), ("type", 256), ("message", 16384), ("target", 8192), ("evidence", 65536)]


@pytest.mark.parametrize(("key", "most"), SIZES)
def test_text_of_the_largest_size_is_accepted(key: str, most: int) -> None:
    assert read(**{key: "x" * most})


@pytest.mark.parametrize(("key", "most"), SIZES)
def test_larger_text_is_named(key: str, most: int) -> None:
    assert fault(**{key: "x" * (most - 1) + "é"}) == key


def test_meta_of_the_largest_size_is_accepted() -> None:
    assert len(read(meta={f"{n:0128d}": "x" * 900 for n in range(64)}).meta) == 64


@pytest.mark.parametrize(
    "meta",
    [
        {str(n): "" for n in range(65)},
        {"x" * 129: ""},
        {"k": "x" * 16385},
        {"k": 1},
        {"k": None},
        [],
    ],
)
def test_meta_beyond_its_bounds_is_refused(meta: object) -> None:
    assert fault(meta=meta).startswith("meta")


def test_all_text_together_is_bounded() -> None:
    with pytest.raises(FindingError, match="bytes of text"):
        read(evidence="x" * 65536, meta={str(n): "x" * 16384 for n in range(5)})


def test_finding_within_its_bounds_never_makes_too_long_a_line() -> None:
    meta = {f"{n:02d}": "\0" * 900 for n in range(64)}
    line = read(evidence="\0" * 65536, meta=meta).to_line()
    assert len(line) < MAX_LINE_BYTES
    assert parse_finding(line).evidence == "\0" * 65536


@pytest.mark.parametrize("where", ["message", "target", "meta"])
def test_lone_surrogate_is_refused(where: str) -> None:
    value: object = {"k": "\udc80"} if where == "meta" else "\udc80"
    assert fault(**{where: value}).startswith(where)


def test_surrogate_pair_in_json_is_text() -> None:
    assert read(message="\U0001f600").message == "\U0001f600"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b"{} {}",
        b"\xff",
        b"\xef\xbb\xbf{}",
        b"[" * 100_000,
        b'{"version": ' + b"9" * 5000 + b"}",
        b'{"version": NaN}',
        b" " * (MAX_LINE_BYTES + 1),
    ],
    ids=range(11),
)
def test_bytes_that_are_no_object_are_refused(data: bytes) -> None:
    with pytest.raises(FindingError):
        parse_finding(data)


def test_meta_cannot_be_changed_afterwards() -> None:
    given_meta = {"a": "b"}
    found = Finding(**{**BASE, "meta": given_meta})
    given_meta["a"] = "c"
    assert found.meta == {"a": "b"}
    with pytest.raises(TypeError):
        found.meta["a"] = "c"  # type: ignore[index]


def test_replacing_a_member_checks_again() -> None:
    with pytest.raises(FindingError):
        dataclasses.replace(read(), plugin="")
    assert dataclasses.replace(read(), plugin="other").plugin == "other"


@PATIENT
@given(
    st.text(min_size=1, max_size=200), st.dictionaries(st.text(max_size=20), st.text(max_size=50))
)
def test_any_text_makes_one_ascii_line_and_comes_back(text: str, meta: dict[str, str]) -> None:
    try:
        found = Finding(**{**BASE, "message": text, "evidence": text, "meta": meta})
    except FindingError:
        assert any(
            "\ud800" <= char <= "\udfff" for char in text + "".join(meta) + "".join(meta.values())
        )
        return
    check_line(found.to_line())
    assert parse_finding(found.to_line()) == found


@PATIENT
@given(st.binary(max_size=200))
def test_any_bytes_are_a_finding_or_a_finding_error(data: bytes) -> None:
    with pytest.raises(FindingError):
        parse_finding(data)


# Identifiers


def test_ids_are_ulids_that_increase() -> None:
    ids = [new_id() for _ in range(5000)]
    assert all(re.fullmatch(r"[0-7][0-9A-HJKMNP-TV-Z]{25}", found) for found in ids)
    assert ids == sorted(set(ids))


def number_of(ulid: str) -> int:
    number = 0
    for char in ulid:
        number = number * 32 + "0123456789ABCDEFGHJKMNPQRSTVWXYZ".index(char)
    return number


def test_id_begins_with_the_time() -> None:
    assert abs(number_of(new_id()[:10]) / 1000 - time.time()) < 60


def test_ids_of_several_threads_are_all_different() -> None:
    found: list[list[str]] = [[] for _ in range(8)]

    def make(into: list[str]) -> None:
        into.extend(new_id() for _ in range(2000))

    threads = [threading.Thread(target=make, args=(into,)) for into in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert all(ids == sorted(ids) for ids in found)
    assert len({one for ids in found for one in ids}) == 16000


def test_ids_go_on_when_the_clock_is_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before = new_id()
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    assert before < new_id() < new_id()


def test_forked_child_does_not_repeat_the_ids_of_its_parent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 10**18)
    new_id()
    here, there = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(there, new_id().encode())
        os._exit(0)
    os.close(there)
    ours = new_id()
    theirs = os.read(here, 100).decode()
    os.close(here)
    os.waitpid(child, 0)
    assert abs(number_of(theirs) - number_of(ours)) > 1


# The supervisor's own


def completed(reason: Reason | None = "timeout", **changes: Any) -> Completed:
    values: dict[str, Any] = {
        "args": ("x",),
        "returncode": -9,
        "stdout": HOSTILE.encode(),
        "stderr": b"\xff",
        "termination": Termination(
            reason=reason, exit_code=None, signal=9, certain=True, detail="wall_seconds is 5"
        ),
        "usage": Usage(wall_seconds=5.0, cpu_seconds=0.25, peak_memory_bytes=1048576),
        "output": Output(),
        "confinement": Confinement(level="namespaces", limits="cgroup", enforced=()),
        "limits": Limits(wall_seconds=5, cpu_seconds=None),
        "run_id": "run-1",
        "started_at": "2026-01-31T12:00:00Z",
        "task_id": "task-1",
    }
    return Completed(**{**values, **changes})


def test_termination_finding_has_every_key_of_the_schema() -> None:
    found = termination_finding(completed(), plugin="hello")
    assert (found.type, found.severity, found.plugin) == (
        "oxg.supervisor.termination",
        "high",
        "hello",
    )
    assert found.meta == {
        "sandbox.termination_reason": "timeout",
        "sandbox.termination_detail": "wall_seconds is 5",
        "sandbox.task_id": "task-1",
        "sandbox.run_id": "run-1",
        "sandbox.memory_limit_bytes": str(512 * 1024 * 1024),
        "sandbox.memory_usage_bytes": "1048576",
        "sandbox.cpu_limit": "none",
        "sandbox.cpu_usage": "0.25s",
        "sandbox.wall_time_limit": "5s",
        "sandbox.wall_time": "5s",
        "sandbox.exit_code": "none",
        "sandbox.signal": "9",
        "sandbox.certain": "true",
    }
    assert parse_finding(found.to_line()) == found


@pytest.mark.parametrize(
    "reason",
    ["timeout", "memory_limit", "cpu_limit", "killed", "syscall_denied", "cancelled", "lost"],
)
def test_every_reason_makes_a_finding(reason: Reason) -> None:
    found = termination_finding(completed(reason), plugin="p")
    assert found.meta["sandbox.termination_reason"] == reason


def test_run_that_ended_by_itself_has_no_termination_finding() -> None:
    with pytest.raises(UsageError):
        termination_finding(completed(None), plugin="p")


def test_unknown_peak_is_called_unknown() -> None:
    usage = Usage(wall_seconds=1, cpu_seconds=1, peak_memory_bytes=None)
    found = termination_finding(completed(usage=usage), plugin="p")
    assert found.meta["sandbox.memory_usage_bytes"] == "unknown"


@pytest.mark.parametrize("text", [HOSTILE, "\udc80\ud800", "é" * 100_000, ""])
def test_hostile_names_do_not_lose_the_termination_finding(text: str) -> None:
    ended = Termination(reason="killed", exit_code=None, signal=9, detail=text)
    run = completed(termination=ended, task_id=text, run_id=text)
    members = check_line(termination_finding(run, plugin=text).to_line())
    assert members["meta"]["sandbox.termination_reason"] == "killed"


# Files


def reports(content: bytes) -> list[tuple[int, bool]]:
    return [
        (report.number, report.finding is not None)
        for report in validate_lines(io.BytesIO(content))
    ]


def test_good_lines_are_all_found() -> None:
    assert reports(read().to_line() * 3) == [(1, True), (2, True), (3, True)]


def test_empty_file_has_nothing_wrong() -> None:
    assert reports(b"") == []


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (b"\n", "blank"),
        (b"  \n", "blank"),
        (b"{}\n", "missing"),
        (b"junk\n", "JSON"),
        (read().to_line()[:-1] + b"\r\n", "0x0d"),
        (read().to_line().replace(b"hello", "h\u2028".encode()), "0xe2"),
        (read().to_line().replace(b"hello", b"\x1b"), "0x1b"),
        (read().to_line().replace(b"hello", b"\x7f"), "0x7f"),
        (b"x" * (3 * MAX_LINE_BYTES) + b"\n", "longer"),
    ],
    ids=range(9),
)
def test_bad_line_is_reported_by_number_and_does_not_hide_the_others(
    bad: bytes, words: str
) -> None:
    found = list(validate_lines(io.BytesIO(read().to_line() + bad + read().to_line())))
    assert [(report.number, report.finding is not None) for report in found] == [
        (1, True),
        (2, False),
        (3, True),
    ]
    assert words in found[1].error


def test_last_line_without_newline_is_reported() -> None:
    found = list(validate_lines(io.BytesIO(read().to_line() + read().to_line()[:-1])))
    assert (found[1].finding, "cut off" in found[1].error) == (None, True)


def test_line_of_the_largest_size_is_read() -> None:
    line = read().to_line()[:-1]
    padded = line + b" " * (MAX_LINE_BYTES - len(line) - 1) + b"\n"
    assert reports(padded) == [(1, True)]


def test_writer_appends_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    for _ in range(2):
        with FindingsWriter(path) as writer:
            writer.write(read(message=HOSTILE))
    assert path.read_bytes() == read(message=HOSTILE).to_line() * 2
    assert stat.S_IMODE(path.stat().st_mode) & 0o177 == 0


def test_writer_makes_one_write_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    real = os.write

    def spy(descriptor: int, data: bytes) -> int:
        written.append(bytes(data))
        return real(descriptor, data)

    with FindingsWriter(tmp_path / "f") as writer:
        monkeypatch.setattr(os, "write", spy)
        writer.write(read())
    assert written == [read().to_line()]


def test_writer_closes_off_what_an_earlier_one_left(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b'{"torn')
    with FindingsWriter(path) as writer:
        writer.write(read())
        writer.write(read())
    assert path.read_bytes() == b'{"torn\n' + read().to_line() * 2


def test_short_write_is_an_error_and_does_not_join_the_next_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, real = tmp_path / "f", os.write
    with FindingsWriter(path) as writer:
        monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:10]))
        with pytest.raises(OSError, match="10 of"):
            writer.write(read())
        monkeypatch.setattr(os, "write", real)
        writer.write(read())
    assert reports(path.read_bytes()) == [(1, False), (2, True)]


def test_writers_of_several_threads_do_not_mix_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "f"
    with FindingsWriter(path) as writer:

        def fill() -> None:
            for _ in range(50):
                writer.write(read(evidence="x" * 9000))

        threads = [threading.Thread(target=fill) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert reports(path.read_bytes()) == [(number, True) for number in range(1, 201)]


def test_writer_refuses_a_fifo_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "f")
    with pytest.raises((UsageError, OSError)):
        FindingsWriter(tmp_path / "f")


def test_writer_refuses_a_device() -> None:
    with pytest.raises(UsageError, match="regular"):
        FindingsWriter(os.devnull)


def test_closed_writer_refuses(tmp_path: Path) -> None:
    writer = FindingsWriter(tmp_path / "f")
    writer.close()
    writer.close()
    with pytest.raises(ValueError, match="closed"):
        writer.write(read())


# Terminals


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("plain, ünïcode 漢字 é", "plain, ünïcode 漢字 é"),
        ("C:\\dir", "C:\\dir"),
        ("\x1b[2Jx", "\\x1b[2Jx"),
        ("a\nb\r\tc", "a\\x0ab\\x0d\\x09c"),
        ("\x9b\x7f\0", "\\x9b\\x7f\\x00"),
        ("\u202e\u2066\u200b\u2060\ufeff", "\\u202e\\u2066\\u200b\\u2060\\ufeff"),
        ("\u2028\u2029\x85", "\\u2028\\u2029\\x85"),
        ("\udc80", "\\udc80"),
        ("\U000e0041\u3164\u2800\ufe0f", "\\U000e0041\\u3164\\u2800\\ufe0f"),
    ],
)
def test_text_is_shown_without_what_acts_or_hides(text: str, safe: str) -> None:
    assert escape_text(text) == safe


@PATIENT
@given(st.text())
def test_escaped_text_is_safe_and_stays_so(text: str) -> None:
    safe = escape_text(text)
    assert not any(
        unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp", "Cn", "Co") for char in safe
    )
    assert len(safe.splitlines()) <= 1
    assert escape_text(safe) == safe
    safe.encode("utf-8")
