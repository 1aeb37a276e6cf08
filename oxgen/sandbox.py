"""Sandbox: what a run sees of the world."""

from __future__ import annotations

import contextlib
import enum
import os
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, get_args

from .errors import UnsupportedError, UsageError

if TYPE_CHECKING:
    from .syscalls import Policy

__all__ = [
    "LEVELS",
    "PROPERTIES",
    "RESERVED_ENVIRONMENT",
    "Enforce",
    "Mount",
    "Network",
    "Runtime",
    "Sandbox",
    "is_encodable",
]

Runtime = Literal["auto", "static", "dynamic", "python", "node"]
Network = Literal["none", "host"]
#: How cells can be kept apart on Linux, best first.
LEVELS = ("namespaces", "chroot", "landlock")
#: Those of other systems.
_LEVELS_ELSEWHERE = ("seatbelt", "job")

#: The properties of a sandbox, in the order in which they are listed.
PROPERTIES = (
    "filesystem",
    "network",
    "memory_tree",
    "cpu_tree",
    "processes",
    "disk",
    "whole_tree_kill",
    "syscalls",
    "neighbours",
)
_SYSCALLS = "'default', 'strict', a Policy or the path of an OCI profile"
#: What a mount may neither cover, nor lie in, nor contain.
_OURS = ("/bin", "/dev", "/etc", "/home/plugin", "/proc", "/tmp", "/workspace")
_MOUNTS_MAX = 64
#: Set for every run; a policy cannot replace them.
RESERVED_ENVIRONMENT = frozenset(
    {"OXGEN_BROKER", "OXGEN_CAPABILITY_TOKEN", "OXGEN_WORKSPACE", "HOME", "TMPDIR", "TMP", "TEMP"}
)


@dataclass(frozen=True, slots=True)
class Mount:
    """A file or directory of the host, shown inside at ``destination`` (None: where it is outside).

    It is read-only, without set-id bits and device nodes, and nothing in it can be executed unless
    ``executable``. What is mounted below it outside is not shown, so such a directory is refused
    when it is used. Sockets and named pipes in it can be used as they can outside: do not mount
    where a service listens. Writable mounts are not in this build.
    """

    source: str | os.PathLike[str]
    destination: str | None = None
    writable: bool = False
    executable: bool = False

    def __post_init__(self) -> None:
        source: object = self.source
        if isinstance(source, os.PathLike):
            with contextlib.suppress(TypeError):  # its path is none: what it is is refused below
                source = os.fspath(source)
        if (
            not isinstance(source, str)
            or not source.startswith("/")
            or "\0" in source
            or not is_encodable(source)
        ):
            raise UsageError(f"mounts: a source is an absolute path of the host, got {source!r}")
        object.__setattr__(self, "source", str.__str__(source))
        inside = os.path.normpath(source) if self.destination is None else self.destination
        object.__setattr__(self, "destination", _check_destination(inside))
        if self.writable is not False:
            raise UsageError(
                f"mounts: writable must be False, as this build has read-only mounts alone, got"
                f" {self.writable!r}; files= puts copies in, collect= reads them back"
            )
        if not isinstance(self.executable, bool):
            raise UsageError(f"mounts: executable must be True or False, got {self.executable!r}")

    @property
    def inside(self) -> str:
        """``destination``, absolute and normalised."""
        return self.destination or ""


