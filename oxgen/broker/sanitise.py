"""Sanitiser: take the secrets out of a flow before a passive plugin sees it.

What stays is what a passive scanner judges: which headers and cookies there are, the attributes of
cookies, paths, the names of parameters, the text of pages. What goes is what somebody could log in
with; a mark such as ``[redacted:cookie]`` says what stood there. Limits: a secret that the server
stores under a harmless name, or encodes in a way of its own, looks like any other text.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable
from dataclasses import replace
from urllib.parse import unquote_plus

from ..values import check_type
from .challenge import redact_challenge, redact_protocols, secret_protocols
from .echoes import Echoes
from .flow import Flow, Header
from .names import is_secret_header, is_secret_parameter, mark
from .patterns import USERINFO, redact_patterns, redact_text

__all__ = ["sanitise"]

#: RFC 9110, section 11.1: scheme, blank, credentials.
_SCHEME = re.compile(
    r"(Basic|Bearer|Digest|Negotiate|NTLM|AWS4-HMAC-SHA256|Token|Hawk|DPoP|HOBA|Mutual|SCRAM-SHA-256)"
    r"\s",
    re.IGNORECASE,
)
#: Browsers take a backslash for a slash, and do without slashes behind the schemes they know (URL
#: Standard, "special authority slashes state").
_AUTHORITY = re.compile(
    r"((?:https?|wss?|ftp):[/\\]*|(?:[A-Za-z][A-Za-z0-9+.-]*:)?[/\\]{2,})([^/?#\\]*)", re.IGNORECASE
)
_URL_HEADERS = frozenset({"location", "content-location", "referer", "origin", "refresh", "link"})
#: Cookie attributes that are kept, with what their value may look like (RFC 6265bis, section 4.1).
_ATTRIBUTES = {
    "expires": re.compile(r"[A-Za-z0-9 ,:+-]{0,40}"),
    "max-age": re.compile(r"-?[0-9]{1,20}"),
    "domain": re.compile(r"[A-Za-z0-9.-]{0,253}"),
    "path": re.compile(r"[^=,;]{0,1024}"),
    "secure": re.compile(r""),
    "httponly": re.compile(r""),
    "samesite": re.compile(r"[A-Za-z]{0,16}"),
    "priority": re.compile(r"[A-Za-z]{0,16}"),
    "partitioned": re.compile(r""),
}
#: What a scanner judges: a server must not be able to blank out its own policy by setting a cookie
#: with the same text.
_POLICY_HEADERS = re.compile(
    r"access-control-.*|.*-policy(?:-report-only)?|strict-transport-security|x-frame-options|"
    r"x-content-type-options|x-xss-protection|cache-control|clear-site-data|content-type|vary",
    re.IGNORECASE,
)
_MOMENT = re.compile(r"[0-9TtZz:.+ -]{0,40}", re.ASCII)
#: A part of a cookie's path that no folder is called like.
_PATH_SECRET = re.compile(
    r"(?<=/)(?=[^/]*[0-9])(?=[^/]*[a-z])(?=[^/]*[A-Z])[A-Za-z0-9_~+.-]{12,}(?=/|$)"
)
_VERSION = re.compile(r"[A-Za-z]{0,8}/?[0-9]{0,3}(?:\.[0-9]{1,3})?", re.ASCII)


def sanitise(flow: Flow) -> Flow:
    """Return the flow without credentials, cookie values, tokens and what looks like them.

    A value that stood in a secret place of this flow (cookie, credentials, parameter) is also taken
    out where the URL, a header, a cookie's attribute or the body repeats it, percent-encoded and
    the like too. Policy headers of the response are left alone there.
    """
    check_type("flow", flow, Flow, "a Flow")
    echoes = Echoes(_secret_values(flow))
    return replace(
        flow,
        method=redact_patterns(echoes.remove(flow.method)),
        http_version=flow.http_version if _VERSION.fullmatch(flow.http_version) else mark("value"),
        url=_url(echoes.remove(flow.url)),
        request_headers=tuple(
            (_name(echoes.remove(name)), _header(name, echoes.remove(value), echoes))
            for name, value in flow.request_headers
        ),
        response_headers=tuple(
            (_name(echoes.remove(name)), _response_header(name, value, echoes))
            for name, value in flow.response_headers
        ),
        set_cookies=tuple(_set_cookie(value, echoes) for value in flow.set_cookies),
        # Echoes first: the patterns may take a part of one and leave the rest.
        body=None if flow.body is None else _body(flow.body, echoes),
        mime_type=redact_text(echoes.remove(flow.mime_type)),
        started_at=flow.started_at if _MOMENT.fullmatch(flow.started_at) else mark("value"),
    )


def _body(body: str, echoes: Echoes) -> str:
    present = echoes.within(body)
    cleaned = redact_text(body, present.remove)
    # What was found in no string of a JSON text stands across several.
    left = present.remove(cleaned)
    if left != cleaned and _is_json(cleaned) and not _is_json(left):
        return json.dumps(mark("echo"))
    return left


def _is_json(text: str) -> bool:
    try:
        json.loads(text, strict=False, parse_int=len)
    except (ValueError, RecursionError):
        return False
    return True


def _name(name: str) -> str:
    return redact_patterns(name)


def _response_header(name: str, value: str, echoes: Echoes) -> str:
    policy = _POLICY_HEADERS.fullmatch(name.strip()) is not None
    # In a cookie the echoes are looked for behind the name.
    cookie = name.strip().lower() == "set-cookie"
    return _header(name, value if policy or cookie else echoes.remove(value), echoes)


def _header(name: str, value: str, echoes: Echoes) -> str:
    lower = name.strip().lower()
    if lower == "set-cookie":
        return "\n".join(_set_cookie(each, echoes) for each in value.split("\n"))
    if lower in ("cookie", "cookie2", "set-cookie2"):
        return "; ".join(_pair(each.strip(), echoes) for each in value.split(";"))
    if lower in ("authorization", "proxy-authorization"):
        scheme = _SCHEME.match(value)
        return f"{scheme[1]} {mark('authorization')}" if scheme else mark("authorization")
    if lower in ("www-authenticate", "proxy-authenticate"):
        return redact_patterns(redact_challenge(value))
    if lower == "sec-websocket-protocol":
        return redact_patterns(redact_protocols(value))
    if is_secret_header(name):
        return mark("header")
    if lower in _URL_HEADERS:
        return _url(value)
    return redact_patterns(value)


def _pair(text: str, echoes: Echoes) -> str:
    name, equals, value = text.partition("=")
    if not equals:
        return mark("cookie") if text else ""
    # An empty value hides nothing, and tells that a cookie is being deleted.
    return f"{redact_patterns(echoes.remove(name))}={mark('cookie') if value.strip() else ''}"


def _set_cookie(value: str, echoes: Echoes) -> str:
    cookie, *attributes = value.split(";")
    return "; ".join(
        [
            _pair(cookie.strip(), echoes),
            *(_attribute(echoes.remove(each.strip())) for each in attributes),
        ]
    )


def _attribute(text: str) -> str:
    name, equals, value = (part.strip() for part in text.partition("="))
    allowed = _ATTRIBUTES.get(name.lower())
    if allowed is None:
        return mark("cookie") if text else ""
    if allowed.fullmatch(value) is None:
        return f"{name}={mark('cookie')}"
    if name.lower() == "path":
        value = _PATH_SECRET.sub(mark("cookie"), value)
    return f"{name}={redact_patterns(value)}" if equals else name


def _url(url: str) -> str:
    """Redact credentials, secret parameters and look-alikes in a URL or a text with URLs."""
    url = _AUTHORITY.sub(_authority, url)
    before, hash_mark, fragment = url.partition("#")
    path, question, query = before.partition("?")
    text = _matrix(path)
    if question:
        text += "?" + _parameters(query)
    if hash_mark:
        inner, question, query = fragment.partition("?")
        text += "#" + _parameters(inner) + (question and question + _parameters(query))
    return redact_patterns(text)


def _authority(match: re.Match[str]) -> str:
    userinfo, at, host = match[2].rpartition("@")
    if not at or userinfo == USERINFO:
        return match[0]
    return f"{match[1]}{USERINFO}@{host}"


def _matrix(path: str) -> str:
    # Matrix parameters such as ;jsessionid= stand behind any segment of the path.
    return ";".join(
        part if index == 0 else _parameter(part) for index, part in enumerate(path.split(";"))
    )


def _parameters(query: str) -> str:
    return "".join(
        part if part in ("&", ";", "?") else _parameter(part)
        for part in re.split(r"([&;?])", query)
    )


def _parameter(text: str) -> str:
    name, equals, value = text.partition("=")
    if not equals:
        return mark("query") if _hides_secret(name) else name
    if is_secret_parameter(name) or _hides_secret(value):
        return f"{redact_patterns(name)}={mark('query')}"
    return text


def _hides_secret(value: str) -> bool:
    """Tell whether a percent-encoded value holds a secret, through three layers of encoding."""
    for _ in range(3):
        decoded = unquote_plus(value)
        if decoded == value:
            return False
        value = decoded
        if redact_text(value) != value or _AUTHORITY.sub(_authority, value) != value:
            return True
        query = re.split(r"[?#&;]", value)[1:]
        if any("=" in part and is_secret_parameter(part.partition("=")[0]) for part in query):
            return True
    return False


def _secret_values(flow: Flow) -> Iterable[str]:
    """Yield the values of the places that are redacted by their name."""
    headers: tuple[Header, ...] = flow.request_headers + flow.response_headers
    headers += tuple(("set-cookie", value) for value in flow.set_cookies)
    for name, value in headers:
        lower = name.strip().lower()
        if lower == "set-cookie":
            for line in value.split("\n"):
                yield line.partition(";")[0].partition("=")[2]
        elif lower == "cookie":
            for pair in value.split(";"):
                yield pair.partition("=")[2]
        elif lower in ("authorization", "proxy-authorization"):
            yield from _credentials(value)
        elif lower == "sec-websocket-protocol":
            yield from secret_protocols(value)
        elif is_secret_header(name):
            yield value
        elif lower in ("location", "referer"):
            yield from _query_values(value)
    yield from _query_values(flow.url)
    yield from _userinfo(flow.url)


def _credentials(value: str) -> Iterable[str]:
    """Yield what stands behind the scheme; of ``Basic`` the password too (RFC 7617)."""
    rest = _SCHEME.sub("", value, count=1).strip()
    yield rest
    if value[:5].lower() != "basic":
        return
    try:
        decoded = base64.b64decode(rest + "=" * (-len(rest) % 4)).decode("utf-8", "replace")
    except ValueError:
        return
    yield decoded
    yield decoded.partition(":")[2]


def _userinfo(url: str) -> Iterable[str]:
    for found in _AUTHORITY.finditer(url):
        userinfo = found[2].rpartition("@")[0]
        yield userinfo
        yield userinfo.partition(":")[2]


def _query_values(url: str) -> Iterable[str]:
    for part in re.split(r"[?&;#]", url)[1:]:
        name, _, value = part.partition("=")
        if value and is_secret_parameter(name):
            yield value
            yield unquote_plus(value)
