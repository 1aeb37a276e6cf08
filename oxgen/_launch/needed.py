"""What a program needs beside itself: read from its ELF headers or its #! line."""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass

from ..errors import LaunchError
from ..sandbox import Runtime
from . import elf, installed, interpreter, shebang

__all__ = ["Needed", "inspect"]

_HEAD_BYTES = 512
_PYTHON = re.compile(r"python[0-9.]*")
_NODE = re.compile(r"node(js)?")
_LANGUAGES = {"python": "Python", "node": "JavaScript"}
#: Where the interpreter of a script of another language stands in a cell. It keeps its name, as
#: some programs are several and go by that (busybox).
_ELSEWHERE = "/usr/bin"
#: The names that glibc has given to C.UTF-8, the locale that every program is told to use.
_LOCALES = ("/usr/lib/locale/C.utf8", "/usr/lib/locale/C.UTF-8")


@dataclass(frozen=True, slots=True)
class Needed:
    """What a program needs beside itself: how it is started, and (inside, host) mounts.

    ``prefix`` comes before the program's path; without ``is_script`` it stands in its place, as
    the program is an interpreter, which finds its parts from where it is installed.
    """

    prefix: tuple[str, ...] = ()
    mounts: tuple[tuple[str, str], ...] = ()
    system: bool = False  # /proc, /dev and /etc
    is_script: bool = False
    environment: tuple[tuple[str, str], ...] = ()


def inspect(descriptor: int, path: str, runtime: Runtime, *, verified: bool) -> Needed:
    """Look at an open program. Raise ``LaunchError`` if it could not start, and say why.

    ``verified``: these very bytes are to run, so they are never taken for an interpreter that is
    installed elsewhere.
    """
    head = os.pread(descriptor, _HEAD_BYTES, 0)
    if head.startswith(b"\x7fELF"):
        return _elf_program(descriptor, path, runtime, verified)
    if runtime in ("auto", "static", "dynamic"):
        _check_format(head, path)
    if runtime in ("static", "dynamic"):
        raise LaunchError(
            "exec",
            errno.ENOEXEC,
            f"is no ELF program, as runtime {runtime!r} wants",
            remedy="use runtime 'auto' for a script with a #! line",
            path=path,
        )
    if head.startswith(b"#!"):
        return _script(shebang.read(head, path), path, runtime)
    if runtime == "python":
        return _python(installed.base_python())
    if runtime == "node":
        return _node(_looked_up("node", path))
    if head.startswith(_ZIP) and path.endswith(".jar"):
        return _run_by(interpreter.describe_java(_java(path)), ("-jar",))
    raise LaunchError(
        "exec",
        errno.ENOEXEC,
        "is neither an ELF program nor a script with a #! line",
        remedy=(
            "begin a script with a line such as #!/bin/sh; or use runtime 'python' for a Python"
            " script without one, runtime 'node' for JavaScript"
        ),
        path=path,
    )


#: Formats that nothing here runs, by their first bytes: what it is, and what to do.
_FORMATS = (
    (b"MZ", "is a Windows program", "build it for Linux"),
    (b"\xcf\xfa\xed\xfe", "is a macOS program", "build it for Linux"),
    (b"\xca\xfe\xba\xbe", "is a Java class or a macOS program", "put a class into a jar"),
    (b"\xff\xfe", "is text in UTF-16", "save it in UTF-8, without a byte order mark"),
    (b"\xfe\xff", "is text in UTF-16", "save it in UTF-8, without a byte order mark"),
    (
        b"\xef\xbb\xbf",
        "begins with a byte order mark, behind which no kernel looks for a #! line",
        "save it in UTF-8 without a byte order mark",
    ),
)
_ZIP = b"PK\3\4"


def _check_format(head: bytes, path: str) -> None:
    """Raise ``LaunchError`` for a file of a known kind that is no program here."""
    is_zip, is_jar = head.startswith(_ZIP), path.endswith(".jar")
    if not head:
        what, remedy = "is empty", "was it written to its end? build or copy it again"
    elif is_jar and not is_zip and not head.startswith(b"#!"):
        what, remedy = "is not a jar: it is no zip file", "is it whole? build or copy it again"
    elif is_zip and not is_jar:
        what, remedy = "is a zip file", "unpack it, or name it .jar if 'java -jar' is to run it"
    else:
        found = next((known for known in _FORMATS if head.startswith(known[0])), None)
        if found is None:
            return
        _, what, remedy = found
    raise LaunchError("exec", errno.ENOEXEC, what, remedy=remedy, path=path)


def _elf_program(descriptor: int, path: str, runtime: Runtime, verified: bool) -> Needed:
    with open(os.dup(descriptor), "rb") as stream:
        headers = elf.program_needs(stream, path)
    if not verified:
        executable = os.path.realpath(path)
        name = os.path.basename(executable)
        if _PYTHON.fullmatch(name) and runtime in ("auto", "python"):
            return _itself(interpreter.describe_python(executable))
        if _NODE.fullmatch(name) and runtime in ("auto", "node"):
            return _itself(interpreter.describe_node(executable))
        if runtime == "auto" and interpreter.java_home(executable):
            return _itself(interpreter.describe_java(executable))
    if runtime in _LANGUAGES:
        raise LaunchError(
            "exec",
            errno.ENOEXEC,
            f"is an ELF program, not a {_LANGUAGES[runtime]} script",
            remedy="use runtime 'auto'",
            path=path,
        )
    if headers.interpreter is None:
        return Needed()
    if runtime == "static":
        raise LaunchError(
            "exec",
            errno.ENOENT,
            f"is linked dynamically: it needs the loader {headers.interpreter}",
            remedy="use runtime 'dynamic', or link it statically",
            path=path,
        )
    inside = f"/bin/{os.path.basename(path)}"
    return Needed(mounts=_libraries(elf.Root(path, inside, headers)), system=True)


