"""Trust root: the operator's directory with ``ALLOWLIST`` and ``keys/``.

Whoever can write there decides what starts, so the directory, the list, ``keys/`` and every key
must belong to root or the caller and be writable by nobody else. That is asked of the descriptors
that are then read, at every use: a root that was fine a minute ago is not fine for ever. The same
goes for its parents up to ``/``: who can rename one of them puts another root in this one's place.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import IntegrityError
from ..values import check_type
from .allowlist import MAX_ALLOWLIST_BYTES, Allowlist, Entry, parse_allowlist, with_entries
from .ancestry import open_by_safe_way
from .files import (
    check_owner,
    checked_name,
    open_folder,
    open_regular,
    read_all,
    replace_file,
    shown,
)
from .keys import MAX_KEY_BYTES, PublicKey, load_public_key
from .state import State

__all__ = ["KEYS_OF_ROOT", "OpenRoot", "TrustRoot", "check_root", "listed"]

_SYSTEM_DIRECTORY = "/etc/oxgen"
_LOCAL_DIRECTORY = "plugins"
_ALLOWLIST = "ALLOWLIST"
_KEYS = "keys"
_KEYS_MAX = 256
#: How messages call all keys of a trust root; their names follow.
KEYS_OF_ROOT = f"any key in {_KEYS}/"
_LOCK_SECONDS = 10.0
_LOCK_PAUSE_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class TrustRoot:
    """Where the operator's decisions are: an absolute path, nothing is open.

    ``implicit`` is a root that nobody named. No link is followed to it, and its parents must belong
    to root or the caller; those of a root that was named may belong to one other user as well, as
    long as nobody else can write them.
    """

    directory: str
    implicit: bool = False

    def __post_init__(self) -> None:
        check_type("directory", self.directory, str, "the path of a trust root as text")

    @classmethod
    def locate(cls, explicit: str | None = None) -> TrustRoot:
        """Find the trust root: ``explicit``, else ``/etc/oxgen``, else ``./plugins``.

        The first that exists is taken; if it cannot be trusted it is refused, and no later one is
        tried instead. Raises ``IntegrityError`` (``not_found``, ``untrusted_root``).
        """
        if explicit is not None:
            candidates = [checked_name(explicit)]
        else:
            candidates = [_SYSTEM_DIRECTORY, _LOCAL_DIRECTORY]
        for candidate in candidates:
            found = cls(os.path.abspath(candidate), implicit=explicit is None)
            try:
                with found.open():
                    return found
            except IntegrityError as exc:
                if exc.reason != "not_found" or explicit is not None:
                    raise
        raise IntegrityError(
            "not_found",
            f"there is no trust root: neither {_SYSTEM_DIRECTORY} nor ./{_LOCAL_DIRECTORY} exists;"
            " make one with ALLOWLIST and keys/, or name one with --trust-root",
        )

    @contextlib.contextmanager
    def open(self) -> Iterator[OpenRoot]:
        """Open and check the directory; the descriptors live as long as the ``with`` block."""
        state = State()
        with contextlib.ExitStack() as stack:
            try:
                descriptor = stack.enter_context(
                    open_by_safe_way(self.directory, state, strict=self.implicit)
                )
            except IntegrityError:
                raise
            except OSError as exc:
                raise _no_root(exc, self.directory) from exc
            status = check_owner(descriptor, self.directory)
            opened = OpenRoot(descriptor, os.path.realpath(self.directory), state)
            state.add_folder(opened.directory, status)
            yield opened


class OpenRoot:
    """A trust root that is open: everything below it is reached through ``descriptor``.

    ``state`` has all that was looked at on the way there and read since.
    """

    def __init__(self, descriptor: int, directory: str, state: State) -> None:
        self.descriptor = descriptor
        self.directory = directory
        self.state = state

    def path(self, relative: str) -> str:
        """Return the path of a file below the root as messages show it."""
        return shown(os.path.join(self.directory, relative))

    def allowlist(self) -> Allowlist:
        """Read and parse the list; a missing one denies with ``no_allowlist``."""
        found = self._read_allowlist()
        if found is None:
            raise IntegrityError(
                "no_allowlist",
                "is missing, so nothing is allowed; approve a plugin to make it",
                path=self.path(_ALLOWLIST),
            )
        return parse_allowlist(found[0], path=self.path(_ALLOWLIST))

    def keys(self) -> tuple[PublicKey, ...]:
        """Read every ``keys/*.pub``; a missing or empty folder denies with ``no_keys``.

        One key that cannot be read, or that others can write, refuses all of them: an operator who
        put it there believes that it counts.
        """
        path = os.path.join(self.directory, _KEYS)
        try:
            with open_folder(self.descriptor, _KEYS, path=path) as folder:
                self.state.add_file(path, check_owner(folder, path))
                names = sorted(
                    name
                    for name in os.listdir(folder)
                    if name.endswith(".pub") and not name.startswith(".")
                )
                if len(names) > _KEYS_MAX:
                    message = f"holds more than {_KEYS_MAX} keys"
                    raise IntegrityError("too_big", message, path=shown(path))
                found = {self._read_key(folder, name) for name in names}
        except IntegrityError as exc:
            if exc.reason != "not_found":
                raise
            raise self._no_keys("is missing") from exc
        if not found:
            raise self._no_keys("holds no *.pub")
        return tuple(sorted(found, key=lambda key: key.name))

    def read(self, relative: str, max_bytes: int) -> bytes:
        """Read a regular file below the root, through no link."""
        with self.regular(relative, max_bytes) as descriptor:
            return read_all(descriptor, path=self.path(relative), max_bytes=max_bytes)

    @contextlib.contextmanager
    def regular(self, relative: str, max_bytes: int) -> Iterator[int]:
        """Open a regular file below the root, through no link."""
        with open_regular(
            self.descriptor, relative, path=self.path(relative), max_bytes=max_bytes
        ) as descriptor:
            self._note(relative, os.fstat(descriptor))
            yield descriptor

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of those who change the list (``flock(2)`` on the directory); ``busy``."""
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as exc:
                if exc.errno not in (errno.EAGAIN, errno.EINTR):
                    message = f"cannot be locked: {exc.strerror}"
                    raise IntegrityError("busy", message, path=self.path("")) from exc
            if time.monotonic() >= deadline:
                message = f"somebody else has been changing it for {_LOCK_SECONDS:.0f} s; try again"
                raise IntegrityError("busy", message, path=self.path(""))
            time.sleep(_LOCK_PAUSE_SECONDS)
        try:
            yield
        finally:
            fcntl.flock(self.descriptor, fcntl.LOCK_UN)

    def add(self, entries: tuple[Entry, ...]) -> None:
        """Put entries on the list, or their new digests; the caller holds the lock.

        A missing list is made with mode 0644; an existing one keeps mode, group and every comment.
        """
        found = self._read_allowlist()
        content, mode, group = (b"", 0o644, None) if found is None else found
        written = with_entries(content, entries, path=self.path(_ALLOWLIST))
        if found is not None and written == content:
            return
        replace_file(
            self.descriptor,
            _ALLOWLIST,
            written,
            mode=mode,
            group=group,
            path=self.path(_ALLOWLIST),
        )

    def _read_allowlist(self) -> tuple[bytes, int, int | None] | None:
        path = os.path.join(self.directory, _ALLOWLIST)
        try:
            with self.regular(_ALLOWLIST, MAX_ALLOWLIST_BYTES) as descriptor:
                status = check_owner(descriptor, path)
                content = read_all(descriptor, path=shown(path), max_bytes=MAX_ALLOWLIST_BYTES)
        except IntegrityError as exc:
            if exc.reason == "not_found":
                return None
            raise
        return content, stat.S_IMODE(status.st_mode), status.st_gid

    def _read_key(self, folder: int, name: str) -> PublicKey:
        path = os.path.join(self.directory, _KEYS, name)
        with open_regular(folder, name, path=shown(path), max_bytes=MAX_KEY_BYTES) as descriptor:
            self.state.add_file(path, check_owner(descriptor, path))
            content = read_all(descriptor, path=shown(path), max_bytes=MAX_KEY_BYTES)
        return load_public_key(content, path=path)

    def _note(self, relative: str, status: os.stat_result) -> None:
        """Note a file that is about to be read, and the folders it was reached through."""
        at = self.directory
        *folders, name = relative.split("/")
        for folder in folders:
            at = os.path.join(at, folder)
            try:
                self.state.add_folder(at, os.lstat(at))
            except OSError:
                self.state.doubt()  # it was there a moment ago
        self.state.add_file(os.path.join(at, name), status)

    def _no_keys(self, what: str) -> IntegrityError:
        return IntegrityError(
            "no_keys",
            f"{what}, so no signature can be accepted; put the public keys (PEM, *.pub) of those"
            " whom you trust there",
            path=self.path(_KEYS),
        )


def check_root(root: object) -> TrustRoot:
    """Return it if it is a trust root, else raise ``UsageError``."""
    return check_type("root", root, TrustRoot, "a TrustRoot, as TrustRoot.locate(path) finds it")


def listed(root: TrustRoot) -> tuple[Entry, ...]:
    """Return what the ALLOWLIST of ``root`` allows, in its order."""
    with check_root(root).open() as opened:
        return opened.allowlist().entries


def _no_root(exc: OSError, directory: str) -> IntegrityError:
    if exc.errno == errno.ENOENT:
        return IntegrityError("not_found", "the trust root is not there", path=shown(directory))
    if exc.errno in (errno.ENOTDIR, errno.ELOOP):
        message = "the trust root must be a directory"
        return IntegrityError("untrusted_root", message, path=shown(directory))
    message = f"the trust root cannot be opened: {exc.strerror}"
    return IntegrityError("not_readable", message, path=shown(directory))
