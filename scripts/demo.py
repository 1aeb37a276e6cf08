"""Show what oxgen does: a plugin that is approved and works, and two hostile ones that are stopped.

    sudo make demo          (or, once built: build/venv/bin/python scripts/demo.py)

Everything is made in build/demo/ (mode 0700): a trust root with a key of its own, a copy of the
plugin passive-header-scan, and two hostile programs from examples/hostile/. Each step checks what
it expects; the exit status is 0 only if all of it held.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "build" / "demo"
TRUST = DEMO / "trust"
#: In the same environment as the interpreter that runs this.
CTL = Path(sys.executable).with_name("0xgenctl")
PLUGIN = "passive-header-scan"
CAPTURE = ROOT / "captures" / "traffic.har"
#: A run beyond this is a fault of ours: no limit of the demonstration is longer than 30 seconds.
DEADLINE_SECONDS = 60.0
HOSTILE_MANIFEST = {
    "name": "bad-plugin",
    "version": "1.0.0",
    "entry": "read_passwd",
    "artifact": "read_passwd",
    "capabilities": [],
    "signature": {"publicKey": "../keys/0xgen-plugin.pub"},
    "description": "looks for the accounts of the host; approved by mistake",
}


class Failed(Exception):
    """Something was not as it should be; the message says what."""


def expect(holds: bool, message: str) -> None:
    """Print what was checked, or end the demonstration."""
    if not holds:
        raise Failed(message)
    print(f"  ok: {message}")


def heading(text: str) -> None:
    """Begin a part."""
    print(f"\n== {text}", flush=True)


def control(*args: str | Path, fds: tuple[int, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run 0xgenctl, show the command line, return what it said."""
    words = [str(arg) for arg in args]
    shown = [word.replace(f"{ROOT}/", "") for word in words]
    print(f"  $ 0xgenctl {' '.join(shown)}", flush=True)
    return subprocess.run(
        [str(CTL), *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="backslashreplace",
        timeout=DEADLINE_SECONDS,
        pass_fds=fds,
        cwd=ROOT,
    )


def must(*args: str | Path) -> str:
    """Run 0xgenctl and return its stdout; anything but exit status 0 ends the demonstration."""
    done = control(*args)
    if done.returncode != 0:
        raise Failed(f"0xgenctl {args[0]} {args[1]} ended with {done.returncode}: {done.stderr}")
    return done.stdout


def supervised(
    name: str, *args: str | Path
) -> tuple[subprocess.CompletedProcess[str], dict[str, Any], list[dict[str, Any]]]:
    """Run ``plugin run``; return what it said, its status object and the findings it recorded."""
    status_path, findings_path = DEMO / f"{name}.status.json", DEMO / f"{name}.findings.jsonl"
    with status_path.open("wb") as status_file:
        done = control(
            *("plugin", "run", "--findings", findings_path),
            *("--json-status-fd", str(status_file.fileno()), *args),
            fds=(status_file.fileno(),),
        )
    text = status_path.read_text(encoding="ascii")
    if not text:
        raise Failed(f"no status object; 0xgenctl ended with {done.returncode}: {done.stderr}")
    findings = []
    if findings_path.exists():
        findings = [json.loads(line) for line in findings_path.read_bytes().splitlines()]
    return done, json.loads(text), findings


def show_confinement(status: dict[str, Any]) -> None:
    """Print what confined a run, and insist that nothing was missing at the strongest level."""
    box = status["confinement"]
    print(f"  confined by: level {box['level']}, limits by {box['limits']}")
    print(f"    enforced: {', '.join(box['enforced'])}")
    print(f"    missing:  {', '.join(box['missing']) or 'nothing'}")
    expect(box["level"] == "namespaces", "the level is namespaces")


def prepare() -> None:
    """Make the trust root: a key, the plugin's copy, its signature and its lines in ALLOWLIST."""
    if DEMO.exists():
        shutil.rmtree(DEMO)
    DEMO.mkdir(mode=0o700, parents=True)
    (TRUST / "keys").mkdir(parents=True)
    (TRUST / "ALLOWLIST").write_text("# the demonstration's own\n", encoding="ascii")
    source = ROOT / "plugins" / PLUGIN
    if not (source / "manifest.json").is_file():
        raise Failed(f"{source} has no manifest.json: this source tree is not complete")
    ignore = shutil.ignore_patterns("*.sig", "__pycache__")
    shutil.copytree(source, TRUST / PLUGIN, ignore=ignore)
    (TRUST / "bad-plugin").mkdir()
    compile_hostile("read_passwd.c", TRUST / "bad-plugin" / "read_passwd")
    compile_hostile("burn_cpu.c", DEMO / "cpu-bomb")
    manifest = json.dumps(HOSTILE_MANIFEST, indent=2) + "\n"
    (TRUST / "bad-plugin" / "manifest.json").write_text(manifest, encoding="ascii")
    must("plugin", "keygen", DEMO / "demo.key", TRUST / "keys" / "0xgen-plugin.pub")
    for name in (PLUGIN, "bad-plugin"):
        must("plugin", "sign", "--key", DEMO / "demo.key", TRUST / name)
        must("plugin", "approve", "--trust-root", TRUST, TRUST / name)


def compile_hostile(source: str, target: Path) -> None:
    """Compile one program of examples/hostile/, static: a cell holds nothing but the program."""
    compiler = os.environ.get("CC", "cc")
    command = [compiler, "-std=gnu11", "-O2", "-static", "-o", str(target)]
    command.append(str(ROOT / "examples" / "hostile" / source))
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE_SECONDS
    )
    if done.returncode != 0:
        raise Failed(f"{source} cannot be compiled (static, needs libc.a): {done.stderr}")


