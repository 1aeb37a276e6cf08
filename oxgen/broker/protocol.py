"""Protocol: JSON-RPC 2.0 (https://www.jsonrpc.org/specification), one object a line, read strictly.

Stricter than the specification where leniency would let two readers see two requests: no duplicate
keys, no unknown members, no batches, identifiers are strings or whole numbers. docs/protocol.md
describes it for authors of plugins.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from ..capabilities import Capability
from ..limits import MIB

__all__ = [
    "MAX_DEPTH",
    "MAX_LINE_BYTES",
    "METHODS",
    "VERSION",
    "ErrorCode",
    "LineTooLongError",
    "Lines",
    "Request",
    "RpcError",
    "capability_of",
    "error_line",
    "parse_request",
    "result_line",
]

VERSION = "oxgen.plugin/1"
#: Both directions, without the line feed.
MAX_LINE_BYTES = MIB
MAX_DEPTH = 32
_ID_CHARACTERS = 128
_ID_MAX = (1 << 53) - 1
_DIGITS_MAX = 400
_METHOD_CHARACTERS = 128

#: Every method and the capability that opens it; ``hello`` needs none.
METHODS: dict[str, Capability] = {
    "findings.emit": Capability.CAP_EMIT_FINDINGS,
    "flows.next": Capability.CAP_HTTP_PASSIVE,
    "flows.get": Capability.CAP_FLOW_INSPECT,
    "http.request": Capability.CAP_HTTP_ACTIVE,
    "ai.analyze": Capability.CAP_AI_ANALYSIS,
}
#: Groups whose methods this build has not settled: whatever the method, the capability decides.
_GROUPS: dict[str, Capability] = {
    "ws.": Capability.CAP_WS,
    "spider.": Capability.CAP_SPIDER,
    "report.": Capability.CAP_REPORT,
    "storage.": Capability.CAP_STORAGE,
}


class ErrorCode(IntEnum):
    """Numbers of errors: five of JSON-RPC, then ours (its range for servers)."""

    PARSE = -32700
    INVALID_REQUEST = -32600
    UNKNOWN_METHOD = -32601
    INVALID_PARAMS = -32602
    INTERNAL = -32603
    HELLO_FIRST = -32000
    NO_CAPABILITY = -32001
    NO_SURFACE = -32002
    TOKEN_REFUSED = -32003
    LIMIT = -32004
    REVOKED = -32005


class RpcError(Exception):
    """An answer that is an error; ``fatal`` says that the session ends after it."""

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        reason: str | None = None,
        fatal: bool = False,
        request_id: str | int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.fatal = fatal
        self.request_id = request_id


class LineTooLongError(Exception):
    """More than `MAX_LINE_BYTES` came without a line feed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One call. ``id`` None is a notification: it is carried out and never answered."""

    method: str
    params: dict[str, Any]
    id: str | int | None


class Lines:
    """Cut a stream of bytes into lines, and hold no more of it than one line and one read."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._searched = 0

    def feed(self, received: bytes) -> None:
        """Take what was read."""
        self._rest += received

    def next(self) -> bytes | None:
        """Return the next line without its line feed, or None where it is not complete yet.

        Raises ``LineTooLongError`` for a line beyond `MAX_LINE_BYTES`, complete or not.
        """
        # From where the last search ended: a line that comes byte by byte stays linear.
        end = self._rest.find(b"\n", self._searched)
        length = len(self._rest) if end < 0 else end
        if length > MAX_LINE_BYTES:
            raise LineTooLongError
        if end < 0:
            self._searched = length
            return None
        line = bytes(self._rest[:end])
        del self._rest[: end + 1]
        self._searched = 0
        return line


def capability_of(method: str) -> Capability | None:
    """Return what a method needs, or None where there is no such method."""
    known = METHODS.get(method)
    if known is not None:
        return known
    return next((needed for start, needed in _GROUPS.items() if method.startswith(start)), None)


