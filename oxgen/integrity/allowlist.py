"""ALLOWLIST: which bytes may start, as the lines of ``sha256sum(1)``.

::

    # hash  path, relative to the folder of this file
    9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08  hello/hello
    60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752  hello/manifest.json

Any fault refuses the whole file: a list that is half understood allows what nobody meant.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..errors import IntegrityError
from ..limits import MIB
from ..manifest import relative_path_fault
from ..values import check_type

__all__ = ["MAX_ALLOWLIST_BYTES", "Allowlist", "Entry", "parse_allowlist", "with_entries"]

MAX_ALLOWLIST_BYTES = 4 * MIB

_BOM = b"\xef\xbb\xbf"
_DIGEST = re.compile(r"[0-9A-Fa-f]{64}")
_HEX = re.compile(r"[0-9A-Fa-f]*")


@dataclass(frozen=True, slots=True)
class Entry:
    """One allowed file: lower-case hex SHA-256, path relative to the list, line number from 1."""

    digest: str
    path: str
    line: int = 0


@dataclass(frozen=True, slots=True)
class Allowlist:
    """A list that was understood as a whole. An empty one allows nothing."""

    entries: tuple[Entry, ...] = ()

    def digest_of(self, path: str) -> str | None:
        """Return the only digest that ``path`` may have; no pattern, no prefix, exact spelling."""
        for entry in self.entries:
            if entry.path == path:
                return entry.digest
        return None


def parse_allowlist(content: bytes, *, path: str = "ALLOWLIST") -> Allowlist:
    """Parse a list; raise ``IntegrityError`` (``bad_allowlist``) that names the line.

    Accepted: UTF-8 with or without one byte order mark; lines ended by LF or CRLF and by nothing
    else; comments that begin with ``#`` in the first column; blank lines; 64 hex digits in either
    case, then two spaces, one space or space and star, then the path. Refused besides: a digest of
    another length or alphabet, an empty path, a path that is not in its one normal form, control
    characters, one path with two digests, more than 4 MiB.
    """
    check_type("content", content, bytes, "the bytes of an ALLOWLIST")
    if len(content) > MAX_ALLOWLIST_BYTES:
        raise _bad(f"is larger than {MAX_ALLOWLIST_BYTES} bytes", path)
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise _bad("is UTF-16; save it as UTF-8", path)
    seen: dict[str, Entry] = {}
    for number, line in _lines(content):
        entry = _entry(line, number, path)
        if entry is None:
            continue
        earlier = seen.setdefault(entry.path, entry)
        if earlier.digest != entry.digest:
            message = f"has another digest for {entry.path!a} than line {earlier.line}"
            raise _bad(f"line {number} {message}; keep one of them", path)
    return Allowlist(tuple(seen.values()))


def with_entries(content: bytes, entries: Iterable[Entry], *, path: str = "ALLOWLIST") -> bytes:
    """Return ``content`` with ``entries`` in it; every other byte stays, comments included.

    A path that is listed gets its new digest where it stands, others are added at the end. The
    outcome is parsed again before it is returned.
    """
    parse_allowlist(content, path=path)
    wanted = {entry.path: entry.digest for entry in entries}
    missing = dict(wanted)
    mark = _BOM if content.startswith(_BOM) else b""
    kept: list[bytes] = []
    for number, raw in enumerate(content[len(mark) :].split(b"\n"), start=1):
        entry = _entry(raw.removesuffix(b"\r"), number, path)
        if entry is None or entry.path not in wanted:
            kept.append(raw)
            continue
        missing.pop(entry.path, None)
        kept.append(wanted[entry.path].encode("ascii") + raw[64:])
    if kept[-1]:
        kept.append(b"")
    kept[-1:] = [f"{digest}  {name}".encode() for name, digest in missing.items()] + [b""]
    written = mark + b"\n".join(kept)
    outcome = parse_allowlist(written, path=path)
    for name, digest in wanted.items():
        if outcome.digest_of(name) != digest:
            raise _bad(f"cannot hold {name!a}", path)
    return written


def _lines(content: bytes) -> Iterator[tuple[int, bytes]]:
    lines = content.removeprefix(_BOM).split(b"\n")
    for number, line in enumerate(lines, start=1):
        # Only CRLF is a line end: a CR that no LF follows stays, and is refused below.
        yield number, line.removesuffix(b"\r") if number < len(lines) else line


def _entry(line: bytes, number: int, path: str) -> Entry | None:
    if b"\0" in line:
        raise _bad(f"line {number} holds a NUL", path)
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise _bad(f"line {number} is not UTF-8 (byte {exc.start + 1} of the line)", path) from exc
    if text.startswith("#") or not text.strip(" \t"):
        return None
    digest, rest = text[:64], text[64:]
    if not _DIGEST.fullmatch(digest) or not rest.startswith(" "):
        raise _bad(f"line {number} {_digest_fault(text)}", path)
    name = rest[2:] if rest[1:2] in (" ", "*") else rest[1:]
    fault = relative_path_fault(name)
    if fault is not None:
        raise _bad(f"line {number}: the path {fault}: {_clipped(name)}", path)
    return Entry(digest.lower(), name, number)


def _digest_fault(text: str) -> str:
    if text.startswith("\\"):
        return "begins with a backslash (sha256sum's escaped form); rename the file"
    if text.startswith("SHA256 ("):
        return "is in the --tag form; write 'digest  path'"
    word = re.split(r"[ \t\r\x00]", text, maxsplit=1)[0]
    if not _HEX.fullmatch(word):
        return f"does not begin with a hex digest: {_clipped(word)}"
    if len(word) != 64:
        return f"has a digest of {len(word)} hex digits, a SHA-256 has 64"
    if len(word) == len(text):
        return "has a digest and no path"
    return "separates digest and path with something else than a space"


def _clipped(text: str) -> str:
    return ascii(text if len(text) <= 80 else f"{text[:77]}...")


def _bad(message: str, path: str) -> IntegrityError:
    return IntegrityError("bad_allowlist", message, path=path)
