"""The way to a directory: whoever can rename a part of it decides what stands at its end.

The path is walked from ``/`` one component at a time with ``O_PATH | O_NOFOLLOW`` (``openat(2)``),
links are read and followed here, and each directory on the way is judged on its descriptor. A
directory that others can write is accepted only if it is sticky and what is taken from it belongs
to somebody who is trusted: nobody else can rename that (``unlink(2)``, the sticky bit of ``/tmp``).
"""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import stat
from collections.abc import Iterator

from ..errors import IntegrityError
from .files import shown
from .state import State

__all__ = ["open_by_safe_way"]

_STEP_FLAGS = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_LINKS_MAX = 40


@contextlib.contextmanager
def open_by_safe_way(path: str, state: State, *, strict: bool) -> Iterator[int]:
    """Open the directory at the absolute ``path``; its parents must be out of others' reach.

    They may belong to root and to the caller and, unless ``strict``, to one other user: the
    operator named a directory of theirs. ``strict`` also refuses a link at the end of the path.
    The directory itself is the caller's to check. What is gone through is noted in ``state``.
    Raises ``IntegrityError`` ``untrusted_root``
    that names the component and the remedy, and ``OSError`` where something is not there.
    """
    walk = _Walk(strict, state)
    try:
        yield walk.to(path)
    finally:
        walk.close()


class _Walk:
    def __init__(self, strict: bool, state: State) -> None:
        self._strict = strict
        self._state = state
        self._trusted = {0, os.geteuid()}
        self._other: int | None = None
        self._links = 0
        self._descriptor = -1
        self._at = "/"

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def to(self, path: str) -> int:
        self._root()
        rest = _components(path)
        while rest:
            name = rest.pop(0)
            here = os.fstat(self._descriptor)
            self._check_owner(here, self._at)
            deeper = os.open(name, _STEP_FLAGS, dir_fd=self._descriptor)
            try:
                status = os.fstat(deeper)
                self._check_mode(here, status)
                where = os.path.normpath(os.path.join(self._at, name))
                if stat.S_ISLNK(status.st_mode):
                    rest = self._followed(name, status, last=not rest) + rest
                    continue
                self._state.add_folder(where, status)
                if not rest:
                    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                    readable = os.open(name, flags, dir_fd=self._descriptor)
                    os.close(deeper)
                    deeper = readable
                self._descriptor, deeper = deeper, self._descriptor
                self._at = where
            finally:
                os.close(deeper)
        if path.strip("/") == "":
            raise IntegrityError("untrusted_root", "must not be the root of the file system")
        return self._descriptor

    def _root(self) -> None:
        self.close()
        self._descriptor = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._at = "/"
        self._state.add_folder("/", os.fstat(self._descriptor))

    def _followed(self, name: str, status: os.stat_result, *, last: bool) -> list[str]:
        where = os.path.join(self._at, name)
        if self._strict and last:
            raise IntegrityError(
                "untrusted_root",
                "is a symbolic link, must be a directory itself; name its target with --trust-root",
                path=shown(where),
            )
        self._links += 1
        if self._links > _LINKS_MAX:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), where)
        self._check_owner(status, where)
        self._state.add_file(where, status)
        target = os.readlink(name, dir_fd=self._descriptor)
        if target.startswith("/"):
            self._root()
        return _components(target)

    def _accepts(self, uid: int) -> bool:
        return uid in self._trusted or (not self._strict and uid == self._other)

    def _check_owner(self, status: os.stat_result, where: str) -> None:
        if not self._strict and self._other is None and status.st_uid not in self._trusted:
            self._other = status.st_uid
        if not self._accepts(status.st_uid):
            names = ["root"] + [f"uid {uid}" for uid in sorted(self._trusted - {0})]
            if self._other is not None:
                names.append(f"uid {self._other}, to whom another part of the path belongs")
            raise IntegrityError(
                "untrusted_root",
                f"is on the way to the trust root and belongs to uid {status.st_uid}, who could"
                f" put another in its place; it must belong to {' or '.join(names)}:"
                f" chown {os.geteuid()} {shlex.quote(shown(where))}"
                + ("; or name the trust root with --trust-root" if self._strict else ""),
                path=shown(where),
            )

    def _check_mode(self, here: os.stat_result, deeper: os.stat_result) -> None:
        mode = stat.S_IMODE(here.st_mode)
        if not mode & 0o022:
            return
        if mode & stat.S_ISVTX and (
            self._accepts(deeper.st_uid) or (not self._strict and self._other is None)
        ):
            # Its owner is asked, and remembered, when the walk goes through it.
            return
        raise IntegrityError(
            "untrusted_root",
            f"is on the way to the trust root and has mode {mode:04o}, so others could put another"
            " in its place; only its owner may write there:"
            f" chmod go-w {shlex.quote(shown(self._at))}",
            path=shown(self._at),
        )


def _components(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]
