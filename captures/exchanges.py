"""The requests of the capture: what curl is asked for, and the status that must come back."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["EXCHANGES", "Exchange"]

SHOP = "https://shop.example.test"
ADMIN = "https://admin.example.test"
LEGACY = "http://legacy.example.test"
LEGACY_TLS = "https://legacy.example.test"
STATIC = "https://static.example.test"
API = "https://api.example.test"
BOOKS = "https://xn--bcher-kva.example.test"

BEARER = ("-H", "Authorization: Bearer fake-access-token-0001")
JSON = ("-H", "Content-Type: application/json")
FORM_LOGIN = "user=ada%40example.test&password=fake-password-1&csrf=fake-csrf-0001"


@dataclass(frozen=True)
class Exchange:
    """One request. ``options`` are curl's own; @WORK@ in them is the directory of the recording."""

    status: int
    url: str
    options: tuple[str, ...] = ()


def _get(status: int, url: str, *options: str) -> Exchange:
    return Exchange(status, url, options)


def _both(status: int, url: str, *options: str) -> tuple[Exchange, Exchange]:
    """Ask the same over HTTP/2, which is the default, and over HTTP/1.1."""
    return _get(status, url, *options), _get(status, url, "--http1.1", *options)


EXCHANGES: tuple[Exchange, ...] = (
    # Redirects to https.
    _get(301, "http://shop.example.test/"),
    _get(301, "http://shop.example.test/product?ref=mail"),
    _get(302, "http://static.example.test/logo.png"),
    _get(307, "http://api.example.test/v1/orders?api_key=fake-api-key-0001"),
    _get(307, "http://api.example.test/oauth/token", "-d", "client_secret=fake-client-secret-1"),
    _get(308, "http://admin.example.test/"),
    # Good pages.
    *_both(200, f"{SHOP}/"),
    *_both(200, f"{SHOP}/product", "--compressed"),
    _get(200, f"{SHOP}/lost-headers"),
    _get(301, f"{SHOP}/old-product"),
    _get(503, f"{SHOP}/maintenance"),
    *_both(404, f"{SHOP}/nothing-here"),
    _get(200, f"{SHOP}/", "--head"),
    _get(405, f"{SHOP}/", "-X", "TRACE-LIKE"),
    # Logging in.
    _get(200, f"{SHOP}/login"),
    _get(302, f"{SHOP}/account"),
    _get(401, f"{SHOP}/login", "-d", "user=ada%40example.test&password=fake-wrong-password"),
    _get(303, f"{SHOP}/login", "-d", FORM_LOGIN, "-c", "@WORK@/shop.jar"),
    _get(200, f"{SHOP}/account", "-b", "@WORK@/shop.jar"),
    _get(200, f"{SHOP}/account", "-b", "@WORK@/shop.jar", "--http1.1"),
    _get(201, f"{SHOP}/cart", *JSON, "-d", '{"item": 7, "csrf": "fake-csrf-0001"}'),
    _get(200, f"{SHOP}/logout", "-b", "@WORK@/shop.jar"),
    # Behind Basic.
    *_both(401, f"{ADMIN}/"),
    *_both(200, f"{ADMIN}/", "-u", "admin:fake-admin-password"),
    _get(401, f"{ADMIN}/", "-u", "admin:fake-wrong-password"),
    _get(200, "https://admin:fake-admin-password@admin.example.test:8443/"),
    _get(403, f"{ADMIN}/private/keys"),
    # Bad pages, over http and https.
    _get(200, f"{LEGACY}/"),
    *_both(200, f"{LEGACY_TLS}/"),
    *_both(200, f"{LEGACY_TLS}/weak"),
    _get(200, f"{LEGACY_TLS}/report-only"),
    _get(200, f"{LEGACY}/latin1"),
    _get(200, f"{LEGACY}/wrong-utf8"),
    _get(200, f"{LEGACY}/.env"),
    _get(200, f"{LEGACY}/files/"),
    _get(404, f"{LEGACY}/nothing-here"),
    _get(404, f"{LEGACY}/%FCber?q=%FC"),
    _get(400, f"{LEGACY}/a/..%2f..%2fetc/passwd", "--path-as-is"),
    _get(200, f"{LEGACY}/cgi-bin/login.pl", "-d", "user=bob&password=fake-password-2"),
    _get(200, f"{LEGACY}/cgi-bin/login.pl?user=bob&password=fake-password-2"),
    _get(200, f"{LEGACY}/app/search?q=%3Cscript%3Ealert(1)%3C/script%3E"),
    *_both(500, f"{LEGACY_TLS}/app/report?name=o%27hara"),
    _get(200, f"{LEGACY}/app/greeting"),
    _get(200, f"{LEGACY}/app/long", "-H", "Cookie: big=" + "fake" * 1200),
    _get(200, f"{LEGACY}/app/twice", "-H", "X-Twice: a", "-H", "X-Twice: b", "-H", "X-None;"),
    _get(200, f"{LEGACY}/app/chunks"),
    _get(200, f"{LEGACY}:8080/weak"),
    # Two failures: curl gets mitmproxy's own 502, the HAR says what the server did.
    _get(502, f"{LEGACY}/hang-up"),
    _get(502, f"{LEGACY}/app/cut"),
    _get(204, f"{LEGACY}/csp", *JSON, "-d", '{"csp-report": {"blocked-uri": "inline"}}'),
    _get(421, "http://nobody.example.test/"),
    # Assets.
    *_both(200, f"{STATIC}/app.js", "--compressed", "-H", "Origin: https://shop.example.test"),
    *_both(200, f"{STATIC}/style.css", "--compressed"),
    _get(200, f"{STATIC}/style.css"),
    _get(200, f"{STATIC}/app.js.map"),
    _get(200, f"{STATIC}/logo.svg", "--compressed"),
    _get(200, f"{STATIC}/logo.png", "--etag-save", "@WORK@/logo.etag"),
    _get(304, f"{STATIC}/logo.png", "--etag-compare", "@WORK@/logo.etag"),
    _get(200, f"{STATIC}/untyped"),
    _get(200, f"{STATIC}/font.woff2", "--http1.1"),
    _get(200, f"{STATIC}/bundle.tar.gz"),
    _get(200, f"{STATIC}/photo.jpg"),
    _get(200, f"{STATIC}/photo.jpg", "--head"),
    _get(206, f"{STATIC}/photo.jpg", "-r", "0-1023"),
    _get(206, f"{STATIC}/style.css", "-r", "10-49,60-99", "--http1.1"),
    _get(416, f"{STATIC}/style.css", "-r", "999999-"),
    _get(200, f"{STATIC}/empty.txt"),
    _get(404, f"{STATIC}/jquery-1.4.2.min.js"),
    # The API.
    _get(
        200,
        f"{API}/oauth/token",
        *("-u", "fake-client:fake-client-secret-1", "-d", "grant_type=client_credentials"),
    ),
    _get(200, f"{API}/oauth/token", "-d", "grant_type=password&password=fake-password-1"),
    *_both(200, f"{API}/v1/me", *BEARER),
    *_both(401, f"{API}/v1/me"),
    _get(401, f"{API}/v1/me", "-H", "Authorization: Bearer fake-expired-token-0001"),
    *_both(200, f"{API}/v1/orders?api_key=fake-api-key-0001&page=1&page=2&empty=&flag"),
    _get(200, f"{API}/v1/orders", *BEARER, "--compressed"),
    _get(304, f"{API}/v1/orders", *BEARER, "-H", 'If-None-Match: "orders-v7"'),
    _get(200, f"{API}/v1/orders", *BEARER, "--head"),
    _get(200, f"{API}/v1/orders/17", *BEARER),
    _get(404, f"{API}/v1/orders/99", *BEARER),
    _get(200, f"{API}/v1/orders/17", *BEARER, *JSON, "-X", "PUT", "-d", '{"to": "Zoë"}'),
    _get(200, f"{API}/v1/orders/17", *BEARER, *JSON, "-X", "PATCH", "-d", '{"total": 1e3}'),
    _get(200, f"{API}/v1/orders", *BEARER, *JSON, "-d", '{"card": "4111111111111111"}'),
    _get(200, f"{API}/v1/blob", *BEARER, "-X", "PUT", "--data-binary", "@@WORK@/blob.bin"),
    _get(204, f"{API}/v1/orders/17", *BEARER, "-X", "DELETE"),
    _get(201, f"{API}/v1/upload", "-F", "note=grüße", "-F", "file=@@WORK@/blob.bin;filename=b.bin"),
    _get(413, f"{API}/v1/upload", "--data-binary", "@@WORK@/site/static/photo.jpg", "-X", "DELETE"),
    _get(200, f"{API}/v1/status", "-H", "Origin: https://other.example.test"),
    _get(200, f"{API}/v1/export", "-H", "Origin: https://evil.example.test", *BEARER),
    _get(429, f"{API}/v1/slow-down"),
    _get(200, f"{API}/v1/jsonp?callback=show&access_token=fake-access-token-0001"),
    *(
        _get(
            204,
            f"{API}/v1/orders/17",
            *("-X", "OPTIONS", "-H", f"Origin: {origin}"),
            *("-H", "Access-Control-Request-Method: PUT"),
        )
        for origin in (SHOP, "https://evil.example.test")
    ),
    # An internationalised name, text of many scripts.
    *_both(200, f"{BOOKS}/"),
    _get(200, "http://bücher.example.test/"),
    _get(404, f"{BOOKS}/%E6%9B%B8%E7%B1%8D?q=%F0%9F%93%9A"),
)
