"""The dynamic half of the recorded site: logins, a JSON API and an old CGI application.

nginx stands in front. Every credential accepted or issued here is made up and says so.
``upstream.py PORT`` serves on that port of 127.0.0.1 until it is killed.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

__all__ = ["Application", "main"]

SESSION = "fake-session-0001"
CSRF = "fake-csrf-0001"
BEARER = "fake-access-token-0001"
API_KEY = "fake-api-key-0001"

_OLD_SERVER = "Apache/2.2.15 (CentOS) mod_ssl/2.2.15 OpenSSL/1.0.1e-fips PHP/5.3.3"
_TRACE = """Traceback (most recent call last):
  File "/srv/legacy/app/report.py", line 42, in run
    rows = db.query("SELECT * FROM users WHERE name='" + name + "'")
  File "/usr/lib/python2.6/site-packages/MySQLdb/cursors.py", line 174, in execute
    self.errorhandler(self, exc, value)
ProgrammingError: (1064, "You have an error in your SQL syntax")
"""


def _unsigned_token() -> str:
    """Return something shaped like a JSON web token whose signature cannot be one."""
    parts = ({"alg": "none", "typ": "JWT"}, {"sub": "fake-user", "note": "made up"})
    encoded = [
        base64.urlsafe_b64encode(json.dumps(p).encode()).rstrip(b"=").decode() for p in parts
    ]
    return ".".join([*encoded, "fake-signature"])


class Application(BaseHTTPRequestHandler):
    """Answer one request by method, host and path."""

    protocol_version = "HTTP/1.1"
    server_version = "upstream"
    sys_version = ""
    timeout = 20

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet: the capture is the log."""

    def answer(self) -> None:
        """Read the body, then find the handler of the host."""
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length)
        self.url = urlsplit(self.path)
        self.query = parse_qs(self.url.query)
        hosts: dict[str, Callable[[], None]] = {
            "shop.example.test": self.shop,
            "legacy.example.test": self.legacy,
            "api.example.test": self.api,
        }
        hosts.get(self.headers.get("Host", ""), self.missing)()

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer

    def reply(
        self,
        status: int,
        body: bytes | str = b"",
        headers: tuple[tuple[str, str], ...] = (),
        kind: str = "text/html; charset=utf-8",
        server: str | None = None,
    ) -> None:
        """Send one whole answer."""
        raw = body.encode() if isinstance(body, str) else body
        self.send_response_only(status)
        self.send_header("Date", self.date_time_string())
        if server is not None:
            self.send_header("Server", server)
        if raw:
            self.send_header("Content-Type", kind)
        if status not in (204, 304):
            self.send_header("Content-Length", str(len(raw)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(raw)

    def json(
        self, status: int, value: object, headers: tuple[tuple[str, str], ...] = (), kind: str = ""
    ) -> None:
        """Send one JSON answer."""
        text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
        self.reply(status, text, headers, kind or "application/json")

    def missing(self) -> None:
        """Answer what nobody serves."""
        self.reply(404, "<p>no such page</p>\n")

    def shop(self) -> None:
        """The good shop: cookies with every attribute, nothing cached."""
        no_store = ("Cache-Control", "no-store")
        form = parse_qs(self.body.decode("utf-8", "replace"))
        signed_in = f"__Host-session={SESSION}" in self.headers.get("Cookie", "")
        if self.url.path == "/login" and self.command == "POST":
            if form.get("password") != ["fake-password-1"]:
                self.reply(401, "<p>wrong name or password</p>\n", (no_store,))
                return
            session = f"__Host-session={SESSION}; Path=/; Secure; HttpOnly; SameSite=Lax"
            theme = "theme=light; Path=/; Max-Age=31536000; Secure; SameSite=Strict"
            cookies = (("Set-Cookie", session), ("Set-Cookie", theme))
            self.reply(303, b"", (("Location", "/account"), no_store, *cookies))
        elif self.url.path == "/login":
            page = f"<form method=post><input type=hidden name=csrf value={CSRF}></form>\n"
            self.reply(200, page, (no_store,))
        elif self.url.path == "/account" and signed_in:
            self.reply(200, "<h1>Ada</h1><p>ada@example.test</p>\n", (no_store,))
        elif self.url.path == "/account":
            self.reply(302, b"", (("Location", "/login?next=%2Faccount"), no_store))
        elif self.url.path == "/cart":
            self.json(201, {"items": 1, "csrf": CSRF}, (("Location", "/cart/1"),))
        else:
            gone = "__Host-session=; Path=/; Max-Age=0; Secure; HttpOnly"
            clear = ("Clear-Site-Data", '"cookies", "storage"')
            self.reply(200, "<p>bye</p>\n", (("Set-Cookie", gone), clear))

    def legacy(self) -> None:
        """The bad application: bare cookies, traces, reflections, versions."""
        powered = ("X-Powered-By", "PHP/5.3.3")
        name = self.url.path.rsplit("/", 1)[-1]
        if name == "login.pl":
            old = "remember=fake-remember-0001; expires=Wed, 01-Jan-2031 00:00:00 GMT; path=/"
            cookies = tuple(
                ("Set-Cookie", text)
                for text in (
                    "PHPSESSID=fake-php-session-0001; path=/",
                    old,
                    "track=fake-track-0001; domain=.example.test; SameSite=None",
                    'quoted="a, b; c"',
                    "empty=",
                )
            )
            self.reply(200, "<p>hello\n", (powered, *cookies), "text/html", _OLD_SERVER)
        elif name == "search":
            page = f"<p>You looked for {self.query.get('q', [''])[0]}</p>\n"
            self.reply(200, page, (powered, ("X-XSS-Protection", "0")), "text/html", _OLD_SERVER)
        elif name == "report":
            headers = (powered, ("X-AspNet-Version", "4.0.30319"))
            self.reply(500, f"<pre>{_TRACE}</pre>\n", headers, "text/html", _OLD_SERVER)
        elif name == "greeting":
            self.reply(200, "ok\n", (("X-Greeting", "Grüße"), powered), "text/plain", _OLD_SERVER)
        elif name == "long":
            link = ", ".join(f"</app/page/{n}>; rel=preload; as=fetch" for n in range(160))
            self.reply(200, "ok\n", (("Link", link), ("X-Pad", "a" * 4096)), "text/plain")
        elif name == "twice":
            same = (("X-Trace", "1"), ("X-Trace", "2"), ("Vary", "Cookie"), ("Vary", "Accept"))
            self.reply(200, "ok\n", (*same, ("X-Empty", "")), "text/plain", _OLD_SERVER)
        elif name == "cut":
            self.cut()
        elif name == "chunks":
            self.chunks()
        else:
            self.missing()

    def cut(self) -> None:
        """Promise 1000 bytes and hang up after 100."""
        self.send_response_only(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b"x" * 100)
        self.close_connection = True

    def chunks(self) -> None:
        """Send a body in chunks, of no stated length."""
        self.send_response_only(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for word in ("eins\n", "zwei\n", "fünf\n"):
            raw = word.encode()
            self.wfile.write(f"{len(raw):x}\r\n".encode() + raw + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")

    def api(self) -> None:
        """The JSON API: tokens in headers, bodies and query strings; CORS good and bad."""
        path = self.url.path
        bearer = self.headers.get("Authorization") == f"Bearer {BEARER}"
        allowed = bearer or self.query.get("api_key") == [API_KEY]
        origin = self.headers.get("Origin", "null")
        if self.command == "OPTIONS":
            self.preflight(origin)
        elif path == "/oauth/token":
            token = {"access_token": BEARER, "token_type": "Bearer", "expires_in": 3600}
            more = {"refresh_token": "fake-refresh-token-0001", "id_token": _unsigned_token()}
            self.json(200, {**token, **more}, (("Cache-Control", "no-store"),))
        elif path == "/v1/status":
            self.json(200, {"status": "ok"}, (("Access-Control-Allow-Origin", "*"),))
        elif path == "/v1/export":
            credentials = ("Access-Control-Allow-Credentials", "true")
            reflected = (("Access-Control-Allow-Origin", origin), credentials)
            self.json(200, {"secret": "fake-secret-0001"}, reflected)
        elif path == "/v1/slow-down":
            limits = (("Retry-After", "30"), ("RateLimit-Remaining", "0"))
            self.json(429, {"title": "too many requests"}, limits, "application/problem+json")
        elif path == "/v1/jsonp":
            call = self.query.get("callback", ["cb"])[0]
            self.reply(200, f"{call}({{}});\n", (), "application/javascript")
        elif path == "/v1/upload":
            self.json(201, {"bytes": len(self.body)}, (("Location", "/v1/files/1"),))
        elif not allowed:
            challenge = ("WWW-Authenticate", 'Bearer realm="api", error="invalid_token"')
            problem = {"title": "unauthorised", "status": 401}
            self.json(401, problem, (challenge,), "application/problem+json")
        else:
            self.orders(path)

    def preflight(self, origin: str) -> None:
        """Answer a CORS preflight."""
        good = origin == "https://shop.example.test"
        allow = ("Access-Control-Allow-Origin", origin) if good else ("Vary", "Origin")
        methods = ("Access-Control-Allow-Methods", "GET, PUT, DELETE")
        names = ("Access-Control-Allow-Headers", "authorization, content-type")
        age = ("Access-Control-Max-Age", "600")
        self.reply(204, b"", (allow, methods, names, age) if good else (allow,))

    def orders(self, path: str) -> None:
        """Answer what needs a token."""
        tag = ("ETag", '"orders-v7"')
        order = {"id": 17, "to": "Zoë Müller", "card": "4111111111111111", "total": 29.5}
        if path == "/v1/me":
            self.json(200, {"name": "Ada", "email": "ada@example.test", "api_key": API_KEY})
        elif self.command == "DELETE":
            self.reply(204)
        elif self.command in ("GET", "HEAD") and path == "/v1/orders":
            if self.headers.get("If-None-Match") == '"orders-v7"':
                self.reply(304, b"", (tag,))
                return
            self.json(200, {"orders": [{**order, "id": n} for n in range(17, 22)]}, (tag,))
        elif self.command == "GET" and path == "/v1/orders/17":
            self.json(200, order, (tag,))
        elif self.command in ("PUT", "PATCH", "POST"):
            self.json(200, {"id": 17, "bytes": len(self.body)}, (tag,))
        else:
            self.json(404, {"title": "no such order", "status": 404})


def main() -> None:
    """Serve on the port of the command line."""
    with ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Application) as server:
        server.daemon_threads = True
        server.serve_forever()


if __name__ == "__main__":
    main()
