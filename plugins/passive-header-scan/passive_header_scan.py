#!/usr/bin/env python3
"""passive-header-scan: judge recorded HTTP responses by their headers, cookies and pages.

It reads the flows the host hands out and sends nothing anywhere. Each kind of weakness is a row of
`RULES`, with the document it rests on. One finding is reported for each rule, origin and name
(a cookie, a header), with how often it was seen and the first URLs in ``meta``.

What is judged where: policies of documents (CSP, framing, referrer, permissions, mixed content) on
HTML answers with status 2xx only, because a redirect shows no page and an error page is seldom
written by the application; transport and cookies on every answer; leaks on every answer with a
body. A 304 repeats what an earlier answer said and is judged by its cookies alone.
"""

from __future__ import annotations

import ipaddress
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from html.parser import HTMLParser
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import oxgen_plugin

PREFIX = "passive-header-scan."
#: Half a year: the least that the HTTP Observatory of MDN takes for good.
HSTS_SECONDS = 15_768_000
EXAMPLES = 3
GROUPS_MAX = 5000
EVIDENCE_CHARACTERS = 300


class Rule(NamedTuple):
    """One weakness: how bad, what it is, and the document that says so."""

    severity: str
    title: str
    source: str


_OWASP = "https://cheatsheetseries.owasp.org/cheatsheets/"
_MDN = "https://developer.mozilla.org/en-US/docs/Web/"
_CSP = "https://www.w3.org/TR/CSP3/"
_COOKIES = "https://datatracker.ietf.org/doc/html/draft-ietf-httpbis-rfc6265bis"
_MIXED = "https://www.w3.org/TR/mixed-content/"

