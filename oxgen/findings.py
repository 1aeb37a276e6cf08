"""Findings: what a plugin or the supervisor reports, schema 0.2, one JSON object a line.

Every text in a finding comes from somebody who may be hostile. A line is ASCII only (0x20 to 0x7e),
so that no line break that some reader knows (U+2028, U+0085 ...) and no escape sequence can be in
it; who shows a finding uses ``escape_text``. The schema is 0xGen's ``findings.schema.json``; the
sizes are ours.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import stat
import threading
import time
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from types import MappingProxyType, TracebackType
from typing import Any, BinaryIO, Literal, get_args

from .errors import FindingError, UsageError
from .result import Completed

__all__ = [
    "MAX_LINE_BYTES",
    "MAX_TEXT_BYTES",
    "SCHEMA_VERSION",
    "TERMINATION_TYPE",
    "Finding",
    "FindingsWriter",
    "LineReport",
    "Severity",
    "escape_text",
    "new_id",
    "parse_finding",
    "termination_finding",
    "validate_lines",
]

SCHEMA_VERSION = "0.2"
TERMINATION_TYPE = "oxg.supervisor.termination"
Severity = Literal["info", "low", "med", "high", "crit"]

#: The longest line that is read. A finding within the other bounds never makes a longer one: a byte
#: of text becomes at most six in JSON.
MAX_LINE_BYTES = 1 << 20
#: All text of one finding together, in UTF-8.
MAX_TEXT_BYTES = 128 * 1024
_FIELD_BYTES = {
    "plugin": 128,
    "type": 256,
    "message": 16 * 1024,
    "target": 8 * 1024,
    "evidence": 64 * 1024,
}
_META_ENTRIES = 64
_META_KEY_BYTES = 128
_META_VALUE_BYTES = 16 * 1024

_KEYS = (
    "version",
    "id",
    "plugin",
    "type",
    "message",
    "target",
    "evidence",
    "severity",
    "ts",
    "meta",
)
_REQUIRED = ("version", "id", "plugin", "type", "message", "severity", "ts")
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]([0-9]{2}:[0-9]{2}):([0-9]{2})(\.[0-9]{1,9})?"
    r"([Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)
_NOT_IN_LINE = re.compile(rb"[^\x20-\x7e]")
#: Invisible without being a control or format character: fillers, joiners, variation selectors
#: (Default_Ignorable_Code_Point of Unicode's DerivedCoreProperties), and the blank braille cell.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0"
    "\U000e0100-\U000e01ef]"
)
_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One finding; whatever object of this type exists fulfils the schema.

    ``target`` and ``evidence`` None and an empty ``meta`` are left out of the line. Raises
    ``FindingError`` that names the member. Sizes (UTF-8 bytes): plugin 128, type 256, message
    16 KiB, target 8 KiB, evidence 64 KiB, meta 64 entries with keys of 128 and values of 16 KiB,
    everything together 128 KiB.
    """

    id: str
    plugin: str
    type: str
    message: str
    severity: Severity
    ts: str
    target: str | None = None
    evidence: str | None = None
    meta: Mapping[str, str] = field(default_factory=dict)
    version: str = SCHEMA_VERSION

    def __post_init__(self) -> None:
        if self.version != SCHEMA_VERSION:
            raise FindingError("version", f"must be {SCHEMA_VERSION!r}, got {_shown(self.version)}")
        if not isinstance(self.id, str) or not _ULID.fullmatch(self.id):
            raise FindingError("id", f"must be a ULID (26 of {_ALPHABET}), got {_shown(self.id)}")
        if self.severity not in get_args(Severity):
            accepted = ", ".join(get_args(Severity))
            raise FindingError(
                "severity", f"must be one of {accepted}, got {_shown(self.severity)}"
            )
        _check_time(self.ts)
        total = sum(_check_text(name, getattr(self, name), most) for name, most in _texts(self))
        if not isinstance(self.meta, Mapping):
            raise FindingError("meta", f"must be an object, got {_shown(self.meta)}")
        if len(self.meta) > _META_ENTRIES:
            raise FindingError("meta", f"has {len(self.meta)} entries, at most {_META_ENTRIES}")
        for key, value in self.meta.items():
            total += _check_text("meta", key, _META_KEY_BYTES, empty=True)
            total += _check_text(f"meta.{_clipped(key)}", value, _META_VALUE_BYTES, empty=True)
        if total > MAX_TEXT_BYTES:
            raise FindingError("", f"has {total} bytes of text, at most {MAX_TEXT_BYTES}")
        object.__setattr__(self, "meta", MappingProxyType(dict(self.meta)))

    def __hash__(self) -> int:
        return hash(self.id)

    def as_dict(self) -> dict[str, Any]:
        """Return the members that are present, in the order of the schema."""
        members = {name: getattr(self, name) for name in _KEYS if getattr(self, name) is not None}
        members["meta"] = dict(self.meta)
        if not self.meta:
            del members["meta"]
        return members

    def to_line(self) -> bytes:
        """Return the finding as one line: bytes 0x20 to 0x7e, and one newline at the end."""
        text = json.dumps(self.as_dict(), ensure_ascii=True, separators=(",", ":"))
        return text.encode("ascii") + b"\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class LineReport:
    """What one line of a findings file holds: a finding, or an error that says what is wrong."""

    number: int
    finding: Finding | None
    error: str = ""


