"""Session: serve one plugin over one socket, under one token."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timezone
from typing import Any

from ..capabilities import AuditLog, Issuer, Token
from ..errors import CapabilityError, FindingError, UsageError
from ..findings import SCHEMA_VERSION, Finding, new_id, parse_finding
from ..limits import KIB, MIB
from ..manifest import config_fault
from ..values import check_type
from .emitted import Emitted
from .flow import Flow
from .protocol import (
    MAX_LINE_BYTES,
    VERSION,
    ErrorCode,
    Lines,
    LineTooLongError,
    Request,
    RpcError,
    capability_of,
    error_line,
    parse_request,
    result_line,
)
from .sanitise import sanitise

__all__ = ["MAX_FINDINGS", "MAX_FINDINGS_BYTES", "MAX_FLOWS_A_CALL", "SEND_SECONDS", "Broker"]

MAX_FINDINGS = 10_000
MAX_FINDINGS_BYTES = 32 * MIB
MAX_FLOWS_A_CALL = 100
#: A plugin that does not read its answers for so long has no session any more.
SEND_SECONDS = 30.0

_READ_BYTES = 64 * KIB
#: Leaves room for the envelope of the answer.
_FLOWS_BYTES = MAX_LINE_BYTES - 4 * KIB
#: Failures before ``hello``: enough for a client that probes, too few for one that guesses.
_EARLY_MAX = 8
#: So many calls and refusals of a session are recorded one by one; the rest is counted.
_RECORDS_MAX = 1000


class _SessionEnd(Exception):
    """The session is over; the text says why and goes to the audit log."""


class Broker:
    """The host's end of one plugin in one run.

    ``flows`` is what ``flows.next`` serves, each once, sanitised here; None serves none.
    ``on_finding`` is called in the thread that serves, once for each accepted finding. ``config``
    is the plugin's own configuration (``Manifest.config``): ``hello`` hands it over as it is.
    Raises ``UsageError`` for a config that is not JSON, has more than 64 KiB or 16 levels.

    ``failure`` is the first exception of the host's own side: of ``on_finding``, of the iterator of
    flows, of the audit log. The plugin is told no more than an internal error; a caller looks at
    ``failure`` after the run, because findings may be missing then. An audit record that cannot be
    written ends the session.
    """

    def __init__(
        self,
        *,
        issuer: Issuer,
        token_plugin: str,
        run_id: str,
        flows: Iterable[Flow] | None,
        on_finding: Callable[[Finding], None],
        audit: AuditLog,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        check_type("issuer", issuer, Issuer, "an Issuer")
        check_type("audit", audit, AuditLog, "an AuditLog")
        if not callable(on_finding):
            raise UsageError(f"on_finding must be a function of one Finding, got {on_finding!r}")
        if flows is not None:
            check_type("flows", flows, Iterable, "an iterable of Flow, or None")
        if config is not None:
            check_type("config", config, Mapping, "an object as JSON has it, or None")
        self._config = dict(config) if config else {}
        fault = config_fault(self._config) if config else None
        if fault is not None:
            raise UsageError(f"config {fault}")
        self._issuer = issuer
        self._plugin = token_plugin
        self._run_id = run_id
        self._flows: Iterator[Flow] = iter(flows if flows is not None else ())
        self._on_finding = on_finding
        self._audit = audit
        self._lock = threading.Lock()
        self._connection: socket.socket | None = None
        self._served = False
        self._closed = False
        self._token: Token | None = None
        self._early = 0
        self._mute = False
        self._waiting: tuple[dict[str, object], int] | None = None
        self._omitted = 0
        self._findings_bytes = 0
        self._emitted = Emitted(token_plugin)
        self._counts: dict[str, int] = defaultdict(int)
        self._records = 0
        self._began = time.monotonic()
        self.failure: BaseException | None = None

    @property
    def findings(self) -> int:
        """How many findings were accepted."""
        return self._counts.get("finding_received", 0)

    def serve(self, connection: socket.socket) -> None:
        """Answer the plugin until it closes its end, the session ends, or `close` is called.

        Takes over the socket (a connected stream) and closes it. Returns, never raises, for
        whatever the peer does; ``RuntimeError`` for a second call. Reads with ``recv``: it takes no
        ancillary data, so the kernel closes descriptors that the plugin passes (unix(7)).
        """
        with self._lock:
            self._begin()
            if self._closed:
                connection.close()
                return
            self._connection = connection
        reason = "error"
        try:
            connection.settimeout(SEND_SECONDS)
            reason = self._serve(connection)
        except OSError as exc:
            reason = "closed" if self._closed else f"connection: {exc.strerror or 'lost'}"
        finally:
            with self._lock:
                self._connection = None
            connection.close()
            self._finish(reason)

    def check_is_for(self, run_id: str) -> None:
        """Raise ``UsageError`` unless it can still serve, and was made for this run."""
        with self._lock:
            self._check_unused()
        if run_id != self._run_id:
            raise UsageError(
                f"the broker was made for run {self._run_id!r} and this is run {run_id!r}:"
                " give both, and the token, the same run_id"
            )

    def silent(self) -> None:
        """Record that the plugin ended and never called; there is nothing to serve."""
        with self._lock:
            self._begin()
        self._finish("eof")

    def _begin(self) -> None:
        self._check_unused()
        self._served = True

    def _check_unused(self) -> None:
        if self._served:
            raise UsageError("a Broker serves one connection; make another one for another run")

    def close(self) -> None:
        """End the session from another thread, or keep it from starting; doing it twice is fine."""
        with self._lock:
            self._closed = True
            if not self._served:
                self._issuer.forget_run(self._run_id)  # the plugin never ran
            if self._connection is not None:
                try:
                    self._connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    # ENOTCONN: the peer has gone, which wakes the reader as well.
                    return

    def _serve(self, connection: socket.socket) -> str:
        lines = Lines()
        try:
            while True:
                try:
                    line = lines.next()
                except LineTooLongError:
                    error = RpcError(
                        ErrorCode.INVALID_REQUEST,
                        f"a line is longer than {MAX_LINE_BYTES} bytes; the session ends",
                        fatal=True,
                    )
                    self._refused("", error)
                    self._send(connection, error_line(None, error))
                    return "line_too_long"
                if line is not None:
                    self._answer(connection, line)
                    continue
                try:
                    received = connection.recv(_READ_BYTES)
                except TimeoutError:
                    continue  # A plugin may be silent as long as its run lasts.
                except ConnectionResetError:
                    # It closed its end with answers unread; nothing of its own is left to read.
                    received = b""
                if not received:
                    return "closed" if self._closed else "eof"
                lines.feed(received)
        except _SessionEnd as exc:
            return str(exc)

    def _answer(self, connection: socket.socket, line: bytes) -> None:
        if self._closed:
            raise _SessionEnd("closed")
        if not line.strip():
            return
        request: Request | None = None
        answer: bytes | None = None
        fatal: RpcError | None = None
        try:
            request = parse_request(line)
            result = self._call(request)
            answer = None if request.id is None else result_line(request.id, result)
        except RpcError as exc:
            self._refused("" if request is None else request.method, exc)
            request_id = exc.request_id if request is None else request.id
            # What could not be read as a request is answered with a null id; what was read as a
            # notification is not answered.
            if request is None or request_id is not None:
                answer = error_line(request_id, exc)
            fatal = exc if exc.fatal else None
        if answer is not None:
            self._send(connection, answer)
        if fatal is not None:
            raise _SessionEnd(fatal.reason or fatal.code.name.lower())

    def _send(self, connection: socket.socket, line: bytes) -> None:
        if self._mute:
            return
        try:
            connection.sendall(line)
        except TimeoutError:
            raise _SessionEnd("send_timeout") from None
        except (BrokenPipeError, ConnectionResetError):
            # The plugin is gone. What it wrote before, findings above all, still counts.
            self._mute = True

    def _call(self, request: Request) -> object:
        if request.method == "hello":
            return self._hello(request.params)
        token = self._token
        if token is None:
            raise self._too_early()
        if self._issuer.is_revoked(token.id):
            raise RpcError(ErrorCode.REVOKED, "the token was revoked", reason="revoked", fatal=True)
        needed = capability_of(request.method)
        if needed is None:
            raise RpcError(
                ErrorCode.UNKNOWN_METHOD, f"there is no method {ascii(request.method)[:80]}"
            )
        if not token.allows(needed):
            raise RpcError(
                ErrorCode.NO_CAPABILITY,
                f"{ascii(request.method)[1:-1][:80]} needs {needed.value}, which was not granted",
                reason=needed.value,
            )
        handler = {"findings.emit": self._findings_emit, "flows.next": self._flows_next}.get(
            request.method
        )
        if handler is None:
            raise RpcError(
                ErrorCode.NO_SURFACE,
                f"this build has no {ascii(request.method)[1:-1][:80]}",
                reason=needed.value,
            )
        self._record("rpc_call", decision="allow", method=request.method)
        return handler(request.params)

    def _too_early(self) -> RpcError:
        self._early += 1
        return RpcError(
            ErrorCode.HELLO_FIRST,
            "the first call is hello with the token of OXGEN_CAPABILITY_TOKEN",
            fatal=self._early >= _EARLY_MAX,
        )

    def _hello(self, params: dict[str, Any]) -> object:
        if self._token is not None:
            raise RpcError(ErrorCode.INVALID_REQUEST, "hello was said already")
        if set(params) != {"token"} or not isinstance(params["token"], str):
            error = self._too_early()
            raise RpcError(
                ErrorCode.INVALID_PARAMS, "hello takes one text: token", fatal=error.fatal
            )
        try:
            token = self._issuer.verify(params["token"], plugin=self._plugin, run_id=self._run_id)
            self._issuer.hold(token.id)
        except CapabilityError as exc:
            # One try: whoever holds the right token has no use for a second.
            raise RpcError(
                ErrorCode.TOKEN_REFUSED, exc.strerror or "refused", reason=exc.reason, fatal=True
            ) from None
        self._token = token
        self._record("rpc_call", decision="allow", method="hello", token_id=token.id)
        return {
            "protocol": VERSION,
            "plugin": token.plugin,
            "run_id": token.run_id,
            "capabilities": [each.value for each in token.capabilities],
            "limits": {
                "line_bytes": MAX_LINE_BYTES,
                "findings": MAX_FINDINGS,
                "findings_bytes": MAX_FINDINGS_BYTES,
                "flows_a_call": MAX_FLOWS_A_CALL,
            },
            "config": self._config,
        }

    def _findings_emit(self, params: dict[str, Any]) -> object:
        try:
            self._emitted.check(params)
            if self.findings >= MAX_FINDINGS:
                raise RpcError(
                    ErrorCode.LIMIT, f"a run may emit {MAX_FINDINGS} findings", reason="findings"
                )
            finding = parse_finding({**self._defaults(), **params})
            self._emitted.check_new(finding)
            size = len(finding.to_line())
            if self._findings_bytes + size > MAX_FINDINGS_BYTES:
                raise RpcError(
                    ErrorCode.LIMIT,
                    f"a run may emit {MAX_FINDINGS_BYTES} bytes of findings",
                    reason="findings_bytes",
                )
        except (FindingError, RpcError) as exc:
            self._record("finding_rejected", decision="deny", message=ascii(str(exc))[1:-1][:300])
            if isinstance(exc, RpcError):
                raise
            raise RpcError(ErrorCode.INVALID_PARAMS, str(exc), reason="finding") from None
        self._host(lambda: self._on_finding(finding))
        self._findings_bytes += size
        self._emitted.add(finding)
        # Not through the budget of records: the number of findings is bounded already.
        self._write_record(
            "finding_received",
            decision="allow",
            finding_id=finding.id,
            type=finding.type,
            severity=finding.severity,
        )
        return {"id": finding.id}

    def _defaults(self) -> dict[str, Any]:
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        return {
            "version": SCHEMA_VERSION,
            "id": new_id(),
            "plugin": self._plugin,
            "ts": now.replace("+00:00", "Z"),
        }

    def _flows_next(self, params: dict[str, Any]) -> object:
        most = params.get("max", MAX_FLOWS_A_CALL)
        if (
            not set(params) <= {"max"}
            or isinstance(most, bool)
            or not isinstance(most, int)
            or not 1 <= most <= MAX_FLOWS_A_CALL
        ):
            raise RpcError(
                ErrorCode.INVALID_PARAMS,
                f"flows.next takes max, a whole number from 1 to {MAX_FLOWS_A_CALL}, or nothing",
            )
        flows: list[dict[str, object]] = []
        total = 0
        done = False
        while len(flows) < most:
            if self._waiting is None:
                self._waiting = self._host(self._prepare_flow)
            if self._waiting is None:
                done = True
                break
            flow, size = self._waiting
            if total + size > _FLOWS_BYTES:
                break
            flows.append(flow)
            total += size
            self._waiting = None
        return {"flows": flows, "done": done, "omitted": self._omitted}

    def _prepare_flow(self) -> tuple[dict[str, object], int] | None:
        """Return the next flow, sanitised and small enough for one line, and its size."""
        for flow in self._flows:
            shown = sanitise(flow).as_dict()
            size = _size(shown)
            while size > _FLOWS_BYTES and isinstance(shown["body"], str) and shown["body"]:
                # Escapes make a character of the body up to twelve bytes of the line.
                shown["body"] = shown["body"][: len(shown["body"]) // 2]
                shown["body_truncated"] = True
                size = _size(shown)
            if size <= _FLOWS_BYTES:
                return shown, size
            self._omitted += 1
        return None

    def _host(self, action: Callable[[], Any]) -> Any:
        """Do something of the host's own; its failure is kept, and the plugin learns nothing."""
        try:
            return action()
        except Exception as exc:
            self._fail(exc)
            raise RpcError(ErrorCode.INTERNAL, "the host failed; nothing was done") from None

    def _fail(self, exc: BaseException) -> None:
        if self.failure is None:
            self.failure = exc

    def _refused(self, method: str, error: RpcError) -> None:
        event = "rpc_denied"
        if error.code in (ErrorCode.NO_CAPABILITY, ErrorCode.TOKEN_REFUSED, ErrorCode.REVOKED):
            event = "capability_denied"
        self._record(
            event,
            decision="deny",
            method=method,
            code=int(error.code),
            reason=error.reason,
            message=str(error)[:300],
        )

    def _record(self, event: str, **fields: object) -> None:
        """Record a call, within a budget: a plugin must not fill the disk with its own calls."""
        if self._records < _RECORDS_MAX:
            self._records += 1
            self._write_record(event, **fields)
            return
        self._counts[event] += 1
        if self._records == _RECORDS_MAX:
            self._records += 1
            self._write_record("audit_suppressed", after=_RECORDS_MAX)

    def _write_record(self, event: str, **fields: object) -> None:
        self._counts[event] += 1
        try:
            self._audit.record(event, plugin=self._plugin, run_id=self._run_id, **fields)
        except Exception as exc:
            self._fail(exc)
            raise _SessionEnd("audit_failed") from None

    def _finish(self, reason: str) -> None:
        token = self._token
        self._issuer.forget_run(self._run_id)
        try:
            self._write_record(
                "plugin_disconnect",
                reason=reason,
                token_id=None if token is None else token.id,
                totals=dict(sorted(self._counts.items())),
                seconds=round(time.monotonic() - self._began, 3),
            )
        except _SessionEnd:
            return  # `failure` holds the cause.


def _size(flow: dict[str, object]) -> int:
    return len(json.dumps(flow, ensure_ascii=True, separators=(",", ":"))) + 1
