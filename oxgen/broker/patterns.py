"""Secret patterns: which names carry secrets, and what secrets look like in running text."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from urllib.parse import unquote_plus

__all__ = [
    "USERINFO",
    "is_secret_header",
    "is_secret_name",
    "is_secret_parameter",
    "mark",
    "redact_patterns",
    "redact_text",
]

#: Stands for credentials before the host of a URL. Brackets there would make the URL unreadable
#: for every parser (RFC 3986, section 3.2.2), so this one mark is spelled otherwise.
USERINFO = "redacted:userinfo"

_SQUEEZE = re.compile(r"[^a-z0-9]+")
#: A name that contains one of these carries a secret, in whatever it is the name.
_PARTS = re.compile(
    r"token|secret|passw|passphrase|passwd|apikey|accesskey|privatekey|credential|signature|jwt|"
    r"session|authoriz|authoris|authkey|authcode|bearer|csrf|xsrf|samlre|oauth"
)
_NAMES = frozenset({"pwd", "pass", "auth", "sig", "sid", "jsessionid", "phpsessid", "hmac", "otp"})
#: Ordinary words in a document, secrets as a parameter of a URL.
_PARAMETERS = frozenset({"key", "code", "pin", "ticket", "assertion", "nonce", "state", "hash"})
#: ``type=password`` says what a field is for; its value stands elsewhere.
_TYPES = frozenset({"type", "name", "id", "for"})
_HEADERS = frozenset({"x-api-key", "authorization", "proxy-authorization", "authentication-info"})
#: They say how to log in, or which names are allowed; they hold nothing to log in with.
_PLAIN_HEADERS = re.compile(
    r"access-control-.*|www-authenticate|proxy-authenticate|.*-policy(?:-report-only)?|"
    r"clear-site-data|authority|x-author"
)


def mark(kind: str) -> str:
    """Return what stands in the place of a secret of this kind."""
    return f"[redacted:{kind}]"


def _squeezed(name: str) -> str:
    return _SQUEEZE.sub("", unquote_plus(name).lower())


def is_secret_name(name: str) -> bool:
    """Tell whether a JSON member, form field or attribute of this name carries a secret."""
    squeezed = _squeezed(name)
    return squeezed in _NAMES or _PARTS.search(squeezed) is not None


def is_secret_parameter(name: str) -> bool:
    """Tell whether a parameter of a URL with this name carries a secret."""
    squeezed = _squeezed(name)
    return squeezed in _PARAMETERS or squeezed.endswith("key") or is_secret_name(name)


def is_secret_header(name: str) -> bool:
    """Tell whether a header field of this name carries a secret; ``Cookie`` is not asked here."""
    lower = name.strip().lower()
    if lower in _HEADERS:
        return True
    if _PLAIN_HEADERS.fullmatch(lower):
        return False
    return is_secret_name(lower) or lower.endswith(("-key", "-auth"))


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
    (re.compile(r"(?<=://)[^\s/?#@\"'<>\\]{1,1024}@"), USERINFO + "@"),
)

#: ``name=`` in forms, URLs, attributes and scripts. The look-behind starts a try at the beginning
#: of a name only, which keeps the time linear in the length of the text.
_ASSIGNMENT = re.compile(r"(?<![\w.\-\[\]%])(\w[\w.\-\[\]%]*)\s{0,4}(?:=|%3[dD])\s{0,4}")
_ASSIGNED = re.compile(r"\"[^\"\r\n]*\"?|'[^'\r\n]*'?|[^\s&;,\"'<>()]+")
#: ``"name":`` in JSON and in scripts, also in JSON inside a JSON text, where quotes are escaped.
_MEMBER = re.compile(r"\\{0,7}[\"']([^\"'\\\r\n:]{1,128})\\{0,7}[\"']\s{0,4}:\s{0,4}")
_MEMBER_VALUE = re.compile(
    r"\"(?:[^\"\\\r\n]|\\.)*\"?|'(?:[^'\\\r\n]|\\.)*'?|\\{1,7}[\"'][^\"'\\]*(?:\\{1,7}[\"'])?|"
    r"[^\s,}\]\"'\\]+",
    re.DOTALL,
)
_TAG = re.compile(
    r"<(?:input|meta|textarea)\b(?:[^<>\"']|\"[^\"]*\"|'[^']*'|[\"'])*", re.IGNORECASE
)
_TAG_NAME = re.compile(
    r"(?:\bname|\bid|\btype|\bproperty)\s{0,4}=\s{0,4}[\"']?([^\s\"'<>]{1,128})", re.IGNORECASE
)
_TAG_VALUE = re.compile(
    r"(\b(?:value|content)\s{0,4}=\s{0,4})(\"[^\"]*\"?|'[^']*'?|[^\s\"'<>]+)", re.IGNORECASE
)
_ELEMENT = re.compile(r"(<([A-Za-z][\w:.-]{0,63})(?:\s[^<>]{0,512})?>)([^<>]{1,65536})(?=</)")


def _in_quotes(value: str, kind: str) -> str:
    quote = re.match(r"\\{0,7}[\"']", value)
    return f"{quote[0]}{mark(kind)}{quote[0]}" if quote else mark(kind)


def _named(text: str, name: re.Pattern[str], value: re.Pattern[str]) -> str:
    """Replace the value behind each name of a secret.

    What follows another name is searched in its turn: ``href="/?token=..."`` holds a secret.
    """
    kept: list[str] = []
    done = at = 0
    while (found := name.search(text, at)) is not None:
        at = found.end()
        if found[1].lower() in _TYPES or not is_secret_name(found[1]):
            continue
        secret = value.match(text, at)
        if secret is not None:
            kept += [text[done:at], _in_quotes(secret[0], "value")]
            done = at = secret.end()
    return "".join([*kept, text[done:]])


def _tag(match: re.Match[str]) -> str:
    if not any(is_secret_name(name[1]) for name in _TAG_NAME.finditer(match[0])):
        return match[0]
    return _TAG_VALUE.sub(lambda value: value[1] + _in_quotes(value[2], "value"), match[0])


def _element(match: re.Match[str]) -> str:
    # <title>Session expired</title> has a plain name; <password>...</password> has not.
    return match[1] + mark("value") if is_secret_name(match[2]) else match[0]


def redact_patterns(text: str) -> str:
    """Replace what looks like a secret whatever its name: JWT, AWS ids, bearer, known prefixes."""
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def redact_text(text: str) -> str:
    """Replace secrets in a document: by their looks, and by the names they are given to."""
    text = redact_patterns(text)
    text = _TAG.sub(_tag, text)
    text = _ELEMENT.sub(_element, text)
    text = _named(text, _MEMBER, _MEMBER_VALUE)
    return _named(text, _ASSIGNMENT, _ASSIGNED)
