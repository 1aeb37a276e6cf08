"""SDK: it says what is wrong, keeps the token from children, and reads answers strictly."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SDK = Path(__file__).resolve().parent.parent.parent / "oxgen" / "sdk"


@pytest.fixture
def sdk(scanner: ModuleType) -> ModuleType:
    """Return the SDK under the name that it has in a cell."""
    module: ModuleType = scanner.oxgen_plugin
    assert module.__file__ == str(SDK / "oxgen_plugin.py")
    return module


WELCOME: dict[str, Any] = {
    "protocol": "oxgen.plugin/1",
    "plugin": "scan",
    "run_id": "run-1",
    "capabilities": ["CAP_WS"],
    "limits": {"line_bytes": 1048576},
}


class Host:
    """A host that answers every line with what ``reply`` makes of the request."""

    def __init__(self, reply: Callable[[dict[str, Any]], bytes | None]) -> None:
        self.requests: list[dict[str, Any]] = []
        self._end, self.plugin = socket.socketpair()
        self._reply = reply
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        with self._end, self._end.makefile("rb") as lines:
            for line in lines:
                request = json.loads(line)
                self.requests.append(request)
                answer = self._reply(request)
                if answer is None:
                    return
                self._end.sendall(answer)


def result(request: dict[str, Any], value: object) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": value}).encode() + b"\n"


def error(request: dict[str, Any], code: int) -> bytes:
    body = {"code": code, "message": "no", "data": {"reason": "why"}}
    return json.dumps({"jsonrpc": "2.0", "id": request["id"], "error": body}).encode() + b"\n"


def connected(
    sdk: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    reply: Callable[[dict[str, Any]], bytes | None],
) -> tuple[Host, Any]:
    host = Host(
        lambda request: result(request, WELCOME) if request["method"] == "hello" else reply(request)
    )
    monkeypatch.setenv("OXGEN_BROKER", f"fd:{host.plugin.detach()}")
    monkeypatch.setenv("OXGEN_CAPABILITY_TOKEN", "t")
    return host, sdk.connect()


def test_hello_tells_what_was_granted(sdk: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    host, session = connected(sdk, monkeypatch, lambda request: None)
    with session:
        assert session.capabilities == ("CAP_WS",)
        assert session.run_id == "run-1"
    assert host.requests[0]["params"] == {"token": "t"}


def test_session_has_the_config_of_the_manifest(
    sdk: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(WELCOME, "config", {"depth": 3})
    _, session = connected(sdk, monkeypatch, lambda request: None)
    with session:
        assert session.config == {"depth": 3}


def test_session_of_a_host_without_config_has_an_empty_one(
    sdk: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, session = connected(sdk, monkeypatch, lambda request: None)
    with session:
        assert session.config == {}


def test_token_leaves_the_environment(sdk: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    _, session = connected(sdk, monkeypatch, lambda request: None)
    session.close()
    assert "OXGEN_CAPABILITY_TOKEN" not in os.environ


@pytest.mark.parametrize("where", ["", "3", "fd:", "fd:x", "fd:-1", "fd:999999", "handle:0x1"])
def test_broken_address_is_a_plugin_error(
    sdk: ModuleType, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setenv("OXGEN_BROKER", where)
    monkeypatch.setenv("OXGEN_CAPABILITY_TOKEN", "t")
    with pytest.raises(sdk.PluginError):
        sdk.connect()


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (-32001, "CapabilityDenied"),
        (-32002, "SurfaceMissing"),
        (-32003, "CapabilityDenied"),
        (-32004, "LimitReached"),
        (-32005, "CapabilityDenied"),
        (-32603, "Refused"),
    ],
)
def test_refusal_has_a_class_and_a_reason(
    sdk: ModuleType, monkeypatch: pytest.MonkeyPatch, code: int, name: str
) -> None:
    _, session = connected(sdk, monkeypatch, lambda request: error(request, code))
    with session, pytest.raises(sdk.Refused) as caught:
        session.call("x")
    assert type(caught.value).__name__ == name
    assert (caught.value.code, caught.value.reason) == (code, "why")


def test_host_that_hangs_up_is_a_plugin_error(
    sdk: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, session = connected(sdk, monkeypatch, lambda request: None)
    with session, pytest.raises(sdk.PluginError, match="hung up"):
        session.call("x")


def test_answer_to_another_call_is_refused(
    sdk: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, session = connected(sdk, monkeypatch, lambda request: result({"id": 99}, 1))
    with session, pytest.raises(sdk.PluginError, match="another call"):
        session.call("x")


def test_call_beyond_a_line_is_a_value_error(
    sdk: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, session = connected(sdk, monkeypatch, lambda request: result(request, {"id": "a"}))
    with session:
        with pytest.raises(ValueError, match="a line has at most"):
            session.call("x", a="y" * (1 << 20))
        assert session.emit(type="t", message="m", severity="low") == "a"


def test_flows_are_asked_for_until_done(sdk: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [([1, 2], False), ([], False), ([3], True)]

    def reply(request: dict[str, Any]) -> bytes:
        flows, done = answers.pop(0)
        return result(request, {"flows": flows, "done": done, "omitted": 4})

    host, session = connected(sdk, monkeypatch, reply)
    with session:
        assert list(session.flows(batch=2)) == [1, 2, 3]
        assert session.omitted == 4
    assert host.requests[1]["params"] == {"max": 2}


def test_emit_leaves_out_what_is_not_given(
    sdk: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, session = connected(sdk, monkeypatch, lambda request: result(request, {"id": "a"}))
    with session:
        session.emit(type="t", message="m", severity="low", target="u")
    assert host.requests[1]["params"] == {
        "type": "t",
        "message": "m",
        "severity": "low",
        "target": "u",
    }
