"""Interpreters that are installed on this machine: found, and asked only if they are the caller's.

An interpreter is asked for its places by being run, outside of any sandbox. So it is never one
that only a script names: it is the one that runs us, or one that the caller's own PATH holds.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator

from ..errors import LaunchError

__all__ = ["ask", "base_python", "is_known", "look_up"]

_ASK_SECONDS = 30.0
#: Where packages of the system are, should PATH be short.
_SYSTEM = ("/usr/local/bin", "/usr/bin", "/bin")


def base_python() -> str:
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


def _directories() -> Iterator[str]:
    for directory in (*os.environ.get("PATH", "").split(os.pathsep), *_SYSTEM):
        # A relative one means another place in each working directory.
        if os.path.isabs(directory):
            yield directory


def look_up(name: str) -> str | None:
    """Return the real path of the first executable file of that name in the caller's PATH."""
    for directory in _directories():
        path = os.path.join(directory, name)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return os.path.realpath(path)
    return None


def is_known(executable: str) -> bool:
    """Whether a real path is that of an interpreter which the caller runs, or could by its name."""
    if executable == base_python():
        return True
    name = os.path.basename(executable)
    plain = name.rstrip("0123456789.")
    places = {os.path.realpath(directory) for directory in _directories()}
    if os.path.dirname(executable) in places:
        return True
    return executable in {look_up(other) for other in (name, plain, plain + "3")}


def ask(executable: str, arguments: tuple[str, ...], what: str) -> dict[str, list[str]]:
    """Run an interpreter for the JSON that it prints about itself.

    ``what`` names the language in messages. Raises ``LaunchError`` for one that is not known.
    """
    if not is_known(executable):
        raise LaunchError(
            "exec",
            errno.EACCES,
            f"is a {what} interpreter that is neither the one that runs oxgen nor in PATH; it would"
            " have to be run outside of the sandbox, to ask it where its parts are",
            remedy=f"add {os.path.dirname(executable)} to PATH if you trust it; if it only has that"
            " name, use runtime 'dynamic'",
            path=executable,
        )
    try:
        answer = subprocess.run(
            [executable, *arguments],
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
            f"does not answer as a {what} interpreter: {broken}",
            path=executable,
        ) from None
    return about