RULES: dict[str, Rule] = {
    "cleartext-page": Rule(
        "low", "page served without TLS", _OWASP + "Transport_Layer_Security_Cheat_Sheet.html"
    ),
    "password-without-tls": Rule(
        "high",
        "page without TLS asks for a password",
        _OWASP + "Authentication_Cheat_Sheet.html",
    ),
    "hsts-missing": Rule("low", "no Strict-Transport-Security", "RFC 6797, section 7.1"),
    "hsts-invalid": Rule(
        "low", "Strict-Transport-Security that browsers ignore", "RFC 6797, section 6.1"
    ),
    "hsts-disabled": Rule(
        "med", "Strict-Transport-Security with max-age=0", "RFC 6797, section 6.1.1"
    ),
    "hsts-weak": Rule(
        "low",
        f"Strict-Transport-Security for less than {HSTS_SECONDS} seconds",
        _MDN + "Security/Practical_implementation_guides/TLS",
    ),
    "csp-missing": Rule(
        "med", "no Content-Security-Policy", _OWASP + "HTTP_Headers_Cheat_Sheet.html"
    ),
    "csp-report-only": Rule(
        "low", "Content-Security-Policy reports and enforces nothing", _CSP + "#cspro-header"
    ),
    "csp-no-script-src": Rule(
        "med", "Content-Security-Policy does not restrict scripts", _CSP + "#directive-script-src"
    ),
    "csp-unsafe-inline": Rule(
        "med", "Content-Security-Policy allows inline scripts", _CSP + "#csp-directives"
    ),
    "csp-unsafe-eval": Rule(
        "low", "Content-Security-Policy allows eval", _CSP + "#directive-script-src"
    ),
    "csp-wildcard": Rule(
        "med",
        "Content-Security-Policy allows scripts from anywhere",
        _CSP + "#match-url-to-source-list",
    ),
    "nosniff-missing": Rule(
        "low",
        "no X-Content-Type-Options: nosniff",
        "https://fetch.spec.whatwg.org/#x-content-type-options-header",
    ),
    "framing-allowed": Rule(
        "med", "page can be framed by any site", _OWASP + "Clickjacking_Defense_Cheat_Sheet.html"
    ),
    "x-frame-options-invalid": Rule(
        "low", "X-Frame-Options that browsers ignore", "RFC 7034, section 2.1"
    ),
    "referrer-policy-missing": Rule(
        "info", "no Referrer-Policy", "https://www.w3.org/TR/referrer-policy/"
    ),
    "referrer-policy-unsafe": Rule(
        "low",
        "Referrer-Policy sends full URLs to other sites",
        "https://www.w3.org/TR/referrer-policy/",
    ),
    "permissions-policy-missing": Rule(
        "info", "no Permissions-Policy", "https://www.w3.org/TR/permissions-policy/"
    ),
    "cookie-not-secure": Rule("med", "cookie without Secure", _COOKIES + "#section-4.1.2.5"),
    "cookie-not-httponly": Rule("low", "cookie without HttpOnly", _COOKIES + "#section-4.1.2.6"),
    "cookie-no-samesite": Rule("low", "cookie without SameSite", _COOKIES + "#section-4.1.2.7"),
    "cookie-samesite-invalid": Rule(
        "low", "cookie with a SameSite that does not exist", _COOKIES + "#section-4.1.2.7"
    ),
    "cookie-samesite-none": Rule(
        "med", "cookie with SameSite=None and without Secure", _COOKIES + "#section-5.7"
    ),
    "cookie-prefix": Rule(
        "med", "cookie breaks the promise of its name prefix", _COOKIES + "#section-4.1.3"
    ),
    "cors-wildcard-credentials": Rule(
        "low",
        "CORS for every origin with credentials",
        "https://fetch.spec.whatwg.org/#http-cors-protocol",
    ),
    "cors-null": Rule(
        "med",
        "CORS for the origin null",
        _MDN + "HTTP/Reference/Headers/Access-Control-Allow-Origin",
    ),
    "cors-cleartext-origin": Rule(
        "med",
        "CORS with credentials for an origin without TLS",
        _OWASP + "HTML5_Security_Cheat_Sheet.html",
    ),
    "cors-reflected": Rule(
        "low",
        "CORS with credentials repeats a foreign origin",
        _OWASP + "HTML5_Security_Cheat_Sheet.html",
    ),
    "cache-authorized": Rule(
        "med",
        "answer to a request with credentials is open to shared caches",
        "RFC 9111, section 3.5",
    ),
    "cache-cookie": Rule(
        "low", "answer that sets a cookie is open to shared caches", "RFC 9111, section 7.3"
    ),
    "version-leak": Rule(
        "info", "header tells the version of the software", "RFC 9110, section 17.12"
    ),
    "stack-trace": Rule(
        "med", "page shows a stack trace", _OWASP + "Error_Handling_Cheat_Sheet.html"
    ),
    "directory-listing": Rule(
        "low", "directory listing", "https://cwe.mitre.org/data/definitions/548.html"
    ),
    "private-address": Rule(
        "info", "page or header shows a private address", "RFC 1918, section 3"
    ),
    "mixed-active": Rule(
        "med", "page with TLS loads code without TLS", _MIXED + "#category-blockable"
    ),
    "mixed-passive": Rule(
        "low", "page with TLS loads media without TLS", _MIXED + "#category-upgradeable"
    ),
    "mixed-form": Rule(
        "med", "page with TLS sends a form without TLS", _MIXED + "#requirements-forms"
    ),
}


class Hit(NamedTuple):
    """One occurrence. ``name`` separates findings of a rule within an origin."""

    rule: str
    name: str = ""
    evidence: str = ""


#: What an element loads: by which attribute, and how bad that is without TLS.
_LOADS = {
    "script": ("src", "mixed-active"),
    "iframe": ("src", "mixed-active"),
    "frame": ("src", "mixed-active"),
    "embed": ("src", "mixed-active"),
    "object": ("data", "mixed-active"),
    "img": ("src", "mixed-passive"),
    "audio": ("src", "mixed-passive"),
    "video": ("src", "mixed-passive"),
    "source": ("src", "mixed-passive"),
    "form": ("action", "mixed-form"),
}


