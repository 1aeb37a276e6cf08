"""Terminal: what 0xgenctl says to people, with hostile text made harmless first."""

from __future__ import annotations

import errno
import os
import select
import sys
from collections.abc import Iterable, Sequence
from typing import TextIO

__all__ = [
    "PATIENCE_SECONDS",
    "PROGRAM",
    "is_terminal",
    "print_table",
    "say",
    "silence_stdout",
    "tell",
    "visible",
    "write_to",
    "write_within",
]

PROGRAM = "0xgenctl"
#: How long a reader may take none of what is written to it before that counts as lost.
PATIENCE_SECONDS = 10.0


def visible(text: object) -> str:
    """Return ``text`` as one line that no terminal interprets and every encoding can write."""
    from ..findings import escape_text

    escaped = escape_text(str(text))
    return escaped.encode("utf-8", "backslashreplace").decode("utf-8")


def say(message: object) -> None:
    """Write one line ``0xgenctl: message`` to stderr."""
    tell(f"{PROGRAM}: {visible(message)}")


def write_within(descriptor: int, text: bytes, seconds: float = PATIENCE_SECONDS) -> None:
    """Write all of ``text``; raise ``TimeoutError`` once nobody has taken any of it for so long.

    A descriptor that we share with others stays blocking, so no more is written at once than a
    pipe that is ready has room for (pipe(7): PIPE_BUF bytes).
    """
    rest = memoryview(text)
    ready = select.poll()
    ready.register(descriptor, select.POLLOUT)
    while rest:
        if not ready.poll(seconds * 1000):
            raise TimeoutError(errno.ETIMEDOUT, f"nobody has read it for {seconds:g} s")
        rest = rest[os.write(descriptor, rest[: select.PIPE_BUF]) :]


def write_to(stream: TextIO, text: str) -> None:
    """Write ``text`` to a stream of ours, with ``write_within`` where that is a descriptor."""
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):
        stream.write(text)
        stream.flush()
        return
    stream.flush()
    write_within(descriptor, text.encode(stream.encoding or "utf-8", "backslashreplace"))


def tell(text: str) -> None:
    """Write ``text``, which is ours, to stderr; one that takes nothing has nobody to tell."""
    try:
        write_to(sys.stderr, text + "\n")
    except OSError:
        # Nobody reads, or the disk is full: the exit status still says it.
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