def _libraries(root: elf.Root) -> tuple[tuple[str, str], ...]:
    """Return the mounts of a dynamic program: its loader, its libraries and what those read."""
    loader = root.needs.interpreter
    if loader is None:
        return _common()
    if not os.path.isfile(loader):
        raise LaunchError(
            "exec",
            errno.ENOENT,
            f"needs the loader {loader}, which this machine does not have",
            remedy="install the C library that it was built for, or link it statically",
            path=root.path,
        )
    return ((loader, loader), *elf.closure([root]), *_common())


def _script(line: shebang.Shebang, path: str, runtime: Runtime) -> Needed:
    for language, pattern in (("python", _PYTHON), ("node", _NODE)):
        if not pattern.fullmatch(line.name):
            continue
        if runtime not in ("auto", language):
            break
        found = _named(line, path)
        return (
            _python(found, line.arguments) if language == "python" else _node(found, line.arguments)
        )
    if runtime in _LANGUAGES:
        raise LaunchError(
            "exec",
            errno.ENOEXEC,
            f"its interpreter is {line.name}, and runtime {runtime!r} runs {_LANGUAGES[runtime]}",
            remedy="use runtime 'auto', which goes by the #! line",
            path=path,
        )
    name = os.path.basename(path)
    if _PYTHON.fullmatch(name) or _NODE.fullmatch(name):
        raise LaunchError(
            "exec",
            errno.ENOEXEC,
            f"is a script for {line.name} that starts an interpreter, which no cell has",
            remedy="name the interpreter itself, by the path where it is installed",
            path=path,
        )
    return _other(line, path)


def _named(line: shebang.Shebang, path: str) -> str:
    """Return the real path of the interpreter on the host."""
    if line.by_name:
        if line.name in ("python", "python3"):
            return installed.base_python()
        return _looked_up(line.name, path)
    if not os.path.isfile(line.interpreter):
        raise LaunchError(
            "exec",
            errno.ENOENT,
            f"its interpreter {line.interpreter} does not exist",
            remedy=f"install it, or write #!/usr/bin/env {line.name}",
            path=path,
        )
    return os.path.realpath(line.interpreter)


def _looked_up(name: str, path: str) -> str:
    found = installed.look_up(name)
    if found is None:
        raise LaunchError(
            "exec",
            errno.ENOENT,
            f"its interpreter {name} is not in PATH",
            remedy=f"install {name}, or name its path in the #! line",
            path=path,
        )
    return found


def _python(executable: str, arguments: tuple[str, ...] = ()) -> Needed:
    found = interpreter.describe_python(executable)
    return _run_by(found, ("-I", "-B", *arguments))


def _node(executable: str, arguments: tuple[str, ...] = ()) -> Needed:
    return _run_by(interpreter.describe_node(executable), arguments)


def _java(path: str) -> str:
    found = _looked_up("java", path)
    if interpreter.java_home(found) is None:
        raise LaunchError(
            "exec",
            errno.ENOENT,
            f"its interpreter {found} belongs to no Java home: there is no lib/modules beside it",
            remedy="let the first java in PATH be one of Java 9 or later",
            path=path,
        )
    return found


def _run_by(found: interpreter.Interpreter, arguments: tuple[str, ...]) -> Needed:
    return Needed(
        prefix=(found.executable, *arguments),
        mounts=(*found.mounts, *_common()),
        system=True,
        is_script=True,
        environment=found.environment,
    )


def _itself(found: interpreter.Interpreter) -> Needed:
    return Needed(
        prefix=(found.executable,),
        mounts=(*found.mounts, *_common()),
        system=True,
        environment=found.environment,
    )


def _other(line: shebang.Shebang, path: str) -> Needed:
    """A script of another language: its interpreter with what that is linked to, and no more."""
    executable = _named(line, path)
    with open(executable, "rb") as stream:
        if stream.read(4) != b"\x7fELF":
            raise LaunchError(
                "exec",
                errno.ENOEXEC,
                f"its interpreter {line.interpreter} is itself no ELF program",
                remedy="name the program that runs it",
                path=path,
            )
        headers = elf.program_needs(stream, executable)
    inside = f"{_ELSEWHERE}/{line.name}"
    mounts = _libraries(elf.Root(executable, inside, headers))
    return Needed(
        prefix=(inside, *line.arguments),
        mounts=((inside, executable), *mounts),
        system=True,
        is_script=True,
    )


def _common() -> tuple[tuple[str, str], ...]:
    """What the C library reads: where other libraries are, the time zone, the locale of LANG."""
    files = [path for path in (*elf.LOADER_FILES, "/etc/localtime") if os.path.isfile(path)]
    places = [path for path in _LOCALES if os.path.isdir(path)]
    return tuple((path, os.path.realpath(path)) for path in (*files, *places))
