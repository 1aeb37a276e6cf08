"""Broker: who may call what, what is refused, and that no peer can hurt the host."""

from __future__ import annotations

import array
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oxgen.broker import Broker, Flow
from oxgen.broker import session as session_module
from oxgen.broker.protocol import MAX_LINE_BYTES, RpcError, parse_request
from oxgen.capabilities import AuditLog, Capability, Issuer
from oxgen.errors import UsageError
from oxgen.manifest import MAX_CONFIG_BYTES

FINDING = {"type": "test.thing", "message": "a thing", "severity": "low"}


def test_hello_tells_what_was_granted(open_session: Any) -> None:
    session = open_session([Capability.CAP_HTTP_PASSIVE])
    result = session.hello()["result"]
    assert result["protocol"] == "oxgen.plugin/1"
    assert (result["plugin"], result["run_id"]) == ("scan", "run-1")
    assert result["capabilities"] == ["CAP_HTTP_PASSIVE"]
    assert result["limits"]["line_bytes"] == MAX_LINE_BYTES


CONFIG = {"depth": 3, "hosts": ["a.example"], "\u20ac": {"deep": [None, True, 1.5]}}


def test_hello_hands_over_the_config(open_session: Any) -> None:
    assert open_session(config=CONFIG).hello()["result"]["config"] == CONFIG


def test_hello_without_a_config_has_an_empty_one(open_session: Any) -> None:
    assert open_session().hello()["result"]["config"] == {}


def test_hello_with_the_largest_config_fits_into_a_line(open_session: Any) -> None:
    config = {"a": "x" * (MAX_CONFIG_BYTES - len('{"a":""}'))}
    session = open_session(config=config)
    assert session.hello()["result"]["config"] == config


@pytest.mark.parametrize(
    ("config", "word"),
    [
        ({"a": "x" * MAX_CONFIG_BYTES}, "at most 65536"),
        ({"a": float("nan")}, "not JSON"),
        ({"a": b"bytes"}, "not JSON"),
        ({"a": json.loads("[" * 16 + "]" * 16)}, "nested deeper than 16"),
    ],
    ids=["large", "nan", "bytes", "deep"],
)
def test_config_that_cannot_be_sent_is_refused_before_the_run(
    config: dict[str, Any], word: str
) -> None:
    with pytest.raises(UsageError, match=word):
        Broker(
            issuer=Issuer(),
            token_plugin="scan",
            run_id="run-1",
            flows=None,
            on_finding=print,
            audit=AuditLog(None),
            config=config,
        )


def test_call_before_hello_is_refused(open_session: Any) -> None:
    session = open_session()
    assert session.code("findings.emit", FINDING) == -32000
    assert session.findings == []


def test_hello_after_a_refused_call_is_accepted(open_session: Any) -> None:
    session = open_session()
    session.code("flows.next")
    assert "result" in session.hello()


def test_endless_calls_before_hello_end_the_session(open_session: Any) -> None:
    session = open_session()
    codes = [session.code("flows.next") for _ in range(8)]
    assert codes == [-32000] * 8
    assert session.answer() is None


def test_wrong_token_ends_the_session(open_session: Any) -> None:
    session = open_session()
    answer = session.call("hello", {"token": session.token[:-2]})
    assert answer["error"]["code"] == -32003
    assert session.answer() is None


def test_token_of_another_run_is_refused_with_its_reason(open_session: Any) -> None:
    session = open_session()
    other = session.issuer.grant(plugin="scan", run_id="run-2", capabilities=[])
    answer = session.call("hello", {"token": other})
    assert answer["error"]["data"] == {"reason": "wrong_run"}


def test_second_hello_is_refused_and_the_session_goes_on(open_session: Any) -> None:
    session = open_session()
    session.hello()
    assert session.hello()["error"]["code"] == -32600
    assert session.code("findings.emit", FINDING) is None


