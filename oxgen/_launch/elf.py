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

__all__ = ["LOADER_FILES", "Needs", "Root", "closure", "needs", "program_needs", "search_path"]

_MACHINES = {"x86_64": "EM_X86_64", "aarch64": "EM_AARCH64"}
#: What people call a machine, where the header's own name would have to be looked up.
_NAMES = {
    "EM_X86_64": "x86-64",
    "EM_386": "i386",
    "EM_AARCH64": "aarch64",
    "EM_ARM": "arm",
    "EM_RISCV": "riscv",
    "EM_PPC64": "ppc64",
    "EM_S390": "s390x",
}
#: Files of the format that no kernel starts.
_NO_PROGRAMS = {"ET_REL": "an object file", "ET_CORE": "a core dump"}
#: ld.so(8): searched when nothing else names a directory.
_TRUSTED = ("/lib64", "/usr/lib64", "/lib", "/usr/lib")
_CONF = "/etc/ld.so.conf"
_MUSL_PATH = f"/etc/ld-musl-{platform.machine()}.path"
#: What loaders read to find libraries, those of glibc and of musl.
LOADER_FILES = ("/etc/ld.so.cache", _MUSL_PATH)
_MUSL_TRUSTED = ("/lib", "/usr/local/lib", "/usr/lib")
#: Loaded with dlopen() by glibc itself, for pthread_cancel and backtraces.
_ON_DEMAND = ("libgcc_s.so.1",)
_CLOSURE_MAX = 180
#: Far above what linkers write, so that a forged count costs no time.
_SEGMENTS_MAX = 256
#: With the NUL at its end; the kernel refuses a loader beyond that.
_PATH_MAX = 4096
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
    #: Why it cannot be started as a program, in words; a library need not be one.
    fault: str = ""


def needs(stream: BinaryIO, path: str) -> Needs:
    """Read an ELF file's headers. Raise ``LaunchError`` for another machine or a broken file."""
    from elftools.common.exceptions import ELFError
    from elftools.elf.dynamic import DynamicSegment
    from elftools.elf.elffile import ELFFile

    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    try:
        elf = ELFFile(stream)
        _check_machine(elf.header["e_machine"], elf.elfclass, elf.little_endian, path)
        fault = _fault(elf)
        interpreter: str | None = None
        libraries: list[str] = []
        directories: list[str] = []
        for segment in itertools.islice(elf.iter_segments(), _SEGMENTS_MAX):
            if segment.header["p_type"] == "PT_LOAD" and not fault:
                end = segment.header["p_offset"] + segment.header["p_filesz"]
                fault = f"is cut off: its ELF headers tell of {end} bytes" if end > size else ""
            if segment.header["p_type"] == "PT_INTERP":
                # The attributes of segments and tags depend on their type: made at run time.
                length = segment.header["p_filesz"]
                if length > _PATH_MAX:
                    fault = fault or (
                        f"names a loader with a path of {length} bytes; accepted: {_PATH_MAX}"
                    )
                else:
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
            "exec",
            errno.ENOEXEC,
            f"its ELF headers cannot be read: {str(broken) or 'they end too soon'}",
            remedy=f"is it whole? it has {size} bytes; build or copy the program again",
            path=path,
        ) from None
    return Needs(interpreter, tuple(libraries), tuple(directories), fault)


def program_needs(stream: BinaryIO, path: str) -> Needs:
    """Read the headers of what is to be started; ``LaunchError`` where no kernel would start it."""
    headers = needs(stream, path)
    if headers.fault:
        raise LaunchError(
            "exec",
            errno.ENOEXEC,
            headers.fault,
            remedy="build or copy the program again",
            path=path,
        )
    return headers


def _check_machine(machine: object, bits: int, little: bool, path: str) -> None:
    ours = _MACHINES.get(platform.machine(), "")
    if machine == ours and bits == 64 and little:
        return
    name = _NAMES.get(str(machine), str(machine))
    wanted = _NAMES.get(ours, platform.machine())
    width = "32-bit " if bits == 32 else ""
    order = "" if little else "big-endian "
    raise LaunchError(
        "exec",
        errno.ENOEXEC,
        f"is for {order}{width}{name}, this machine is {wanted}",
        remedy=f"build it for 64-bit {wanted}",
        path=path,
    )


def _fault(elf: Any) -> str:
    kind = str(elf.header["e_type"])
    if kind in _NO_PROGRAMS:
        return f"is {_NO_PROGRAMS[kind]}, not a program"
    if elf.header["e_phnum"] == 0:
        return "has no segment that could be loaded"
    return "is a library, not a program: it has no entry point" if not elf.header["e_entry"] else ""


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


