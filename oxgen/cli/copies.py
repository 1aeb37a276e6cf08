"""Copies: what ``--copy-in`` and ``--copy-out`` name, and writing what came out."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..errors import UsageError
from ..values import why_not_replaced
from .options import FileName, ReplacedFile
from .terminal import say

if TYPE_CHECKING:
    from ..result import Collected, Completed

__all__ = ["Copies", "CopyIn", "CopyOut", "copies_of", "copy_options"]

F = TypeVar("F", bound=Callable[..., Any])

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


class CopyOut(ReplacedFile):
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


def copy_options(command: F) -> F:
    """Add ``--copy-in`` and ``--copy-out``; ``copies_of`` has what they gave."""
    for name, kind, metavar, meaning in (
        ("--copy-out", CopyOut(), "NAME[:FILE]", "copy this file of /workspace out at the end"),
        ("--copy-in", CopyIn(), "FILE[:NAME]", "put a copy of this file into /workspace"),
    ):
        command = click.option(
            name,
            type=kind,
            multiple=True,
            metavar=metavar,
            help=meaning,
            callback=_note,
            expose_value=False,
        )(command)
    return command


def _note(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    ctx.meta[f"oxgen.{param.name}"] = value


class Copies:
    """What goes in and comes out of one run."""

    def __init__(
        self, files: dict[str, os.PathLike[str]] | None, out: tuple[tuple[str, str], ...]
    ) -> None:
        self.files = files
        self._out = out
        self.collect = [name for name, _ in out]

    def write(self, completed: Completed, *, name: str) -> bool:
        """Write what came out to the caller's files, and say what did not; False if one failed.

        Each file appears whole, in the place of a file or a link to one: no link is followed there.
        """
        written = True
        for inside, path in self._out:
            found = completed.collected[inside]
            if found.content is None:
                why = _SKIPPED.get(found.skipped, "it could not be read")
                say(f"{name}: {inside!r} was not copied out: {why}")
                continue
            if found.truncated:
                say(
                    f"{name}: {inside!r} was cut: {_cut(found)}; --file-limit and --disk-limit"
                    " raise it"
                )
            try:
                _replace(path, found.content)
            except OSError as failed:
                say(f"{name}: {path!r} could not be written: {failed.strerror}")
                written = False
        return written


def copies_of(ctx: click.Context) -> Copies:
    """Return what ``copy_options`` were given; refuses a name that is given twice."""
    files: dict[str, os.PathLike[str]] = {}
    for path, name in ctx.meta.get("oxgen.copy_in", ()):
        if name in files:
            raise click.UsageError(f"--copy-in: two files would be {name!r} in /workspace", ctx)
        files[name] = Path(path)
    out: tuple[tuple[str, str], ...] = ctx.meta.get("oxgen.copy_out", ())
    if len({path for _, path in out}) < len(out):
        raise click.UsageError("--copy-out: two files would be written to one place", ctx)
    return Copies(files or None, out)


def _cut(found: Collected) -> str:
    return f"{len(found.content or b'')} of {found.size_bytes} bytes were copied out"


def _replace(path: str, content: bytes) -> None:
    fresh = os.path.join(os.path.dirname(path), f".oxgen-{secrets.token_hex(8)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        with open(descriptor, "wb") as stream:
            stream.write(content)
        # Once more: the run took its time.
        if fault := why_not_replaced(path):
            raise FileExistsError(errno.EEXIST, f"it {fault}", path)
        os.rename(fresh, path)
    except BaseException:
        os.unlink(fresh)
        raise