def test_finding_gets_the_host_s_names(open_session: Any) -> None:
    session = open_session()
    session.hello()
    session.call("findings.emit", FINDING)
    (finding,) = session.findings
    assert (finding.plugin, finding.version, len(finding.id)) == ("scan", "0.2", 26)


def test_finding_with_the_plugin_s_own_name_is_accepted(open_session: Any) -> None:
    session = open_session()
    session.hello()
    assert session.code("findings.emit", {**FINDING, "plugin": "scan"}) is None


@pytest.mark.parametrize(
    "change",
    [
        {"plugin": "other"},
        {"plugin": None},
        {"severity": "bad"},
        {"surprise": 1},
        {"message": 5},
        {"message": "\udc80"},
        {"type": "oxg.supervisor.termination"},
        {"type": " OXG.Supervisor.x"},
        {"meta": {"sandbox.termination_reason": "timeout"}},
        {"type": "\u200boxg.supervisor.termination"},
        {"type": "\u043exg.supervisor.termination"},
        {"type": "\uff4fxg.supervisor.termination"},
        {"type": "\x00oxg.supervisor.termination"},
        {"type": "oxg\u2024supervisor.termination"},
        {"type": "Test.thing"},
        {"type": "test thing"},
        {"type": ".test"},
        {"meta": {"\u200bsandbox.termination_reason": "timeout"}},
        {"meta": {"s\u0430ndbox.termination_reason": "timeout"}},
        {"meta": {"\x00sandbox.x": "y"}},
        {"meta": {"": "y"}},
        {"meta": {"A": "y"}},
        {"ts": "1999-01-01T00:00:00Z"},
        {"ts": "2999-01-01T00:00:00+01:00"},
        {"ts": "0001-01-01T00:00:00+23:59"},
        {"id": "x"},
        {"ts": "yesterday"},
    ],
)
def test_finding_that_breaks_a_rule_is_refused(open_session: Any, change: dict[str, Any]) -> None:
    session = open_session()
    session.hello()
    assert session.code("findings.emit", {**FINDING, **change}) == -32602
    assert session.findings == []
    session.end()
    assert "finding_rejected" in [event["event"] for event in session.events()]


def test_finding_with_plain_names_and_a_time_of_the_run_is_accepted(open_session: Any) -> None:
    session = open_session()
    session.hello()
    now = datetime.now(timezone(timedelta(hours=-7)))
    for ts in (now.isoformat(), now.astimezone(timezone.utc).strftime("%Y-%m-%dt%H:%M:%Sz")):
        change = {"type": "a-1.b_c", "meta": {"0.header-name": "x"}, "ts": ts}
        assert session.code("findings.emit", {**FINDING, **change}) is None


def test_id_of_a_finding_is_accepted_once_in_a_run(open_session: Any) -> None:
    session = open_session()
    session.hello()
    one, two = "01ARZ3NDEKTSV4RRFFQ69G5FAV", "01ARZ3NDEKTSV4RRFFQ69G5FAW"
    codes = [session.code("findings.emit", {**FINDING, "id": each}) for each in (one, one, two)]
    assert codes == [None, -32602, None]
    assert [finding.id for finding in session.findings] == [one, two]


def test_missing_capability_is_refused_and_recorded(open_session: Any) -> None:
    session = open_session([Capability.CAP_HTTP_PASSIVE])
    session.hello()
    assert session.code("findings.emit", FINDING) == -32001
    session.end()
    denied = [event for event in session.events() if event["event"] == "capability_denied"]
    assert [(each["method"], each["reason"]) for each in denied] == [
        ("findings.emit", "CAP_EMIT_FINDINGS")
    ]


def test_empty_grant_opens_nothing(open_session: Any) -> None:
    session = open_session([])
    session.hello()
    methods = ["findings.emit", "flows.next", "flows.get", "http.request", "ws.open", "ai.analyze"]
    assert [session.code(method) for method in methods] == [-32001] * len(methods)


