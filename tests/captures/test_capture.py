"""What the recorded captures promise to those who test with them."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

CAPTURES = Path(__file__).resolve().parents[2] / "captures"
TRAFFIC = CAPTURES / "traffic.har"
CHROME = CAPTURES / "chrome.har"
BOTH = pytest.mark.parametrize("path", [TRAFFIC, CHROME], ids=["traffic", "chrome"])
MAXIMUM_BYTES = 1_572_864
SECURITY_HEADERS = {
    "strict-transport-security",
    "content-security-policy",
    "x-content-type-options",
    "x-frame-options",
    "referrer-policy",
    "permissions-policy",
}

Entry = dict[str, Any]


def _log(path: Path) -> dict[str, Any]:
    log: dict[str, Any] = json.loads(path.read_text("utf-8"))["log"]
    return log


def _entries(path: Path) -> list[Entry]:
    entries: list[Entry] = _log(path)["entries"]
    return entries


def _header(message: dict[str, Any], name: str) -> list[str]:
    return [one["value"] for one in message["headers"] if one["name"].lower() == name]


def _names(message: dict[str, Any]) -> set[str]:
    return {one["name"].lower() for one in message["headers"]}


def _host(entry: Entry) -> str:
    return urlsplit(entry["request"]["url"]).hostname or ""


@pytest.fixture(scope="module")
def traffic() -> list[Entry]:
    return _entries(TRAFFIC)


@pytest.fixture(scope="module")
def chrome() -> list[Entry]:
    return _entries(CHROME)


def test_all_captures_together_stay_small() -> None:
    assert sum(path.stat().st_size for path in CAPTURES.glob("*.har")) < MAXIMUM_BYTES


def test_traffic_has_at_least_one_hundred_exchanges(traffic: list[Entry]) -> None:
    assert len(traffic) >= 100


def test_chrome_has_at_least_thirty_exchanges(chrome: list[Entry]) -> None:
    assert len(chrome) >= 30


def test_traffic_was_written_by_mitmproxy() -> None:
    assert _log(TRAFFIC)["creator"]["name"] == "mitmproxy"


def test_chrome_was_written_by_the_developer_tools() -> None:
    assert _log(CHROME)["creator"]["name"] == "WebInspector"


@BOTH
def test_every_host_is_of_a_reserved_domain(path: Path) -> None:
    assert {host for host in map(_host, _entries(path)) if not host.endswith(".example.test")} == (
        set()
    )


@BOTH
def test_every_server_address_is_loopback(path: Path) -> None:
    assert {entry.get("serverIPAddress", "") for entry in _entries(path)} <= {"127.0.0.1", ""}


@pytest.mark.parametrize("name", ["shop", "admin", "legacy", "static", "api"])
def test_traffic_visits_host(traffic: list[Entry], name: str) -> None:
    assert f"{name}.example.test" in set(map(_host, traffic))


@BOTH
def test_plain_and_encrypted_urls_occur(path: Path) -> None:
    schemes = {urlsplit(entry["request"]["url"]).scheme for entry in _entries(path)}
    assert schemes == {"http", "https"}


@BOTH
@pytest.mark.parametrize("version", ["http/1.1", "http/2.0"])
def test_http_version_occurs(path: Path, version: str) -> None:
    assert version in {entry["response"]["httpVersion"].lower() for entry in _entries(path)}


@pytest.mark.parametrize(
    "status",
    [
        *(200, 201, 204, 206, 301, 302, 303, 304, 307, 308),
        *(400, 401, 403, 404, 405, 413, 416, 421, 429, 500, 503),
    ],
)
def test_status_occurs(traffic: list[Entry], status: int) -> None:
    assert status in {entry["response"]["status"] for entry in traffic}


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_method_occurs(traffic: list[Entry], method: str) -> None:
    assert method in {entry["request"]["method"] for entry in traffic}


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirect_leads_from_http_to_https(traffic: list[Entry], status: int) -> None:
    assert any(
        entry["response"]["status"] == status
        and entry["request"]["url"].startswith("http:")
        and entry["response"]["redirectURL"].startswith("https:")
        for entry in traffic
    )


@BOTH
def test_a_page_with_every_security_header_occurs(path: Path) -> None:
    assert any(_names(entry["response"]) >= SECURITY_HEADERS for entry in _entries(path))


@BOTH
def test_a_page_without_any_security_header_occurs(path: Path) -> None:
    assert any(
        entry["response"]["status"] == 200
        and entry["response"]["content"]["mimeType"].startswith("text/html")
        and not _names(entry["response"]) & SECURITY_HEADERS
        for entry in _entries(path)
    )


@BOTH
def test_a_transport_security_header_of_five_minutes_occurs(path: Path) -> None:
    values = [_header(one["response"], "strict-transport-security") for one in _entries(path)]
    assert ["max-age=300"] in values


@BOTH
def test_a_content_policy_that_allows_inline_occurs(path: Path) -> None:
    values = [_header(one["response"], "content-security-policy") for one in _entries(path)]
    assert any("'unsafe-inline'" in value for found in values for value in found)


def test_a_header_is_lost_in_one_location_of_a_good_host(traffic: list[Entry]) -> None:
    found = [one for one in traffic if one["request"]["url"].endswith("/lost-headers")]
    assert [_names(one["response"]) & SECURITY_HEADERS for one in found] == [set()]


@BOTH
@pytest.mark.parametrize("wanted", [True, False], ids=["with", "without"])
@pytest.mark.parametrize("flag", ["secure", "httpOnly"])
def test_a_cookie_occurs_with_and_without_flag(path: Path, flag: str, wanted: bool) -> None:
    cookies = [cookie for one in _entries(path) for cookie in one["response"]["cookies"]]
    assert any(bool(cookie.get(flag)) is wanted for cookie in cookies)


@BOTH
def test_one_answer_sets_five_cookies(path: Path) -> None:
    counts = {
        sum(len(value.split("\n")) for value in _header(one["response"], "set-cookie"))
        for one in _entries(path)
    }
    assert 5 in counts


@BOTH
def test_a_form_with_a_password_occurs(path: Path) -> None:
    texts = [one["request"].get("postData", {}).get("text") or "" for one in _entries(path)]
    assert any("fake-password-1" in dict(parse_qsl(text)).get("password", "") for text in texts)


@BOTH
def test_a_password_in_a_query_occurs(path: Path) -> None:
    queries = [one["request"]["queryString"] for one in _entries(path)]
    assert {"name": "password", "value": "fake-password-2"} in [q for qs in queries for q in qs]


@pytest.mark.parametrize("scheme", ["Basic", "Bearer"])
def test_authorization_scheme_occurs(traffic: list[Entry], scheme: str) -> None:
    values = [value for one in traffic for value in _header(one["request"], "authorization")]
    assert any(value.startswith(f"{scheme} ") for value in values)


@BOTH
def test_every_authorization_is_made_up(path: Path) -> None:
    values = [v for one in _entries(path) for v in _header(one["request"], "authorization")]
    clear = [
        base64.b64decode(value[6:]).decode() if value.startswith("Basic ") else value
        for value in values
    ]
    assert [value for value in clear if "fake-" not in value] == []


def test_a_token_in_a_json_body_occurs(traffic: list[Entry]) -> None:
    texts = [one["response"]["content"].get("text", "") for one in traffic]
    assert any('"access_token": "fake-access-token-0001"' in text for text in texts)


@BOTH
@pytest.mark.parametrize("kind", ["image/png", "image/jpeg", "font/woff2"])
def test_binary_body_is_valid_base64_of_the_whole_body(path: Path, kind: str) -> None:
    bodies = [
        (one["response"]["content"], one["response"]["content"]["size"])
        for one in _entries(path)
        if one["response"]["status"] == 200
        and one["response"]["content"]["mimeType"] == kind
        and one["request"]["method"] == "GET"
    ]
    assert bodies
    assert [
        (content["encoding"], len(base64.b64decode(content["text"], validate=True)))
        for content, _ in bodies
    ] == [("base64", size) for _, size in bodies]


def test_a_compressed_answer_was_recorded_unpacked(traffic: list[Entry]) -> None:
    packed = [one for one in traffic if _header(one["response"], "content-encoding") == ["gzip"]]
    assert any(
        len(one["response"]["content"]["text"].encode()) > one["response"]["bodySize"] > 0
        for one in packed
    )


def test_text_of_a_declared_latin_charset_was_decoded(traffic: list[Entry]) -> None:
    found = [one for one in traffic if one["request"]["url"].endswith("/latin1")]
    assert ["Größe" in one["response"]["content"]["text"] for one in found] == [True]


def test_text_of_a_wrong_charset_holds_lone_surrogates(traffic: list[Entry]) -> None:
    """mitmproxy writes undecodable bytes as U+DC80..U+DCFF, which no UTF-8 encoder accepts."""
    found = [one for one in traffic if one["request"]["url"].endswith("/wrong-utf8")]
    assert ["\udcfc" in one["response"]["content"]["text"] for one in found] == [True]


def test_a_header_value_holds_lone_surrogates(traffic: list[Entry]) -> None:
    values = [value for one in traffic for value in _header(one["response"], "x-greeting")]
    assert values == ["Gr\udcfc\udcdfe"]


@pytest.mark.parametrize("side", ["request", "response"])
def test_a_header_value_of_four_thousand_characters_occurs(traffic: list[Entry], side: str) -> None:
    assert max(len(header["value"]) for one in traffic for header in one[side]["headers"]) > 4000


def test_a_repeated_header_occurs(traffic: list[Entry]) -> None:
    assert ["1", "2"] in [_header(one["response"], "x-trace") for one in traffic]


def test_a_url_beyond_ascii_occurs(traffic: list[Entry]) -> None:
    assert any(not one["request"]["url"].isascii() for one in traffic)


def test_a_url_with_a_port_occurs(traffic: list[Entry]) -> None:
    assert {8443, 8080} <= {urlsplit(one["request"]["url"]).port for one in traffic}


def test_an_exchange_without_an_answer_has_status_zero(traffic: list[Entry]) -> None:
    failed = [one for one in traffic if one["response"]["status"] == 0]
    assert [one["response"]["content"] for one in failed] == [{}]


def test_a_request_with_a_body_but_without_post_data_occurs(traffic: list[Entry]) -> None:
    assert any(
        one["request"]["bodySize"] > 0 and "postData" not in one["request"] for one in traffic
    )


def test_empty_bodies_occur(traffic: list[Entry]) -> None:
    assert any(
        one["response"]["status"] == 200 and one["response"]["content"].get("text") == ""
        for one in traffic
    )


@pytest.mark.parametrize("status", [204, 304])
def test_answer_that_may_have_no_body_has_none(traffic: list[Entry], status: int) -> None:
    bodies = {
        one["response"]["content"].get("text")
        for one in traffic
        if one["response"]["status"] == status
    }
    assert bodies == {""}


def test_versions_leak_in_a_server_error(traffic: list[Entry]) -> None:
    servers = [_header(o["response"], "server") for o in traffic if o["response"]["status"] == 500]
    assert servers
    assert all("PHP/5.3.3" in value for found in servers for value in found)


def test_versions_leak_in_a_missing_page(traffic: list[Entry]) -> None:
    servers = [_header(o["response"], "server") for o in traffic if o["response"]["status"] == 404]
    assert any("nginx/" in value for found in servers for value in found)


@BOTH
def test_an_encrypted_page_refers_to_plain_resources(path: Path) -> None:
    marker = 'src="http://static.example.test/'
    pages = [
        one["response"]["content"].get("text", "")
        for one in _entries(path)
        if one["request"]["url"].startswith("https:")
    ]
    assert any(marker in page for page in pages)


def test_an_answer_lets_any_origin_read_with_credentials(traffic: list[Entry]) -> None:
    assert any(
        _header(one["response"], "access-control-allow-origin") == ["https://evil.example.test"]
        and _header(one["response"], "access-control-allow-credentials") == ["true"]
        for one in traffic
    )


def test_chrome_upgrades_a_plain_url_inside_the_browser(chrome: list[Entry]) -> None:
    """An answer of status 307 that no server gave: the host was known to want https."""
    assert any(
        one["response"]["status"] == 307 and _header(one["response"], "non-authoritative-reason")
        for one in chrome
    )


def test_chrome_answers_from_its_cache_occur(chrome: list[Entry]) -> None:
    assert {"disk"} <= {one.get("_fromCache", "") for one in chrome}


def test_chrome_writes_pseudo_headers(chrome: list[Entry]) -> None:
    assert any(":authority" in _names(one["request"]) for one in chrome)


def test_no_private_key_lies_beside_the_captures() -> None:
    marker = b"PRIVATE" + b" KEY"
    files = [path for path in CAPTURES.rglob("*") if path.is_file()]
    assert [path for path in files if marker in path.read_bytes()] == []
