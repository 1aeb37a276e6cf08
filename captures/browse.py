"""Visit the recorded site by Chromium and export what its developer tools saw.

The HAR is written by the developer tools themselves: their front end is opened in a second tab,
attached to the first, and its own exporter (models/har, the one behind "Export HAR") is called.
Run by record.py: ``browse.py PORT OUTPUT``, where PORT is Chromium's remote debugging port.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from websockets.sync.client import connect
from websockets.sync.connection import Connection

__all__ = ["main"]

PAGES = (
    "https://shop.example.test/login",
    "https://shop.example.test/",
    "https://shop.example.test/product",
    "http://shop.example.test/old-product",
    "https://shop.example.test/nothing-here",
    "http://legacy.example.test/",
    "https://legacy.example.test/weak",
    "https://legacy.example.test/",
    "http://legacy.example.test/latin1",
    "http://legacy.example.test/app/search?q=%3Cb%3Ebold%3C/b%3E",
    "https://legacy.example.test/app/report",
    "http://legacy.example.test/cgi-bin/login.pl?user=bob&password=fake-password-2",
    "https://xn--bcher-kva.example.test/",
    "https://static.example.test/photo.jpg",
    "https://shop.example.test/",  # now from the cache, without all of its headers
)
FETCHING_PAGE = "https://shop.example.test/product?again"
REFUSED = "https://api.example.test/v1/me"  # its preflight is not answered for this header
# Requests of a page of the shop: a form that logs in, JSON, a preflight that is refused.
FETCHES = """(async () => {
  const form = {method: "POST", body: new URLSearchParams({user: "ada@example.test",
    password: "fake-password-1"})};
  const bearer = {headers: {Authorization: "Bearer fake-access-token-0001"}};
  const asked = [["/login", form], ["/account", {}], ["/cart", {method: "POST", body: "{}"}],
    ["https://api.example.test/v1/status", {}], ["REFUSED", bearer]];
  for (const [url, options] of asked) {
    try { await (await fetch(url, options)).text(); } catch (error) { /* recorded as a failure */ }
  }
})()""".replace("REFUSED", REFUSED)
EXPORT = """(async () => {
  const [HAR, Logs, Common] = await Promise.all(["models/har/har.js", "models/logs/logs.js",
    "core/common/common.js"].map((path) => import("/devtools/" + path)));
  let text = "";
  const stream = {write: async (part) => { text += part; }, close: async () => {}};
  const requests = Logs.NetworkLog.NetworkLog.instance().requests();
  await HAR.Writer.Writer.write(stream, requests, {sanitize: false},
    new Common.Progress.Progress());
  return text;
})()"""
# "Keep log", or each navigation would empty it.
PRESERVE = """(async () => {
  const [Common, SDK, Logs] = await Promise.all(["core/common/common.js", "core/sdk/sdk.js",
    "models/logs/logs.js"].map((path) => import("/devtools/" + path)));
  const keep = Object.values(SDK).find((part) => part.preserveNetworkLogSettingDescriptor);
  const descriptor = keep.preserveNetworkLogSettingDescriptor;
  Common.Settings.Settings.instance().resolve(descriptor).set(true);
  return Logs.NetworkLog.NetworkLog.instance().requests() !== null;
})()"""
# What opening each request in the network panel does: its body is kept once the page is gone.
# The tools get ready in their own time: whether they have seen a page is asked, not assumed.
COLLECT = """(async (wanted) => {
  const Logs = await import("/devtools/models/logs/logs.js");
  const requests = Logs.NetworkLog.NetworkLog.instance().requests();
  const finished = requests.filter((request) => request.finished);
  await Promise.all(finished.map((request) => request.requestContentData()));
  return requests.length === finished.length && requests.some((one) => one.url() === wanted);
})"""
ANSWER_SECONDS = 20.0
TRY_SECONDS = 3.0


class Tab:
    """One connection to one tab, speaking the Chrome DevTools Protocol."""

    def __init__(self, connection: Connection) -> None:
        """Keep the open connection."""
        self._connection = connection
        self._numbers = itertools.count(1)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send one command and return its result; events in between are dropped."""
        number = next(self._numbers)
        self._connection.send(json.dumps({"id": number, "method": method, "params": params}))
        deadline = time.monotonic() + ANSWER_SECONDS
        while True:
            message = json.loads(self._connection.recv(max(0.0, deadline - time.monotonic())))
            if message.get("id") == number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                result: dict[str, Any] = message["result"]
                return result

    def evaluate(self, script: str) -> Any:
        """Run a script, wait for its promise and return its value."""
        answer = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(json.dumps(answer["exceptionDetails"])[:600])
        return answer["result"].get("value")

    def until(self, script: str, seconds: float = ANSWER_SECONDS) -> None:
        """Wait until the script gives something true."""
        deadline = time.monotonic() + seconds
        problem = "never true"
        while time.monotonic() < deadline:
            try:
                if self.evaluate(script):
                    return
            except RuntimeError as exc:  # a page that is being replaced cannot evaluate
                problem = str(exc)
            time.sleep(0.1)
        raise RuntimeError(f"{script}: {problem}")


def _open(port: int, url: str) -> dict[str, Any]:
    """Open a tab and return its description."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/json/new?{url}", method="PUT")
    with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:
        tab: dict[str, Any] = json.load(answer)
    return tab


def _visit(page: Tab, front_end: Tab, url: str) -> None:
    """Load a page until the tools have seen all of it; at the start they may miss one."""
    problem = ""
    deadline = time.monotonic() + ANSWER_SECONDS
    while time.monotonic() < deadline:
        page.call("Page.navigate", url=url)
        try:
            page.until("document.readyState === 'complete'")
            front_end.until(f"{COLLECT}({json.dumps(url)})", TRY_SECONDS)
            return
        except RuntimeError as exc:
            problem = str(exc)
    raise RuntimeError(f"the developer tools did not see {url}: {problem}")


def main() -> None:
    """Attach the developer tools to a tab, visit every page there, export."""
    port, output = int(sys.argv[1]), Path(sys.argv[2])
    site = _open(port, "about:blank")
    target = f"127.0.0.1:{port}/devtools/page/{site['id']}"
    tools = _open(port, f"http://127.0.0.1:{port}/devtools/inspector.html?ws={target}")
    origin: Any = f"http://127.0.0.1:{port}"
    size = 64 * 1024 * 1024
    with (
        connect(site["webSocketDebuggerUrl"], origin=origin, max_size=size) as site_socket,
        connect(tools["webSocketDebuggerUrl"], origin=origin, max_size=size) as tools_socket,
    ):
        page, front_end = Tab(site_socket), Tab(tools_socket)
        front_end.until("document.readyState === 'complete'")
        front_end.until(PRESERVE)
        for url in (*PAGES, FETCHING_PAGE):
            _visit(page, front_end, url)
        page.evaluate(FETCHES)
        front_end.until(f"{COLLECT}({json.dumps(REFUSED)})")
        output.write_text(front_end.evaluate(EXPORT), "utf-8")


if __name__ == "__main__":
    main()
