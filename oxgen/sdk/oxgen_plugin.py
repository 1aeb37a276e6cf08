"""oxgen plugin SDK: one file, standard library only, Python 3.9 and later.

A complete plugin::

    import oxgen_plugin

    with oxgen_plugin.connect() as session:
        for flow in session.flows():
            if flow["status"] == 500:
                session.emit(
                    type="example.server-error",
                    message="the server failed",
                    severity="low",
                    target=flow["url"],
                )

It runs in a cell without a network; this connection is its only way out. Its manifest lists the
capabilities it wants: ``CAP_HTTP_PASSIVE`` for `Session.flows`, ``CAP_EMIT_FINDINGS`` for
`Session.emit`. Use one session, from one thread. What a plugin prints is noise to the host.

The wire format is JSON-RPC 2.0, one object a line (docs/protocol.md).
"""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = [
    "CapabilityDenied",
    "LimitReached",
    "PluginError",
    "Refused",
    "Session",
    "SurfaceMissing",
    "connect",
]

PROTOCOL = "oxgen.plugin/1"
_LINE_BYTES = 1 << 20
#: The host answers from memory or a file: silence for so long means that it is gone.
_WAIT_SECONDS = 60.0


class PluginError(Exception):
    """The session cannot be opened or is lost."""


class Refused(PluginError):
    """The host answered with an error; ``code`` and ``reason`` are its own."""

    def __init__(self, code: int, message: str, reason: str | None = None) -> None:
        super().__init__(f"{message} [{code}]")
        self.code = code
        self.reason = reason


class CapabilityDenied(Refused):
    """The manifest does not list the capability, the token was refused, or it was revoked."""


class SurfaceMissing(Refused):
    """The capability is granted, and this build of the host cannot do it."""


class LimitReached(Refused):
    """The run has used up what it may emit."""


_ERRORS = {
    -32001: CapabilityDenied,
    -32002: SurfaceMissing,
    -32003: CapabilityDenied,
    -32004: LimitReached,
    -32005: CapabilityDenied,
}


def connect() -> Session:
    """Open the session that the host left for this program; raise `PluginError` if there is none.

    Reads ``OXGEN_BROKER`` (``fd:N``) and takes ``OXGEN_CAPABILITY_TOKEN`` out of the environment,
    so that programs that this one starts do not get it.
    """
    where = os.environ.get("OXGEN_BROKER", "")
    token = os.environ.pop("OXGEN_CAPABILITY_TOKEN", "")
    if not where or not token:
        raise PluginError(
            "there is no host: OXGEN_BROKER and OXGEN_CAPABILITY_TOKEN are set when the plugin is"
            " started with '0xgenctl plugin run'"
        )
    match = re.fullmatch(r"fd:([0-9]{1,6})", where)
    if match is None:
        raise PluginError(f"OXGEN_BROKER must be fd:N, got {where!r}")
    try:
        connection = socket.socket(fileno=int(match.group(1)))
    except OSError as exc:
        raise PluginError(f"OXGEN_BROKER={where} is no open socket: {exc}") from None
    # Not for the programs that this one starts.
    connection.set_inheritable(False)
    connection.settimeout(_WAIT_SECONDS)
    session = Session(connection)
    try:
        session._hello(token)
    except BaseException:
        session.close()
        raise
    return session


