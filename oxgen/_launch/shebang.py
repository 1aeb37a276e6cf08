"""The #! line of a script: which interpreter it names, and with which arguments."""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass

from ..errors import LaunchError

__all__ = ["Shebang", "read"]

#: Of its value a kernel reads so much of a line (BINPRM_BUF_SIZE).
_LINE_MAX = 256
#: What ``env -S`` would interpret and we do not.
_QUOTING = re.compile(r"""["'\\$#]""")


@dataclass(frozen=True, slots=True)
class Shebang:
    """An interpreter: by its path, or by a name that ``env`` would look up."""

    interpreter: str
    arguments: tuple[str, ...]
    by_name: bool

    @property
    def name(self) -> str:
        """The interpreter's file name."""
        return os.path.basename(self.interpreter)


def read(head: bytes, path: str) -> Shebang:
    """Read it as execve(2) does: a path and at most one argument. ``env`` is looked through."""
    line, end, _ = head[2:].partition(b"\n")
    if line.endswith(b"\r"):
        raise LaunchError(
            "exec",
            errno.ENOENT,
            "its #! line ends with a carriage return, which belongs to the interpreter's name",
            remedy="save it with LF line ends",
            path=path,
        )
    if len(line) >= _LINE_MAX or (not end and len(head) > _LINE_MAX):
        raise _refused(f"its #! line is longer than {_LINE_MAX - 3} bytes", path)
    if b"\0" in line:
        raise _refused("its #! line holds a NUL", path)
    interpreter, *rest = os.fsdecode(line.strip(b" \t")).split(maxsplit=1) or [""]
    if not interpreter:
        raise _refused("its #! line names no interpreter", path)
    argument = rest[0] if rest else ""
    if os.path.basename(interpreter) == "env":
        return _looked_through(argument, path)
    if not interpreter.startswith("/"):
        raise _refused(f"its #! line names {interpreter!r}, which is no absolute path", path)
    return Shebang(interpreter, (argument,) if argument else (), by_name=False)


def _looked_through(argument: str, path: str) -> Shebang:
    """``env NAME``, or ``env -S NAME ARGUMENT...`` without anything that has to be unquoted."""
    several = re.match(r"(-S|--split-string[= ])\s*(.*)", argument)
    words = several[2].split() if several else [argument]
    name = words[0] if words else ""
    if not name or name.startswith("-") or "=" in name or (not several and " " in name):
        raise _refused(f"its #! line gives env {argument!r}, and not just a name", path)
    if several and _QUOTING.search(several[2]):
        raise _refused("its #! line has env unquote words, which is not done here", path)
    return Shebang(name, tuple(words[1:]), by_name="/" not in name)


def _refused(fault: str, path: str) -> LaunchError:
    return LaunchError(
        "exec",
        errno.ENOEXEC,
        fault,
        remedy="write #!/PATH/OF/INTERPRETER, or #!/usr/bin/env NAME",
        path=path,
    )
