"""What interpreters need in a cell: those of Python and Node, and a Java virtual machine."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass

from . import elf, installed

__all__ = ["Interpreter", "describe_java", "describe_node", "describe_python", "java_home"]

#: Printed by the interpreter about itself; -I and -S keep it from running anything of the user's.
_QUESTION = """\
import json, site, sys, sysconfig
paths = sysconfig.get_paths()
print(json.dumps({
    "version": list(sys.version_info[:2]),
    "stdlib": sorted({paths["stdlib"], paths["platstdlib"]}),
    "site": site.getsitepackages(),
}))
"""
#: Directories of the standard library that need what a cell does not have.
_LEFT_OUT = ("_tkinter", "_curses", "readline", "_dbm", "_gdbm", "_crypt")
#: Parts of Node that Debian's keeps beside it and reads when it starts; others have them built in.
_NODE_PARTS = tuple(
    f"/usr/share/nodejs/{name}" for name in ("acorn", "acorn-walk", "cjs-module-lexer", "undici")
)


@dataclass(frozen=True, slots=True)
class Interpreter:
    """An interpreter by its path inside a cell, with (inside, host) pairs of what is mounted.

    ``environment`` holds what it needs to be told where a cell is unlike a machine.
    """

    executable: str
    mounts: tuple[tuple[str, str], ...]
    environment: tuple[tuple[str, str], ...] = ()


def describe_python(executable: str) -> Interpreter:
    """Ask a Python interpreter where its parts are and find the libraries it loads."""
    return _python(executable, _state(executable))


def describe_node(executable: str) -> Interpreter:
    """Find the libraries and parts that a Node executable loads; it need not be asked for more."""
    return _node(executable, _state(executable))


def java_home(executable: str) -> str | None:
    """Return the Java home that a real path belongs to, or None."""
    home = os.path.dirname(os.path.dirname(executable))
    is_one = os.path.basename(executable) == "java" and os.path.isfile(f"{home}/lib/modules")
    return home if is_one else None


def describe_java(executable: str) -> Interpreter:
    """Find what the ``java`` of a Java home loads: all of that, and what its links lead to."""
    return _java(executable, _state(executable))


def _state(executable: str) -> tuple[int, ...]:
    """What changes when a package of the system is upgraded."""
    what = os.stat(executable)
    return what.st_dev, what.st_ino, what.st_size, what.st_mtime_ns


@functools.lru_cache(maxsize=8)
def _node(executable: str, state: tuple[int, ...]) -> Interpreter:
    root = _root(executable)
    parts = [(path, path) for path in _NODE_PARTS if os.path.isdir(path)]
    # It ends where there is a configuration of OpenSSL that it may not read (level landlock).
    environment = (("OPENSSL_CONF", "/dev/null"),)
    return Interpreter(executable, (*_loaded(root), *elf.closure([root]), *parts), environment)


@functools.lru_cache(maxsize=8)
def _java(executable: str, state: tuple[int, ...]) -> Interpreter:
    home = os.path.dirname(os.path.dirname(executable))
    libraries = [*_libraries_below(f"{home}/lib"), *_libraries_below(f"{home}/lib/server")]
    roots = [_root(executable), *map(_root, libraries)]
    # What lies below the home is seen there; some libraries want what only a desktop has.
    wanted = [
        pair
        for pair in elf.closure(roots, optional=libraries)
        if not pair[1].startswith(home + "/")
    ]
    mounts = (*_loaded(roots[0])[1:], (home, home), *_linked(home).items(), *wanted)
    # Of the program itself the loader knows $ORIGIN by /proc only, which level chroot has not.
    return Interpreter(executable, mounts, (("LD_LIBRARY_PATH", f"{home}/lib"),))


def _libraries_below(directory: str) -> list[str]:
    names = sorted(os.listdir(directory)) if os.path.isdir(directory) else []
    paths = [os.path.join(directory, name) for name in names if name.endswith(".so")]
    return [path for path in paths if os.path.isfile(path)]


def _linked(home: str) -> dict[str, str]:
    """Distributions keep its configuration elsewhere, file by file, and link it into the home."""
    found: dict[str, str] = {}
    for top in ("conf", "lib"):
        for directory, _, names in os.walk(os.path.join(home, top)):
            for path in (os.path.join(directory, name) for name in names):
                if os.path.islink(path) and os.path.isfile(path):
                    there = os.path.normpath(os.path.join(directory, os.readlink(path)))
                    found[there] = os.path.realpath(path)
    return {inside: path for inside, path in found.items() if not inside.startswith(home + "/")}


@functools.lru_cache(maxsize=8)
def _python(executable: str, state: tuple[int, ...]) -> Interpreter:
    about = installed.ask(executable, ("-I", "-S", "-B", "-c", _QUESTION), "Python")
    stdlib = [str(path) for path in about["stdlib"] if os.path.isdir(path)]
    extensions = [path for directory in stdlib for path in _extensions(directory)]
    roots = [_root(executable), *map(_root, extensions)]
    mounts = [*_loaded(roots[0]), *((path, path) for path in stdlib)]
    mounts += elf.closure(roots, optional=extensions)
    mounts += [(path, sdk_directory()) for path in _site_directories(about["site"], stdlib)]
    return Interpreter(executable, tuple(mounts))


def sdk_directory() -> str:
    """Return the directory that stands in a cell's place for third-party packages."""
    return os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "sdk")


def _site_directories(sites: list[str], stdlib: list[str]) -> list[str]:
    """Those that a mounted library directory would show, and the first one for the SDK itself."""
    shown = [
        site
        for site in sites
        if any(site.startswith(path + "/") for path in stdlib) and os.path.isdir(site)
    ]
    outside = [site for site in sites if not any(site.startswith(path + "/") for path in stdlib)]
    return shown or outside[:1]


def _root(path: str) -> elf.Root:
    with open(path, "rb") as stream:
        return elf.Root(path, path, elf.needs(stream, path))


def _loaded(root: elf.Root) -> list[tuple[str, str]]:
    """Return the executable and its loader."""
    loader = root.needs.interpreter
    return [(path, path) for path in (root.path, loader) if path is not None]


def _extensions(directory: str) -> list[str]:
    try:
        names = os.listdir(os.path.join(directory, "lib-dynload"))
    except FileNotFoundError:
        return []
    return [
        os.path.join(directory, "lib-dynload", name)
        for name in sorted(names)
        if name.endswith(".so") and not name.startswith(_LEFT_OUT)
    ]