class Session:
    """An open session with the host. ``plugin``, ``run_id``, ``capabilities`` and ``limits`` tell
    what it granted; ``config`` is the object of that name in the plugin's manifest; ``omitted``
    counts flows that were too large to be sent."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._received = bytearray()
        self._last_id = 0
        self.plugin = ""
        self.run_id = ""
        self.capabilities: tuple[str, ...] = ()
        self.limits: dict[str, int] = {}
        self.config: dict[str, Any] = {}
        self.omitted = 0

    def call(self, method: str, **params: Any) -> Any:
        """Call a method of the host and return its result.

        Raises `Refused` (or one of its heirs) where the host refuses, `PluginError` where the
        connection is lost or breaks the protocol, ``ValueError`` where the call does not fit into a
        line.
        """
        self._last_id += 1
        request = {"jsonrpc": "2.0", "id": self._last_id, "method": method, "params": params}
        line = json.dumps(request, ensure_ascii=True, separators=(",", ":")).encode("ascii")
        if len(line) > _LINE_BYTES:
            raise ValueError(f"{method} needs {len(line)} bytes; a line has at most {_LINE_BYTES}")
        try:
            self._connection.sendall(line + b"\n")
        except (BrokenPipeError, ConnectionResetError):
            pass  # The host may have said why before it hung up: read on.
        except OSError as exc:
            raise PluginError(f"the host does not take {method}: {exc}") from None
        return self._answer(method)

    def flows(self, batch: int = 50) -> Iterator[dict[str, Any]]:
        """Yield the recorded HTTP flows, each once; needs ``CAP_HTTP_PASSIVE``.

        A flow has ``id``, ``method``, ``url``, ``http_version``, ``request_headers`` and
        ``response_headers`` (lists of [name, value]), ``status``, ``set_cookies`` (list of text),
        ``body`` (text or None), ``body_size``, ``body_truncated``, ``mime_type``, ``started_at``.
        Secrets are replaced by marks such as ``[redacted:cookie]``.
        """
        done = False
        while not done:
            result = self.call("flows.next", max=batch)
            done = bool(result["done"])
            self.omitted = int(result.get("omitted", 0))
            yield from result["flows"]

    def emit(
        self,
        *,
        type: str,
        message: str,
        severity: str,
        target: str | None = None,
        evidence: str | None = None,
        meta: Mapping[str, str] | None = None,
    ) -> str:
        """Report one finding and return its id; needs ``CAP_EMIT_FINDINGS``.

        ``severity`` is info, low, med, high or crit. The host fills in the rest.
        """
        finding: dict[str, Any] = {"type": type, "message": message, "severity": severity}
        if target is not None:
            finding["target"] = target
        if evidence is not None:
            finding["evidence"] = evidence
        if meta:
            finding["meta"] = dict(meta)
        return str(self.call("findings.emit", **finding)["id"])

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _hello(self, token: str) -> None:
        welcome = self.call("hello", token=token)
        if welcome.get("protocol") != PROTOCOL:
            raise PluginError(
                "the host speaks {!r}; this SDK speaks {}".format(welcome.get("protocol"), PROTOCOL)
            )
        self.plugin = welcome["plugin"]
        self.run_id = welcome["run_id"]
        self.capabilities = tuple(welcome["capabilities"])
        self.limits = dict(welcome["limits"])
        self.config = dict(welcome.get("config", {}))

    def _answer(self, method: str) -> Any:
        answer = json.loads(self._line(method))
        error = answer.get("error")
        if error is not None:
            reason = (error.get("data") or {}).get("reason")
            kind = _ERRORS.get(error["code"], Refused)
            raise kind(error["code"], "{}: {}".format(method, error["message"]), reason)
        if answer.get("id") != self._last_id:
            raise PluginError(f"the host answered another call than {method}")
        return answer["result"]

    def _line(self, method: str) -> bytes:
        searched = 0
        while True:
            end = self._received.find(b"\n", searched)
            if end >= 0:
                line = bytes(self._received[:end])
                del self._received[: end + 1]
                return line
            searched = len(self._received)
            if searched > _LINE_BYTES:
                raise PluginError(f"the answer to {method} is longer than a line")
            try:
                received = self._connection.recv(1 << 16)
            except socket.timeout:  # noqa: UP041 - another class before Python 3.10
                raise PluginError(
                    f"the host did not answer {method} within {_WAIT_SECONDS:.0f} s"
                ) from None
            except OSError as exc:
                raise PluginError(f"the connection is lost: {exc}") from None
            if not received:
                raise PluginError(f"the host hung up during {method}")
            self._received += received
