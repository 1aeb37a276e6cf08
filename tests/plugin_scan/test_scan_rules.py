"""passive-header-scan: every rule has a response that breaks it and a twin that does not."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

Rules = Callable[..., set[str]]


def case(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, kwargs


def hsts(value: str) -> Any:
    return case({"Strict-Transport-Security": value})


def csp(value: str) -> Any:
    return case({"Content-Security-Policy": value})


def cookie(line: str, **kwargs: Any) -> Any:
    return case(cookies=(line,), **kwargs)


def page(body: str, **kwargs: Any) -> Any:
    return case(body=body, **kwargs)


GOOD_COOKIE = "sid=x; Path=/; Secure; HttpOnly; SameSite=Lax"
CREDENTIALS = {"Access-Control-Allow-Credentials": "true"}
PASSWORD = '<form><input name="p" type="PassWord"></form>'
META_CSP = '<meta http-equiv="Content-Security-Policy" content="script-src \'self\'">'

#: Rule, response that breaks it, response that does not.
CASES: list[tuple[str, Any, Any]] = [
    ("cleartext-page", case(url="http://shop.example/"), case()),
    ("cleartext-page", case(url="http://shop.example/"), case(url="http://127.0.0.1:8080/")),
    ("cleartext-page", case(url="http://shop.example/"), case(url="http://a.localhost/")),
    (
        "cleartext-page",
        case(url="http://shop.example/"),
        case({"Location": "https://shop.example/"}, url="http://shop.example/", status=301),
    ),
    ("password-without-tls", page(PASSWORD, url="http://shop.example/"), page(PASSWORD)),
    ("hsts-missing", case(), hsts("max-age=31536000")),
    ("hsts-missing", case(status=301), case(url="http://shop.example/")),
    ("hsts-missing", case(status=404), case(status=304)),
    ("hsts-missing", case(), case(url="https://192.0.2.7/")),
    ("hsts-missing", case(), case(url="https://[2001:db8::1]/")),
    ("hsts-invalid", hsts("includeSubDomains"), hsts("max-age=31536000; includeSubDomains")),
    ("hsts-invalid", hsts("max-age=-1"), hsts('MAX-AGE="31536000"')),
    ("hsts-invalid", hsts("max-age=1; max-age=2"), hsts("max-age=0")),
    ("hsts-disabled", hsts("max-age=0"), hsts("max-age=1")),
    ("hsts-weak", hsts("max-age=86400"), hsts("max-age=15768000")),
    ("csp-missing", case(), csp("default-src 'self'")),
    ("csp-missing", case(), page(META_CSP)),
    ("csp-missing", case(), case(status=302)),
    ("csp-missing", case(), case(status=500)),
    ("csp-missing", case(), case({"Content-Type": "application/json"})),
    (
        "csp-report-only",
        case({"Content-Security-Policy-Report-Only": "default-src 'self'"}),
        case(),
    ),
    ("csp-no-script-src", csp("img-src 'self'"), csp("script-src 'self'")),
    ("csp-unsafe-inline", csp("script-src 'unsafe-inline'"), csp("script-src 'self'")),
    (
        "csp-unsafe-inline",
        csp("default-src 'unsafe-inline'"),
        csp("default-src 'unsafe-inline'; script-src 'self'"),
    ),
    (
        "csp-unsafe-inline",
        csp("script-src 'UNSAFE-INLINE'"),
        csp("script-src 'unsafe-inline' 'nonce-abc'"),
    ),
    (
        "csp-unsafe-inline",
        csp("script-src 'unsafe-inline'"),
        csp("script-src 'unsafe-inline' 'sha256-abc='"),
    ),
    (
        "csp-unsafe-inline",
        csp("script-src 'unsafe-inline'"),
        csp("script-src 'unsafe-inline', script-src 'self'"),
    ),
    (
        "csp-unsafe-inline",
        csp("script-src 'unsafe-inline'; script-src 'self'"),
        csp("script-src 'self'; script-src 'unsafe-inline'"),
    ),
    ("csp-unsafe-eval", csp("script-src 'unsafe-eval'"), csp("script-src 'self'")),
    ("csp-wildcard", csp("script-src *"), csp("script-src *.shop.example")),
    ("csp-wildcard", csp("script-src https:"), csp("script-src https://a.example")),
    ("csp-wildcard", csp("script-src data:"), csp("script-src 'self'; img-src data:")),
    ("csp-wildcard", csp("default-src *"), csp("script-src * 'strict-dynamic' 'nonce-a'")),
    ("nosniff-missing", case(), case({"X-Content-Type-Options": "NoSniff"})),
    (
        "nosniff-missing",
        case({"X-Content-Type-Options": "sniff"}),
        case({"Content-Type": "image/png"}),
    ),
    ("nosniff-missing", case({"Content-Type": "text/javascript"}), case(status=301)),
    ("framing-allowed", case(), case({"X-Frame-Options": "sameorigin"})),
    ("framing-allowed", csp("default-src 'self'"), csp("frame-ancestors 'none'")),
    (
        "framing-allowed",
        page('<meta http-equiv="content-security-policy" content="frame-ancestors \'none\'">'),
        case({"X-Frame-Options": "DENY"}),
    ),
    (
        "x-frame-options-invalid",
        case({"X-Frame-Options": "ALLOW-FROM https://a.example"}),
        case({"X-Frame-Options": "DENY"}),
    ),
    ("referrer-policy-missing", case(), case({"Referrer-Policy": "no-referrer"})),
    (
        "referrer-policy-missing",
        case({"Referrer-Policy": "nonsense"}),
        page('<meta name="referrer" content="no-referrer">'),
    ),
    (
        "referrer-policy-unsafe",
        case({"Referrer-Policy": "unsafe-url"}),
        case({"Referrer-Policy": "unsafe-url, strict-origin"}),
    ),
    ("permissions-policy-missing", case(), case({"Permissions-Policy": "geolocation=()"})),
    ("cookie-not-secure", cookie("sid=x; HttpOnly; SameSite=Lax"), cookie(GOOD_COOKIE)),
    ("cookie-not-secure", cookie("sid=x"), cookie("sid=; Max-Age=0")),
    (
        "cookie-not-secure",
        cookie("sid=x; Max-Age=60; Expires=Thu, 01 Jan 1970 00:00:00 GMT"),
        cookie("sid=; Expires=Thu, 01 Jan 1970 00:00:00 GMT"),
    ),
    ("cookie-not-secure", cookie("sid=x", status=304), cookie("sid=x", url="http://shop.example/")),
    ("cookie-not-httponly", cookie("sid=x; Secure"), cookie(GOOD_COOKIE)),
    ("cookie-not-httponly", cookie("sid=x; Secure"), cookie("XSRF-TOKEN=x; Secure")),
    ("cookie-no-samesite", cookie("sid=x; Secure; HttpOnly"), cookie(GOOD_COOKIE)),
    ("cookie-samesite-invalid", cookie("sid=x; SameSite=Maybe"), cookie("sid=x; samesite=LAX")),
    (
        "cookie-samesite-none",
        cookie("sid=x; SameSite=None"),
        cookie("sid=x; SameSite=None; Secure"),
    ),
    ("cookie-prefix", cookie("__Secure-a=x; Path=/"), cookie("__Secure-a=x; Secure")),
    ("cookie-prefix", cookie("__Host-a=x; Secure"), cookie("__Host-a=x; Secure; Path=/")),
    (
        "cookie-prefix",
        cookie("__Host-a=x; Secure; Path=/; Domain=shop.example"),
        cookie("Host-a=x; Secure; Domain=shop.example"),
    ),
    ("cookie-prefix", cookie("__host-a=x; Secure; Path=/x"), cookie(GOOD_COOKIE)),
    (
        "cors-wildcard-credentials",
        case({"Access-Control-Allow-Origin": "*", **CREDENTIALS}),
        case({"Access-Control-Allow-Origin": "*"}),
    ),
    (
        "cors-null",
        case({"Access-Control-Allow-Origin": "null"}),
        case({"Access-Control-Allow-Origin": "https://a.example"}),
    ),
    (
        "cors-cleartext-origin",
        case({"Access-Control-Allow-Origin": "http://a.example", **CREDENTIALS}),
        case({"Access-Control-Allow-Origin": "https://a.example", **CREDENTIALS}),
    ),
    (
        "cors-cleartext-origin",
        case({"Access-Control-Allow-Origin": "http://a.example", **CREDENTIALS}),
        case({"Access-Control-Allow-Origin": "http://localhost:3000", **CREDENTIALS}),
    ),
    (
        "cors-reflected",
        case(
            {"Access-Control-Allow-Origin": "https://b.example", **CREDENTIALS},
            request={"Origin": "https://b.example"},
        ),
        case(
            {"Access-Control-Allow-Origin": "https://shop.example", **CREDENTIALS},
            request={"Origin": "https://shop.example"},
        ),
    ),
    (
        "cache-authorized",
        case({"Cache-Control": "public, max-age=60"}, request={"Authorization": "[redacted]"}),
        case({"Cache-Control": "private, max-age=60"}, request={"Authorization": "[redacted]"}),
    ),
    (
        "cache-cookie",
        cookie(GOOD_COOKIE, headers={"Cache-Control": "s-maxage=60"}),
        cookie(GOOD_COOKIE, headers={"Cache-Control": "no-store"}),
    ),
    ("version-leak", case({"Server": "nginx/1.25.3"}), case({"Server": "nginx"})),
    ("version-leak", case({"X-Powered-By": "Express"}), case({"Server": "AmazonS3"})),
    ("version-leak", case({"X-AspNet-Version": "4.0.30319"}), case()),
    ("stack-trace", page("Traceback (most recent call last):\n  File"), page("no traceback here")),
    (
        "stack-trace",
        page("x\n\tat com.example.Shop.buy(Shop.java:42)\n", status=500),
        page("we are at home (by the sea)"),
    ),
    ("stack-trace", page("    at Object.<anonymous> (/srv/app/index.js:10:5)"), page("at (1:2)")),
    (
        "stack-trace",
        page("<b>Fatal error</b>: Uncaught x in <b>/var/www/a.php</b> on line <b>3</b>"),
        page("Warning: hot surface in /kitchen"),
    ),
    ("directory-listing", page("<title>Index of /backup</title>"), page("<title>Index</title>")),
    ("private-address", page("db at 10.1.2.3"), page("version 10.1.2.3.4 and 11.1.2.3")),
    (
        "private-address",
        case({"Location": "http://192.168.0.5/x"}, status=302),
        case({"Location": "/x"}, status=302),
    ),
    ("private-address", page("db at 172.16.0.9"), page("db at 172.32.0.9")),
    ("private-address", page("db at 10.1.2.3"), page("db at 10.1.2.3", url="https://10.1.2.4/")),
    ("private-address", page("db at 10.1.2.3"), page("db at 10.1.2.999")),
    (
        "mixed-active",
        page('<script src="http://a.example/x.js"></script>'),
        page('<script src="https://a.example/x.js"></script>'),
    ),
    (
        "mixed-active",
        page('<link rel="stylesheet" href="http://a.example/x.css">'),
        page('<link rel="canonical" href="http://a.example/">'),
    ),
    (
        "mixed-active",
        page('<iframe src="HTTP://a.example/">'),
        page('<iframe src="http://127.0.0.1/">'),
    ),
    (
        "mixed-active",
        page('<script src="http://a.example/x.js"></script>'),
        case(
            {"Content-Security-Policy": "upgrade-insecure-requests"},
            body='<script src="http://a.example/x.js"></script>',
        ),
    ),
    (
        "mixed-active",
        page('<script src="http://a.example/x.js"></script>'),
        page('<script src="http://a.example/x.js"></script>', url="http://shop.example/"),
    ),
    (
        "mixed-active",
        page('<object data="http://a.example/x">'),
        page('<!-- <object data="http://a.example/x"> -->'),
    ),
    ("mixed-passive", page('<img src="http://a.example/x.png">'), page('<img src="/x.png">')),
    (
        "mixed-passive",
        page('<img src="http://a.example/x.png">'),
        page('<a href="http://a.example/x.png">x</a>'),
    ),
    ("mixed-form", page('<form action="http://a.example/">'), page('<form action="/x">')),
]


@pytest.mark.parametrize(("rule", "bad", "_good"), CASES)
def test_response_that_breaks_the_rule_is_found(
    rules: Rules, rule: str, bad: Any, _good: Any
) -> None:
    args, kwargs = bad
    assert rule in rules(*args, **kwargs)


@pytest.mark.parametrize(("rule", "_bad", "good"), CASES)
def test_response_that_keeps_the_rule_is_not_found(
    rules: Rules, rule: str, _bad: Any, good: Any
) -> None:
    args, kwargs = good
    assert rule not in rules(*args, **kwargs)


def test_every_rule_has_a_case(scanner: ModuleType) -> None:
    assert {rule for rule, _, _ in CASES} == set(scanner.RULES)


def test_every_rule_has_a_source_and_a_known_severity(scanner: ModuleType) -> None:
    for rule in scanner.RULES.values():
        assert rule.severity in ("info", "low", "med", "high", "crit")
        assert rule.source.startswith(("https://", "RFC "))


def test_well_kept_page_has_no_findings(rules: Rules) -> None:
    headers = {
        "Strict-Transport-Security": "max-age=63072000; includeSubDomains",
        "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "strict-origin-when-cross-origin",
        "Permissions-Policy": "camera=()",
        "Cache-Control": "no-store",
        "Server": "shop",
    }
    assert rules(headers, cookies=(GOOD_COOKIE,), body="<p>hello</p>") == set()


def scan(scanner: ModuleType, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    made = scanner.Scan()
    for each in records:
        made.add(each)
    return list(made.findings())


def test_findings_are_one_for_each_rule_and_origin(scanner: ModuleType, record: Any) -> None:
    records = [record(url=f"https://shop.example/{n}", number=n) for n in range(5)]
    records.append(record(url="https://other.example/", number=5))
    found = [each for each in scan(scanner, records) if each["meta"]["rule"] == "hsts-missing"]
    assert [(each["target"], each["meta"]["count"]) for each in found] == [
        ("https://other.example", "1"),
        ("https://shop.example", "5"),
    ]
    examples = [found[1]["meta"][f"example.{n}"] for n in (1, 2, 3)]
    assert examples == [f"https://shop.example/{n}" for n in range(3)]
    assert "example.4" not in found[1]["meta"]


def test_cookies_of_other_names_are_other_findings(scanner: ModuleType, record: Any) -> None:
    found = scan(scanner, [record(cookies=("a=1", "b=2", "a=3"))])
    names = [each["meta"]["name"] for each in found if each["meta"]["rule"] == "cookie-no-samesite"]
    assert names == ["a", "b"]


def test_order_does_not_depend_on_the_order_of_flows(scanner: ModuleType, record: Any) -> None:
    records = [
        record(url=f"https://{name}.example/", cookies=("z=1", "a=1"), number=n)
        for n, name in enumerate("cab")
    ]
    forward = scan(scanner, records)
    assert [each["type"] for each in forward] == [
        each["type"] for each in scan(scanner, records[::-1])
    ]
    assert [each["target"] for each in forward] == sorted(each["target"] for each in forward)


def test_session_cookie_that_scripts_read_is_worse(scanner: ModuleType, record: Any) -> None:
    found = {
        each["meta"]["name"]: each["severity"]
        for each in scan(scanner, [record(cookies=("PHPSESSID=1; Secure", "color=1; Secure"))])
        if each["meta"]["rule"] == "cookie-not-httponly"
    }
    assert found == {"PHPSESSID": "med", "color": "low"}


def test_findings_have_a_bound(
    scanner: ModuleType, record: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scanner, "GROUPS_MAX", 10)
    made = scanner.Scan()
    made.add(record(cookies=tuple(f"c{n}=1" for n in range(100))))
    assert len(list(made.findings())) == 10
    assert made.dropped > 0


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    url=st.text(max_size=40),
    names=st.lists(
        st.sampled_from(
            [
                "Set-Cookie",
                "Content-Security-Policy",
                "Strict-Transport-Security",
                "X-Frame-Options",
                "Cache-Control",
                "Server",
                "Date",
                "Location",
            ]
        ),
        max_size=5,
    ),
    value=st.text(max_size=60),
    body=st.text(alphabet="<>!-[]/\"'= abcscript&;#\n\ud800\u2028", max_size=200),
)
def test_any_flow_gives_findings_the_host_takes(
    scanner: ModuleType, record: Any, url: str, names: list[str], value: str, body: str
) -> None:
    from oxgen.findings import new_id, parse_finding

    flow = record(
        dict.fromkeys(names, value), url="https://a.example" + url, body=body, cookies=(value,)
    )
    for finding in scan(scanner, [flow]):
        parse_finding(
            {
                "version": "0.2",
                "id": new_id(),
                "plugin": "p",
                "ts": "2026-01-01T00:00:00Z",
                **finding,
            }
        )


@pytest.mark.parametrize(
    "body",
    [
        "\n" * 250_000,
        " " * 250_000,
        "<" * 250_000,
        "<!" * 100_000,
        "at " * 80_000,
        "<script " * 30_000,
        "10." * 80_000,
        "Warning: " * 25_000,
        "<a b=" * 50_000,
    ],
)
def test_hostile_page_takes_no_long_time(rules: Rules, body: str) -> None:
    import time

    began = time.process_time()
    rules(body=body)
    assert time.process_time() - began < 5