@pytest.mark.parametrize(
    ("method", "capability"),
    [
        ("flows.get", "CAP_FLOW_INSPECT"),
        ("http.request", "CAP_HTTP_ACTIVE"),
        ("ws.open", "CAP_WS"),
        ("spider.start", "CAP_SPIDER"),
        ("report.add", "CAP_REPORT"),
        ("storage.get", "CAP_STORAGE"),
        ("ai.analyze", "CAP_AI_ANALYSIS"),
    ],
)
def test_surface_that_is_not_built_says_so(open_session: Any, method: str, capability: str) -> None:
    session = open_session([Capability(capability)])
    session.hello()
    assert session.code(method, {}) == -32002


@pytest.mark.parametrize("method", ["nothing", "hello.x", "flows.nextx", "Findings.emit", "rpc.x"])
def test_unknown_method_is_unknown(open_session: Any, method: str) -> None:
    session = open_session()
    session.hello()
    assert session.code(method) == -32601


def test_revocation_ends_a_session_at_its_next_call(open_session: Any) -> None:
    session = open_session()
    session.hello()
    assert session.code("findings.emit", FINDING) is None
    session.issuer.revoke_run("run-1")
    assert session.code("findings.emit", FINDING) == -32005
    assert session.answer() is None
    assert len(session.findings) == 1


def test_flows_come_once_and_in_order(open_session: Any, flow: Any) -> None:
    session = open_session(flows=[flow(number) for number in range(7)])
    session.hello()
    answers = [session.call("flows.next", {"max": 3})["result"] for _ in range(3)]
    assert [len(each["flows"]) for each in answers] == [3, 3, 1]
    assert [each["done"] for each in answers] == [False, False, True]
    ids = [each["id"] for answer in answers for each in answer["flows"]]
    assert ids == [f"flow-{number}" for number in range(7)]


def test_no_flows_is_done_at_once(open_session: Any) -> None:
    session = open_session(flows=None)
    session.hello()
    assert session.call("flows.next")["result"] == {"flows": [], "done": True, "omitted": 0}


@pytest.mark.parametrize("most", [0, 101, -1, 1.5, True, "5", None, [1]])
def test_flows_max_out_of_range_is_refused(open_session: Any, most: object) -> None:
    session = open_session(flows=[])
    session.hello()
    assert session.code("flows.next", {"max": most}) == -32602


def test_flows_are_sanitised(open_session: Any, flow: Any) -> None:
    secret = flow(request_headers=(("Cookie", "sid=Zq9sEcReTvAlUe77"),))
    session = open_session(flows=[secret])
    session.hello()
    session.send(b'{"jsonrpc":"2.0","id":1,"method":"flows.next"}\n')
    line = session.line()
    assert b"Zq9sEcReTvAlUe77" not in line
    assert b"[redacted:cookie]" in line


def test_large_flows_stay_within_a_line(open_session: Any, flow: Any) -> None:
    bodies = ["\U0001f600" * 200_000, "x" * 262_144, "\x00" * 262_144, "y" * 262_144] * 2
    session = open_session(flows=[flow(n, body=body) for n, body in enumerate(bodies)])
    session.hello()
    seen: list[str] = []
    done = False
    while not done:
        session.send(b'{"jsonrpc":"2.0","id":1,"method":"flows.next"}\n')
        line = session.line()
        assert len(line) <= MAX_LINE_BYTES
        result = json.loads(line)["result"]
        done = result["done"]
        seen += [each["id"] for each in result["flows"]]
    assert seen == [f"flow-{number}" for number in range(8)]


def test_flow_without_room_is_counted_as_omitted(open_session: Any, flow: Any) -> None:
    large = flow(1, response_headers=tuple(("X-A", "a" * 1000) for _ in range(1200)))
    session = open_session(flows=[flow(0), large, flow(2)])
    session.hello()
    result = session.call("flows.next")["result"]
    assert [each["id"] for each in result["flows"]] == ["flow-0", "flow-2"]
    assert result["omitted"] == 1