def show_good_plugin() -> None:
    """Run the approved plugin on recorded traffic."""
    heading(f"an approved plugin: {PLUGIN} looks at {CAPTURE.relative_to(ROOT)}")
    done, status, findings = supervised(
        "scan", "--flows", CAPTURE, "--trust-root", TRUST, TRUST / PLUGIN
    )
    expect(done.returncode == 0, f"exit status 0 {done.stderr if done.returncode else ''}".strip())
    expect(status["phase"] == "run" and status["reason"] is None, "it ran, and ended by itself")
    expect(status["integrity"] == "verified", "it was verified before it started")
    expect(len(findings) > 0, f"{len(findings)} findings are recorded")
    shutil.copy(DEMO / "scan.findings.jsonl", DEMO / "findings.jsonl")
    print_findings(findings)
    show_confinement(status)


def print_findings(findings: list[dict[str, Any]]) -> None:
    """Print a table; the text comes from a plugin, so it is escaped."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from oxgen.findings import escape_text

    shown = 20
    table = Table("severity", "type", "target", "message", title=None)
    for finding in findings[:shown]:
        cells = (finding.get(key) or "" for key in ("severity", "type", "target", "message"))
        table.add_row(*(Text(escape_text(cell)) for cell in cells))
    width = None if sys.stdout.isatty() else 140
    Console(width=width, no_color=not sys.stdout.isatty()).print(table)
    if len(findings) > shown:
        print(f"  and {len(findings) - shown} more in build/demo/findings.jsonl")


def show_changed_plugin_is_refused() -> None:
    """Change one byte of an approved plugin: it must not start."""
    heading("the same plugin with one more byte than was approved")
    changed = DEMO / "changed" / PLUGIN
    shutil.copytree(TRUST, DEMO / "changed")
    artifact = json.loads((changed / "manifest.json").read_bytes())["artifact"]
    with (changed / artifact).open("ab") as stream:
        stream.write(b"\n")
    done, status, _ = supervised("changed", "--trust-root", DEMO / "changed", changed)
    print(f"  {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else ''}")
    expect(done.returncode == 126, "exit status 126: found but refused")
    expect(status["phase"] != "run", "nothing of it ran")


def show_reader_is_stopped() -> None:
    """Run the program that looks for the host's accounts, approved by mistake."""
    heading("a hostile plugin that was approved by mistake: it looks for /etc/passwd")
    done, status, findings = supervised("reader", "--trust-root", TRUST, TRUST / "bad-plugin")
    lines = [line for line in done.stderr.splitlines() if line.startswith(("refused", "READ"))]
    for line in lines:
        print(f"    {line.encode('ascii', 'backslashreplace').decode('ascii')}")
    expect(status["phase"] == "run", "it did run")
    leaked = [line for line in done.stderr.splitlines() if line.startswith(("READ", "BECAME"))]
    expect(not leaked and status["exit_code"] != 66, "it read nothing of the host")
    if status["reason"] is None:
        expect(status["exit_code"] == 0, "every one of its attempts was refused")
    else:
        print(f"  ended by: {status['reason']}: {status['detail']}")
        expect(status["reason"] in ("syscall_denied", "killed"), "a denied call ended it")
        expect(len(terminations(findings)) == 1, "one termination finding says so")
    show_confinement(status)


