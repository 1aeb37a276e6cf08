"""Files: what is put into /workspace before a run, and what is read back after it."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..errors import LaunchError
from ..limits import MIB, Limits
from ..result import Collected
from ..values import path_text
from .native import ffi, held, lib, memory_file, seal

__all__ = ["Archive", "collect", "lost"]

#: How much is read back where a limit of the run does not say.
_UNBOUNDED = 256 * MIB
_CHUNK = 1 << 20
#: How long the warden may take to open what is asked for; it only opens.
_COLLECT_MS = 5000
_BATCH = 64
_BATCH_BYTES = 64 * 1024
#: A mode without a word for it is one that no kernel of today makes.
_KINDS = {
    stat.S_IFLNK: "link",
    stat.S_IFDIR: "directory",
    stat.S_IFIFO: "pipe",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}
_REASONS = {
    errno.ENOENT: "missing",
    errno.ENOTDIR: "link",
    errno.ELOOP: "link",
    errno.EACCES: "unreadable",
    errno.EPERM: "unreadable",
}


class Archive:
    """Files for the workspace as the warden takes them: a snapshot that nobody can change.

    Files of the host are opened and read here, with the caller's own rights. Raises
    ``LaunchError`` with stage ``files`` where one cannot be read as a whole, or where all together
    exceed the disk limit.
    """

    __slots__ = ("_file", "_left", "names")

    def __init__(self, files: Mapping[str, bytes | os.PathLike[str]], limits: Limits) -> None:
        self.names = tuple(files)
        self._left = limits.effective_disk_bytes
        try:
            #: ``int *`` with the descriptor, which closes with it.
            self._file = memory_file(b"oxgen-files")
            for name, source in files.items():
                if isinstance(source, bytes):
                    self._begin(name, len(source), 0o644)
                    self._add(source)
                else:
                    self._copy(name, path_text("files", source))
            seal(self._file[0])
        except LaunchError:
            raise
        except OSError as failed:
            raise LaunchError(
                "files", failed.errno or errno.EIO, f"cannot be held ready: {failed.strerror}"
            ) from None

    @property
    def descriptor(self) -> int:
        """The archive, for ``struct ox_run_spec``."""
        descriptor: int = self._file[0]
        return descriptor

    def _begin(self, name: str, size: int, mode: int) -> None:
        if self._left is not None:
            self._left -= size
            if self._left < 0:
                raise LaunchError(
                    "files",
                    errno.ENOSPC,
                    "the files together exceed the disk limit of the run",
                    remedy="raise disk_bytes, and memory_bytes with it: files there are memory",
                    path=name,
                )
        inside = os.fsencode(name)
        head = ffi.new("struct ox_file_head *", (size, mode, len(inside)))
        self._add(bytes(ffi.buffer(head)) + inside)

    def _add(self, content: bytes) -> None:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(self._file[0], rest) :]

    def _copy(self, name: str, path: str) -> None:
        source = held()
        r = lib.ox_open_to_read(os.fsencode(path), source)
        if r < 0:
            raise LaunchError("files", -r, path=path)
        with _released(source):
            before = os.fstat(source[0])
            if not stat.S_ISREG(before.st_mode):
                raise LaunchError(
                    "files",
                    errno.EISDIR if stat.S_ISDIR(before.st_mode) else errno.EINVAL,
                    "is not a regular file",
                    remedy="give files, each by its name",
                    path=path,
                )
            self._begin(name, before.st_size, 0o644 | (before.st_mode & 0o111))
            try:
                copied = self._copy_bytes(source[0], before.st_size)
            except OSError as failed:
                raise LaunchError(
                    "files",
                    failed.errno or errno.EIO,
                    f"cannot be read: {failed.strerror}",
                    path=path,
                ) from None
            after = os.fstat(source[0])
        if copied != before.st_size or _state(before) != _state(after):
            raise LaunchError(
                "files",
                errno.EBUSY,
                "changed while it was copied, or is not as long as it says",
                remedy="give its content as bytes",
                path=path,
            )

    def _copy_bytes(self, source: int, size: int) -> int:
        """Return how many were read: one more than ``size`` where there are more."""
        total = 0
        while chunk := os.pread(source, _CHUNK, total):
            total += len(chunk)
            if total > size:
                return size + 1
            self._add(chunk)
        return total


def _state(what: os.stat_result) -> tuple[int, int, int]:
    return what.st_size, what.st_mtime_ns, what.st_ctime_ns


@contextlib.contextmanager
def _released(holder: Any) -> Any:
    try:
        yield
    finally:
        ffi.release(holder)


def lost(names: Iterable[str]) -> dict[str, Collected]:
    """Return what there is to say of files whose cell is gone."""
    return {name: Collected(skipped="lost") for name in names}


def collect(cell: Any, names: Sequence[str], limits: Limits) -> tuple[dict[str, Collected], bool]:
    """Read files of the workspace of a ``struct ox_cell`` whose processes are gone.

    Of each file at most ``limits.file_bytes`` is read, of all together at most the disk limit.
    The second value is False where the warden did not answer: the cell is of no use any more.
    """
    most = _UNBOUNDED if limits.file_bytes is None else limits.file_bytes
    disk = limits.effective_disk_bytes
    left = _UNBOUNDED if disk is None else disk
    found: dict[str, Collected] = {}
    for batch in _batches(names):
        packed = b"".join([os.fsencode(name) + b"\0" for name in batch])
        collection = ffi.gc(ffi.new("struct ox_collection *"), lib.ox_collection_close)
        if lib.ox_cell_collect(cell, packed, len(packed), len(batch), _COLLECT_MS, collection) < 0:
            found.update(lost(name for name in names if name not in found))
            return found, False
        for name, row in zip(batch, collection.files, strict=False):
            found[name] = one = _read(row, min(most, left))
            left -= len(one.content or b"")
        ffi.release(collection)
    return found, True


def _batches(names: Sequence[str]) -> Iterable[list[str]]:
    batch: list[str] = []
    size = 0
    for name in names:
        length = len(os.fsencode(name)) + 1
        if len(batch) == _BATCH or size + length > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(name)
        size += length
    if batch:
        yield batch


def _read(row: Any, most: int) -> Collected:
    if row.errnum != 0:
        kind = stat.S_IFMT(row.mode)
        return Collected(skipped=_KINDS.get(kind) or _REASONS.get(row.errnum, "failed"))
    try:
        what = os.fstat(row.fd)
        if not stat.S_ISREG(what.st_mode):
            return Collected(skipped=_KINDS.get(stat.S_IFMT(what.st_mode), "failed"))
        content = _read_bytes(row.fd, min(what.st_size, most))
    except (OSError, MemoryError):
        return Collected(skipped="failed")
    return Collected(
        content=content, size_bytes=what.st_size, truncated=len(content) < what.st_size
    )


def _read_bytes(descriptor: int, size: int) -> bytes:
    content = os.pread(descriptor, size, 0) if size else b""
    if len(content) == size:
        return content
    parts = [content]
    done = len(content)
    while done < size and (part := os.pread(descriptor, size - done, done)):
        parts.append(part)
        done += len(part)
    return b"".join(parts)