def test_flood_of_findings_meets_a_limit(
    open_session: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "MAX_FINDINGS", 3)
    session = open_session()
    session.hello()
    codes = [session.code("findings.emit", FINDING) for _ in range(5)]
    assert codes == [None, None, None, -32004, -32004]
    assert len(session.findings) == 3


def test_bytes_of_findings_meet_a_limit(open_session: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "MAX_FINDINGS_BYTES", 2000)
    session = open_session()
    session.hello()
    assert session.code("findings.emit", {**FINDING, "evidence": "x" * 3000}) == -32004
    assert session.code("findings.emit", FINDING) is None


def test_calls_cannot_fill_the_audit_log(
    open_session: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "_RECORDS_MAX", 20)
    session = open_session()
    session.hello()
    for _ in range(200):
        session.code("nothing")
    session.end()
    events = session.events()
    assert len(events) == 22
    assert [each["event"] for each in events[-2:]] == ["audit_suppressed", "plugin_disconnect"]
    assert events[-1]["totals"]["rpc_denied"] == 200


def test_notification_is_carried_out_and_not_answered(open_session: Any) -> None:
    session = open_session()
    session.hello()
    message = {"jsonrpc": "2.0", "method": "findings.emit", "params": FINDING}
    session.send(json.dumps(message).encode() + b"\n")
    assert session.call("flows.next", {}, "after")["id"] == "after"
    assert len(session.findings) == 1


def test_refused_notification_is_not_answered(open_session: Any) -> None:
    session = open_session()
    session.hello()
    session.send(b'{"jsonrpc":"2.0","method":"nothing"}\n')
    assert session.call("flows.next", {}, "after")["id"] == "after"


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"nonsense", -32700),
        (b"{", -32700),
        (b"\xff\xfe", -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":"x","params":{"a":NaN}}', -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":"x","params":{"a":1' + b"0" * 5000 + b"}}", -32700),
        (b"[" * 500_000, -32700),
        (b'{"a":' * 100_000, -32700),
        (b"[]", -32600),
        (b'[{"jsonrpc":"2.0","id":1,"method":"hello"}]', -32600),
        (b"7", -32600),
        (b'"x"', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"x","method":"y"}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"x","params":{"a":1,"a":2}}', -32600),
        (b'{"jsonrpc":"2.0","id":1.5,"method":"x"}', -32600),
        (b'{"jsonrpc":"2.0","id":true,"method":"x"}', -32600),
        (b'{"jsonrpc":"2.0","id":null,"method":"x"}', -32600),
        (b'{"jsonrpc":"2.0","id":[1],"method":"x"}', -32600),
        (b'{"jsonrpc":"2.0","id":9007199254740992,"method":"x"}', -32600),
        (b'{"jsonrpc":"1.0","id":1,"method":"x"}', -32600),
        (b'{"id":1,"method":"x"}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"x","extra":1}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":5}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":""}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"x","params":[1]}', -32602),
    ],
)
def test_broken_line_is_answered_and_the_session_goes_on(
    open_session: Any, line: bytes, code: int
) -> None:
    session = open_session()
    session.send(line + b"\n")
    assert session.answer()["error"]["code"] == code
    assert "result" in session.hello()


@pytest.mark.parametrize("request_id", [0, -1, 2**53 - 1, "", "a", "x" * 128])
def test_good_id_comes_back(open_session: Any, request_id: object) -> None:
    session = open_session()
    assert session.call("flows.next", {}, request_id)["id"] == request_id


def test_blank_lines_are_passed_over(open_session: Any) -> None:
    session = open_session()
    session.send(b"\n \r\n")
    assert "result" in session.hello()


def test_line_that_comes_byte_by_byte_is_one_line(open_session: Any) -> None:
    session = open_session()
    for byte in b'{"jsonrpc":"2.0","id":5,"method":"flows.next"}\n':
        session.send(bytes([byte]))
    assert session.answer()["id"] == 5


