"""Secret patterns: which names carry secrets, and what secrets look like in running text."""

from __future__ import annotations

import base64
import binascii
import bisect
import re
from collections.abc import Callable

from .cards import redact_cards
from .members import redact_json, redact_members
from .names import is_secret_name, mark
from .paths import redact_paths

__all__ = [
    "USERINFO",
    "redact_patterns",
    "redact_text",
]

#: Stands for credentials before the host of a URL. Brackets there would make the URL unreadable
#: for every parser (RFC 3986, section 3.2.2), so this one mark is spelled otherwise.
USERINFO = "redacted:userinfo"


def _basic(match: re.Match[str]) -> str:
    # "Basic" is also a word; credentials decode to name:password (RFC 7617).
    text = match[2]
    try:
        decoded = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        return match[0]
    return match[1] + mark("basic") if b":" in decoded else match[0]


_Replacement = str | Callable[[re.Match[str]], str]

_PATTERNS: tuple[tuple[re.Pattern[str], _Replacement], ...] = (
    (
        re.compile(
            r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----"
            r"(?:[^-]|-(?!----END))*(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY-----)?"
        ),
        mark("private-key"),
    ),
    # A JWS or JWE (RFC 7515, 7516): base64url of a JSON object begins with eyJ, or with ewo, ewk,
    # ew0, eyA where blanks follow the brace.
    (
        re.compile(
            r"(?<![A-Za-z0-9_-])e(?:y[JAK]|w[ok0])[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*){1,4}"
        ),
        mark("jwt"),
    ),
    # Key ids of AWS: docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html
    (
        re.compile(
            r"(?<![A-Za-z0-9])(?:A3T[A-Z0-9]|AKIA|ASIA|AGPA|AIDA|AROA|AIPA|ANPA|ANVA|ABIA|ACCA)"
            r"[A-Z0-9]{12,}(?![A-Za-z0-9])"
        ),
        mark("aws"),
    ),
    (
        re.compile(r"(?i)(?<![A-Za-z0-9])(bearer(?:\s|%20|\+){1,4})[A-Za-z0-9._~+/%-]{6,}=*"),
        r"\1" + mark("bearer"),
    ),
    (re.compile(r"(?i)(?<![A-Za-z0-9])(basic\s{1,4})([A-Za-z0-9+/]{4,}={0,2})"), _basic),
    # Prefixes that GitHub, GitLab, Slack, Stripe, Google, npm, PyPI, SendGrid and OpenAI publish so
    # that scanners can find leaked tokens.
    (
        re.compile(
            r"(?<![A-Za-z0-9])(?:gh[pousr]_[A-Za-z0-9]{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}|"
            r"xox[abeoprs]-[\w-]{8,}|xapp-[\w-]{8,}|[srp]k_(?:live|test)_\w{8,}|whsec_\w{16,}|"
            r"AIza[\w-]{30,}|ya29\.[\w-]{16,}|npm_\w{30,}|pypi-[\w-]{16,}|SG\.[\w.-]{20,}|"
            r"sk-[\w-]{20,})",
            re.ASCII,
        ),
        mark("token"),
    ),
    # Userinfo up to the last @ of the authority; browsers take a backslash for a slash.
    (
        re.compile(
            r"(?<=[A-Za-z0-9+.-]:)((?:\\{0,7}/|\\{1,7}|%2[fF]){2,4})[^\s/?#\"'<>\\]{1,1024}@"
        ),
        r"\1" + USERINFO + "@",
    ),
    # A password with a slash in it, as in the addresses of databases; no port and path.
    (
        re.compile(
            r"(?<=://)[^\s:/?#@\"'<>\\]{0,256}:(?!\d{1,5}[/?#])[^\s\"'<>\\@]{1,256}@(?=[\w.\[])"
        ),
        USERINFO + "@",
    ),
)

