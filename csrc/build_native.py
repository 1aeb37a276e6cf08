"""How the C of oxgen becomes two things: the extension ``oxgen._native`` and the launcher.

This file is the one place that knows the sources, the flags and what the compiler must find.
``setup.py`` asks it; nothing of it is installed. ``api.h`` is read by cffi and by the compiler
alike, so what Python believes about a struct is what C has.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cffi

__all__ = [
    "MODULE",
    "BuildError",
    "c_flags",
    "check_compiler",
    "core_sources",
    "headers",
    "launcher_sources",
    "limited_api",
    "link_flags",
    "make_ffi",
    "sanitizers",
]

MODULE = "oxgen._native"

#: Prepended to the module that cffi writes. The order is part of the contract of api.h, which has
#: no preprocessor line of its own (cffi's parser accepts none).
PREAMBLE = """\
#include <stdint.h>
#include <stddef.h>
#include <sys/types.h>
#include "api.h"
"""

#: The version of the stable ABI: CPython 3.10 (PEP 384; cffi 2 needs 3.9 at least).
LIMITED_API = "0x030A0000"

_WARNINGS = ["-Wall", "-Wextra"]
_HARDENING = [
    # Some distributions preset another level; defining it twice is a warning.
    "-U_FORTIFY_SOURCE",
    "-D_FORTIFY_SOURCE=2",
    "-fstack-protector-strong",
]
_SANITIZERS = {"address": "-fsanitize=address", "undefined": "-fsanitize=undefined"}


class BuildError(Exception):
    """The build cannot start; the message is one sentence that names the remedy."""


def limited_api() -> bool:
    """Say whether the extension uses the stable ABI; free-threaded CPython has none before 3.15."""
    return not sysconfig.get_config_var("Py_GIL_DISABLED")


def core_sources(root: Path) -> list[Path]:
    """Return the sources that the extension and the launcher share, in a fixed order."""
    csrc = root / "csrc"
    found = [csrc / "stage.c", *sorted(csrc.glob("posix/*.c")), *sorted(csrc.glob("linux/*.c"))]
    if not found[0].is_file():
        raise BuildError(f"{found[0]} is missing: this source tree is not complete")
    return found


def launcher_sources(root: Path) -> list[Path]:
    """Return the sources of the executable ``oxgen/_launcher``: the core and its ``main``."""
    return [*core_sources(root), root / "csrc" / "launcher_main.c"]


def headers(root: Path) -> list[Path]:
    """Return every header: a change in any of them makes both programs stale."""
    return sorted((root / "csrc").rglob("*.h"))


def make_ffi(root: Path) -> cffi.FFI:
    """Return the cffi builder whose declarations are the very text of csrc/api.h."""
    ffi = cffi.FFI()
    ffi.cdef((root / "csrc" / "api.h").read_text(encoding="utf-8"))
    ffi.set_source(MODULE, PREAMBLE)
    return ffi


def sanitizers(environment: str | None = None) -> list[str]:
    """Return the sanitizers that the variable ``OXGEN_SANITIZE`` names (``address,undefined``)."""
    text = os.environ.get("OXGEN_SANITIZE", "") if environment is None else environment
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in _SANITIZERS:
            raise BuildError(
                f"OXGEN_SANITIZE: {name!r} is not known; accepted are {', '.join(_SANITIZERS)}"
            )
    return names


def c_flags(*, executable: bool, sanitize: Sequence[str] = ()) -> list[str]:
    """Return the compiler's flags for one of the two programs."""
    # For quoted names only: with -I, <linux/seccomp.h> would be csrc/linux/seccomp.h.
    flags = ["-std=gnu11", "-g", "-iquote", "csrc", *_WARNINGS, "-fvisibility=hidden"]
    flags.append("-fPIE" if executable else "-fPIC")
    if sanitize:
        # _FORTIFY_SOURCE hides calls from the interceptors of AddressSanitizer.
        flags += ["-O1", "-U_FORTIFY_SOURCE", "-fno-omit-frame-pointer"]
        flags += [_SANITIZERS[name] for name in sanitize]
        flags.append("-fno-sanitize-recover=all")
    else:
        flags += ["-O2", *_HARDENING]
    return flags


def link_flags(*, executable: bool, sanitize: Sequence[str] = ()) -> list[str]:
    """Return the linker's flags: addresses of functions are read-only before ``main`` starts."""
    flags = ["-Wl,-z,relro,-z,now,-z,noexecstack"]
    if executable:
        flags.append("-pie")
    flags += [_SANITIZERS[name] for name in sanitize]
    return flags


def check_compiler(command: Sequence[str], include_dirs: Sequence[str]) -> None:
    """Try what the build needs, one thing after the other; raise ``BuildError`` for the first lack.

    ``command`` is the compiler with its fixed arguments, ``include_dirs`` where Python.h should be.
    """
    if not command or shutil.which(command[0]) is None:
        raise BuildError(
            f"no C compiler: {command[0] if command else 'cc'!s} was not found; install one "
            "(Debian, Ubuntu: apt-get install build-essential; Fedora: dnf install gcc; "
            "Alpine: apk add build-base)"
        )
    if not _compiles(command, (), "#include <stdio.h>\n"):
        raise BuildError(
            f"the C compiler {command[0]} does not find the C library's headers; install them "
            "(Debian, Ubuntu: apt-get install libc6-dev; Fedora: dnf install glibc-devel; "
            "Alpine: apk add musl-dev)"
        )
    if not _compiles(command, (), "#include <linux/seccomp.h>\n#include <linux/audit.h>\n"):
        raise BuildError(
            "the kernel's headers are missing (linux/seccomp.h); install them "
            "(Debian, Ubuntu: apt-get install linux-libc-dev; Fedora: dnf install "
            "kernel-headers; Alpine: apk add linux-headers)"
        )
    if not _compiles(command, include_dirs, "#include <Python.h>\n"):
        raise BuildError(
            "Python.h is missing in " + ", ".join(include_dirs) + "; install Python's headers "
            "(Debian, Ubuntu: apt-get install python3-dev; Fedora: dnf install python3-devel; "
            "Alpine: apk add python3-dev)"
        )


def _compiles(command: Sequence[str], include_dirs: Sequence[str], text: str) -> bool:
    """Say whether the compiler accepts ``text``; it only parses, so this takes milliseconds."""
    with tempfile.TemporaryDirectory(prefix="oxgen-build-") as directory:
        source = Path(directory, "probe.c")
        source.write_text(text, encoding="ascii")
        args = [*command, "-fsyntax-only", *(f"-I{path}" for path in include_dirs), str(source)]
        try:
            done = subprocess.run(args, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
        except (OSError, subprocess.TimeoutExpired):
            return False
        return done.returncode == 0