def parse_finding(source: bytes | str | Mapping[str, Any]) -> Finding:
    """Read one finding from JSON (UTF-8) or from an object; raise ``FindingError``.

    Unknown and duplicate keys, members of another type, null where a string belongs, lone
    surrogates and everything beyond the sizes of ``Finding`` are refused.
    """
    members = source if isinstance(source, Mapping) else _read_json(source)
    for key in members:
        if key not in _KEYS:
            raise FindingError(_clipped(key), "is not a known key; known are " + ", ".join(_KEYS))
    for key in _REQUIRED:
        if key not in members:
            raise FindingError(key, "is missing; every finding has " + ", ".join(_REQUIRED))
    for key in ("target", "evidence"):
        if key in members and members[key] is None:
            raise FindingError(key, "must be a string, or be left out; got null")
    return Finding(**members)


def termination_finding(completed: Completed, *, plugin: str) -> Finding:
    """Return the finding ``oxg.supervisor.termination`` of a run that did not end by itself.

    ``meta`` has, each with the prefix ``sandbox.``: termination_reason, termination_detail, task_id
    (empty: none), run_id, memory_limit_bytes, memory_usage_bytes, cpu_limit, cpu_usage,
    wall_time_limit, wall_time (seconds, as ``1.5s``), exit_code, signal, certain. ``none`` is a
    limit that was not set, ``unknown`` what nobody measured. Names that are no text or too long are
    escaped and cut, because this record must not get lost. Raises ``UsageError`` for a run without
    a reason.
    """
    ended, usage, limits = completed.termination, completed.usage, completed.limits
    if ended.reason is None:
        raise UsageError("a run that ended by itself has no termination finding (reason is None)")
    meta = {
        "termination_reason": ended.reason,
        "termination_detail": _fitted(ended.detail, 4096),
        "task_id": _fitted(completed.task_id or "", 1024),
        "run_id": _fitted(completed.run_id, 1024),
        "memory_limit_bytes": _number(limits.memory_bytes, "none"),
        "memory_usage_bytes": _number(usage.peak_memory_bytes, "unknown"),
        "cpu_limit": _seconds(limits.cpu_seconds),
        "cpu_usage": _seconds(usage.cpu_seconds),
        "wall_time_limit": _seconds(limits.wall_seconds),
        "wall_time": _seconds(usage.wall_seconds),
        "exit_code": _number(ended.exit_code, "none"),
        "signal": _number(ended.signal, "none"),
        "certain": "true" if ended.certain else "false",
    }
    name = _fitted(plugin, _FIELD_BYTES["plugin"]) or "unknown"
    detail = f": {_fitted(ended.detail, 4096)}" if ended.detail else ""
    return Finding(
        id=new_id(),
        plugin=name,
        type=TERMINATION_TYPE,
        message=f"plugin {name} was ended: {ended.reason}{detail}",
        severity="high",
        ts=_now(),
        meta={f"sandbox.{key}": value for key, value in meta.items()},
    )


