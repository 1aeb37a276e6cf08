"""HAR reader: HTTP captures of browsers and proxies, read entry by entry.

HAR 1.2 (http://www.softwareishard.com/blog/har-12-spec/) as it is really written: Chrome adds
``_custom`` members, HTTP/2 pseudo headers and status 0 for what never got an answer; Firefox joins
several ``Set-Cookie`` fields with line feeds and may leave ``text`` out; mitmproxy writes floats
for times, an empty ``content`` and null for what it does not know. Members that are not needed are
not even decoded, so that nobody's idea of them can break the reading. Each entry is decoded on its
own: one that is broken is reported and skipped, and the others are read.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import json
import os
import re
import stat
from dataclasses import dataclass

import msgspec

from ..errors import CaptureError
from ..limits import KIB, MIB
from ..values import path_text
from .flow import Flow, Header
from .har_split import BudgetError, StructureError, entry_spans

__all__ = [
    "MAX_BODY_CHARACTERS",
    "MAX_CAPTURE_BYTES",
    "MAX_ENTRIES",
    "MAX_ENTRY_BYTES",
    "Capture",
    "Skipped",
    "read_har",
]

MAX_CAPTURE_BYTES = 256 * MIB
MAX_BODY_CHARACTERS = 256 * KIB
MAX_ENTRIES = 250_000
#: The text of one entry, with its body; a longer one is skipped.
MAX_ENTRY_BYTES = 32 * MIB
#: A flow without its body must fit into one line of the protocol, also when every cookie of one
#: character has become a redaction mark.
_MAX_HEAD_BYTES = 128 * KIB
_SCHEME = re.compile(r"(?:https?|wss?)://[^/]", re.IGNORECASE)
_METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}", re.ASCII)
_TEXT_MIME = re.compile(
    r"text/|(?:application|image|model|message)/(?:[^;]*\+)?"
    r"(?:json|xml|javascript|ecmascript|x-javascript|x-www-form-urlencoded|xhtml|graphql|yaml)\b",
    re.IGNORECASE,
)
_BINARY_MIME = re.compile(r"(?:image|audio|video|font)/(?!svg\+xml)", re.IGNORECASE)
_CHARSET = re.compile(r";\s*charset\s*=\s*\"?([\w.:-]{1,40})", re.IGNORECASE | re.ASCII)
#: What `codecs` calls the encodings that web pages use. The name comes from the capture, and some
#: codecs of Python (punycode, idna, unicode_escape) take quadratic time or warn.
_ENCODINGS = re.compile(
    r"utf-8(?:-sig)?|utf-16(?:-[lb]e)?|ascii|iso8859-\d+|cp125\d|cp932|cp949|koi8-[ru]|shift_jis|"
    r"euc_jp|euc_kr|gb2312|gbk|gb18030|big5(?:hkscs)?|mac-roman|tis-620"
)
#: Escapes of JSON: whole surrogate pairs first, then halves (group 1), then any other.
_ESCAPE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|"
    rb"\\u([dD][89a-fA-F][0-9a-fA-F]{2})|\\."
)
_EXPECTED = (
    "expected a HAR 1.2 file: UTF-8 JSON, an object with an object 'log' that has a list 'entries'"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """An entry that gave no flow; ``index`` counts from 0 as in ``log.entries``."""

    index: int
    reason: str

    def __str__(self) -> str:
        return f"entry {self.index}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """What a capture file holds: its flows in file order, and the entries that gave none."""

    flows: tuple[Flow, ...]
    skipped: tuple[Skipped, ...]


class _Pair(msgspec.Struct):
    name: str
    value: str | None = ""


class _Cookie(msgspec.Struct, rename="camel"):
    name: str
    value: str | None = ""
    path: str | None = None
    domain: str | None = None
    expires: str | None = None
    http_only: bool | None = None
    secure: bool | None = None
    same_site: str | None = None


class _Content(msgspec.Struct, rename="camel"):
    size: int | float | None = None
    mime_type: str | None = None
    text: str | None = None
    encoding: str | None = None


class _Request(msgspec.Struct, rename="camel"):
    method: str
    url: str
    http_version: str | None = ""
    headers: list[_Pair] | None = None


class _Response(msgspec.Struct, rename="camel"):
    status: int | float
    http_version: str | None = ""
    headers: list[_Pair] | None = None
    #: Decoded where the header is missing only: many recorders have ideas of their own here.
    cookies: msgspec.Raw = msgspec.Raw(b"null")
    content: _Content | None = None


class _Entry(msgspec.Struct, rename="camel"):
    request: _Request
    response: _Response
    started_date_time: str | None = ""


class _Broken(Exception):
    """Why one entry gives no flow."""


def read_har(path: str | os.PathLike[str]) -> Capture:
    """Read a HAR file; keep what can be read and say what was skipped.

    Raises ``OSError`` where the file cannot be opened or read and ``CaptureError`` where it is no
    regular file, larger than 256 MiB, of more than `MAX_ENTRIES` entries, or no HAR. An entry that
    is larger than `MAX_ENTRY_BYTES`, no JSON or no UTF-8 is skipped. Bodies are cut at
    `MAX_BODY_CHARACTERS`.
    """
    name = path_text("path", path)
    text = _read(name)
    if text.startswith(codecs.BOM_UTF8):
        text = text[len(codecs.BOM_UTF8) :]
    elif text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise CaptureError(f"{name}: is UTF-16; {_EXPECTED}")
    flows: list[Flow] = []
    skipped: list[Skipped] = []
    index = 0
    try:
        for start, end in entry_spans(text):
            if index >= MAX_ENTRIES:
                raise CaptureError(
                    f"{name}: has more than {MAX_ENTRIES} entries; split it into smaller captures"
                )
            outcome = _outcome(index, text, start, end)
            if isinstance(outcome, Flow):
                flows.append(outcome)
            else:
                skipped.append(outcome)
            index += 1
    except StructureError as exc:
        raise CaptureError(f"{name}: {exc}; {_EXPECTED}") from None
    except BudgetError:
        reason = "has too many lists and objects; neither it nor what follows it was read"
        skipped.append(Skipped(index=index, reason=reason))
    return Capture(flows=tuple(flows), skipped=tuple(skipped))


def _outcome(index: int, text: bytes, start: int, end: int) -> Flow | Skipped:
    """Decode one entry. Its parsed form is much larger than its text: one is held at a time."""
    try:
        if end - start > MAX_ENTRY_BYTES:
            raise _Broken(f"is larger than {MAX_ENTRY_BYTES} bytes")
        return _flow(index, _decoded(text[start:end]))
    except _Broken as exc:
        reason = str(exc)
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as exc:
        reason = _cause(exc)
    return Skipped(index=index, reason=reason)


def _decoded(text: bytes) -> _Entry:
    try:
        return msgspec.json.decode(text, type=_Entry, strict=False)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        # A lone surrogate is the one breach of JSON that real recorders commit.
        repaired = _ESCAPE.sub(_repaired, text)
        if repaired == text:
            raise
    return msgspec.json.decode(repaired, type=_Entry, strict=False)


def _repaired(match: re.Match[bytes]) -> bytes:
    """Replace an escape of half a surrogate pair.

    Python programs (mitmproxy) write a byte that is no UTF-8 as U+DC80 to U+DCFF (PEP 383): that
    becomes the character of the same number, as HTTP once read header fields (RFC 9110, 5.5).
    """
    escape = match[0]
    if match[1] is None:
        return escape
    number = int(match[1], 16)
    return b"\\u%04x" % (number - 0xDC00 if 0xDC80 <= number <= 0xDCFF else 0xFFFD)


def _read(name: str) -> bytes:
    # O_NONBLOCK: opening a FIFO would wait for a writer.
    flags = os.O_RDONLY
    for flag in ("O_CLOEXEC", "O_NONBLOCK", "O_NOCTTY", "O_BINARY"):
        flags |= getattr(os, flag, 0)
    descriptor = os.open(name, flags)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise CaptureError(f"{name}: is no regular file; {_EXPECTED}")
    with os.fdopen(descriptor, "rb") as stream:
        text = stream.read(MAX_CAPTURE_BYTES + 1) if status.st_size <= MAX_CAPTURE_BYTES else None
    if text is None or len(text) > MAX_CAPTURE_BYTES:
        raise CaptureError(
            f"{name}: is larger than {MAX_CAPTURE_BYTES} bytes; split it into smaller captures"
        )
    return text


def _cause(exc: Exception) -> str:
    if isinstance(exc, RecursionError):
        return "is nested too deeply"
    # The text may quote a key of the file: keep it to one printable line.
    return ascii(str(exc))[1:-1][:200]


def _flow(index: int, entry: _Entry) -> Flow:
    request, response = entry.request, entry.response
    if _METHOD.fullmatch(request.method) is None:
        raise _Broken(f"method {request.method!a:.80} is no HTTP method")
    if _SCHEME.match(request.url) is None:
        raise _Broken(f"url {request.url!a:.80} is not http, https, ws or wss")
    if response.status == 0:
        raise _Broken("has no response (status 0)")
    if not 100 <= response.status <= 999 or response.status != int(response.status):
        raise _Broken(f"status {response.status!r:.40} is not a whole number from 100 to 999")
    headers = _headers(response.headers)
    set_cookies = tuple(value for name, value in headers if name.lower() == "set-cookie")
    content = response.content or _Content()
    mime_type = content.mime_type or _first(headers, "content-type")
    body, size = _body(content, mime_type)
    flow = Flow(
        id=f"flow-{index}",
        method=request.method,
        url=request.url,
        http_version=response.http_version or request.http_version or "",
        request_headers=_headers(request.headers),
        status=int(response.status),
        response_headers=headers,
        set_cookies=set_cookies or _parsed_cookies(response.cookies),
        body=None if body is None else body[:MAX_BODY_CHARACTERS],
        body_size=size,
        body_truncated=body is not None and len(body) > MAX_BODY_CHARACTERS,
        mime_type=mime_type,
        started_at=entry.started_date_time or "",
    )
    head = {**flow.as_dict(), "body": None}
    if len(json.dumps(head)) > _MAX_HEAD_BYTES:
        raise _Broken(f"url and headers are larger than {_MAX_HEAD_BYTES} bytes together")
    return flow


def _headers(pairs: list[_Pair] | None) -> tuple[Header, ...]:
    found: list[Header] = []
    for pair in pairs or ():
        if pair.name.startswith(":"):
            continue
        value = pair.value or ""
        # Firefox writes several Set-Cookie fields as one, joined by line feeds.
        values = value.split("\n") if pair.name.lower() == "set-cookie" else [value]
        found.extend((pair.name, each.rstrip("\r")) for each in values)
    return tuple(found)


def _first(headers: tuple[Header, ...], wanted: str) -> str:
    return next((value for name, value in headers if name.lower() == wanted), "")


def _parsed_cookies(parsed: msgspec.Raw) -> tuple[str, ...]:
    """Make ``Set-Cookie`` values of what a recorder kept in ``cookies``.

    Chrome leaves the header out and the list in, or both out, unless it is asked to export with
    sensitive data. A list that breaks the format is worth nothing beside good headers.
    """
    try:
        cookies = msgspec.json.decode(parsed, type=list[_Cookie] | None, strict=False)
    except (msgspec.MsgspecError, ValueError, RecursionError) as exc:
        raise _Broken(f"response.cookies: {_cause(exc)}") from None
    made = []
    for cookie in cookies or ():
        parts = [f"{cookie.name}={cookie.value or ''}"]
        for attribute, value in (
            ("Path", cookie.path),
            ("Domain", cookie.domain),
            ("Expires", cookie.expires),
            ("SameSite", cookie.same_site),
        ):
            if value:
                parts.append(f"{attribute}={value}")
        parts += ["Secure"] if cookie.secure else []
        parts += ["HttpOnly"] if cookie.http_only else []
        made.append("; ".join(parts))
    return tuple(made)


def _body(content: _Content, mime_type: str) -> tuple[str | None, int | None]:
    recorded = content.size if content.size is not None and content.size >= 0 else None
    size = None if recorded is None else int(recorded)
    if content.text is None:
        return None, size
    if not content.encoding:
        text = None if _BINARY_MIME.match(mime_type) else content.text
        if size is None:
            size = len(content.text.encode("utf-8", "surrogatepass"))
        return text, size
    if content.encoding.lower() != "base64":
        raise _Broken(f"content.encoding {content.encoding!a:.40} is not base64")
    try:
        body = base64.b64decode(content.text, validate=True)
    except (binascii.Error, ValueError):
        raise _Broken("content.text is not base64, as content.encoding says") from None
    return _decode(body, mime_type), len(body) if size is None else size


def _decode(body: bytes, mime_type: str) -> str | None:
    if _TEXT_MIME.match(mime_type) is None:
        return None
    charset = _CHARSET.search(mime_type)
    try:
        name = codecs.lookup(charset[1]).name if charset is not None else "utf-8"
    except LookupError:
        name = "utf-8"
    # A charset that is unknown or not true: text under another name is still text.
    return body.decode(name if _ENCODINGS.fullmatch(name) else "utf-8", "replace")
