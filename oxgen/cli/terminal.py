"""Terminal: what 0xgenctl says to people, with hostile text made harmless first."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import TextIO

__all__ = ["PROGRAM", "is_terminal", "print_table", "say", "silence_stdout", "visible"]

PROGRAM = "0xgenctl"


def visible(text: object) -> str:
    """Return ``text`` as one line that no terminal interprets and every encoding can write."""
    from ..findings import escape_text

    escaped = escape_text(str(text))
    return escaped.encode("utf-8", "backslashreplace").decode("utf-8")


def say(message: object) -> None:
    """Write one line ``0xgenctl: message`` to stderr; a closed stderr has nobody to tell."""
    try:
        print(f"{PROGRAM}: {visible(message)}", file=sys.stderr, flush=True)
    except BrokenPipeError:
        _point_at_devnull(2)


def is_terminal(stream: TextIO) -> bool:
    """Return whether a person looks at ``stream``."""
    try:
        return stream.isatty()
    except ValueError:  # a closed stream
        return False


def silence_stdout() -> None:
    """Stop the flush at interpreter exit from complaining about a reader that went away."""
    _point_at_devnull(1)


def _point_at_devnull(descriptor: int) -> None:
    devnull = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(devnull, descriptor)
    os.close(devnull)


def print_table(
    stream: TextIO, columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str = ""
) -> None:
    """Print ``rows`` below ``columns``: a drawn table on a terminal, tab-separated lines elsewhere.

    Every cell is escaped; nothing in it is taken for markup.
    """
    cells = [[visible(cell) for cell in row] for row in rows]
    if not is_terminal(stream):
        for row in cells:
            print("\t".join(row), file=stream)
        stream.flush()
        return

    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE, title=Text(title) if title else None, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in cells:
        table.add_row(*(Text(cell) for cell in row))
    Console(file=stream, highlight=False, markup=False, emoji=False).print(table)
    stream.flush()