@dataclass(frozen=True, slots=True)
class Root:
    """A file whose libraries are wanted: its path on the host, and its path in the cell."""

    path: str
    inside: str
    needs: Needs


def closure(roots: Iterable[Root], *, optional: Iterable[str] = ()) -> tuple[tuple[str, str], ...]:
    """Return (path inside, path on the host) of every library that the roots need, roots excluded.

    A library that none of the directories holds raises ``LaunchError`` naming it, except below
    the roots whose path is in ``optional``.
    """
    roots = tuple(roots)
    search = _search_of(root.needs.interpreter for root in roots)
    found: dict[str, str] = {}
    names: set[str] = set(search.provided)
    lenient = {*optional, ""}
    queue = [(name, root) for root in roots for name in root.needs.libraries]
    queue += [(name, _NOBODY) for name in search.on_demand]
    while queue:
        name, wanted_by = queue.pop()
        if name in names:
            continue
        library = _find(name, wanted_by, search.directories)
        if library is None:
            if wanted_by.path in lenient:
                continue
            where = (*wanted_by.needs.directories, *search.directories)
            raise LaunchError(
                "exec",
                errno.ENOENT,
                f"needs the library {name}, which is in none of {', '.join(where)}",
                remedy=f"install the package that has {name}, or link the program statically",
                path=wanted_by.path,
            )
        names.add(name)
        inside, path = library
        found[inside] = path
        if len(found) > _CLOSURE_MAX:
            raise LaunchError(
                "exec",
                errno.E2BIG,
                f"needs more than {_CLOSURE_MAX} libraries",
                path=wanted_by.path,
            )
        if wanted_by.path in lenient:
            lenient.add(path)
        with open(path, "rb") as stream:
            below = Root(path, inside, needs(stream, path))
        queue.extend((more, below) for more in below.needs.libraries)
    return tuple(sorted(found.items()))


#: Asks for what the C library loads by itself.
_NOBODY = Root("", "", Needs(None, (), ()))


@dataclass(frozen=True, slots=True)
class _Search:
    """How one C library's loader finds libraries."""

    directories: tuple[str, ...]
    #: Names that the loader is itself, whatever the directories hold.
    provided: frozenset[str] = frozenset()
    on_demand: tuple[str, ...] = ()


def _search_of(loaders: Iterable[str | None]) -> _Search:
    named = [os.path.basename(loader) for loader in loaders if loader is not None]
    musl = next((name for name in named if name.startswith("ld-musl-")), None)
    if musl is None:
        return _Search(search_path(), on_demand=_ON_DEMAND)
    architecture = musl.removeprefix("ld-musl-").split(".", 1)[0]
    own = frozenset({"libc.so", f"libc.musl-{architecture}.so.1"})
    return _Search(_musl_directories(_MUSL_PATH), provided=own)


def _musl_directories(path: str) -> tuple[str, ...]:
    """musl reads one file of directories, parted by colons or line ends (ldso/dynlink.c)."""
    try:
        with open(path, encoding="utf-8", errors="replace") as lines:
            text = lines.read(1 << 20)
    except OSError:
        return _MUSL_TRUSTED
    words = text.replace("\n", ":").split(":")
    return tuple(word for word in words if word.startswith("/")) or _MUSL_TRUSTED


def _find(name: str, wanted_by: Root, directories: tuple[str, ...]) -> tuple[str, str] | None:
    """Return (path inside, path on the host): they differ where a path is relative to $ORIGIN."""
    if "/" in name:
        return (name, name) if os.path.isabs(name) and os.path.exists(name) else None
    origin = os.path.dirname(os.path.realpath(wanted_by.path)) if wanted_by.path else ""
    for directory in (*wanted_by.needs.directories, *directories):
        expanded = _expand(directory, origin)
        if not expanded.startswith("/"):
            continue
        path = os.path.normpath(os.path.join(expanded, name))
        if os.path.isfile(path) and _is_ours(path):
            at = _expand(directory, os.path.dirname(wanted_by.inside))
            return os.path.normpath(os.path.join(at, name)), path
    return None


def _expand(directory: str, origin: str) -> str:
    return directory.replace("${ORIGIN}", origin).replace("$ORIGIN", origin)


def _is_ours(path: str) -> bool:
    """The loader passes over libraries of another word size; so do we."""
    with open(path, "rb") as stream:
        head = stream.read(20)
    return head[:5] == b"\x7fELF\x02" and int.from_bytes(head[18:20], "little") == {
        "x86_64": 62,
        "aarch64": 183,
    }.get(platform.machine())