def test_line_at_the_cap_is_read(open_session: Any) -> None:
    session = open_session()
    line = b'{"jsonrpc":"2.0","id":5,"method":"flows.next"}'
    session.send(line + b" " * (MAX_LINE_BYTES - len(line)) + b"\n")
    assert session.answer()["error"]["code"] == -32000


def test_line_beyond_the_cap_is_answered_and_ends_the_session(open_session: Any) -> None:
    session = open_session()
    session.send(b"x" * (MAX_LINE_BYTES + 1))
    assert session.answer()["error"]["code"] == -32600
    assert session.answer() is None


def test_endless_line_does_not_grow_the_host(open_session: Any) -> None:
    session = open_session()
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        for _ in range(1000):
            session.send(b"x" * 65536)
    session.thread.join(10)
    assert not session.thread.is_alive()


def test_error_of_the_host_is_internal_and_kept(open_session: Any) -> None:
    def full(_: object) -> None:
        raise OSError(28, "No space left on device")

    session = open_session(on_finding=full)
    session.hello()
    answer = session.call("findings.emit", FINDING)
    assert answer["error"]["code"] == -32603
    assert "space" not in json.dumps(answer)
    assert "Traceback" not in json.dumps(answer)
    assert isinstance(session.broker.failure, OSError)
    assert session.broker.findings == 0


def test_good_run_has_no_failure(open_session: Any) -> None:
    session = open_session()
    session.hello()
    session.call("findings.emit", FINDING)
    session.end()
    assert session.broker.failure is None
    assert session.broker.findings == 1


def test_error_of_the_flows_is_internal_and_kept(open_session: Any, flow: Any) -> None:
    def broken() -> Iterator[Flow]:
        yield flow()
        raise RuntimeError("a host secret")

    session = open_session(flows=broken())
    session.hello()
    answer = session.call("flows.next")
    assert answer["error"]["code"] == -32603
    assert "secret" not in json.dumps(answer)
    assert isinstance(session.broker.failure, RuntimeError)


def test_audit_that_cannot_be_written_ends_the_session(open_session: Any) -> None:
    session = open_session()
    session.audit.close()
    session.send(
        json.dumps(
            {"jsonrpc": "2.0", "id": 1, "method": "hello", "params": {"token": session.token}}
        ).encode()
        + b"\n"
    )
    assert session.answer() is None
    assert isinstance(session.broker.failure, OSError)


def test_close_wakes_a_silent_session(open_session: Any) -> None:
    session = open_session()
    session.hello()
    session.broker.close()
    session.thread.join(5)
    assert not session.thread.is_alive()
    assert session.events()[-1]["reason"] == "closed"


def test_close_before_serve_serves_nothing(tmp_path: Path) -> None:
    broker = Broker(
        issuer=Issuer(),
        token_plugin="scan",
        run_id="run-1",
        flows=None,
        on_finding=print,
        audit=AuditLog(None),
    )
    broker.close()
    host, plugin = socket.socketpair()
    with plugin:
        broker.serve(host)
        assert plugin.recv(1) == b""


def test_plugin_that_never_reads_loses_its_session(
    open_session: Any, flow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "SEND_SECONDS", 0.3)
    session = open_session(flows=(flow(n, body="x" * 200_000) for n in range(100)))
    session.hello()
    began = time.monotonic()
    for _ in range(20):
        try:
            session.send(b'{"jsonrpc":"2.0","id":1,"method":"flows.next"}\n')
        except (BrokenPipeError, ConnectionResetError):
            break
    session.thread.join(10)
    assert not session.thread.is_alive()
    assert time.monotonic() - began < 8
    assert session.events()[-1]["reason"] == "send_timeout"


def test_close_wakes_a_session_that_is_sending(open_session: Any, flow: Any) -> None:
    session = open_session(flows=(flow(n, body="x" * 200_000) for n in range(100)))
    session.hello()
    for _ in range(5):
        session.send(b'{"jsonrpc":"2.0","id":1,"method":"flows.next"}\n')
    time.sleep(0.3)
    session.broker.close()
    session.thread.join(5)
    assert not session.thread.is_alive()