def validate_lines(stream: BinaryIO) -> Iterator[LineReport]:
    """Judge each line of a findings file, numbered from 1; a bad line does not stop the others.

    Beyond ``parse_finding`` a line must be ASCII without control characters, at most 1 MiB, not
    blank, and end with a newline (else the writer was cut off).
    """
    number = 0
    while line := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES:
            while line and not line.endswith(b"\n"):
                line = stream.readline(MAX_LINE_BYTES)
            error = f"is longer than {MAX_LINE_BYTES} bytes"
            yield LineReport(number=number, finding=None, error=error)
            continue
        yield _judge(number, line)


class FindingsWriter:
    """Appends findings to a file, each whole line with one ``write(2)``; safe for threads.

    The file is made with mode 0600 if it is not there, and must be a regular one. What an earlier
    writer left without its newline is closed off by one, so that no record is joined to another.
    Raises ``OSError`` (a full disk, say) and ``UsageError`` for what is not a regular file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._lock = threading.Lock()
        # O_NONBLOCK: a FIFO without a reader is an error at once and not a wait.
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        self._descriptor = os.open(self.path, flags, 0o600)
        try:
            status = os.fstat(self._descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise UsageError(f"{self.path!r} is not a regular file; findings go into one")
            last = os.pread(self._descriptor, 1, status.st_size - 1) if status.st_size else b"\n"
            self._torn = last != b"\n"
        except BaseException:
            self.close()
            raise

    def write(self, finding: Finding) -> None:
        """Append one finding; it is in the file, not yet on the disk, when this returns."""
        with self._lock:
            if self._descriptor < 0:
                raise ValueError(f"{self.path!r} is closed")
            line = (b"\n" if self._torn else b"") + finding.to_line()
            # A failed write leaves no bytes of it; a short one leaves a torn line.
            written = os.write(self._descriptor, line)
            self._torn = written < len(line)
            if self._torn:
                raise OSError(
                    errno.ENOSPC, f"only {written} of {len(line)} bytes were written", self.path
                )

    def close(self) -> None:
        """Close the file; doing it twice is fine."""
        with self._lock:
            descriptor, self._descriptor = self._descriptor, -1
            if descriptor >= 0:
                os.close(descriptor)

    def __enter__(self) -> FindingsWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def escape_text(text: str) -> str:
    """Make hostile text safe for a terminal: one line, nothing that acts, hides or reorders.

    Controls (C0, DEL, C1, so ESC and line ends too), format characters (bidi, zero width, tags),
    line and paragraph separators, lone surrogates, private and unassigned code points and
    invisible fillers become ``\\x1b``, ``\\u202e``, ``\\U000e0041``. Everything else stays, the
    backslash too.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(char) if _is_unsafe(char) else char for char in text)


class _Ids:
    """ULIDs that never go back within a process, whatever thread asks or the clock does."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew: after a fork the child must not go on where the parent does."""
        self._lock = threading.Lock()
        self._last = 0

    def new(self) -> str:
        with self._lock:
            fresh = (time.time_ns() // 1_000_000 << 80) | secrets.randbits(80)
            # The same millisecond, or a clock set back: count on; a carry moves on the time.
            if fresh >> 80 <= self._last >> 80:
                fresh = self._last + 1
            self._last = fresh
        return "".join(_ALPHABET[fresh >> shift & 31] for shift in range(125, -1, -5))


_ids = _Ids()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_ids.reset)


def new_id() -> str:
    """Return a new ULID: 48 bits of milliseconds, 80 random bits, in Crockford's base 32.

    Strictly increasing within a process (https://github.com/ulid/spec, "Monotonicity").
    """
    return _ids.new()


def _read_json(source: bytes | str) -> Mapping[str, Any]:
    if len(source) > MAX_LINE_BYTES:
        raise FindingError("", f"is longer than {MAX_LINE_BYTES} bytes")
    try:
        text = source.decode("utf-8") if isinstance(source, bytes) else source
        value = json.loads(text, object_pairs_hook=_members)
    except FindingError:
        raise
    except UnicodeDecodeError as exc:
        raise FindingError("", f"is not UTF-8: byte {exc.start}") from exc
    except RecursionError as exc:
        raise FindingError("", "is nested too deep; a finding has one level and meta") from exc
    except ValueError as exc:
        raise FindingError("", f"is not JSON: {exc}") from exc
    if not isinstance(value, dict):
        raise FindingError("", f"must be an object, got {_shown(value)}")
    return value


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for key, value in pairs:
        if key in members:
            raise FindingError(_clipped(key), "stands there twice; keep one of them")
        members[key] = value
    return members


