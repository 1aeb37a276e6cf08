"""Sealed copies: bytes in memory that nobody can change any more, and their digest.

The copy is hashed after it was sealed (``memfd_create(2)``, ``F_ADD_SEALS`` of ``fcntl(2)``), so
the digest is that of the very object which is handed on, whatever happened to the file or, by way
of ``/proc/PID/fd``, to the copy before.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os

from ..errors import IntegrityError

__all__ = ["seal_copy", "sha256_of"]

_CHUNK_BYTES = 1 << 20
_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
#: Linux 6.3; vm.memfd_noexec=2 allows nothing else (Documentation/userspace-api/mfd_noexec.rst).
_MFD_NOEXEC_SEAL = 0x0008


def seal_copy(source: int, *, path: str, max_bytes: int) -> tuple[int, int]:
    """Copy an open file, once and to its end, into a new sealed memfd; return it and its size.

    The caller owns the descriptor. Raises ``IntegrityError`` (``too_big``, ``not_readable``).
    """
    try:
        copy = _memfd()
    except OSError as exc:
        message = f"no memory file for a sealed copy: {exc.strerror}"
        raise IntegrityError("not_readable", message, path=path) from exc
    try:
        size = _fill(copy, source, path=path, max_bytes=max_bytes)
        fcntl.fcntl(copy, fcntl.F_ADD_SEALS, _SEALS)
        os.lseek(copy, 0, os.SEEK_SET)
    except BaseException as exc:
        os.close(copy)
        if isinstance(exc, OSError) and not isinstance(exc, IntegrityError):
            message = f"cannot be copied: {exc.strerror}"
            raise IntegrityError("not_readable", message, path=path) from exc
        raise
    return copy, size


def sha256_of(descriptor: int, *, start: int = 0) -> bytes:
    """Return the SHA-256 of an open file from ``start``, without moving its offset."""
    digest = hashlib.sha256()
    buffer = bytearray(_CHUNK_BYTES)
    view = memoryview(buffer)
    while count := os.preadv(descriptor, [buffer], start):
        digest.update(view[:count])
        start += count
    return digest.digest()


def _memfd() -> int:
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        return os.memfd_create("oxgen-artifact", flags)
    except OSError as exc:
        if exc.errno != errno.EACCES:
            raise
    return os.memfd_create("oxgen-artifact", flags | _MFD_NOEXEC_SEAL)


def _fill(copy: int, source: int, *, path: str, max_bytes: int) -> int:
    buffer = bytearray(_CHUNK_BYTES)
    view = memoryview(buffer)
    size = 0
    while count := os.readv(source, [buffer]):
        size += count
        if size > max_bytes:
            raise IntegrityError("too_big", f"is larger than {max_bytes} bytes", path=path)
        rest = view[:count]
        while rest:
            rest = rest[os.write(copy, rest) :]
    return size
