"""Files: opened once, without following links, and only if they are what they should be.

All look-ups go through a directory descriptor, one component at a time with ``O_NOFOLLOW``, so that
nobody can swap a folder for a link between two of them. Kinds are judged on the opened descriptor
(``open(2)``, ``fstat(2)``); ``O_NONBLOCK`` keeps a FIFO from holding us.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shlex
import stat
from collections.abc import Iterator

from ..errors import IntegrityError
from ..values import path_text

__all__ = [
    "check_owner",
    "checked_name",
    "open_directory",
    "open_folder",
    "open_named",
    "open_regular",
    "read_all",
    "read_named",
    "replace_file",
    "shown",
    "sync_directory",
]

_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK_BYTES = 1 << 20
_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}


def shown(path: str) -> str:
    """Return a path as it may stand in a message: ASCII only, nothing a terminal acts on."""
    return ascii(path)[1:-1]


def checked_name(path: str | os.PathLike[str]) -> str:
    """Return a path that the caller named as text the kernel can take, else ``bad_path``."""
    text = path_text("a file", path)
    try:
        usable = text != "" and b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        usable = False
    if not usable:
        message = "is no file name (empty, a NUL, or not text)"
        raise IntegrityError("bad_path", message, path=shown(text))
    return text


@contextlib.contextmanager
def open_directory(path: str) -> Iterator[int]:
    """Open a directory that the operator named (here a link is followed)."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as exc:
        raise _refusal(exc, path, "a directory") from exc
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def open_folder(base: int, relative: str, *, path: str) -> Iterator[int]:
    """Open the folder ``relative`` below ``base`` (empty: ``base`` itself); ``path`` is shown."""
    descriptor = os.dup(base)
    try:
        for component in relative.split("/") if relative else []:
            try:
                deeper = os.open(component, _FOLDER_FLAGS, dir_fd=descriptor)
            except OSError as exc:
                kind = _kind_at(descriptor, component)
                if kind and kind != "a directory":
                    message = f"its folder {shown(component)!r} is {kind}, must be a directory"
                    raise IntegrityError("not_regular", message, path=shown(path)) from exc
                raise _refusal(exc, path, "a directory") from exc
            os.close(descriptor)
            descriptor = deeper
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def open_regular(base: int, relative: str, *, path: str, max_bytes: int) -> Iterator[int]:
    """Open a regular file of at most ``max_bytes`` below ``base``; ``path`` is for messages.

    Raises ``IntegrityError``: ``not_found``, ``not_regular`` (which names the kind), ``too_big``,
    ``bad_path``.
    """
    folder, _, name = relative.rpartition("/")
    with open_folder(base, folder, path=path) as directory:
        descriptor = _open_checked(directory, name, path)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise _not_regular(status.st_mode, path)
        if status.st_size > max_bytes:
            raise _too_big(path, max_bytes)
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def open_named(path: str | os.PathLike[str], max_bytes: int) -> Iterator[int]:
    """Open a regular file that the caller named: its folder may be a link, itself not."""
    text = checked_name(path)
    folder, name = os.path.split(text)
    if not name:
        raise IntegrityError("not_regular", "is a directory, must be a file", path=shown(text))
    with (
        open_directory(folder or ".") as directory,
        open_regular(directory, name, path=shown(text), max_bytes=max_bytes) as descriptor,
    ):
        yield descriptor


def read_named(path: str | os.PathLike[str], max_bytes: int) -> bytes:
    """Read a regular file that the caller named, at most ``max_bytes``."""
    with open_named(path, max_bytes) as descriptor:
        return read_all(descriptor, path=shown(os.fsdecode(path)), max_bytes=max_bytes)


def read_all(descriptor: int, *, path: str, max_bytes: int) -> bytes:
    """Read to the end; a file that grew beyond ``max_bytes`` since fstat is ``too_big``."""
    content = bytearray()
    while len(content) <= max_bytes:
        try:
            chunk = os.read(descriptor, min(_CHUNK_BYTES, max_bytes + 1 - len(content)))
        except OSError as exc:
            raise _refusal(exc, path, "a regular file") from exc
        if not chunk:
            return bytes(content)
        content += chunk
    raise _too_big(path, max_bytes)


