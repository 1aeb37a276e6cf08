"""Records: the findings of one run, as they arrive, to a file, a program or a person."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from .terminal import is_terminal, print_table, say, write_within

if TYPE_CHECKING:
    from ..findings import Finding, FindingsWriter

__all__ = ["FindingsSink"]

#: A plugin may emit findings without end; what a person reads, and we hold in memory, has one.
_TABLE_ROWS = 500


class FindingsSink:
    """Takes the findings of one run.

    All go to the file ``path``, where there is one. People get a table on ``stream`` when the run
    is over; a program that reads ``stream`` gets JSON lines at once, unless there is a file.
    Safe to call from the broker's thread. ``failed`` tells whether one could not be recorded.
    """

    def __init__(self, path: str | None, stream: TextIO) -> None:
        self._stream = stream
        self._writer: FindingsWriter | None = None
        self._as_table = is_terminal(stream)
        self._as_lines = not self._as_table and path is None
        self._descriptor = stream.fileno()
        self._rows: list[tuple[str, str, str, str]] = []
        self._count = 0
        self._lock = threading.Lock()
        self.path = path
        self.failed = False
        if path is not None:
            from ..findings import FindingsWriter

            self._writer = FindingsWriter(path)

    @contextmanager
    def through(self, descriptor: int) -> Iterator[None]:
        """Write lines to ``descriptor``, while the stream's own leads elsewhere."""
        before, self._descriptor = self._descriptor, descriptor
        try:
            yield
        finally:
            self._descriptor = before

    def take(self, finding: Finding) -> None:
        """Record one finding; raise ``OSError`` where it cannot be recorded."""
        with self._lock:
            self._count += 1
            if self._as_table and len(self._rows) < _TABLE_ROWS:
                self._rows.append(
                    (finding.severity, finding.type, finding.target or "", finding.message)
                )
            try:
                if self._writer is not None:
                    self._writer.write(finding)
                if self._as_lines:
                    self._write_line(finding.to_line())
            except OSError as exc:
                if not self.failed:
                    say(f"findings cannot be recorded: {self.path or 'stdout'}: {exc.strerror}")
                self.failed = True
                raise

    def _write_line(self, line: bytes) -> None:
        try:
            write_within(self._descriptor, line)
        except OSError as exc:
            if exc.errno != errno.EPIPE:
                raise
            # The reader has seen enough (``| head``); that ends the printing, not the run.
            self._as_lines = False

    def close(self) -> None:
        """Close the file and show people what was found."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if not self._rows:
            return
        plural = "" if self._count == 1 else "s"
        print_table(
            self._stream,
            ("severity", "type", "target", "message"),
            self._rows,
            title=f"{self._count} finding{plural}",
        )
        unseen = self._count - len(self._rows)
        self._rows = []
        if unseen:
            where = f"all are in {self.path}" if self.path else "--findings FILE keeps all"
            print(f"and {unseen} more: {where}", file=self._stream, flush=True)