def show_burner_is_stopped() -> None:
    """Run the program that burns processor time and ignores every warning, unverified."""
    heading("a hostile program that nobody approved: it burns processor time for ever")
    begin = time.monotonic()
    done, status, findings = supervised("bomb", "--cpu-limit", "2", DEMO / "cpu-bomb")
    wall = time.monotonic() - begin
    usage = status["usage"]["cpu_seconds"]
    print(f"  ended by: {status['reason']}: {status['detail']}")
    expect(status["reason"] == "cpu_limit", "the limit on processor time ended it")
    expect(done.returncode == 152, "exit status 152: CPU limit")
    expect(usage <= 4.0, f"both of its processes together used {usage:.2f} s of 2 s allowed")
    expect(wall < 30, f"{wall:.1f} s after it was started nothing of it is left")
    expect(status["integrity"] == "unverified", "the record says that it was unverified")
    found = terminations(findings)
    expect(len(found) == 1, "one termination finding is recorded")
    print(f"    {json.dumps(found[0], ensure_ascii=True)}")
    expect(not survivors("cpu-bomb"), "no process of it is left on the machine")
    show_confinement(status)


def terminations(findings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the findings in which the supervisor says why a run ended."""
    return [found for found in findings if found["type"] == "oxg.supervisor.termination"]


def survivors(name: str) -> list[str]:
    """Return the processes of the machine with this name."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):
            if entry.read_text(encoding="utf-8", errors="replace").strip() == name:
                found.append(entry.parent.name)
    return found


def show_doctor() -> None:
    """Print what the machine would enforce."""
    heading("what this machine enforces")
    done = control("doctor", "--trust-root", TRUST)
    print("\n".join(f"  {line}" for line in done.stdout.splitlines()))
    expect(done.returncode == 0, f"doctor finds nothing wrong {done.stderr}".strip())


def parts() -> Iterator[Any]:
    """Yield the parts in the order in which they are shown."""
    yield show_good_plugin
    yield show_changed_plugin_is_refused
    yield show_reader_is_stopped
    yield show_burner_is_stopped
    yield show_doctor


def main() -> int:
    """Run all parts; the first thing that is not as it should be ends with status 1."""
    if os.geteuid() != 0:
        print(
            "demo: needs root: each cell gets user ids and a cgroup of its own, which an ordinary"
            " user cannot hand out; run it as root (sudo make demo) on a machine for trials",
            file=sys.stderr,
        )
        return 1
    os.umask(0o022)
    begin = time.monotonic()
    try:
        heading("a trust root with a key of its own, in build/demo/")
        prepare()
        for part in parts():
            part()
    except Failed as exc:
        print(f"\ndemo: FAILED: {exc}", file=sys.stderr)
        return 1
    except subprocess.TimeoutExpired as exc:
        print(f"\ndemo: FAILED: {exc.cmd[0]} did not end in {exc.timeout} s", file=sys.stderr)
        return 1
    print(f"\ndemo: everything held ({time.monotonic() - begin:.1f} s); files in build/demo/")
    return 0


if __name__ == "__main__":
    sys.exit(main())