def _judge(number: int, line: bytes) -> LineReport:
    body = line.removesuffix(b"\n")
    try:
        if not line.endswith(b"\n"):
            raise FindingError("", "has no newline at its end; the writer was cut off")
        if not body.strip():
            raise FindingError("", "is blank; every line is one finding")
        if found := _NOT_IN_LINE.search(body):
            raise FindingError(
                "",
                f"has the byte {found[0][0]:#04x} in column {found.start() + 1};"
                " a line is ASCII only, escape the character as \\uXXXX",
            )
        return LineReport(number=number, finding=parse_finding(body))
    except FindingError as exc:
        return LineReport(number=number, finding=None, error=str(exc))


def _texts(finding: Finding) -> Iterator[tuple[str, int]]:
    for name, most in _FIELD_BYTES.items():
        if name in _REQUIRED or getattr(finding, name) is not None:
            yield name, most


def _check_text(where: str, value: object, most: int, *, empty: bool = False) -> int:
    """Return the size of a text in bytes, or refuse it."""
    if not isinstance(value, str):
        raise FindingError(where, f"must be a string, got {_shown(value)}")
    if not value and not empty:
        raise FindingError(where, "must not be empty")
    try:
        size = len(value.encode("utf-8"))
    except UnicodeEncodeError as exc:
        raise FindingError(
            where,
            f"holds a lone surrogate at {exc.start}, which is not text; escape raw bytes first",
        ) from exc
    if size > most:
        raise FindingError(where, f"has {size} bytes, at most {most}")
    return size


def _check_time(value: object) -> None:
    """Check RFC 3339, section 5.6: a real date, and second 60 only where a leap second can be."""
    found = _TIME.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise FindingError(
            "ts", f"must be RFC 3339 such as 2026-01-31T12:00:00.5Z, got {_shown(value)}"
        )
    date, minute, second, _, offset = found.groups()
    sign = offset.upper().replace("Z", "+00:00")
    leap = second == "60"
    try:
        moment = datetime.fromisoformat(f"{date}T{minute}:{'59' if leap else second}{sign}")
        if leap:
            moment = moment.astimezone(timezone.utc)
    except (ValueError, OverflowError) as exc:
        raise FindingError("ts", f"is no date and time that exists: {_shown(value)}") from exc
    if leap and (moment.hour, moment.minute) != (23, 59):
        raise FindingError("ts", f"has a leap second that is not at 23:59 UTC: {_shown(value)}")


def _now() -> str:
    moment = datetime(1970, 1, 1) + timedelta(microseconds=time.time_ns() // 1000)
    return f"{moment.isoformat(timespec='microseconds')}Z"


def _number(value: int | None, absent: str) -> str:
    return absent if value is None else str(value)


def _seconds(value: float | None) -> str:
    if value is None:
        return "none"
    return f"{value:.6f}".rstrip("0").rstrip(".") + "s"


def _fitted(text: str, most: int) -> str:
    """Return text that a finding takes: surrogates escaped, cut to ``most`` bytes."""
    encoded = text.encode("utf-8", "backslashreplace")
    if len(encoded) > most:
        encoded = encoded[: most - 3].decode("utf-8", "ignore").encode("utf-8") + b"..."
    return encoded.decode("utf-8")


def _shown(value: object) -> str:
    return _clipped(value) if isinstance(value, str) else f"{type(value).__name__}"


def _clipped(text: object) -> str:
    shown = ascii(text)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."


def _is_unsafe(char: str) -> bool:
    return unicodedata.category(char) in _UNSAFE_CATEGORIES or bool(_INVISIBLE.match(char))


def _escaped(char: str) -> str:
    point = ord(char)
    if point <= 0xFF:
        return f"\\x{point:02x}"
    return f"\\u{point:04x}" if point <= 0xFFFF else f"\\U{point:08x}"
