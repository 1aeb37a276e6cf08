"""Names that carry secrets: of headers, members, parameters, fields and elements."""

from __future__ import annotations

import re
from urllib.parse import unquote_plus

__all__ = ["is_secret_header", "is_secret_name", "is_secret_parameter", "mark", "plain_name"]

_SQUEEZE = re.compile(r"[^a-z0-9]+")
#: A name that contains one of these carries a secret, in whatever it is the name.
_PARTS = re.compile(
    r"token|secret|passw|passphrase|passwd|apikey|accesskey|privatekey|credential|signature|jwt|"
    r"session|authoriz|authoris|authkey|authcode|bearer|csrf|xsrf|samlre|oauth"
)
_NAMES = frozenset(
    {"pwd", "pass", "auth", "sig", "sid", "jsessionid", "phpsessid", "hmac", "otp", "pin"}
    | {"cookie", "cookies", "setcookie"}
)
#: Ordinary words in a document, secrets as a parameter of a URL.
_PARAMETERS = frozenset({"key", "code", "pin", "ticket", "assertion", "nonce", "state", "hash"})
_HEADERS = frozenset({"x-api-key", "authorization", "proxy-authorization", "authentication-info"})
#: They say how to log in, or which names are allowed; they hold nothing to log in with.
_PLAIN_HEADERS = re.compile(
    r"access-control-.*|www-authenticate|proxy-authenticate|.*-policy(?:-report-only)?|"
    r"clear-site-data|authority|x-author"
)
_ESCAPE = re.compile(r"\\+(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2}))")


def mark(kind: str) -> str:
    """Return what stands in the place of a secret of this kind."""
    return f"[redacted:{kind}]"


def plain_name(name: str) -> str:
    r"""Return a name without the escapes of JSON and scripts (``pass\u0077ord``)."""
    if "\\" not in name:
        return name
    return _ESCAPE.sub(lambda found: chr(int(found[1] or found[2], 16)), name)


def _squeezed(name: str) -> str:
    return _SQUEEZE.sub("", unquote_plus(plain_name(name)).lower())


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