class Page(HTMLParser):
    """What of a page the rules ask for: its meta policies, what it loads, its forms."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.policies: list[str] = []
        self.referrer = ""
        self.password = False
        self.complete = True
        self.cleartext: list[Hit] = []
        try:
            self.feed(text)
        except AssertionError:
            # html.parser gives up on some broken markup declarations; what came before counts.
            self.complete = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: (value or "").strip() for name, value in reversed(attrs)}
        if tag == "meta":
            if given.get("http-equiv", "").lower() == "content-security-policy":
                self.policies.append(given.get("content", ""))
            if given.get("name", "").lower() == "referrer":
                self.referrer = given.get("content", "")
        elif tag == "input" and given.get("type", "").lower() == "password":
            self.password = True
        elif tag == "link":
            if {"stylesheet", "modulepreload", "manifest"} & set(
                given.get("rel", "").lower().split()
            ):
                self._loads("mixed-active", tag, given.get("href", ""))
        elif tag in _LOADS:
            attribute, rule = _LOADS[tag]
            self._loads(rule, tag, given.get(attribute, ""))

    def _loads(self, rule: str, tag: str, url: str) -> None:
        if url.lower().startswith("http:") and not is_loopback(host_of(url)):
            self.cleartext.append(Hit(rule, tag, url))


class Flow:
    """One exchange, as the rules look at it."""

    def __init__(self, record: dict[str, Any]) -> None:
        self.url: str = record["url"]
        scheme, _, rest = self.url.partition("://")
        # Not urlsplit().netloc: it refuses hosts that a server may well have answered for.
        host = re.split(r"[/?#\\]", rest, maxsplit=1)[0].rpartition("@")[2]
        self.secure = scheme.lower() in ("https", "wss")
        self.origin = f"{scheme.lower()}://{host.lower()}"
        self.host = host_of(self.origin)
        self.status: int = record["status"]
        self.cookies: list[str] = record["set_cookies"]
        self.body: str = record["body"] or ""
        self._request = _collected(record["request_headers"])
        self._response = _collected(record["response_headers"])
        kind = self.first("content-type") or record["mime_type"]
        self.kind = kind.partition(";")[0].strip().lower()
        self.html = self.kind in ("text/html", "application/xhtml+xml")
        self.document = self.html and 200 <= self.status < 300
        self.page = Page(self.body) if self.document else Page("")

    def all(self, name: str) -> list[str]:
        return self._response.get(name, [])

    def first(self, name: str) -> str:
        return (self.all(name) or [""])[0].strip()

    def asked(self, name: str) -> str:
        return (self._request.get(name) or [""])[0].strip()

    def words(self, name: str) -> list[str]:
        """The comma-separated parts of all fields of this name, in lower case."""
        return [part.strip().lower() for value in self.all(name) for part in value.split(",")]


def _collected(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name.strip().lower(), []).append(value)
    return found


def host_of(url: str) -> str:
    """Return the host of a URL in lower case, or nothing where it has none that can be read."""
    try:
        return (urlsplit(url).hostname or "").lower()
    except ValueError:
        return ""


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine: such URLs are trustworthy without TLS (W3C)."""
    address = _address(host)
    return (
        host == "localhost" or host.endswith(".localhost") or bool(address and address.is_loopback)
    )


def transport(flow: Flow) -> Iterator[Hit]:
    if not flow.secure:
        if flow.document and flow.page.password:
            yield Hit("password-without-tls")
        if flow.document and not is_loopback(flow.host):
            yield Hit("cleartext-page")
        return
    # RFC 6797, section 8.1.1: a host that is an address never becomes a known HSTS host.
    if _address(flow.host) is not None or flow.status < 200 or flow.status == 304:
        return
    # Section 8.1: only the first field counts.
    value = flow.first("strict-transport-security")
    if not value:
        yield Hit("hsts-missing")
        return
    parts = [part.partition("=") for part in value.lower().split(";")]
    ages = [age.strip().strip('"') for name, _, age in parts if name.strip() == "max-age"]
    if len(ages) != 1 or not re.fullmatch(r"[0-9]{1,20}", ages[0]):
        yield Hit("hsts-invalid", evidence=value)
    elif int(ages[0]) == 0:
        yield Hit("hsts-disabled", evidence=value)
    elif int(ages[0]) < HSTS_SECONDS:
        yield Hit("hsts-weak", evidence=value)


def _policy(text: str) -> dict[str, list[str]]:
    directives: dict[str, list[str]] = {}
    for part in text.split(";"):
        name, *sources = part.lower().split()[:1000] or [""]
        if name:
            # A repeated directive is ignored (CSP3, section 2.2.1).
            directives.setdefault(name, sources)
    return directives


def policies(flow: Flow, name: str = "content-security-policy") -> list[dict[str, list[str]]]:
    """The policies of all fields; a comma separates policies as well (CSP3, section 3.1)."""
    texts = [part for value in flow.all(name) for part in value.split(",")]
    return [policy for policy in map(_policy, texts) if policy]


