"""Build the programs that tests confine, once for each text of their sources."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

__all__ = ["HOSTILE", "PROBE_SOURCES", "ROOT", "build_c", "build_go", "build_probe"]

ROOT = Path(__file__).resolve().parent.parent.parent
HOSTILE = ROOT / "tests" / "hostile"
PROBE_SOURCES = (ROOT / "tests" / "probe.c", *sorted(HOSTILE.glob("*.c")))
OUTPUT = ROOT / "build" / "tests"

COMPILE_SECONDS = 120


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Keep parallel test workers from building one program at the same time."""
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(name: str, key: str, command: Sequence[str], env: dict[str, str] | None = None) -> Path:
    """Run ``command`` with the path to write appended, unless that was done before."""
    directory = OUTPUT / hashlib.sha256(key.encode()).hexdigest()[:16]
    target = directory / name
    with _locked(directory):
        if not target.exists():
            fresh = target.with_suffix(".fresh")
            done = subprocess.run(
                [*command, str(fresh)],
                env=env,
                capture_output=True,
                text=True,
                timeout=COMPILE_SECONDS,
                check=False,
                cwd=directory,
            )
            if done.returncode != 0:
                raise RuntimeError(f"{command[0]} could not build {name}:\n{done.stderr}")
            fresh.chmod(0o755)
            fresh.rename(target)
    return target


def _text(paths: Sequence[Path]) -> str:
    return "".join(path.read_text(encoding="utf-8") for path in paths)


def build_c(
    name: str, *, sources: Sequence[Path] = (), text: str = "", flags: Sequence[str] = ("-static",)
) -> Path:
    """Compile files, or one file with ``text``, to a program that is called ``name``."""
    compiler = os.environ.get("CC", "cc")
    command = [compiler, "-std=gnu11", "-O1", "-Wall", "-Wextra", "-pthread", *flags]
    key = "\0".join((name, *command, text, _text(sources), _text(sorted(HOSTILE.glob("*.h")))))
    if not text:
        return _build(name, key, [*command, *map(str, sources), "-o"])
    directory = OUTPUT / hashlib.sha256(key.encode()).hexdigest()[:16]
    with _locked(directory):
        (directory / f"{name}.c").write_text(text, encoding="utf-8")
    return _build(name, key, [*command, str(directory / f"{name}.c"), "-o"])


def build_probe(*flags: str) -> Path:
    """Return the probe; static without flags."""
    return build_c("probe", sources=PROBE_SOURCES, flags=flags or ("-static",))


def build_go(name: str, text: str) -> Path | None:
    """Build one Go file into a static program; None where there is no Go."""
    compiler = shutil.which("go")
    if compiler is None:
        return None
    env = {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "HOME": str(OUTPUT),
        "GOCACHE": str(OUTPUT / "go-cache"),
        "GOPATH": str(OUTPUT / "go-path"),
        "GOFLAGS": "-mod=mod",
        "GOPROXY": "off",
        "GOTELEMETRY": "off",
        "GO111MODULE": "off",
        "CGO_ENABLED": "0",
    }
    key = f"{name}\0go\0{text}"
    directory = OUTPUT / hashlib.sha256(key.encode()).hexdigest()[:16]
    with _locked(directory):
        source = directory / f"{name}.go"
        source.write_text(text, encoding="utf-8")
    return _build_go(compiler, name, key, source, env)


def _build_go(compiler: str, name: str, key: str, source: Path, env: dict[str, str]) -> Path:
    # `go build -o PATH FILE`: the path does not come last, so a shell puts it in its place.
    script = 'exec "$0" build -trimpath -o "$2" "$1"'
    return _build(name, key, ["/bin/sh", "-c", script, compiler, str(source)], env)
