"""The Python interpreter of a ``python`` cell: which one, and what it needs."""

from __future__ import annotations

import errno
import functools
import json
import os
import subprocess
import sys
from dataclasses import dataclass

from ..errors import LaunchError
from . import elf

__all__ = ["Interpreter", "base_executable", "describe"]

#: Printed by the interpreter about itself; -I and -S keep it from running anything of the user's.
_QUESTION = """\
import json, site, sys, sysconfig
paths = sysconfig.get_paths()
print(json.dumps({
    "version": list(sys.version_info[:2]),
    "stdlib": sorted({paths["stdlib"], paths["platstdlib"]}),
    "site": site.getsitepackages(),
}))
"""
_ASK_SECONDS = 30.0
#: Directories of the standard library that need what a cell does not have.
_LEFT_OUT = ("_tkinter", "_curses", "readline", "_dbm", "_gdbm", "_crypt")


@dataclass(frozen=True, slots=True)
class Interpreter:
    """An interpreter by its path inside a cell, with (inside, host) pairs of what is mounted."""

    executable: str
    mounts: tuple[tuple[str, str], ...]


def base_executable() -> str:
    """Return the interpreter that runs us, outside of any virtual environment."""
    base = getattr(sys, "_base_executable", None) or sys.executable
    if not base:
        raise LaunchError(
            "exec",
            errno.ENOENT,
            "no Python interpreter is known: sys.executable is empty",
            remedy="name an interpreter in the script's #! line",
        )
    return os.path.realpath(base)


@functools.lru_cache(maxsize=8)
def describe(executable: str) -> Interpreter:
    """Ask an interpreter where its parts are and find the libraries it loads."""
    about = _ask(executable)
    stdlib = [str(path) for path in about["stdlib"] if os.path.isdir(path)]
    roots = [(executable, _needs(executable))]
    extensions = [path for directory in stdlib for path in _extensions(directory)]
    roots += [(path, _needs(path)) for path in extensions]
    loader = roots[0][1].interpreter
    mounts = [(executable, executable)]
    if loader is not None:
        mounts.append((loader, loader))
    mounts += [(path, path) for path in stdlib]
    mounts += elf.closure(roots, optional=extensions)
    mounts += [(path, sdk_directory()) for path in _site_directories(about["site"], stdlib)]
    return Interpreter(executable, tuple(mounts))


def sdk_directory() -> str:
    """Return the directory that stands in a cell's place for third-party packages."""
    return os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "sdk")


def _site_directories(sites: list[str], stdlib: list[str]) -> list[str]:
    """Those that a mounted library directory would show, and the first one for the SDK itself."""
    shown = [
        site
        for site in sites
        if any(site.startswith(path + "/") for path in stdlib) and os.path.isdir(site)
    ]
    outside = [site for site in sites if not any(site.startswith(path + "/") for path in stdlib)]
    return shown or outside[:1]


def _ask(executable: str) -> dict[str, list[str]]:
    try:
        answer = subprocess.run(
            [executable, "-I", "-S", "-B", "-c", _QUESTION],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_ASK_SECONDS,
            check=True,
            env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
        )
        about: dict[str, list[str]] = json.loads(answer.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as broken:
        raise LaunchError(
            "exec",
            getattr(broken, "errno", None) or errno.ENOEXEC,
            f"does not answer as a Python interpreter: {broken}",
            path=executable,
        ) from None
    return about


def _needs(path: str) -> elf.Needs:
    with open(path, "rb") as stream:
        return elf.needs(stream, path)


def _extensions(directory: str) -> list[str]:
    try:
        names = os.listdir(os.path.join(directory, "lib-dynload"))
    except FileNotFoundError:
        return []
    return [
        os.path.join(directory, "lib-dynload", name)
        for name in sorted(names)
        if name.endswith(".so") and not name.startswith(_LEFT_OUT)
    ]