def _weaknesses(policy: dict[str, list[str]]) -> dict[str, str]:
    sources = policy.get("script-src", policy.get("default-src"))
    if sources is None:
        return {"csp-no-script-src": "; ".join(policy)}
    evidence = "script-src " + " ".join(sources)
    strict = "'strict-dynamic'" in sources
    # A nonce or a hash switches 'unsafe-inline' off (CSP3, section 6.7.3.2).
    pinned = strict or any(re.match(r"'(?:nonce|sha256|sha384|sha512)-", each) for each in sources)
    found = {}
    if "'unsafe-inline'" in sources and not pinned:
        found["csp-unsafe-inline"] = evidence
    if "'unsafe-eval'" in sources:
        found["csp-unsafe-eval"] = evidence
    if not strict and {"*", "http:", "https:", "data:", "http://*", "https://*"} & set(sources):
        found["csp-wildcard"] = evidence
    return found


def content_policy(flow: Flow) -> Iterator[Hit]:
    if not flow.document:
        return
    enforced = policies(flow) + [each for each in map(_policy, flow.page.policies) if each]
    if not enforced:
        reported = policies(flow, "content-security-policy-report-only")
        yield Hit("csp-report-only" if reported else "csp-missing")
        return
    # Every policy must allow a load: a weakness counts where all of them have it.
    found = [_weaknesses(policy) for policy in enforced]
    for rule, evidence in found[0].items():
        if all(rule in each for each in found[1:]):
            yield Hit(rule, evidence=evidence)


def document_headers(flow: Flow) -> Iterator[Hit]:
    scripted = re.search(r"javascript|ecmascript|css|json|xml|text/", flow.kind)
    # Fetch standard: the first of all values counts.
    sniffed = (flow.words("x-content-type-options") or [""])[0] != "nosniff"
    if sniffed and 200 <= flow.status < 300 and (flow.html or scripted):
        yield Hit("nosniff-missing", evidence=flow.first("x-content-type-options"))
    if not flow.document:
        return
    framed = flow.words("x-frame-options")
    if not any("frame-ancestors" in policy for policy in policies(flow)):
        if not framed:
            yield Hit("framing-allowed")
        elif not set(framed) <= {"deny", "sameorigin"}:
            yield Hit("x-frame-options-invalid", evidence=", ".join(framed))
    known = [word for word in flow.words("referrer-policy") if word in _REFERRER]
    known += [flow.page.referrer.lower()] if flow.page.referrer.lower() in _REFERRER else []
    if not known:
        yield Hit("referrer-policy-missing")
    elif known[-1] in ("unsafe-url", "no-referrer-when-downgrade"):
        yield Hit("referrer-policy-unsafe", evidence=known[-1])
    if not flow.all("permissions-policy"):
        yield Hit("permissions-policy-missing")


_REFERRER = {
    "no-referrer",
    "no-referrer-when-downgrade",
    "same-origin",
    "origin",
    "strict-origin",
    "origin-when-cross-origin",
    "strict-origin-when-cross-origin",
    "unsafe-url",
}
_SESSION_NAME = re.compile(r"sess|sid|auth|token|jwt|login|remember", re.IGNORECASE)
#: Frameworks read these from a script on purpose; that is how their defence works.
_SCRIPT_COOKIE = re.compile(
    r"(?:__host-|__secure-)?(?:xsrf-token|csrf-?token|_csrf)$", re.IGNORECASE
)


def _expired(flow: Flow, attributes: dict[str, str]) -> bool:
    """Tell whether the cookie is being deleted: Max-Age counts before Expires (RFC 6265)."""
    if re.fullmatch(r"-?[0-9]+", attributes.get("max-age", "")):
        return int(attributes["max-age"][:20]) <= 0
    try:
        until = parsedate_to_datetime(attributes.get("expires", ""))
        now = parsedate_to_datetime(flow.first("date"))
    except (TypeError, ValueError, IndexError, OverflowError):
        return "1970" in attributes.get("expires", "")
    return _utc(until) <= _utc(now)


