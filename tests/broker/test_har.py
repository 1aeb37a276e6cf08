"""HAR reader: the dialects of browsers and proxies, broken entries, and files that are no HAR."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oxgen.broker import Capture, har, har_split, read_har
from oxgen.errors import CaptureError


def entry(**changes: Any) -> dict[str, Any]:
    """Return an entry with only what a flow needs."""
    made: dict[str, Any] = {
        "request": {"method": "GET", "url": "https://a.example/"},
        "response": {"status": 200},
    }
    for where, value in changes.items():
        made[where] = {**made[where], **value} if where in made else value
    return made


def read(tmp_path: Path, *entries: object, prefix: bytes = b"") -> Capture:
    path = tmp_path / "capture.har"
    path.write_bytes(prefix + json.dumps({"log": {"version": "1.2", "entries": entries}}).encode())
    return read_har(path)


CHROME = entry(
    _initiator={"type": "other"},
    _priority="High",
    startedDateTime="2026-05-04T10:00:00.123Z",
    time=3.2929999997577397,
    request={
        "httpVersion": "http/2.0",
        "headers": [
            {"name": ":authority", "value": "a.example"},
            {"name": ":method", "value": "GET"},
            {"name": "accept", "value": "*/*", "comment": "as sent"},
        ],
        "queryString": [],
    },
    response={
        "httpVersion": "http/2.0",
        "headers": [{"name": "content-type", "value": "text/html; charset=utf-8"}],
        "cookies": [],
        "content": {"size": 5, "mimeType": "text/html", "text": "hello"},
        "_transferSize": 120,
        "_error": None,
    },
    timings={"blocked": -1, "_blocked_queueing": 0.4},
)
FIREFOX = entry(
    startedDateTime="2026-05-04T10:00:00.123+02:00",
    request={"httpVersion": "HTTP/3", "headers": [{"name": "Host", "value": "a.example"}]},
    response={
        "httpVersion": "HTTP/3",
        "headers": [{"name": "set-cookie", "value": "a=1; Secure\nb=2; HttpOnly"}],
        "cookies": [{"name": "a", "value": "1"}],
        "content": {"mimeType": "text/html", "size": 23866, "comment": "too large"},
    },
)
MITMPROXY = entry(
    startedDateTime="2026-05-04T10:00:00.123456+00:00",
    time=12.5,
    request={
        "httpVersion": "HTTP/2.0",
        "headers": [{"name": "accept", "value": "*/*"}],
        "postData": {"mimeType": "", "text": None, "params": []},
    },
    response={
        "httpVersion": "HTTP/2.0",
        "headers": [
            {"name": "set-cookie", "value": "a=1"},
            {"name": "set-cookie", "value": "b=2"},
            {"name": "content-type", "value": "image/png"},
        ],
        "cookies": [{"name": "a", "value": "1", "path": None, "httpOnly": False, "secure": False}],
        "content": {
            "size": 4,
            "compression": 0,
            "mimeType": "image/png",
            "text": base64.b64encode(b"\x89PNG").decode(),
            "encoding": "base64",
        },
        "redirectURL": "",
    },
    timings={"connect": None, "ssl": None, "send": 0.2, "receive": 1.0, "wait": 3},
    serverIPAddress="192.0.2.1",
)


def test_chrome_leaves_pseudo_headers_out(tmp_path: Path) -> None:
    (flow,) = read(tmp_path, CHROME).flows
    assert flow.request_headers == (("accept", "*/*"),)
    assert (flow.body, flow.body_size, flow.status) == ("hello", 5, 200)
    assert flow.started_at == "2026-05-04T10:00:00.123Z"


def test_firefox_set_cookie_lines_are_parted(tmp_path: Path) -> None:
    (flow,) = read(tmp_path, FIREFOX).flows
    assert flow.set_cookies == ("a=1; Secure", "b=2; HttpOnly")
    assert (flow.body, flow.body_size) == (None, 23866)


def test_mitmproxy_binary_body_is_no_text(tmp_path: Path) -> None:
    (flow,) = read(tmp_path, MITMPROXY).flows
    assert flow.set_cookies == ("a=1", "b=2")
    assert (flow.body, flow.body_size, flow.mime_type) == (None, 4, "image/png")


def test_entry_with_the_least_is_a_flow(tmp_path: Path) -> None:
    (flow,) = read(tmp_path, entry()).flows
    assert (flow.method, flow.url, flow.response_headers) == ("GET", "https://a.example/", ())


def test_nulls_in_optional_places_are_accepted(tmp_path: Path) -> None:
    nulls = {
        "headers": None,
        "cookies": None,
        "content": {"size": None, "mimeType": None, "text": None, "encoding": None},
        "httpVersion": None,
    }
    capture = read(tmp_path, entry(response=nulls, startedDateTime=None))
    assert len(capture.flows) == 1


def test_byte_that_mitmproxy_escaped_is_read(tmp_path: Path) -> None:
    headers = [{"name": "x", "value": "caf\udce9 \ud83d\ude00 \\udce9 \ud800"}]
    (flow,) = read(tmp_path, entry(response={"headers": headers})).flows
    assert flow.response_headers == (("x", "caf\xe9 \U0001f600 \\udce9 \ufffd"),)


def test_empty_content_is_accepted(tmp_path: Path) -> None:
    assert read(tmp_path, entry(response={"content": {}})).flows[0].body is None


def test_byte_order_mark_is_accepted(tmp_path: Path) -> None:
    assert len(read(tmp_path, entry(), prefix=b"\xef\xbb\xbf").flows) == 1


def test_base64_text_is_decoded_by_its_charset(tmp_path: Path) -> None:
    content = {
        "mimeType": "text/html; charset=iso-8859-1",
        "encoding": "base64",
        "text": base64.b64encode("caf\xe9".encode("latin-1")).decode(),
    }
    assert read(tmp_path, entry(response={"content": content})).flows[0].body == "caf\xe9"


@pytest.mark.parametrize("charset", ["punycode", "unicode_escape", "rot13", "nonsense", "zlib"])
def test_charset_that_no_page_has_is_read_as_utf8(tmp_path: Path, charset: str) -> None:
    content = {
        "mimeType": f"text/html; charset={charset}",
        "encoding": "base64",
        "text": base64.b64encode("caf\xe9".encode()).decode(),
    }
    assert read(tmp_path, entry(response={"content": content})).flows[0].body == "caf\xe9"


def test_parsed_cookies_stand_in_for_a_missing_header(tmp_path: Path) -> None:
    cookie = {
        "name": "a",
        "value": "1",
        "path": "/",
        "httpOnly": True,
        "secure": True,
        "sameSite": "Lax",
        "expires": "2027-01-01T00:00:00.000Z",
    }
    (flow,) = read(tmp_path, entry(response={"cookies": [cookie]})).flows
    assert flow.set_cookies == (
        "a=1; Path=/; Expires=2027-01-01T00:00:00.000Z; SameSite=Lax; Secure; HttpOnly",
    )


def test_long_body_is_cut_and_says_so(tmp_path: Path) -> None:
    content = {"mimeType": "text/html", "text": "x" * (har.MAX_BODY_CHARACTERS + 1)}
    (flow,) = read(tmp_path, entry(response={"content": content})).flows
    assert len(flow.body or "") == har.MAX_BODY_CHARACTERS
    assert flow.body_truncated
    assert flow.body_size == har.MAX_BODY_CHARACTERS + 1


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({}, "request"),
        (7, "Expected"),
        (entry(request={"url": 5}), "request.url"),
        (entry(request={"url": "data:text/html,x"}), "not http"),
        (entry(request={"url": "https:///x"}), "not http"),
        (entry(request={"method": "GE T"}), "method"),
        (entry(response={"status": 0}), "no response"),
        (entry(response={"status": 99}), "status"),
        (entry(response={"status": 1e300}), "status"),
        (entry(response={"status": "abc"}), "status"),
        (entry(response={"headers": [{"value": "x"}]}), "name"),
        (entry(response={"headers": {"a": "b"}}), "headers"),
        (entry(response={"content": {"text": "%%%", "encoding": "base64"}}), "base64"),
        (entry(response={"content": {"text": "x", "encoding": "gzip"}}), "encoding"),
        (entry(response={"headers": [{"name": "a", "value": "x" * 200_000}]}), "larger"),
    ],
)
def test_broken_entry_is_skipped_with_its_reason(tmp_path: Path, broken: object, said: str) -> None:
    capture = read(tmp_path, entry(), broken, entry())
    assert [flow.id for flow in capture.flows] == ["flow-0", "flow-2"]
    (skipped,) = capture.skipped
    assert skipped.index == 1
    assert said in skipped.reason
    assert str(skipped) == f"entry 1: {skipped.reason}"


def test_reason_holds_nothing_that_acts_on_a_terminal(tmp_path: Path) -> None:
    capture = read(tmp_path, entry(request={"method": "\x1b[2J\u202e"}))
    assert capture.skipped[0].reason.isascii()
    assert capture.skipped[0].reason.isprintable()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04",
        b"not json",
        b"[]",
        b"{}",
        b'{"log": []}',
        b'{"log": {}}',
        b'{"log": {"entries": {}}}',
        b'{"log": {"entries": [',
        '{"log": {"entries": []}}'.encode("utf-16"),
        b"[" * 200_000,
        b'{"log": {"entries": ' + b"[" * 200_000,
    ],
)
def test_what_is_no_har_is_refused_and_says_what_was_expected(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(CaptureError, match="expected a HAR"):
        read_har(tmp_path / "x")


def test_entry_nested_deeply_is_skipped_or_the_file_is_refused(tmp_path: Path) -> None:
    deep = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    good = json.dumps(entry()).encode()
    (tmp_path / "x").write_bytes(b'{"log":{"entries":[' + good + b"," + deep + b"]}}")
    try:
        assert len(read_har(tmp_path / "x").flows) == 1
    except CaptureError:
        return


def split(tmp_path: Path, *entries: bytes) -> Capture:
    """Read a capture whose entries are given as text."""
    (tmp_path / "x").write_bytes(b'{"log":{"entries":[' + b" ,\n".join(entries) + b"]}}")
    return read_har(tmp_path / "x")


GOOD = json.dumps(entry()).encode()


def with_status(status: bytes) -> bytes:
    return GOOD.replace(b"200", status)


@pytest.mark.parametrize(
    "broken",
    [
        with_status(b"1e400"),
        with_status(b"-1e400"),
        with_status(b"9" * 100_000),
        with_status(b"NaN"),
        with_status(b"Infinity"),
        with_status(b"0x10"),
        with_status(b"2.2.2"),
        GOOD.replace(b"a.example", b"a.ex\xffmple"),
        GOOD.replace(b"GET", b"G\x00T"),
        GOOD.replace(b'"GET"', b"GET"),
        b"NaN",
        b'{"request": 1,}',
        b"{]",
        b'{"a" 1}',
        b"[" * 2000 + b"]" * 2000,
    ],
)
def test_broken_entry_costs_that_entry_only(tmp_path: Path, broken: bytes) -> None:
    capture = split(tmp_path, GOOD, broken, GOOD)
    assert [flow.id for flow in capture.flows] == ["flow-0", "flow-2"]
    assert [each.index for each in capture.skipped] == [1]


def test_byte_that_is_no_utf8_beside_the_entries_is_passed_over(tmp_path: Path) -> None:
    text = b'{"log":{"comment":"\xff","n":[1e400,NaN],"entries":[' + GOOD + b'],"z":{"\xff":1}}}'
    (tmp_path / "x").write_bytes(text)
    assert len(read_har(tmp_path / "x").flows) == 1


@pytest.mark.parametrize(
    "content",
    [
        b'{"log":{"entries":[%s],"entries":[]}}',
        b'{"log":{"entries":[%s]},"log":{}}',
        b'{"log":{"entries":[%s]}}x',
        b'{"log":{"entries":[%s',
        b'{"log":{"entries":[%s}}}',
        b'{"log":{"entries":[%s,]}}',
        b'{"log":{"entries":[%s]',
        b'{"log":{"entries":[%s "x]}}',
    ],
)
def test_file_broken_around_its_entries_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content.replace(b"%s", GOOD))
    with pytest.raises(CaptureError, match="expected a HAR"):
        read_har(tmp_path / "x")


def test_brackets_and_quotes_in_strings_end_no_entry(tmp_path: Path) -> None:
    text = ']}\\"},{[' * 300
    content = {"mimeType": "text/html", "text": text}
    capture = read(tmp_path, entry(response={"content": content}), entry())
    assert (capture.flows[0].body, len(capture.flows)) == (text, 2)


def test_cookies_are_read_only_where_the_header_is_missing(tmp_path: Path) -> None:
    headers = [{"name": "Set-Cookie", "value": "a=1"}]
    capture = read(tmp_path, entry(response={"headers": headers, "cookies": {"x": [1]}}))
    assert capture.flows[0].set_cookies == ("a=1",)


def test_entry_that_is_too_large_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(har, "MAX_ENTRY_BYTES", 1000)
    large = GOOD[:-1] + b',"x":"' + b"y" * 1000 + b'"}'
    capture = split(tmp_path, GOOD, large, GOOD)
    assert [flow.id for flow in capture.flows] == ["flow-0", "flow-2"]
    assert "larger than 1000 bytes" in capture.skipped[0].reason


def test_entry_without_end_of_brackets_keeps_what_came_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(har_split, "MAX_BRACKETS", 100)
    capture = split(tmp_path, GOOD, b"[" + b"[]," * 100 + b"1]", GOOD)
    assert [flow.id for flow in capture.flows] == ["flow-0"]
    assert [each.index for each in capture.skipped] == [1]
    assert "what follows it" in capture.skipped[0].reason


def test_entry_of_millions_of_lists_takes_bounded_memory_and_time(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(
        b'{"log":{"entries":[%s,{"request":[' % GOOD + b"[]," * 40_000_000 + b"1]}]}}"
    )
    script = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n"
        "resource.setrlimit(resource.RLIMIT_CPU, (40, 40))\n"
        "from oxgen.broker import read_har\n"
        "capture = read_har(sys.argv[1])\n"
        "print(len(capture.flows), len(capture.skipped))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "x")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("1 1\n", "")


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=60) | st.text('{}[]":,\\ u1eN', max_size=60).map(str.encode))
def test_any_bytes_among_the_entries_are_read_or_refused(tmp_path_factory, text) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path_factory.getbasetemp() / "any.har"
    for content in (text, b'{"log":{"entries":[' + GOOD + b"," + text + b"]}}"):
        path.write_bytes(content)
        try:
            read_har(path)
        except CaptureError:
            continue


def test_empty_har_has_no_flows(tmp_path: Path) -> None:
    assert read(tmp_path) == Capture(flows=(), skipped=())


def test_fifo_and_device_and_directory_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", "/dev/zero", tmp_path):
        with pytest.raises(CaptureError, match="no regular file"):
            read_har(path)


def test_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_har(tmp_path / "none")


def test_number_of_entries_has_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(har, "MAX_ENTRIES", 3)
    assert len(read(tmp_path, *[entry()] * 3).flows) == 3
    with pytest.raises(CaptureError, match="more than 3 entries"):
        read(tmp_path, *[1] * 4)


def test_entries_of_nothing_do_not_fill_the_memory(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b'{"log":{"entries":[' + b"1," * 10_000_000 + b"1]}}")
    script = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n"
        "from oxgen.broker import read_har\n"
        "from oxgen.errors import CaptureError\n"
        "try: read_har(sys.argv[1])\n"
        "except CaptureError: print('refused')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "x")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("refused\n", "")


def test_huge_sparse_file_is_refused_at_once(tmp_path: Path) -> None:
    with open(tmp_path / "x", "wb") as stream:
        stream.truncate(har.MAX_CAPTURE_BYTES + 1)
    with pytest.raises(CaptureError, match="larger"):
        read_har(tmp_path / "x")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "request",
                    "response",
                    "url",
                    "method",
                    "status",
                    "headers",
                    "name",
                    "value",
                    "content",
                    "text",
                    "encoding",
                    "cookies",
                    "mimeType",
                    "x",
                ]
            ),
            inner,
        )
    ),
    max_leaves=20,
)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(JSON, max_size=4))
def test_any_entries_give_flows_or_reasons(tmp_path: Path, entries: list[Any]) -> None:
    path = tmp_path / "any.har"
    path.write_text(json.dumps({"log": {"entries": [*entries, entry()]}}))
    try:
        capture = read_har(path)
    except CaptureError:  # NaN and infinities are no JSON.
        return
    assert len(capture.flows) + len(capture.skipped) == len(entries) + 1
    assert capture.flows[-1].id == f"flow-{len(entries)}"


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "any.har").write_bytes(content)
    try:
        read_har(tmp_path / "any.har")
    except CaptureError:
        return