def test_silent_plugin_keeps_its_session(
    open_session: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "SEND_SECONDS", 0.1)
    session = open_session()
    time.sleep(0.5)
    assert "result" in session.hello()


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_passed_descriptors_do_not_reach_the_host(open_session: Any) -> None:
    session = open_session()
    session.hello()
    with open(os.devnull) as null:
        passed = array.array("i", [null.fileno()] * 50)
        before = open_descriptors()
        for number in range(20):
            line = json.dumps({"jsonrpc": "2.0", "id": number, "method": "flows.next"}) + "\n"
            session.plugin.sendmsg(
                [line.encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, passed)]
            )
            assert session.answer()["id"] == number
        assert open_descriptors() == before


def test_findings_of_a_plugin_that_ended_without_reading_count(open_session: Any) -> None:
    session = open_session()
    session.hello()
    for number in range(50):
        request = {"jsonrpc": "2.0", "id": number, "method": "findings.emit", "params": FINDING}
        session.send(json.dumps(request).encode() + b"\n")
    session.end()
    assert len(session.findings) == 50
    assert session.events()[-1]["reason"] == "eof"


def test_control_recvmsg_would_receive_passed_descriptors() -> None:
    one, other = socket.socketpair()
    with one, other, open(os.devnull) as null:
        passed = array.array("i", [null.fileno()])
        one.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, passed)])
        before = open_descriptors()
        _, ancillary, _, _ = other.recvmsg(1, socket.CMSG_SPACE(4))
        assert open_descriptors() == before + 1
        os.close(int.from_bytes(ancillary[0][2][:4], "little"))


@pytest.mark.parametrize("ending", ["silent", "close"])
def test_token_of_a_plugin_that_never_spoke_is_forgotten(ending: str) -> None:
    issuer = Issuer()
    issuer.grant(plugin="scan", run_id="run-1", capabilities=[])
    broker = Broker(
        issuer=issuer,
        token_plugin="scan",
        run_id="run-1",
        flows=None,
        on_finding=print,
        audit=AuditLog(None),
    )
    getattr(broker, ending)()
    assert issuer.live == 0


def test_second_serve_is_refused(open_session: Any) -> None:
    session = open_session()
    session.hello()
    host, plugin = socket.socketpair()
    with host, plugin, pytest.raises(UsageError):
        session.broker.serve(host)


def test_no_record_holds_the_token(open_session: Any) -> None:
    session = open_session()
    session.hello()
    session.hello()
    session.call("findings.emit", {"token": session.token})
    session.call(session.token[:100])
    session.end()
    assert session.token not in session.audit_path.read_text()


def test_token_is_worth_nothing_after_its_session(open_session: Any) -> None:
    session = open_session()
    session.hello()
    session.end()
    assert session.issuer.live == 0


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=300))
def test_any_line_is_a_request_or_an_error(line: bytes) -> None:
    try:
        parse_request(line)
    except RpcError as exc:
        assert exc.code in (-32700, -32600, -32602)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    method=st.sampled_from(["hello", "findings.emit", "flows.next", "ws.x", "x"]),
    params=JSON,
    request_id=st.integers(-100, 100) | st.text(max_size=5),
)
def test_any_params_get_one_answer(
    open_session: Any, method: str, params: object, request_id: object
) -> None:
    session = open_session()
    try:
        session.hello()
        answer = session.call(method, params, request_id)
        assert ("result" in answer) != ("error" in answer)
        assert answer["id"] == request_id or answer["error"]["code"] == -32700
    finally:
        session.stop()


def test_many_threads_of_sessions_do_not_mix(open_session: Any) -> None:
    sessions = [open_session() for _ in range(8)]

    def work(session: Any) -> None:
        session.hello()
        for number in range(50):
            session.call("findings.emit", {**FINDING, "message": f"{number}"}, number)

    threads = [threading.Thread(target=work, args=(each,)) for each in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [len(each.findings) for each in sessions] == [50] * 8
