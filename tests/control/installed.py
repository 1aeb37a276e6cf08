"""Real programs that tests run in cells: where they are, or a skip that says what is not there."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from .programs import OUTPUT

__all__ = ["NEEDS_PROGRAM", "build_jar", "build_musl", "build_rust", "in_path", "python"]

NEEDS_PROGRAM = "needs-program:"
_JAVA = Path(__file__).resolve().parent.parent / "compat" / "java"


def in_path(name: str, *extra: str) -> str:
    """Return the path of a program, looked for in PATH and the places of the system."""
    places = os.pathsep.join((os.environ.get("PATH", ""), "/usr/bin", "/bin", *extra))
    path = shutil.which(name, path=places)
    if path is None:
        pytest.skip(f"{NEEDS_PROGRAM} {name} is not installed")
    return path


def python() -> str:
    """Return the interpreter that runs the tests, outside of its environment."""
    return os.path.realpath(sys.executable)


def build_jar() -> str:
    """Return a jar of ``compat/java/Work.class``, made by ``javac --release 11`` of its source."""
    in_path("java")
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as jar:
        jar.writestr("META-INF/MANIFEST.MF", "Manifest-Version: 1.0\nMain-Class: Work\n")
        jar.writestr("Work.class", (_JAVA / "Work.class").read_bytes())
    OUTPUT.mkdir(parents=True, exist_ok=True)
    path = OUTPUT / f"work-{os.getpid()}.jar"
    path.write_bytes(content.getvalue())
    path.chmod(0o755)
    return str(path)


def _compile(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed:\n{done.stderr}")


def build_musl(directory: Path, text: str, *flags: str) -> str:
    """Compile C against musl."""
    source, target = directory / "musl.c", directory / "musl"
    source.write_text(text)
    _compile([in_path("musl-gcc"), "-O1", *flags, "-o", str(target), str(source)])
    return str(target)


def build_rust(directory: Path, text: str) -> str:
    """Compile one Rust file."""
    source, target = directory / "work.rs", directory / "work"
    source.write_text(text)
    compiler = in_path("rustc", os.path.expanduser("~/.cargo/bin"))
    _compile([compiler, "-O", "-o", str(target), str(source)])
    return str(target)