def _utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def cookies(flow: Flow) -> Iterator[Hit]:
    for line in flow.cookies:
        pair, *rest = line.split(";")
        name = pair.partition("=")[0].strip()
        split = [part.partition("=") for part in rest]
        attributes = {key.strip().lower(): value.strip() for key, _, value in split}
        if not name or _expired(flow, attributes):
            continue
        secure = "secure" in attributes
        same_site = attributes.get("samesite", "").lower()
        lower = name.lower()
        host = lower.startswith("__host-") and (
            "domain" in attributes or attributes.get("path") != "/"
        )
        if host or (lower.startswith(("__host-", "__secure-")) and not (secure and flow.secure)):
            yield Hit("cookie-prefix", name, line)
        if flow.secure and not secure:
            yield Hit(
                "cookie-samesite-none" if same_site == "none" else "cookie-not-secure", name, line
            )
        if "httponly" not in attributes and not _SCRIPT_COOKIE.match(name):
            yield Hit("cookie-not-httponly", name, line)
        if not same_site:
            yield Hit("cookie-no-samesite", name, line)
        elif same_site not in ("strict", "lax", "none"):
            yield Hit("cookie-samesite-invalid", name, line)


def sharing(flow: Flow) -> Iterator[Hit]:
    allowed = flow.first("access-control-allow-origin")
    credentials = flow.first("access-control-allow-credentials").lower() == "true"
    if allowed == "null":
        yield Hit("cors-null")
    elif allowed == "*" and credentials:
        yield Hit("cors-wildcard-credentials")
    elif credentials and allowed:
        if (
            flow.secure
            and allowed.lower().startswith("http://")
            and not is_loopback(host_of(allowed))
        ):
            yield Hit("cors-cleartext-origin", allowed)
        elif allowed.lower() != flow.origin and allowed == flow.asked("origin"):
            yield Hit("cors-reflected", evidence=allowed)
    control = {word.partition("=")[0] for word in flow.words("cache-control")}
    if {"public", "s-maxage"} & control and not {"private", "no-store"} & control:
        evidence = flow.first("cache-control")
        if flow.asked("authorization"):
            yield Hit("cache-authorized", evidence=evidence)
        if flow.cookies:
            yield Hit("cache-cookie", evidence=evidence)


_VERSION_HEADERS = {"x-aspnet-version", "x-aspnetmvc-version", "x-powered-by", "x-generator"}
_TRACES = re.compile(
    r"Traceback \(most recent call last\):|"
    r"^[ \t]*at [\w$.<>]+\([\w$]+\.(?:java|kt|scala|groovy):\d+\)|"
    r"^[ \t]+at (?:async )?[\w$.<>\[\] ]+ \((?:/|file:|node:|[A-Z]:\\)[^\s()]+:\d+:\d+\)|"
    r"^[ \t]+at [\w.`<>]+\([^)\n]{0,200}\) in [A-Z]:\\[^\n:]+:line \d+|"
    r"(?:Fatal error|Warning|Parse error)(?:</b>)?:\s.{1,300} in (?:<b>)?/[^\s<]+\.php"
    r"(?:</b>)? on line|"
    r"^goroutine \d+ \[running\]:",
    re.MULTILINE,
)
_LISTING = re.compile(
    r"<title>\s*(?:Index of /|Directory listing for /|[^<]{0,200} - /</title>)", re.I
)
_PRIVATE = re.compile(
    r"(?<![\w.-])(?:10\.\d{1,3}|192\.168|172\.(?:1[6-9]|2\d|3[01]))\.\d{1,3}\.\d{1,3}(?![\w-]|\.\d)"
)


def leaks(flow: Flow) -> Iterator[Hit]:
    for name in sorted(_VERSION_HEADERS | {"server"}):
        value = flow.first(name)
        if re.search(r"/v?\d|\d\.\d", value) or (value and name == "x-powered-by"):
            yield Hit("version-leak", name, f"{name}: {value}")
    trace = _TRACES.search(flow.body)
    if trace is not None:
        yield Hit("stack-trace", evidence=trace[0].strip())
    listing = _LISTING.search(flow.body) if flow.document else None
    if listing is not None:
        yield Hit("directory-listing", evidence=listing[0])
    own = _address(flow.host)
    if not is_loopback(flow.host) and not (own is not None and own.is_private):
        texts = [flow.first(name) for name in ("location", "via", "x-backend-server", "x-upstream")]
        for text in [*texts, flow.body if flow.html else ""]:
            for match in _PRIVATE.finditer(text):
                if _address(match[0]) is not None:
                    yield Hit("private-address", match[0], text[max(0, match.start() - 40) :][:120])


