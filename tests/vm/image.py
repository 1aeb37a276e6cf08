"""Image: the first root of a virtual machine: this Python, oxgen, its tests and a few programs.

Everything lies at the path it has here, except the tree (``TREE``) and installed distributions
(``SITE``), which may lie anywhere here, below /tmp too. The machine's own disk is not shared:
whatever is done in the virtual machine is done to this copy, in its memory.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import stat
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

import newc

__all__ = ["SITE", "TREE", "Image", "build"]

#: Where the tree is in the machine, and what of the environment belongs to it.
TREE = "/oxgen"
SITE = "/oxgen-site"
#: Parts of the tree that the tests read.
PARTS = ("oxgen", "oxgenctl.py", "plugins", "pyproject.toml", "tests")
#: Distributions with what they require; oxgen itself comes from the tree.
DISTRIBUTIONS = ("oxgen", "pytest", "pytest-timeout", "hypothesis")
#: What the tests, their controls and pid 1 start.
PROGRAMS = (
    *("sh", "cat", "chmod", "chown", "chroot", "echo", "env", "false", "id", "ln", "ls", "mkdir"),
    *("mount", "mv", "prlimit", "readlink", "rm", "setpriv", "sleep", "stat", "true", "umount"),
    *("unshare", "perl", "busybox"),
)
#: Where a loader finds libraries, and the one locale that everybody has.
SYSTEM_FILES = (
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/usr/lib/locale/C.utf8",
)
_NOT_OF_STDLIB = re.compile(
    r"(site-packages|dist-packages|test|tests|idlelib|tkinter|turtledemo|ensurepip|lib2to3"
    r"|config-.*|_tkinter.*|.*\.a)\Z"
)


class Image:
    """Names in the machine, and what of this machine is there."""

    def __init__(self) -> None:
        #: name without the leading slash -> path here, or the bytes of a file
        self.entries: dict[str, Path | bytes] = {}
        #: Names whose mode is not that of the file here.
        self.modes: dict[str, int] = {}
        self._programs: set[Path] = set()

    def add(self, path: Path, name: str | None = None) -> None:
        """Add a file or link, with what the link points to. ELF files get their libraries later."""
        place = path.parent.resolve() / path.name
        inside = str(place) if name is None else name
        self._add_links_above(path)
        if inside.lstrip("/") in self.entries:
            return
        self.entries[inside.lstrip("/")] = place
        if place.is_symlink() and name is None:
            self.add(place.parent / os.readlink(place))
        elif place.is_file() and _is_elf(place):
            self._programs.add(place)

    def add_tree(self, path: Path, name: str | None = None, *, without: re.Pattern[str]) -> None:
        """Add a directory, without the names that match."""
        if not path.is_dir() or path.is_symlink():
            self.add(path, name)
            return
        for child in sorted(path.iterdir()):
            if without.match(child.name) is None:
                self.add_tree(child, f"{name}/{child.name}" if name else None, without=without)

    def add_libraries(self) -> None:
        """Add the loader and libraries of every ELF file that was added."""
        files = sorted(map(str, self._programs))
        # Its exit status only says that some of them are static.
        told = subprocess.run(
            ["ldd", *files], capture_output=True, text=True, timeout=120, check=False
        ).stdout
        for library in sorted(set(re.findall(r"(?:=> |^\t)(/\S+) \(0x", told, re.MULTILINE))):
            self.add(Path(library))

    def write(self, target: Path) -> int:
        """Write the archive; return its size in bytes."""
        directories = {
            str(parent) for name in self.entries for parent in Path(name).parents if parent.name
        }
        with open(target, "wb") as stream:
            for number, name in enumerate(sorted({*self.entries, *directories}), 1):
                mode, content = _mode_and_content(self.entries.get(name))
                mode = self.modes.get(name, mode)
                stream.write(newc.record(name, mode, content, number, self._mtime(name)))
            stream.write(newc.record("TRAILER!!!", 0, b"", 0))
            return stream.tell()

    def _mtime(self, name: str) -> int:
        # Compiled Python is used only if its source is as old as it was.
        entry = self.entries.get(name)
        return int(entry.lstat().st_mtime) if isinstance(entry, Path) else 0

    def _add_links_above(self, path: Path) -> None:
        # /lib and /bin are links on a merged /usr, and ELF files name what is behind them.
        for parent in path.parents:
            if parent.is_symlink():
                self.entries[str(parent).lstrip("/")] = parent


def _mode_and_content(entry: Path | bytes | None) -> tuple[int, bytes]:
    if entry is None:
        return stat.S_IFDIR | 0o755, b""
    if isinstance(entry, bytes):
        return stat.S_IFREG | 0o755, entry
    mode = entry.lstat().st_mode
    if stat.S_ISLNK(mode):
        return stat.S_IFLNK | 0o777, os.fsencode(os.readlink(entry))
    if stat.S_ISDIR(mode):
        return stat.S_IFDIR | 0o755, b""
    # Nobody here has to be able to read what belonged to one user there.
    return stat.S_IFREG | (0o755 if mode & 0o111 else 0o644), entry.read_bytes()


def _is_elf(path: Path) -> bool:
    with open(path, "rb") as stream:
        return stream.read(4) == b"\x7fELF"


def _distributions(wanted: Iterable[str]) -> Iterator[importlib.metadata.Distribution]:
    queue, seen = list(wanted), set()
    while queue:
        name = re.sub(r"[-_.]+", "-", queue.pop()).lower()
        if name in seen:
            continue
        seen.add(name)
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # required on other Pythons or systems only
        yield found
        for requirement in found.requires or ():
            if "extra ==" not in requirement:
                queue.append(re.split(r"[^\w.-]", requirement, maxsplit=1)[0])


def _add_python(image: Image) -> None:
    executable = Path(os.path.realpath(sys.executable))
    image.add(executable)
    image.entries["python"] = f'#!/bin/sh\nexec {executable} "$@"\n'.encode()
    # Tests start Pythons with a path of their own: it must find what is installed by itself.
    words = [str(executable), "-c", "import site; print(site.getsitepackages()[0])"]
    told = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout
    image.entries[f"{told.strip().lstrip('/')}/installed.pth"] = f"{SITE}\n".encode()
    paths = sysconfig.get_paths()
    for part in {paths["stdlib"], paths["platstdlib"]}:
        image.add_tree(Path(part), without=_NOT_OF_STDLIB)
    for distribution in _distributions(DISTRIBUTIONS):
        if distribution.name == "oxgen":
            continue
        for file in distribution.files or ():
            path = Path(str(distribution.locate_file(file)))
            if ".." not in file.parts and path.exists():
                image.add(path, f"{SITE}/{file}")


def build(tree: Path, programs: Iterable[Path], mappers: Iterable[Path]) -> Image:
    """Return the image of ``tree``; ``programs`` are those that the tests would compile.

    ``mappers`` are newuidmap and newgidmap, which get the set-user-ID bit.
    """
    image = Image()
    _add_python(image)
    for name in PROGRAMS:
        found = shutil.which(name)
        if found is None:
            raise SystemExit(f"tests/vm: the machines need the program {name}: install it here")
        image.add(Path(found))
    without = re.compile(r"__pycache__\Z")
    for part in PARTS:
        image.add_tree(tree / part, f"{TREE}/{part}", without=without)
    for program in programs:
        image.add(program, f"{TREE}/{program.relative_to(tree)}")
    for mapper in mappers:
        name = f"usr/bin/{mapper.name}"
        image.add(mapper, name)
        image.modes[name] = stat.S_IFREG | 0o4755
    image.add_libraries()
    for top in ("/bin", "/sbin", "/lib", "/lib64"):
        if os.path.islink(top):
            image.entries[top.lstrip("/")] = Path(top)
    for path in (*SYSTEM_FILES, *map(str, Path("/usr/lib").glob("*/perl-base"))):
        if os.path.exists(path):
            image.add_tree(Path(path), without=without)
    image.entries["init"] = tree / "tests" / "vm" / "init.sh"
    image.entries["etc/passwd"] = (
        b"root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n"
    )
    image.entries["etc/group"] = b"root:x:0:\nuser:x:1000:\n"
    return image
