"""A broker in a thread, and a plain client that can also break the protocol."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from oxgen.broker import Broker, Flow
from oxgen.capabilities import AuditLog, Capability, Issuer
from oxgen.findings import Finding

DEADLINE_SECONDS = 20.0


def make_flow(number: int = 0, **changes: Any) -> Flow:
    """Return a small good flow."""
    members: dict[str, Any] = {
        "id": f"flow-{number}",
        "method": "GET",
        "url": f"https://shop.example/{number}",
        "http_version": "HTTP/1.1",
        "request_headers": (("Host", "shop.example"),),
        "status": 200,
        "response_headers": (("Content-Type", "text/html"),),
        "body": "<p>hello</p>",
    }
    return Flow(**{**members, **changes})


class Session:
    """One session: the broker in a thread, the plugin's end in ``plugin``."""

    def __init__(
        self,
        audit_path: Path,
        capabilities: Iterable[Capability] = tuple(Capability),
        flows: Iterable[Flow] | None = None,
        on_finding: Callable[[Finding], None] | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self.findings: list[Finding] = []
        self.audit_path = audit_path
        self.audit = AuditLog(audit_path)
        self.issuer = Issuer()
        self.token = self.issuer.grant(plugin="scan", run_id="run-1", capabilities=capabilities)
        self.broker = Broker(
            issuer=self.issuer,
            token_plugin="scan",
            run_id="run-1",
            flows=flows,
            on_finding=on_finding or self.findings.append,
            audit=self.audit,
            config=config,
        )
        host, self.plugin = socket.socketpair()
        self.plugin.settimeout(DEADLINE_SECONDS)
        self._received = b""
        self.thread = threading.Thread(target=self.broker.serve, args=(host,), daemon=True)
        self.thread.start()

    def send(self, text: bytes) -> None:
        self.plugin.sendall(text)

    def line(self) -> bytes | None:
        """Return the next line of the host, or None where it hung up."""
        while b"\n" not in self._received:
            try:
                received = self.plugin.recv(65536)
            except ConnectionResetError:
                return None
            if not received:
                return None
            self._received += received
        line, _, self._received = self._received.partition(b"\n")
        return line

    def answer(self) -> Any:
        line = self.line()
        return None if line is None else json.loads(line)

    def call(self, method: str, params: Any = None, request_id: Any = 1) -> Any:
        request: dict[str, Any] = {"jsonrpc": "2.0", "id": request_id, "method": method}
        if params is not None:
            request["params"] = params
        self.send(json.dumps(request).encode() + b"\n")
        return self.answer()

    def hello(self) -> Any:
        return self.call("hello", {"token": self.token})

    def code(self, method: str, params: Any = None) -> int | None:
        """Return the error code of a call, None where it was carried out."""
        answer = self.call(method, params)
        return answer["error"]["code"] if "error" in answer else None

    def end(self) -> None:
        self.plugin.close()
        self.thread.join(DEADLINE_SECONDS)
        assert not self.thread.is_alive()

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.audit_path.read_bytes().splitlines()]

    def stop(self) -> None:
        self.broker.close()
        self.plugin.close()
        self.thread.join(DEADLINE_SECONDS)
        self.audit.close()


Open = Callable[..., Session]


@pytest.fixture
def open_session(tmp_path: Path) -> Iterator[Open]:
    """Return a function that opens sessions, which are closed at the end."""
    opened: list[Session] = []

    def make(*args: Any, **kwargs: Any) -> Session:
        session = Session(tmp_path / f"audit-{len(opened)}", *args, **kwargs)
        opened.append(session)
        return session

    yield make
    for session in opened:
        session.stop()


@pytest.fixture
def flow() -> Callable[..., Flow]:
    """Return the maker of flows."""
    return make_flow
