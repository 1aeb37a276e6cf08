"""Values: what a caller has passed is what was asked for, or a ``UsageError`` that says so."""

from __future__ import annotations

import os
import stat
from typing import TypeVar

from .errors import UsageError

__all__ = ["check_bool", "check_type", "other_kind", "path_text", "plain_path", "why_not_replaced"]

_Wanted = TypeVar("_Wanted")

_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
#: Names there belong to the machine, those of links to ordinary files too (/dev/stdout).
_OF_THE_MACHINE = ("/dev", "/proc", "/sys")


def check_type(
    name: str, value: object, wanted: type[_Wanted] | tuple[type[_Wanted], ...], what: str
) -> _Wanted:
    """Return the value if it is one of ``wanted``; ``what`` says in words what is accepted."""
    if not isinstance(value, wanted):
        raise UsageError(f"{name} must be {what}, got {_shown(value)}")
    return value


def check_bool(name: str, value: object) -> bool:
    """Return the value if it is True or False: the text "no" is neither."""
    return check_type(name, value, bool, "True or False")


def plain_path(name: str, path: object) -> str | bytes:
    """Return a path as text or bytes; what ``__fspath__`` itself raises goes on to its caller."""
    try:
        return os.fspath(path)  # type: ignore[call-overload, no-any-return]
    except TypeError as odd:
        raise UsageError(
            f"{name} must be a path: text, bytes or os.PathLike, got {_shown(path)} ({odd})"
        ) from None


def path_text(name: str, path: object) -> str:
    """Return a path as text."""
    return os.fsdecode(plain_path(name, path))


def other_kind(path: str) -> str:
    """Say what is at a path, links followed, if that is no regular file; empty for nothing at all.

    To be asked before a file is opened for writing: to open a device or a pipe has effects.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError:
        # Nothing, or nothing that we can see: then whoever opens or renames is told so.
        return ""
    return "" if stat.S_ISREG(mode) else _KINDS.get(stat.S_IFMT(mode), "no regular file")


def why_not_replaced(path: str) -> str:
    """Say why no file of ours may take this name; empty where one may.

    A file that appears by rename(2) does away with whatever had its name. So that is a regular
    file, a link to one or to nothing, or nothing.
    """
    directory = os.path.realpath(os.path.dirname(path) or ".")
    for top in _OF_THE_MACHINE:
        below = directory == top or directory.startswith(top + "/")
        if below and not (directory + "/").startswith("/dev/shm/"):
            return f"is in {directory}, where names are the machine's"
    kind = other_kind(path)
    return f"is {kind}" if kind else ""


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."