_TAG = re.compile(
    r"<(?:input|meta|textarea|param|property|parameter|header|field|add|entry|setting|option|button|"
    r"data|env|var|variable|item|attribute)\b(?:[^<>\"']|\"[^\"]*\"|'[^']*'|[\"'])*",
    re.IGNORECASE,
)
_TAG_NAME = re.compile(
    r"(?:\bname|\bkey|\bid|\btype|\bproperty)\s{0,4}=\s{0,4}[\"']?([^\s\"'<>]{1,128})",
    re.IGNORECASE,
)
_TAG_VALUE = re.compile(
    r"(\b(?:value|content)\s{0,4}=\s{0,4})(\"[^\"]*\"?|'[^']*'?|[^\s\"'<>]+)", re.IGNORECASE
)
_ELEMENT = re.compile(r"(<([A-Za-z][\w:.-]{0,63})(\s[^<>]{0,512})?>)([^<>]{1,65536})(?=</)")
#: <entry key="password">...</entry>; what an id or a class says is about the looks of a page.
_ELEMENT_NAME = re.compile(r"\s(?:name|key)\s{0,4}=\s{0,4}[\"']?([^\s\"'<>]{1,128})", re.IGNORECASE)
_OPENING = re.compile(r"<([A-Za-z][\w:.]{0,63})(?:\s[^<>]{0,512})?(?<!/)>")
_CLOSING = re.compile(r"</([A-Za-z][\w:.]{0,63})\s{0,64}>")


def _in_quotes(value: str, kind: str) -> str:
    quote = re.match(r"\\{0,7}[\"']", value)
    return f"{quote[0]}{mark(kind)}{quote[0]}" if quote else mark(kind)


def _tag(match: re.Match[str]) -> str:
    if not any(is_secret_name(name[1]) for name in _TAG_NAME.finditer(match[0])):
        return match[0]
    return _TAG_VALUE.sub(lambda value: value[1] + _in_quotes(value[2], "value"), match[0])


def _element(match: re.Match[str]) -> str:
    # <title>Session expired</title> has a plain name; <password>...</password> has not.
    named = is_secret_name(match[2]) or any(
        is_secret_name(name[1]) for name in _ELEMENT_NAME.finditer(match[3] or "")
    )
    return match[1] + mark("value") if named else match[0]


def _nested(text: str) -> str:
    """Replace what stands in an element of a secret's name, with the elements in it.

    Not where the name has a hyphen: those are the custom elements of HTML, parts of a page.
    """
    ends: dict[str, list[int]] = {}
    for found in _CLOSING.finditer(text):
        ends.setdefault(found[1], []).append(found.start())
    kept: list[str] = []
    done = 0
    for found in _OPENING.finditer(text) if ends else ():
        if found.start() < done or not is_secret_name(found[1]):
            continue
        closing = ends.get(found[1], [])
        at = bisect.bisect_left(closing, found.end())
        if at < len(closing) and closing[at] > found.end():
            kept += [text[done : found.end()], mark("value")]
            done = closing[at]
    return "".join([*kept, text[done:]])


def redact_patterns(text: str) -> str:
    """Replace what looks like a secret whatever its name.

    A JWT, an AWS key id, bearer and basic credentials, known prefixes, a payment card's number.
    """
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return redact_cards(redact_paths(text), mark("card"))


def redact_text(text: str, first: Callable[[str], str] | None = None) -> str:
    """Replace secrets in a document: by their looks, and by the names they are given to.

    JSON stays JSON. ``first`` is asked before, for each string of JSON or for the whole text.
    """

    def leaf(part: str) -> str:
        return _redact_plain(part if first is None else first(part))

    made = redact_json(text, leaf)
    return leaf(text) if made is None else made


def _redact_plain(text: str) -> str:
    text = redact_patterns(text)
    if "<" in text:
        text = _TAG.sub(_tag, text)
        text = _ELEMENT.sub(_element, text)
        text = _nested(text)
    return redact_members(text)
