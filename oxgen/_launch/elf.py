"""ELF: what a program needs beside itself, found as the dynamic loader would find it."""

from __future__ import annotations

import errno
import itertools
import os
import platform
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from ..errors import LaunchError

__all__ = ["Needs", "closure", "needs", "search_path"]

_MACHINES = {"x86_64": "EM_X86_64", "aarch64": "EM_AARCH64"}
#: ld.so(8): searched when nothing else names a directory.
_TRUSTED = ("/lib64", "/usr/lib64", "/lib", "/usr/lib")
_CONF = "/etc/ld.so.conf"
#: Loaded with dlopen() by glibc itself, for pthread_cancel and backtraces.
_ON_DEMAND = ("libgcc_s.so.1",)
_CLOSURE_MAX = 180
#: Far above what linkers write, so that a forged count costs no time.
_SEGMENTS_MAX = 256
_TAGS_MAX = 4096


#: ELFError of the library is an Exception of its own; the rest comes from what it is built on.
_NONSENSE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
)


@dataclass(frozen=True, slots=True)
class Needs:
    """What the headers of one ELF file say."""

    interpreter: str | None
    libraries: tuple[str, ...]
    directories: tuple[str, ...]


def needs(stream: BinaryIO, path: str) -> Needs:
    """Read an ELF file's headers. Raise ``LaunchError`` for another machine or a broken file."""
    from elftools.common.exceptions import ELFError
    from elftools.elf.dynamic import DynamicSegment
    from elftools.elf.elffile import ELFFile

    machine = platform.machine()
    try:
        elf = ELFFile(stream)
        if elf.header["e_machine"] != _MACHINES.get(machine) or elf.elfclass != 64:
            raise LaunchError(
                "exec",
                errno.ENOEXEC,
                f"is a {elf.elfclass}-bit program for {elf.header['e_machine']},"
                f" this machine runs 64-bit {machine}",
                remedy=f"build it for {machine}",
                path=path,
            )
        interpreter: str | None = None
        libraries: list[str] = []
        directories: list[str] = []
        for segment in itertools.islice(elf.iter_segments(), _SEGMENTS_MAX):
            if segment.header["p_type"] == "PT_INTERP":
                # The attributes of segments and tags depend on their type: made at run time.
                interpreter = str(cast(Any, segment).get_interp_name())
            elif isinstance(segment, DynamicSegment):
                for tag in cast(Iterable[Any], itertools.islice(segment.iter_tags(), _TAGS_MAX)):
                    if tag.entry.d_tag == "DT_NEEDED":
                        libraries.append(str(tag.needed))
                    elif tag.entry.d_tag == "DT_RUNPATH":
                        directories.extend(str(tag.runpath).split(":"))
                    elif tag.entry.d_tag == "DT_RPATH":
                        directories.extend(str(tag.rpath).split(":"))
    except LaunchError:
        raise
    except (ELFError, *_NONSENSE) as broken:
        # The bytes are the attacker's, and what the library raises for nonsense is of many kinds.
        if isinstance(broken, OSError) and broken.errno != errno.EINVAL:
            raise
        raise LaunchError(
            "exec", errno.ENOEXEC, f"its ELF headers cannot be read: {broken}", path=path
        ) from None
    return Needs(interpreter, tuple(libraries), tuple(directories))


def search_path() -> tuple[str, ...]:
    """Return the directories that the dynamic loader searches by default, in its order."""
    return tuple(dict.fromkeys((*_conf_directories(_CONF, 0), *_TRUSTED)))


def _conf_directories(path: str, depth: int) -> Iterator[str]:
    import glob

    if depth > 4:
        return
    try:
        with open(path, encoding="utf-8", errors="replace") as lines:
            text = lines.read(1 << 20)
    except OSError:
        # No such file: then the loader has none either.
        return
    for line in text.splitlines():
        words = line.split("#", 1)[0].split()
        if words and words[0] == "include":
            for pattern in words[1:]:
                below = os.path.join(os.path.dirname(path), pattern)
                for name in sorted(glob.glob(below)):
                    yield from _conf_directories(name, depth + 1)
        elif words and words[0].startswith("/"):
            yield words[0].rstrip("/") or "/"


def closure(
    roots: Iterable[tuple[str, Needs]], *, optional: Iterable[str] = ()
) -> tuple[tuple[str, str], ...]:
    """Return (path inside, path on the host) of every library that the roots need, roots excluded.

    ``roots`` are (path, headers); a library that none of the directories holds raises
    ``LaunchError`` naming it, except below the roots whose path is in ``optional``.
    """
    default = search_path()
    found: dict[str, str] = {}
    lenient = set(optional)
    queue = [(name, path, n.directories) for path, n in roots for name in n.libraries]
    queue += [(name, "", ()) for name in _ON_DEMAND]
    lenient.add("")
    while queue:
        name, wanted_by, directories = queue.pop()
        if name in found:
            continue
        path = _find(name, wanted_by, directories, default)
        if path is None:
            if wanted_by in lenient:
                continue
            raise LaunchError(
                "exec",
                errno.ENOENT,
                f"needs the library {name}, which is in none of {', '.join(default)}",
                remedy=f"install the package that has {name}",
                path=wanted_by,
            )
        found[name] = path
        if len(found) > _CLOSURE_MAX:
            raise LaunchError(
                "exec", errno.E2BIG, f"needs more than {_CLOSURE_MAX} libraries", path=wanted_by
            )
        with open(path, "rb") as stream:
            below = needs(stream, path)
        if wanted_by in lenient:
            lenient.add(path)
        queue.extend((more, path, below.directories) for more in below.libraries)
    return tuple((path, path) for path in sorted(set(found.values())))


def _find(
    name: str, wanted_by: str, directories: tuple[str, ...], default: tuple[str, ...]
) -> str | None:
    if "/" in name:
        return name if os.path.isabs(name) and os.path.exists(name) else None
    origin = os.path.dirname(os.path.realpath(wanted_by)) if wanted_by else ""
    for directory in (*directories, *default):
        expanded = directory.replace("${ORIGIN}", origin).replace("$ORIGIN", origin)
        if not expanded.startswith("/"):
            continue
        path = os.path.normpath(os.path.join(expanded, name))
        if os.path.isfile(path) and _is_ours(path):
            return path
    return None


def _is_ours(path: str) -> bool:
    """The loader passes over libraries of another word size; so do we."""
    with open(path, "rb") as stream:
        head = stream.read(20)
    return head[:5] == b"\x7fELF\x02" and int.from_bytes(head[18:20], "little") == {
        "x86_64": 62,
        "aarch64": 183,
    }.get(platform.machine())
