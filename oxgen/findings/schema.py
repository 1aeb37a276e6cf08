"""Schema: what a finding is, and reading one strictly."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from types import MappingProxyType
from typing import Any, Literal, get_args

from ..errors import FindingError
from ..values import check_type
from .ids import ULID_ALPHABET

__all__ = [
    "FIELD_BYTES",
    "MAX_LINE_BYTES",
    "MAX_TEXT_BYTES",
    "SCHEMA_VERSION",
    "Finding",
    "Severity",
    "parse_finding",
]

SCHEMA_VERSION = "0.2"
Severity = Literal["info", "low", "med", "high", "crit"]

#: The longest line that is read. A finding within the other bounds never makes a longer one: a byte
#: of text becomes at most six in JSON.
MAX_LINE_BYTES = 1 << 20
#: All text of one finding together, in UTF-8.
MAX_TEXT_BYTES = 128 * 1024
FIELD_BYTES = {
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
_ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]([0-9]{2}:[0-9]{2}):([0-9]{2})(\.[0-9]{1,9})?"
    r"([Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)


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
            raise FindingError(
                "id", f"must be a ULID (26 of {ULID_ALPHABET}), got {_shown(self.id)}"
            )
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


def parse_finding(source: bytes | str | Mapping[str, Any]) -> Finding:
    """Read one finding from JSON (UTF-8) or from an object; raise ``FindingError``.

    Unknown and duplicate keys, members of another type, null where a string belongs, lone
    surrogates and everything beyond the sizes of ``Finding`` are refused.
    """
    check_type("source", source, (bytes, str, Mapping), "JSON as bytes or text, or an object")
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


def _texts(finding: Finding) -> Iterator[tuple[str, int]]:
    for name, most in FIELD_BYTES.items():
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


def _shown(value: object) -> str:
    return _clipped(value) if isinstance(value, str) else f"{type(value).__name__}"


def _clipped(text: object) -> str:
    shown = ascii(text)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."
