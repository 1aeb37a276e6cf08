"""Values: what a caller has passed is what was asked for, or a ``UsageError`` that says so."""

from __future__ import annotations

import os
from typing import TypeVar

from .errors import UsageError

__all__ = ["check_bool", "check_type", "path_text", "plain_path"]

_Wanted = TypeVar("_Wanted")


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


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."
