"""Mounts: what a policy opens to a cell, beyond its program and what that needs."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass

from ..errors import LaunchError
from ..sandbox import Sandbox

__all__ = ["Opened", "Place", "open_place", "opened_by"]

#: Of the host's own network: how names are looked up in it.
_RESOLVER = ("/etc/resolv.conf", "/etc/hosts")
#: File systems that show or are the machine, its processes and its devices, and no files.
_OF_THE_MACHINE = frozenset(
    {
        "binder",
        "binfmt_misc",
        "bpf",
        "cgroup",
        "cgroup2",
        "configfs",
        "debugfs",
        "devpts",
        "devtmpfs",
        "efivarfs",
        "fusectl",
        "mqueue",
        "nsfs",
        "proc",
        "pstore",
        "resctrl",
        "rpc_pipefs",
        "securityfs",
        "selinuxfs",
        "smackfs",
        "sysfs",
        "tracefs",
    }
)
_ESCAPES = {r"\040": " ", r"\011": "\t", r"\012": "\n", r"\134": "\\"}


@dataclass(frozen=True, slots=True)
class Place:
    """One mount: a file or directory of the host, as it was when the run was asked for."""

    source: str
    destination: str
    executable: bool
    device: int
    inode: int


@dataclass(frozen=True, slots=True)
class Opened:
    """What a policy opens to a cell. Part of its tenancy: equal for the same files only."""

    mounts: tuple[Place, ...]
    host_network: bool
    exec_tmp: bool

    @property
    def exceptions(self) -> tuple[str, ...]:
        """For the record."""
        return (
            *(("network=host",) if self.host_network else ()),
            *(("exec_tmp",) if self.exec_tmp else ()),
            *(
                f"mount={place.destination}" + (",exec" if place.executable else "")
                for place in self.mounts
                if not (self.host_network and place.destination in _RESOLVER)
            ),
        )


def opened_by(sandbox: Sandbox) -> Opened:
    """Look at what a policy opens, which ``Sandbox.opens`` says that it does.

    Raises ``LaunchError`` with stage ``tree`` for a source that is not there, or no file and no
    directory.
    """
    host_network = sandbox.network == "host"
    places = [
        _place(os.fspath(mount.source), mount.inside, mount.executable) for mount in sandbox.mounts
    ]
    if host_network:
        places += [_place(path, path, False) for path in _RESOLVER if os.path.isfile(path)]
    return Opened(tuple(places), host_network, sandbox.exec_tmp)


def _place(source: str, destination: str, executable: bool) -> Place:
    try:
        what = os.stat(source)
    except OSError as gone:
        raise LaunchError(
            "tree", gone.errno or errno.EIO, f"cannot be mounted: {gone.strerror}", path=source
        ) from None
    if not (stat.S_ISREG(what.st_mode) or stat.S_ISDIR(what.st_mode)):
        raise LaunchError(
            "tree",
            errno.EINVAL,
            "is neither a regular file nor a directory, and nothing else is mounted",
            path=source,
        )
    return Place(source, destination, executable, what.st_dev, what.st_ino)


def open_place(place: Place) -> int:
    """Open what is to be mounted; the descriptor is the caller's (O_PATH).

    Raises ``LaunchError`` where it is not what it was when the run was asked for, or where other
    file systems are mounted below it, which would be missing inside.
    """
    try:
        descriptor = os.open(place.source, os.O_PATH | os.O_CLOEXEC)
    except OSError as gone:
        text = f"cannot be mounted: {gone.strerror}"
        raise LaunchError("tree", gone.errno or errno.EIO, text, path=place.source) from None
    try:
        what = os.fstat(descriptor)
        if (what.st_dev, what.st_ino) != (place.device, place.inode):
            raise LaunchError(
                "tree", errno.ESTALE, "was replaced while the run waited", path=place.source
            )
        _check_mounted(descriptor, place.source, is_directory=stat.S_ISDIR(what.st_mode))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check_mounted(descriptor: int, source: str, *, is_directory: bool) -> None:
    try:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        with open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii") as about:
            mount = next(line.split()[1] for line in about if line.startswith("mnt_id:"))
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
            mounts = [line.split() for line in table]
    except OSError as unknown:
        raise LaunchError(
            "tree",
            unknown.errno or errno.EIO,
            f"what is mounted there cannot be told: {unknown.strerror}",
            remedy="mount /proc",
            path=source,
        ) from None
    for fields in mounts:
        # Optional fields end with a hyphen, then comes the type (proc_pid_mountinfo(5)).
        kind = fields[fields.index("-", 6) + 1]
        if fields[0] == mount and kind in _OF_THE_MACHINE:
            raise LaunchError(
                "tree",
                errno.EINVAL,
                f"is on a file system of type {kind}, which shows the machine and its processes",
                remedy="copy what the program needs to know into a file",
                path=source,
            )
    if is_directory:
        _check_below(path, [fields[4] for fields in mounts], source)


def _check_below(path: str, points: list[str], source: str) -> None:
    above = path.rstrip("/") + "/"
    for point in points:
        for escaped, plain in _ESCAPES.items():
            point = point.replace(escaped, plain)
        if point.startswith(above):
            raise LaunchError(
                "tree",
                errno.EXDEV,
                f"has another file system mounted below it, at {point!r}, which would be missing",
                remedy="mount directories that hold no mount points, each by itself",
                path=source,
            )
