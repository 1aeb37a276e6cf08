"""State: what a verdict rests on, so that it can be asked whether all of it is as it was.

A verdict is about bytes: of the list, the keys, the manifest, the signature, the artifact. The
identity of a file (device, inode, size, times, mode, owner) only says whether reading it again
would read the same bytes. It is taken of the descriptor that is then read. Two states of a file
never share one, but for this: a file that is changed in place twice within one tick of the kernel's
clock has the same times after both (git knows it as "racily clean"). So an identity counts only if
its ctime, which nobody can set, was well in the past before the file was read.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable

__all__ = ["State"]

#: The kernel stamps files by a clock that ticks every 1 to 10 ms (CONFIG_HZ); twice that.
_TICK_NS = 20_000_000
#: File systems that keep whole seconds only, or two of them.
_COARSE_TICK_NS = 3_000_000_000
#: Where an identity is up to date at once. Over a network, or out of another kernel or a daemon, it
#: may be that of a moment ago, and a key that was taken away would count for as long.
_LOCAL = frozenset(
    {"bcachefs", "btrfs", "erofs", "ext2", "ext3", "ext4", "f2fs", "jfs", "overlay", "ramfs"}
    | {"rootfs", "squashfs", "tmpfs", "xfs", "zfs"}
)
_MOUNTS = "/proc/self/mountinfo"
_ESCAPE = re.compile(r"\\([0-7]{3})")

_File = tuple[str, tuple[int, ...], int, int]
_Folder = tuple[str, tuple[int, ...], int]


class State:
    """Files and folders, and the identity that each had when it was looked at."""

    __slots__ = ("_files", "_folders", "_settled")

    def __init__(self) -> None:
        self._files: dict[str, _File] = {}
        self._folders: dict[str, _Folder] = {}
        self._settled = True

    def add_file(self, path: str, status: os.stat_result) -> None:
        """Note a file, link or listed folder that is about to be read; what fstat said of it."""
        settled = _is_settled(status.st_ctime_ns, time.time_ns())
        self._settled = self._settled and settled
        self._files[path] = (path, status[:7], status.st_mtime_ns, status.st_ctime_ns)

    def add_folder(self, path: str, status: os.stat_result) -> None:
        """Note a folder that is gone through: which one it is, its mode and its owner count."""
        self._folders[path] = (path, status[:3], status.st_uid)

    def doubt(self) -> None:
        """Say that something could not be noted."""
        self._settled = False

    @property
    def can_be_asked(self) -> bool:
        """Whether `holds` will know: every identity is settled, and of a local file system."""
        return self._settled and _all_local((*self._files, *self._folders))

    def holds(self) -> bool:
        """Whether everything is still what it was, and where it was."""
        look = os.lstat
        try:
            for path, what, owner in self._folders.values():
                status = look(path)
                if status[:3] != what or status[4] != owner:
                    return False
            for path, what, modified, changed in self._files.values():
                status = look(path)
                if (
                    status[:7] != what
                    or status.st_ctime_ns != changed
                    or status.st_mtime_ns != modified
                ):
                    return False
        except OSError:
            return False
        return True

    def is_at(self, path: str, place: str) -> bool:
        """Whether ``path``, followed through links, leads to the folder noted as ``place``."""
        try:
            return os.stat(path)[:3] == self._folders[place][1]
        except OSError:
            return False

    def is_file(self, path: str, file: str) -> bool:
        """Whether ``path`` itself is the file noted as ``file``."""
        try:
            return os.lstat(path)[:3] == self._files[file][1][:3]
        except OSError:
            return False


def _is_settled(changed_ns: int, now_ns: int) -> bool:
    tick = _TICK_NS if changed_ns % 1_000_000_000 else _COARSE_TICK_NS
    return now_ns - changed_ns > tick


def _all_local(paths: Iterable[str]) -> bool:
    """Whether all paths lie on file systems of this kernel's own (``proc_pid_mountinfo(5)``)."""
    try:
        with open(_MOUNTS, encoding="utf-8", errors="surrogateescape") as stream:
            lines = stream.read().splitlines()
    except OSError:
        return False
    kinds: dict[str, str] = {}
    for line in lines:
        words, _, rest = line.partition(" - ")
        point = _ESCAPE.sub(lambda octal: chr(int(octal[1], 8)), words.split(" ")[4])
        kinds[point] = rest.split(" ")[0]  # a later one lies on top
    return all(_kind_of(path, kinds) in _LOCAL for path in paths)


def _kind_of(path: str, kinds: dict[str, str]) -> str | None:
    while path not in kinds:
        if path == "/":
            return None
        path = os.path.dirname(path)
    return kinds[path]