class Enforce(enum.Enum):
    """What happens where the machine cannot hold a property that a run asks for."""

    #: The run does not start: ``UnsupportedError`` names the property, the cause and a remedy.
    REQUIRE = "require"
    #: It starts, and its confinement lists what is missing.
    BEST_EFFORT = "best-effort"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """What a run sees: a frozen value that holds no descriptor and starts nothing.

    ``runtime`` is what the program needs beside itself: nothing (``static``), its loader and
    libraries (``dynamic``), an interpreter (``python``, ``node``); ``auto`` looks at the file.
    ``env`` is added to the documented environment. ``cwd`` is a path inside the cell. ``level``
    None takes ``namespaces``, else ``chroot``; ``landlock`` has to be named. ``enforce_except``
    names properties that a run may start without although ``enforce`` requires all it asks for.

    Three fields take something away, and each run's record says so (``Confinement.exceptions``):
    ``mounts`` shows files of the host; ``network`` "host" leaves the run in the network of whoever
    launches it; ``exec_tmp`` lets it execute files that it has written. Level ``namespaces`` alone
    has them.

    ``syscalls`` is ``default``, ``strict``, a ``Policy``, or the path of an OCI profile, which
    is read here and becomes a ``Policy``. All of them but ``default`` narrow ``default`` further;
    none widens it. A path is told from a word by a slash or the ending ``.json``.
    """

    runtime: Runtime = "auto"
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = "/workspace"
    level: str | None = None
    enforce: Enforce = Enforce.REQUIRE
    enforce_except: tuple[str, ...] = ()
    mounts: tuple[Mount, ...] = ()
    network: Network = "none"
    exec_tmp: bool = False
    syscalls: str | os.PathLike[str] | Policy = "default"
    #: Whether it opens anything to the run that is closed otherwise.
    opens: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.runtime not in get_args(Runtime):
            raise UsageError(
                f"runtime must be one of {', '.join(get_args(Runtime))}, got {self.runtime!r}"
            )
        _check_level(self.level)
        if not isinstance(self.enforce, Enforce):
            raise UsageError(
                f"enforce must be Enforce.REQUIRE or Enforce.BEST_EFFORT, got {self.enforce!r}"
            )
        object.__setattr__(self, "enforce_except", _checked_properties(self.enforce_except))
        _check_path(self.cwd)
        if not isinstance(self.env, Mapping):
            raise UsageError(f"env must map names to values, got {self.env!r}")
        if self.syscalls != "default":
            object.__setattr__(self, "syscalls", _policy_of(self.syscalls))
        checked = {_check_name(name): _check_value(name, text) for name, text in self.env.items()}
        object.__setattr__(self, "mounts", _check_mounts(self.mounts))
        if self.network not in get_args(Network):
            raise UsageError(f"network must be 'none' or 'host', got {self.network!r}")
        if not isinstance(self.exec_tmp, bool):
            raise UsageError(f"exec_tmp must be True or False, got {self.exec_tmp!r}")
        opens = bool(self.mounts) or self.exec_tmp or self.network != "none"
        object.__setattr__(self, "opens", opens)
        object.__setattr__(self, "env", types.MappingProxyType(checked))

    def __reduce__(self) -> tuple[object, ...]:
        # A read-only mapping cannot be pickled, a value handed to another process must be.
        values = {one.name: getattr(self, one.name) for one in fields(self) if one.init}
        return _restore, ({**values, "env": dict(self.env)},)

    def __hash__(self) -> int:
        values = [getattr(self, one.name) for one in fields(self) if one.name != "env"]
        return hash((tuple(sorted(self.env.items())), *values))


def _restore(values: dict[str, Any]) -> Sandbox:
    return Sandbox(**values)


def _policy_of(syscalls: object) -> str | Policy:
    """Return ``strict``, or the policy that was given or that a file holds."""
    if isinstance(syscalls, str) and syscalls == "strict":
        return "strict"
    from .syscalls import Policy, load_profile

    if isinstance(syscalls, Policy):
        return syscalls
    path = os.fspath(syscalls) if isinstance(syscalls, os.PathLike) else syscalls
    if not isinstance(path, str) or "\0" in path or not is_encodable(path):
        raise UsageError(f"syscalls must be {_SYSCALLS}, got {syscalls!r}")
    if isinstance(syscalls, str) and "/" not in path and not path.endswith(".json"):
        raise UsageError(f"syscalls must be {_SYSCALLS}, got {syscalls!r}")
    return load_profile(path).policy