def check_owner(descriptor: int, path: str) -> os.stat_result:
    """Refuse what anyone but root and the caller could change (``untrusted_root``).

    An ACL that grants writing shows up in the group bits (``acl(5)``: they are its mask).
    """
    status = os.fstat(descriptor)
    mode = stat.S_IMODE(status.st_mode)
    caller = os.geteuid()
    word = shlex.quote(shown(path))
    if status.st_uid not in (0, caller):
        accepted = "root" if caller == 0 else f"root or uid {caller}"
        raise IntegrityError(
            "untrusted_root",
            f"belongs to uid {status.st_uid} (mode {mode:04o}), must belong to {accepted}:"
            f" chown {caller} {word}",
            path=shown(path),
        )
    if mode & 0o022:
        raise IntegrityError(
            "untrusted_root",
            f"mode {mode:04o} (owner uid {status.st_uid}) lets others write, only its owner may:"
            f" chmod go-w {word}",
            path=shown(path),
        )
    return status


def replace_file(
    directory: int, name: str, content: bytes, *, mode: int, group: int | None = None, path: str
) -> None:
    """Replace or create a file atomically: readers see the old bytes or the new ones.

    The new file is made exclusively, written, given its group and mode, synced, then renamed.
    """
    temporary = f".{name[:64]}.{secrets.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(temporary, flags, 0o600, dir_fd=directory)
        try:
            _write_all(descriptor, content)
            if group is not None and group != os.fstat(descriptor).st_gid:
                os.fchown(descriptor, -1, group)
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
            os.replace(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=directory)
            raise
        finally:
            os.close(descriptor)
        sync_directory(directory)
    except OSError as exc:
        raise IntegrityError(
            "not_writable", f"cannot be written: {exc.strerror}", path=path
        ) from exc


def sync_directory(directory: int) -> None:
    """Make names in a directory durable; file systems that cannot say so with EINVAL."""
    try:
        os.fsync(directory)
    except OSError as exc:
        if exc.errno != errno.EINVAL:
            raise


def _write_all(descriptor: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _open_checked(directory: int, name: str, path: str) -> int:
    """Open one name. It is looked at first, because opening a device can have effects."""
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if not stat.S_ISREG(status.st_mode):
            raise _not_regular(status.st_mode, path)
        return os.open(name, _FILE_FLAGS, dir_fd=directory)
    except OSError as exc:
        if isinstance(exc, IntegrityError):
            raise
        raise _refusal(exc, path, "a regular file") from exc


def _kind_at(directory: int, name: str) -> str:
    """Say what a name stands for, for a message: nothing is decided by it."""
    try:
        mode = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
    except OSError:
        return ""
    return _KINDS.get(stat.S_IFMT(mode), "a regular file")


def _not_regular(mode: int, path: str) -> IntegrityError:
    kind = _KINDS.get(stat.S_IFMT(mode), "of an unknown kind")
    return IntegrityError("not_regular", f"is {kind}, must be a regular file", path=path)


def _too_big(path: str, max_bytes: int) -> IntegrityError:
    return IntegrityError("too_big", f"is larger than {max_bytes} bytes", path=path)


def _refusal(exc: OSError, path: str, wanted: str) -> IntegrityError:
    """Turn what the kernel said into the reason and the words of a refusal."""
    if exc.errno == errno.ENOENT:
        return IntegrityError("not_found", "is not there", path=shown(path))
    if exc.errno == errno.ELOOP:
        return IntegrityError(
            "not_regular", f"is a symbolic link, must be {wanted} itself", path=shown(path)
        )
    if exc.errno in (errno.ENXIO, errno.ENODEV):
        return IntegrityError("not_regular", f"is a device, must be {wanted}", path=shown(path))
    if exc.errno == errno.ENAMETOOLONG:
        return IntegrityError("bad_path", "is too long for a name", path=shown(path))
    return IntegrityError("not_readable", f"cannot be read: {exc.strerror}", path=shown(path))