def mixed_content(flow: Flow) -> Iterator[Hit]:
    if not flow.secure or not flow.document:
        return
    applied = policies(flow) + [_policy(text) for text in flow.page.policies]
    if not any("upgrade-insecure-requests" in policy for policy in applied):
        yield from flow.page.cleartext


CHECKS: tuple[Callable[[Flow], Iterator[Hit]], ...] = (
    transport,
    content_policy,
    document_headers,
    cookies,
    sharing,
    leaks,
    mixed_content,
)


def check(flow: Flow) -> list[Hit]:
    """Return the hits of one flow, each once."""
    checks = (cookies,) if flow.status == 304 else CHECKS
    return list(dict.fromkeys(hit for each in checks for hit in each(flow)))


class Group:
    """The hits of one rule, origin and name."""

    def __init__(self, first: Hit) -> None:
        self.first = first
        self.urls: list[str] = []
        self.flows = 0
        self.last_flow = ""


class Scan:
    """Hits of all flows, brought together by rule, origin and name."""

    def __init__(self) -> None:
        self.flows = 0
        self.dropped = 0
        self._groups: dict[tuple[str, str, str], Group] = {}

    def add(self, record: dict[str, Any]) -> None:
        """Judge one flow."""
        self.flows += 1
        flow = Flow(record)
        for hit in check(flow):
            key = (flow.origin, hit.rule, hit.name)
            if key not in self._groups and len(self._groups) >= GROUPS_MAX:
                self.dropped += 1
                continue
            group = self._groups.setdefault(key, Group(hit))
            if group.last_flow != record["id"]:
                group.last_flow = record["id"]
                group.flows += 1
            if len(group.urls) < EXAMPLES and flow.url not in group.urls:
                group.urls.append(flow.url)

    def findings(self) -> Iterator[dict[str, Any]]:
        """Yield the findings: by origin, then in the order of `RULES`, then by name."""
        order = {rule: index for index, rule in enumerate(RULES)}
        for key in sorted(self._groups, key=lambda each: (each[0], order[each[1]], each[2])):
            yield _finding(key[0], self._groups[key])


def _finding(origin: str, group: Group) -> dict[str, Any]:
    hit = group.first
    rule = RULES[hit.rule]
    session = hit.rule == "cookie-not-httponly" and _SESSION_NAME.search(hit.name)
    meta = {"rule": hit.rule, "source": rule.source, "count": str(group.flows)}
    if hit.name:
        meta["name"] = _text(hit.name)
    for index, url in enumerate(group.urls, 1):
        meta[f"example.{index}"] = _text(url)
    finding: dict[str, Any] = {
        "type": PREFIX + hit.rule,
        "message": rule.title + (f": {_text(hit.name)}" if hit.name else ""),
        "severity": "med" if session else rule.severity,
        "target": _text(origin),
        "meta": meta,
    }
    if hit.evidence:
        finding["evidence"] = _text(hit.evidence)
    return finding


def _text(value: str) -> str:
    """Cut to a size, without the lone surrogates that no finding takes."""
    clean = value.encode("utf-8", "replace").decode("utf-8")
    more = len(clean) - EVIDENCE_CHARACTERS
    return clean if more <= 0 else f"{clean[:EVIDENCE_CHARACTERS]}... ({more} more characters)"


def main() -> int:
    """Scan what the host hands out; 0: done, 1: the host refused or is gone."""
    scan = Scan()
    emitted = 0
    try:
        with oxgen_plugin.connect() as session:
            for record in session.flows():
                scan.add(record)
            for finding in scan.findings():
                session.emit(**finding)
                emitted += 1
            omitted = session.omitted
    except oxgen_plugin.PluginError as exc:
        print(f"passive-header-scan: {exc}", file=sys.stderr)
        return 1
    print(f"passive-header-scan: {scan.flows} flows, {emitted} findings", file=sys.stderr)
    if scan.dropped or omitted:
        print(
            f"passive-header-scan: incomplete: {scan.dropped} hits beyond {GROUPS_MAX} findings,"
            f" {omitted} flows too large to be handed out",
            file=sys.stderr,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
