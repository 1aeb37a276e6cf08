"""Targets: the programs that are launched, built where every user may run them."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

__all__ = ["C_SOURCES", "ROOT", "Target", "Workshop", "open_workshop"]

ROOT = Path(__file__).resolve().parent.parent
C_SOURCES = Path(__file__).resolve().parent / "c"
_COMPILE_SECONDS = 120
#: A static program of this size counts as tiny.
TINY_BYTES = 1024

_TRUE = "int main(void) { return 0; }\n"
_LINK_TINY = (
    "-nostdlib",
    "-static",
    "-s",
    "-Wl,--build-id=none",
    "-Wl,-z,noseparate-code",
    "-Wl,-n",
)


@dataclass(frozen=True, slots=True)
class Target:
    """A program that exits at once. ``system`` means that it needs libraries beside itself."""

    name: str
    path: str
    about: str
    system: bool = False

    @property
    def size_bytes(self) -> int:
        """The size of its file."""
        return os.path.getsize(self.path)


class Workshop:
    """Builds programs into one directory that everybody may read."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.chmod(0o755)
        self._targets: dict[str, Target] = {}

    def compile(self, name: str, sources: Sequence[Path | str], *flags: str) -> str:
        """Compile C or assembler files to a program and return its path."""
        program = self.directory / name
        words = [os.environ.get("CC", "cc"), "-std=gnu11", "-O2", "-iquote", "csrc", *flags]
        done = subprocess.run(
            [*words, "-o", str(program), *map(str, sources), "-pthread"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=_COMPILE_SECONDS,
        )
        if done.returncode != 0:
            raise SystemExit(f"benchmarks: {name} cannot be built:\n{done.stderr}")
        program.chmod(0o755)
        return str(program)

    def helper(self, name: str) -> str:
        """Compile ``benchmarks/c/<name>.c`` statically, once."""
        path = self.directory / name
        return (
            str(path) if path.exists() else self.compile(name, [C_SOURCES / f"{name}.c"], "-static")
        )

    def warm(self) -> str:
        """Compile the C driver with the core of this tree, once."""
        path = self.directory / "warm"
        if path.exists():
            return str(path)
        core = [ROOT / "csrc" / "stage.c"]
        for part in ("posix", "linux"):
            core += sorted((ROOT / "csrc" / part).glob("*.c"))
        return self.compile("warm", [C_SOURCES / "warm.c", *core], "-static")

    def target(self, name: str) -> Target:
        """Build a target by its name: tiny, glibc, dynamic or python."""
        if name not in self._targets:
            self._targets[name] = getattr(self, f"_{name}")()
        return self._targets[name]

    def _tiny(self) -> Target:
        source = C_SOURCES / f"exit_{platform.machine()}.S"
        if not source.exists():
            raise SystemExit(f"benchmarks: no {source.name}: written for x86_64 and aarch64")
        path = self.compile("exit", [source], *_LINK_TINY)
        target = Target("tiny", path, "static, without a C library, exits at once")
        if target.size_bytes >= TINY_BYTES:
            raise SystemExit(f"benchmarks: {path} has {target.size_bytes} bytes, not below 1 KiB")
        return target

    def _glibc(self) -> Target:
        return Target("glibc", self._true("true", "-static"), "static `true` with the C library")

    def _dynamic(self) -> Target:
        path = self._true("true-dynamic", "-pie", "-fPIE")
        return Target("dynamic", path, "dynamically linked `true`", system=True)

    def _true(self, name: str, *flags: str) -> str:
        source = self.directory / f"{name}.c"
        source.write_text(_TRUE)
        return self.compile(name, [source], *flags)

    def probe(self, target: str) -> str:
        """Build the probe that needs in a cell what this target needs."""
        if target == "dynamic":
            return self.compile("confined-dynamic", [C_SOURCES / "confined.c"], "-pie", "-fPIE")
        if target == "python":
            text = (ROOT / "benchmarks" / "confined_script.py").read_text()
            return self._script("confined.py", text)
        return self.helper("confined")

    def _script(self, name: str, text: str) -> str:
        script = self.directory / name
        interpreter = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
        script.write_text(f"#!{interpreter} -IBS\n{text}")
        script.chmod(0o755)
        return str(script)

    def _python(self) -> Target:
        """Write an empty script for our own interpreter.

        Outside a cell it does without the site module: what third-party packages have put there is
        no cost of a launch, and a cell does not show it. In a cell the module is loaded all the
        same, which is to our disadvantage.
        """
        path = self._script("nothing.py", "")
        return Target("python", path, "an empty Python script", system=True)

    def padded(self, size_bytes: int) -> str:
        """Write the tiny program with zeros behind it: an artifact of that size."""
        path = self.directory / f"exit-{size_bytes}"
        with open(path, "wb") as stream:
            stream.write(Path(self.target("tiny").path).read_bytes())
            block = bytes(1 << 16)
            while (left := size_bytes - stream.tell()) > 0:
                stream.write(block[:left])
        path.chmod(0o755)
        return str(path)


@contextmanager
def open_workshop() -> Iterator[Workshop]:
    """Make a workshop that is gone afterwards."""
    with TemporaryDirectory(prefix="oxgen-bench-") as scratch:
        yield Workshop(Path(scratch))