def parse_request(line: bytes) -> Request:
    """Parse one line; raise `RpcError` with the request's id where that could be read."""
    value = _parse(line)
    if isinstance(value, list):
        raise _invalid("batches are not taken; send one object a line")
    if not isinstance(value, dict):
        raise _invalid("a request is a JSON object")
    request_id = _request_id(value)
    try:
        return _request(value, request_id)
    except RpcError as exc:
        exc.request_id = request_id
        raise


def result_line(request_id: str | int, result: object) -> bytes:
    """Return the line that answers a request."""
    return _line({"jsonrpc": "2.0", "id": request_id, "result": result})


def error_line(request_id: str | int | None, error: RpcError) -> bytes:
    """Return the line that refuses a request; ``id`` is null where it could not be read."""
    body: dict[str, object] = {"code": int(error.code), "message": str(error)}
    if error.reason is not None:
        body["data"] = {"reason": error.reason}
    return _line({"jsonrpc": "2.0", "id": request_id, "error": body})


def _line(message: dict[str, object]) -> bytes:
    return _encode(message).encode("ascii") + b"\n"


class _DuplicateKey(Exception):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _DuplicateKey
    return members


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _whole(digits: str) -> int:
    # int() takes quadratic time in the number of digits.
    if len(digits) > _DIGITS_MAX:
        raise ValueError(f"a number has more than {_DIGITS_MAX} digits")
    return int(digits)


#: Made once: the functions of `json` make a new one for each call with arguments.
_decode = json.JSONDecoder(
    object_pairs_hook=_unique, parse_constant=_no_constant, parse_int=_whole
).decode
_encode = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode


def _parse(line: bytes) -> object:
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise _parse_error(f"the line is not UTF-8 (byte {exc.start})") from None
    if _depth_exceeded(text):
        raise _parse_error(f"the line is nested deeper than {MAX_DEPTH} levels")
    try:
        return _decode(text)
    except _DuplicateKey:
        raise _invalid("an object names a member twice") from None
    except RecursionError:
        raise _parse_error(f"the line is nested deeper than {MAX_DEPTH} levels") from None
    except ValueError as exc:
        raise _parse_error(f"the line is no JSON: {ascii(str(exc))[1:-1][:120]}") from None


_STRINGS = re.compile(r'"(?:[^"\\]|\\.)*"')


def _depth_exceeded(text: str) -> bool:
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return False
    depth = 0
    for bracket in re.findall(r"[\[\]{}]", _STRINGS.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        if depth > MAX_DEPTH:
            return True
    return False


def _parse_error(message: str) -> RpcError:
    return RpcError(ErrorCode.PARSE, message)


def _invalid(message: str) -> RpcError:
    return RpcError(ErrorCode.INVALID_REQUEST, message)


def _request_id(value: dict[str, Any]) -> str | int | None:
    if "id" not in value:
        return None
    request_id = value["id"]
    if isinstance(request_id, str) and len(request_id) <= _ID_CHARACTERS:
        return request_id
    if type(request_id) is int and -_ID_MAX <= request_id <= _ID_MAX:
        return request_id
    raise _invalid(
        f"id must be a text of at most {_ID_CHARACTERS} characters or a whole number within 53 bits"
    )


def _request(value: dict[str, Any], request_id: str | int | None) -> Request:
    for name in value:
        if name not in ("jsonrpc", "id", "method", "params"):
            raise _invalid(f"unknown member {name!a:.60}; there are jsonrpc, id, method, params")
    if value.get("jsonrpc") != "2.0":
        raise _invalid('jsonrpc must be "2.0"')
    method = value.get("method")
    if not isinstance(method, str) or not 1 <= len(method) <= _METHOD_CHARACTERS:
        raise _invalid(f"method must be a text of 1 to {_METHOD_CHARACTERS} characters")
    params = value.get("params", {})
    if not isinstance(params, dict):
        raise RpcError(ErrorCode.INVALID_PARAMS, "params must be an object with named members")
    return Request(method=method, params=params, id=request_id)
