"""Programs: a file that was opened once, and what it needs to run in a cell."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from typing import Any

from ..errors import LaunchError, ProgramNotFoundError
from ..living import LivingByKey
from ..sandbox import Runtime
from .native import ffi, held, lib, memory_file, seal
from .needed import Needed, inspect

__all__ = ["Program", "find", "open_program", "verified_program"]

#: A program that others may not read or execute is copied for the cell, up to this size.
_COPY_MAX = 512 * 1024 * 1024
_ENTRY_MAX = 127


class Program:
    """A program that is open as long as anybody holds this: its runs, and the cells made for it.

    ``identity`` is equal for equal content that stayed where it was.
    """

    __slots__ = (
        "__weakref__",
        "_file",
        "_original",
        "_state",
        "digest",
        "entry",
        "identity",
        "needed",
        "path",
        "plans",
    )

    def __init__(
        self,
        *,
        entry: str,
        path: str,
        file: Any,
        digest: str | None,
        identity: tuple[object, ...],
        needed: Needed,
        state: tuple[int, ...] | None = None,
    ) -> None:
        self.entry = entry
        self.path = path  # for messages
        self.digest = digest
        self.identity = identity
        self.needed = needed
        #: What runs of it have in common (``order.plan_of`` keeps it here).
        self.plans: dict[tuple[object, ...], Any] = {}
        #: ``int *`` with the descriptor, which closes with it.
        self._file = file
        #: ``struct ox_file_state *`` of its file, None where it is not asked for by its path.
        self._state = None if state is None else ffi.new("struct ox_file_state *", state)

    @property
    def descriptor(self) -> int:
        """The program, open for reading."""
        descriptor: int = self._file[0]
        return descriptor

    def preserve(self) -> None:
        """See to it that cells can be made of it though its file was deleted or replaced.

        The kernel mounts no file that has no name any more. Its bytes are still there: a sealed
        copy of them goes into the launcher's store.
        """
        if self.digest is None and not self.is_current():
            self._original = self._file  # whoever has its number keeps it
            self._file, self.digest = _copy(
                self.descriptor, self.path, "was deleted meanwhile", "start it again"
            )

    def is_current(self) -> bool:
        """Whether its path still names the same file, unchanged."""
        if self._state is None:
            return False
        return bool(lib.ox_file_is(os.fsencode(self.path), self._state))


def find(name: str) -> str:
    """Return the host path of ``args[0]``: as it is with a slash, else looked up in PATH."""
    if "\0" in name or not name:
        raise ProgramNotFoundError(
            "program", errno.ENOENT, "a program's name is not empty and holds no NUL", path=name
        )
    if "/" in name:
        return name
    denied = False
    for directory in os.environ.get("PATH", os.defpath).split(os.pathsep):
        path = os.path.join(directory or ".", name)
        if os.path.isfile(path):
            if os.access(path, os.X_OK):
                return path
            denied = True
    if denied:
        raise LaunchError("program", errno.EACCES, "is in PATH but not executable", path=name)
    raise ProgramNotFoundError(
        "program",
        errno.ENOENT,
        "is not in PATH",
        remedy=f"write ./{name} for a program in the current directory",
        path=name,
    )


#: Programs that runs or cells hold open, by path and runtime.
_opened: LivingByKey[tuple[str, Runtime], Program] = LivingByKey()


def open_program(name: str, runtime: Runtime) -> Program:
    """Return a program that nobody vouches for, opened now, or earlier if it is as it was then.

    It is closed when nobody holds it any more: a run of it, or a cell.
    """
    path = find(name)
    key = (path, runtime)
    known = _opened.get(key)
    if known is None or not known.is_current():
        known = _open(path, runtime)
        _opened.set(key, known)
    return known


def _open(path: str, runtime: Runtime) -> Program:
    entry = _entry_of(path)
    file = _open_regular(path)
    what = os.fstat(file[0])
    state = (what.st_dev, what.st_ino, what.st_size, what.st_mtime_ns, what.st_ctime_ns)
    needed = _needed(file[0], path, runtime, state, verified=False)
    digest = None
    if not needed.is_script and not what.st_mode & 0o111:
        raise LaunchError(
            "exec", errno.EACCES, "is not executable", remedy="chmod +x it", path=path
        )
    if not _open_to_others(what.st_mode, needed):
        why, remedy = "closed to other users", "chmod o+rx the file"
        original, (file, digest) = file, _copy(file[0], path, why, remedy)
        ffi.release(original)
    return Program(
        entry=entry,
        path=path,
        file=file,
        digest=digest,
        identity=(entry, *state),
        needed=needed,
        state=state,
    )


def verified_program(
    descriptor: int, digest: str, *, entry: str, runtime: Runtime, path: str
) -> Program:
    """Describe a program whose sealed bytes the caller holds open and has hashed."""
    needed = _needed(descriptor, path, runtime, (digest,), verified=True)
    file = held()
    r = lib.ox_duplicate(descriptor, file)
    if r < 0:
        raise LaunchError("program", -r, "cannot be held open", path=path)
    return Program(
        entry=entry,
        path=path,
        file=file,
        digest=digest,
        identity=(entry, digest),
        needed=needed,
    )


def _entry_of(path: str) -> str:
    entry = os.path.basename(path)
    if not entry or entry in (".", ".."):
        raise LaunchError("program", errno.EISDIR, "is a directory, not a program", path=path)
    if len(os.fsencode(entry)) > _ENTRY_MAX:
        raise LaunchError(
            "program",
            errno.ENAMETOOLONG,
            f"its file name is longer than {_ENTRY_MAX} bytes",
            path=path,
        )
    return entry


def _open_regular(path: str) -> Any:
    file = held()
    r = lib.ox_open_to_read(os.fsencode(path), file)
    if r == -errno.ENOENT:
        raise ProgramNotFoundError("program", errno.ENOENT, path=path)
    if r < 0:
        raise LaunchError("program", -r, path=path)
    mode = os.fstat(file[0]).st_mode
    if not stat.S_ISREG(mode):
        ffi.release(file)
        kind = "a directory" if stat.S_ISDIR(mode) else "not a regular file"
        number = errno.EISDIR if stat.S_ISDIR(mode) else errno.EACCES
        raise LaunchError("program", number, f"is {kind}, not a program", path=path)
    return file


def _open_to_others(mode: int, needed: Needed) -> bool:
    """Whether nobody may read the script or execute the program, once it is mounted in a cell."""
    wanted = stat.S_IROTH if needed.is_script else stat.S_IROTH | stat.S_IXOTH
    return mode & wanted == wanted


def _copy(descriptor: int, path: str, why: str, remedy: str) -> tuple[Any, str]:
    """Return a sealed copy for the launcher's store, and its digest."""
    file = memory_file(b"oxgen-program")
    copy = file[0]
    digest = hashlib.sha256()
    total = 0
    try:
        while chunk := os.pread(descriptor, 1 << 20, total):
            digest.update(chunk)
            total += len(chunk)
            if total > _COPY_MAX:
                raise LaunchError(
                    "program",
                    errno.EFBIG,
                    f"is larger than {_COPY_MAX} bytes, and {why}",
                    remedy=remedy,
                    path=path,
                )
            os.write(copy, chunk)
        seal(copy)
    except BaseException:
        ffi.release(file)
        raise
    return file, digest.hexdigest()


_cache: dict[tuple[object, ...], Needed] = {}
_CACHE_MAX = 1024


def _needed(
    descriptor: int, path: str, runtime: Runtime, identity: tuple[object, ...], *, verified: bool
) -> Needed:
    key = (runtime, verified, identity)
    known = _cache.get(key)
    if known is None:
        try:
            known = inspect(descriptor, path, runtime, verified=verified)
        except LaunchError:
            raise
        except OSError as failed:
            text = f"what it needs cannot be looked at: {failed.strerror}"
            raise LaunchError("program", failed.errno or errno.EIO, text, path=path) from None
        if len(_cache) >= _CACHE_MAX:
            _cache.clear()
        _cache[key] = known
    return known