def is_encodable(text: str) -> bool:
    """Whether the text can be passed to a program: a lone surrogate other than of a byte cannot."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True


def _check_level(level: object) -> None:
    if level is None or level in LEVELS:
        return
    if level in _LEVELS_ELSEWHERE:
        raise UnsupportedError(
            (),
            f"level {level!r} is of another operating system",
            f"use one of {', '.join(LEVELS)}, or name none",
        )
    raise UsageError(f"level must be one of {', '.join(LEVELS)} or None, got {level!r}")


def _checked_properties(names: object) -> tuple[str, ...]:
    if isinstance(names, str) or not isinstance(names, (tuple, list, set, frozenset)):
        raise UsageError(f"enforce_except must be a tuple of names of properties, got {names!r}")
    for name in names:
        if name not in PROPERTIES:
            raise UsageError(
                f"enforce_except must name properties ({', '.join(PROPERTIES)}), got {name!r}"
            )
    return tuple(name for name in PROPERTIES if name in names)


def _check_path(cwd: object) -> None:
    if (
        not isinstance(cwd, str)
        or not cwd.startswith("/")
        or "\0" in cwd
        or len(cwd) > 1024
        or not is_encodable(cwd)
    ):
        raise UsageError(
            f"cwd must be an absolute path inside the cell, at most 1024 characters, got {cwd!r}"
        )


def _check_name(name: object) -> str:
    if (
        not isinstance(name, str)
        or not name
        or "=" in name
        or "\0" in name
        or not is_encodable(name)
    ):
        raise UsageError(f"env: a name must be non-empty, without '=' and NUL, got {name!r}")
    if name in RESERVED_ENVIRONMENT:
        raise UsageError(f"env: {name} is set by oxgen for every run and cannot be replaced")
    return name


def _check_value(name: object, text: object) -> str:
    if not isinstance(text, str) or "\0" in text or not is_encodable(text):
        raise UsageError(f"env: the value of {name} must be text without NUL, got {text!r}")
    return text


def _check_mounts(mounts: object) -> tuple[Mount, ...]:
    if isinstance(mounts, Mount) or not isinstance(mounts, Iterable):
        raise UsageError(f"mounts must be a sequence of oxgen.Mount, got {mounts!r}")
    checked = tuple(mounts)
    places: set[str] = set()
    for mount in checked:
        if not isinstance(mount, Mount):
            raise UsageError(f"mounts must be a sequence of oxgen.Mount, got {mount!r} in it")
        if mount.inside in places:
            raise UsageError(f"mounts: two of them have the destination {mount.inside!r}")
        places.add(mount.inside)
    if len(checked) > _MOUNTS_MAX:
        raise UsageError(f"mounts: at most {_MOUNTS_MAX} are accepted, got {len(checked)}")
    return checked


def _check_destination(destination: object) -> str:
    if (
        not isinstance(destination, str)
        or not destination.startswith("/")
        or "\0" in destination
        or not is_encodable(destination)
        or len(os.fsencode(destination)) > 1000
        or ".." in destination.split("/")
        or any(len(os.fsencode(part)) > 255 for part in destination.split("/"))
    ):
        raise UsageError(
            "mounts: a destination is an absolute path inside the cell without '..', at most 1000"
            f" bytes, got {destination!r}"
        )
    inside = "/" + os.path.normpath(destination).lstrip("/")
    for ours in _OURS:
        if _is_at_or_below(inside, ours) or _is_at_or_below(ours, inside):
            raise UsageError(
                f"mounts: {inside!r} is refused, as {ours} is the cell's own; accepted: a place"
                f" outside of {', '.join(_OURS)}, and none above them"
            )
    return inside


def _is_at_or_below(path: str, above: str) -> bool:
    return path == above or path.startswith(above.rstrip("/") + "/")
