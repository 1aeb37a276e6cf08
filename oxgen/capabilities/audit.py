"""Audit log: who was granted, refused and told what, one line of JSON for each event."""

from __future__ import annotations

import errno
import functools
import json
import os
import re
import secrets
import stat
import threading

from ..closing import Closes
from ..errors import LaunchError, UsageError
from ..timestamps import timestamp
from ..values import other_kind, path_text
from .clock import boottime_ns

__all__ = ["EVENTS", "AuditLog"]

#: The events oxgen records; the first seven and ``plugin_disconnect`` have the names of 0xGen.
EVENTS = frozenset(
    {
        "plugin_load",
        "capability_grant",
        "capability_denied",
        "rpc_call",
        "rpc_denied",
        "finding_received",
        "finding_rejected",
        "plugin_disconnect",
        "capability_revoked",
        "audit_suppressed",
        "launch",
        "termination",
    }
)

_EVENT = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)
_FIELD = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)
_OURS = frozenset({"log", "seq", "time", "boottime_ns", "event"})
#: A field of such a name is a mistake of the caller: the log names tokens by ``token_id`` only.
_SECRET = frozenset({"token", "secret", "password", "key"})


#: Made once: `json.dumps` makes a new one for each call with arguments.
_encode = json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode


class AuditLog(Closes):
    """Append records to a file, each with one ``write``; ``None`` as the path keeps no record.

    A line has ``log`` (random, one for each `AuditLog`, so that several processes may share a
    file), ``seq`` (1, 2, 3 ... within that log: a gap is a lost record), ``time`` (RFC 3339, UTC),
    ``boottime_ns``, ``event`` and the caller's fields. The file holds ASCII and line feeds only,
    whatever a plugin put into a field. A line that an earlier process left without its end (a full
    disk) is closed off by a line feed of its own before the first record. Safe to use from several
    threads.

    A record that cannot be written raises ``OSError``. Callers must not go on as if it had been:
    `Issuer.grant` hands out nothing, the broker ends the session and keeps the error as its
    ``failure``, a launcher refuses the launch.

    Raises ``UsageError`` where the path is no regular file, belongs to a third user, or may be
    written by the group or by others; ``LaunchError`` (an ``OSError``) where it cannot be opened. A
    link is not followed.
    """

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        self._log = secrets.token_hex(4)
        self._lock = threading.Lock()
        self._seq = 0
        self._torn = False
        self._descriptor = -1 if path is None else _open(path_text("path", path))
        try:
            self._torn = self._descriptor >= 0 and _ends_torn(self._descriptor)
        except OSError:
            os.close(self._descriptor)
            raise
        self._closed = False

    def record(self, event: str, **fields: object) -> int:
        """Write one record and return its sequence number.

        Field values are None, bool, int, finite float, str, and lists and dicts of these. Raises
        ``UsageError`` for anything else (where a record is kept), a malformed or reserved name, and
        for a field that is named like a secret; ``OSError`` where the record is not in the file.
        """
        if not isinstance(event, str) or _EVENT.fullmatch(event) is None:
            raise UsageError(f"event must match {_EVENT.pattern}, got {event!r:.80}")
        for name in fields:
            _check_field(name)
        with self._lock:
            if self._closed:
                raise OSError(errno.EBADF, "the audit log is closed")
            line = b"" if self._descriptor < 0 else self._line(event, fields)
            self._seq += 1
            if line:
                self._write(line)
            return self._seq

    def close(self) -> None:
        """Close the file; any later record raises."""
        with self._lock:
            self._closed = True
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1

    def _line(self, event: str, fields: dict[str, object]) -> bytes:
        record: dict[str, object] = {
            "log": self._log,
            "seq": self._seq + 1,
            "time": timestamp(),
            "boottime_ns": boottime_ns(),
            "event": event,
            **fields,
        }
        try:
            return _encode(record).encode("ascii") + b"\n"
        except (TypeError, ValueError, RecursionError) as exc:
            raise UsageError(f"audit event {event}: a field is no plain JSON: {exc}") from None

    def _write(self, line: bytes) -> None:
        # O_APPEND and a single write keep lines whole among several writers. After a short write
        # (a full disk) the next record starts on a line of its own.
        whole = b"\n" + line if self._torn else line
        written = os.write(self._descriptor, whole)
        if written != len(whole):
            self._torn = self._torn if written == 0 else whole[written - 1 : written] != b"\n"
            raise OSError(
                errno.ENOSPC, f"audit record {self._seq}: {written} of {len(whole)} bytes written"
            )
        self._torn = False


@functools.lru_cache(maxsize=256)  # names of the callers' own code: few, and the same for ever
def _check_field(name: str) -> None:
    if name in _SECRET:
        raise UsageError(f"field {name!r} is never recorded; record a token by its token_id")
    if name in _OURS or _FIELD.fullmatch(name) is None:
        raise UsageError(
            f"field {name!r:.80} must match {_FIELD.pattern} and be none of"
            f" {', '.join(sorted(_OURS))}"
        )


def _open(path: str) -> int:
    if other_kind(path) not in ("", "a directory"):  # of which open says so
        raise UsageError(f"audit log {path!r} must be a regular file")
    # For reading too: the last byte tells whether the last line is whole.
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
    for name in ("O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK", "O_NOCTTY", "O_BINARY"):
        flags |= getattr(os, name, 0)
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError as exc:
        raise LaunchError(
            "audit",
            exc.errno or errno.EIO,
            f"the audit log cannot be opened: {exc.strerror}",
            remedy="name a regular file that this user may read and append to",
            path=path,
        ) from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(f"audit log {path!r} must be a regular file")
        if os.name == "posix":
            if status.st_uid not in (0, os.geteuid()):
                raise UsageError(
                    f"audit log {path!r} belongs to uid {status.st_uid}; it must belong to root or"
                    f" to uid {os.geteuid()}"
                )
            if status.st_mode & 0o022:
                raise UsageError(
                    f"audit log {path!r} has mode {stat.S_IMODE(status.st_mode):04o}; nobody but"
                    " its owner may be able to write it (chmod 600)"
                )
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _ends_torn(descriptor: int) -> bool:
    size = os.fstat(descriptor).st_size
    if size == 0:
        return False
    os.lseek(descriptor, size - 1, os.SEEK_SET)
    return os.read(descriptor, 1) != b"\n"
