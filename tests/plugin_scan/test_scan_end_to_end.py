"""passive-header-scan over a real broker: the plugin is our own, so it runs as a plain program."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from oxgen.broker import Broker, read_har
from oxgen.capabilities import AuditLog, Capability, Issuer, parse_capabilities
from oxgen.findings import Finding
from oxgen.manifest import parse_manifest

ROOT = Path(__file__).resolve().parent.parent.parent
SDK = ROOT / "oxgen" / "sdk"
PLUGIN = ROOT / "plugins" / "passive-header-scan" / "passive_header_scan.py"
SECRET = "Zq9sEcReTvAlUe77"
START = """
import runpy, sys
sys.path.insert(0, sys.argv[1])
runpy.run_path(sys.argv[2], run_name="__main__")
"""


def entry(url: str, headers: list[tuple[str, str]], body: str = "", status: int = 200) -> Any:
    return {
        "startedDateTime": "2026-05-04T10:00:00Z",
        "request": {
            "method": "GET",
            "url": url,
            "headers": [{"name": "Cookie", "value": f"sid={SECRET}"}],
        },
        "response": {
            "status": status,
            "headers": [{"name": name, "value": value} for name, value in headers],
            "content": {"size": len(body), "mimeType": "text/html", "text": body},
        },
    }


HTML = ("Content-Type", "text/html")
ENTRIES = [
    entry(
        f"https://shop.example/?token={SECRET}",
        [HTML, ("Set-Cookie", f"sid={SECRET}; Path=/"), ("Server", "nginx/1.25.3")],
        f'<script src="http://cdn.example/a.js"></script><p>{SECRET}</p>',
    ),
    entry("http://shop.example/", [("Location", "https://shop.example/")], status=301),
    {"broken": True},
    entry("https://shop.example/b", [HTML, ("Strict-Transport-Security", "max-age=1")]),
]


def run(
    tmp_path: Path, capabilities: list[Capability], entries: list[Any] = ENTRIES
) -> tuple[subprocess.CompletedProcess[str], list[Finding]]:
    capture = tmp_path / "capture.har"
    capture.write_text(json.dumps({"log": {"entries": entries}}))
    findings: list[Finding] = []
    with AuditLog(tmp_path / "audit.jsonl") as audit:
        issuer = Issuer(audit=audit)
        token = issuer.grant(
            plugin="passive-header-scan", run_id="run-1", capabilities=capabilities
        )
        broker = Broker(
            issuer=issuer,
            token_plugin="passive-header-scan",
            run_id="run-1",
            flows=read_har(capture).flows,
            on_finding=findings.append,
            audit=audit,
        )
        host, plugin = socket.socketpair()
        thread = threading.Thread(target=broker.serve, args=(host,), daemon=True)
        thread.start()
        with plugin:
            done = subprocess.run(
                [sys.executable, "-I", "-B", "-c", START, str(SDK), str(PLUGIN)],
                env={"OXGEN_BROKER": f"fd:{plugin.fileno()}", "OXGEN_CAPABILITY_TOKEN": token},
                pass_fds=[plugin.fileno()],
                capture_output=True,
                text=True,
                timeout=60,
            )
        # Both copies of the plugin's end are closed: the broker reads to their end by itself.
        thread.join(20)
        ended = not thread.is_alive()
        broker.close()
        assert ended, "the broker did not see the end of the plugin"
        assert broker.failure is None
    return done, findings


GRANTED = [Capability.CAP_EMIT_FINDINGS, Capability.CAP_HTTP_PASSIVE]


def test_findings_of_a_capture_arrive(tmp_path: Path) -> None:
    done, findings = run(tmp_path, GRANTED)
    assert (done.returncode, done.stdout) == (0, "")
    assert f"3 flows, {len(findings)} findings" in done.stderr
    found = {(each.target, each.meta["rule"], each.meta["count"]) for each in findings}
    assert {
        ("https://shop.example", "hsts-missing", "1"),
        ("https://shop.example", "hsts-weak", "1"),
        ("https://shop.example", "csp-missing", "2"),
        ("https://shop.example", "cookie-not-secure", "1"),
        ("https://shop.example", "version-leak", "1"),
        ("https://shop.example", "mixed-active", "1"),
    } <= found
    assert {each.plugin for each in findings} == {"passive-header-scan"}


def test_two_runs_find_the_same_in_the_same_order(tmp_path: Path) -> None:
    def told(findings: list[Finding]) -> list[Any]:
        return [(each.type, each.message, each.target, dict(each.meta)) for each in findings]

    assert told(run(tmp_path, GRANTED)[1]) == told(run(tmp_path, GRANTED)[1])


def test_secrets_of_the_capture_reach_no_finding(tmp_path: Path) -> None:
    done, findings = run(tmp_path, GRANTED)
    assert all(SECRET not in each.to_line().decode() for each in findings)
    assert SECRET not in done.stderr


def test_every_call_is_in_the_audit_log(tmp_path: Path) -> None:
    _, findings = run(tmp_path, GRANTED)
    records = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_bytes().splitlines()]
    received = [each["finding_id"] for each in records if each["event"] == "finding_received"]
    assert received == [each.id for each in findings]
    assert records[-1]["event"] == "plugin_disconnect"
    assert records[-1]["reason"] == "eof"


@pytest.mark.parametrize("missing", GRANTED)
def test_without_a_capability_the_plugin_says_which(tmp_path: Path, missing: Capability) -> None:
    done, findings = run(tmp_path, [each for each in GRANTED if each != missing])
    assert done.returncode == 1
    assert missing.value in done.stderr
    assert "Traceback" not in done.stderr
    assert findings == []


def test_empty_capture_is_no_error(tmp_path: Path) -> None:
    done, findings = run(tmp_path, GRANTED, [])
    assert (done.returncode, findings) == (0, [])


def test_without_a_host_the_plugin_says_how_to_start_it() -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-B", "-c", START, str(SDK), str(PLUGIN)],
        env={},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "0xgenctl plugin run" in done.stderr
    assert "Traceback" not in done.stderr


def test_manifest_is_one_the_host_accepts() -> None:
    manifest = parse_manifest(PLUGIN.with_name("manifest.json").read_bytes())
    assert (manifest.entry, manifest.artifact, manifest.runtime) == (
        "passive-header-scan",
        PLUGIN.name,
        "python",
    )
    assert list(parse_capabilities(manifest.capabilities)) == GRANTED
