"""Copies: what ``--copy-in`` and ``--copy-out`` name, and writing what came out."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import UsageError
from .options import FileName
from .terminal import say

if TYPE_CHECKING:
    from ..result import Collected, Completed

__all__ = ["CopyIn", "CopyOut", "files_of", "write_copies"]

_SKIPPED = {
    "missing": "there is no such file",
    "link": "it is a symbolic link, or lies behind one",
    "directory": "it is a directory",
    "pipe": "it is a named pipe",
    "socket": "it is a socket",
    "device": "it is a device",
    "unreadable": "its permissions forbid it",
    "lost": "the sandbox was gone before it could be read",
}


class CopyIn(FileName):
    """``FILE[:NAME]``: a file of the caller, and its name in /workspace."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, tuple):
            return value
        path, colon, name = str(value).rpartition(":")
        if not colon:
            path, name = name, os.path.basename(name)
        super().convert(path, param, ctx)
        return path, _checked(self, name, param, ctx)


class CopyOut(FileName):
    """``NAME[:FILE]``: a file of /workspace, and the caller's file that it becomes."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, tuple):
            return value
        name, colon, path = str(value).partition(":")
        _checked(self, name, param, ctx)
        path = super().convert(path if colon else os.path.basename(name), param, ctx)
        directory = os.path.dirname(path) or "."
        if not os.path.isdir(directory):
            self.fail(
                f"{path!r} is refused: {directory!r} is no directory; accepted: a file in one that"
                " is there.",
                param,
                ctx,
            )
        return name, path


def _checked(
    kind: FileName, name: str, param: click.Parameter | None, ctx: click.Context | None
) -> str:
    from ..request import Request

    try:
        Request(["-"], collect=[name])
    except UsageError as refused:
        kind.fail(str(refused).partition(": ")[2] + ".", param, ctx)
    return name


def files_of(
    ctx: click.Context, pairs: tuple[tuple[str, str], ...]
) -> dict[str, os.PathLike[str]] | None:
    """Return the files to put in by their names inside; refuses a name that is given twice."""
    files: dict[str, os.PathLike[str]] = {}
    for path, name in pairs:
        if name in files:
            raise click.UsageError(f"--copy-in: two files would be {name!r} in /workspace", ctx)
        files[name] = Path(path)
    return files or None


def write_copies(completed: Completed, pairs: tuple[tuple[str, str], ...], *, name: str) -> bool:
    """Write what came out to the caller's files, and say what did not; False if one failed.

    Each file appears whole, in the place of whatever had its name: no link is followed there.
    """
    written = True
    for inside, path in pairs:
        found = completed.collected[inside]
        if found.content is None:
            why = _SKIPPED.get(found.skipped, "it could not be read")
            say(f"{name}: {inside!r} was not copied out: {why}")
            continue
        if found.truncated:
            say(f"{name}: {inside!r} was cut: {_cut(found)}; --file-limit and --disk-limit raise it")
        try:
            _replace(path, found.content)
        except OSError as failed:
            say(f"{name}: {path!r} could not be written: {failed.strerror}")
            written = False
    return written


def _cut(found: Collected) -> str:
    return f"{len(found.content or b'')} of {found.size_bytes} bytes were copied out"


def _replace(path: str, content: bytes) -> None:
    fresh = os.path.join(os.path.dirname(path), f".oxgen-{secrets.token_hex(8)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        with open(descriptor, "wb") as stream:
            stream.write(content)
        os.rename(fresh, path)
    except BaseException:
        os.unlink(fresh)
        raise
