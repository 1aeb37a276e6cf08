"""Lines: findings files, judged line by line and appended to."""

from __future__ import annotations

import errno
import os
import re
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from ..closing import Closes
from ..errors import FindingError, UsageError
from ..values import other_kind, path_text
from .schema import MAX_LINE_BYTES, Finding, parse_finding

__all__ = ["FindingsWriter", "LineReport", "validate_lines"]

_NOT_IN_LINE = re.compile(rb"[^\x20-\x7e]")


@dataclass(frozen=True, slots=True, kw_only=True)
class LineReport:
    """What one line of a findings file holds: a finding, or an error that says what is wrong."""

    number: int
    finding: Finding | None
    error: str = ""


def validate_lines(stream: BinaryIO) -> Iterator[LineReport]:
    """Judge each line of a findings file, numbered from 1; a bad line does not stop the others.

    Beyond ``parse_finding`` a line must be ASCII without control characters, at most 1 MiB, not
    blank, and end with a newline (else the writer was cut off).
    """
    number = 0
    while line := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES:
            while line and not line.endswith(b"\n"):
                line = stream.readline(MAX_LINE_BYTES)
            error = f"is longer than {MAX_LINE_BYTES} bytes"
            yield LineReport(number=number, finding=None, error=error)
            continue
        yield _judge(number, line)


class FindingsWriter(Closes):
    """Appends findings to a file, each whole line with one ``write(2)``; safe for threads.

    The file is made with mode 0600 if it is not there, and must be a regular one. What an earlier
    writer left without its newline is closed off by one, so that no record is joined to another.
    Raises ``OSError`` (a full disk, say) and ``UsageError`` for what is not a regular file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = path_text("path", path)
        self._lock = threading.Lock()
        if other_kind(self.path):
            raise self._no_file()
        # O_NONBLOCK: a FIFO that comes this very moment is an error at once and not a wait.
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        self._descriptor = os.open(self.path, flags, 0o600)
        try:
            status = os.fstat(self._descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise self._no_file()
            last = os.pread(self._descriptor, 1, status.st_size - 1) if status.st_size else b"\n"
            self._torn = last != b"\n"
        except BaseException:
            self.close()
            raise

    def _no_file(self) -> UsageError:
        return UsageError(f"{self.path!r} is not a regular file; findings go into one")

    def write(self, finding: Finding) -> None:
        """Append one finding; it is in the file, not yet on the disk, when this returns."""
        with self._lock:
            if self._descriptor < 0:
                raise ValueError(f"{self.path!r} is closed")
            line = (b"\n" if self._torn else b"") + finding.to_line()
            # A failed write leaves no bytes of it; a short one leaves a torn line.
            written = os.write(self._descriptor, line)
            self._torn = written < len(line)
            if self._torn:
                raise OSError(
                    errno.ENOSPC, f"only {written} of {len(line)} bytes were written", self.path
                )

    def close(self) -> None:
        """Close the file; doing it twice is fine."""
        with self._lock:
            descriptor, self._descriptor = self._descriptor, -1
            if descriptor >= 0:
                os.close(descriptor)


def _judge(number: int, line: bytes) -> LineReport:
    body = line.removesuffix(b"\n")
    try:
        if not line.endswith(b"\n"):
            raise FindingError("", "has no newline at its end; the writer was cut off")
        if not body.strip():
            raise FindingError("", "is blank; every line is one finding")
        if found := _NOT_IN_LINE.search(body):
            raise FindingError(
                "",
                f"has the byte {found[0][0]:#04x} in column {found.start() + 1};"
                " a line is ASCII only, escape the character as \\uXXXX",
            )
        return LineReport(number=number, finding=parse_finding(body))
    except FindingError as exc:
        return LineReport(number=number, finding=None, error=str(exc))
