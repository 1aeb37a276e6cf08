"""Sandbox: what a run sees of the world."""

from __future__ import annotations

import os
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

from .errors import UnsupportedError, UsageError

if TYPE_CHECKING:
    from .syscalls import Policy

__all__ = ["RESERVED_ENVIRONMENT", "Runtime", "Sandbox", "is_encodable"]

Runtime = Literal["auto", "static", "dynamic", "python"]
_LEVELS_OF_DESIGN = ("namespaces", "chroot", "landlock", "seatbelt", "job")
_SYSCALLS = "'default', 'strict', a Policy or the path of an OCI profile"
#: Set for every run; a policy cannot replace them.
RESERVED_ENVIRONMENT = frozenset(
    {"OXGEN_BROKER", "OXGEN_CAPABILITY_TOKEN", "OXGEN_WORKSPACE", "HOME", "TMPDIR", "TMP", "TEMP"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """What a run sees: a frozen value that holds no descriptor and starts nothing.

    ``runtime`` is what the program needs beside itself: nothing (``static``), its loader and
    libraries (``dynamic``), an interpreter (``python``); ``auto`` looks at the file. ``env`` is
    added to the documented environment. ``cwd`` is a path inside the cell. ``level`` None accepts
    the strongest level only.

    ``syscalls`` is ``default``, ``strict``, a ``Policy``, or the path of an OCI profile, which
    is read here and becomes a ``Policy``. All of them but ``default`` narrow ``default`` further;
    none widens it. A path is told from a word by a slash or the ending ``.json``.
    """

    runtime: Runtime = "auto"
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = "/workspace"
    level: str | None = None
    syscalls: str | os.PathLike[str] | Policy = "default"

    def __post_init__(self) -> None:
        if self.runtime not in get_args(Runtime):
            raise UsageError(
                f"runtime must be one of {', '.join(get_args(Runtime))}, got {self.runtime!r}"
            )
        if self.level is not None and self.level not in _LEVELS_OF_DESIGN:
            raise UsageError(f"level must be 'namespaces' or None, got {self.level!r}")
        if self.level not in (None, "namespaces"):
            raise UnsupportedError(
                (),
                f"level {self.level!r} is not in this build",
                "use level 'namespaces', or name none",
            )
        _check_path(self.cwd)
        if self.syscalls != "default":
            object.__setattr__(self, "syscalls", _policy_of(self.syscalls))
        checked = {_check_name(name): _check_value(name, text) for name, text in self.env.items()}
        object.__setattr__(self, "env", types.MappingProxyType(checked))

    def __reduce__(self) -> tuple[object, ...]:
        # A read-only mapping cannot be pickled, a value handed to another process must be.
        return _restore, (self.runtime, dict(self.env), self.cwd, self.level, self.syscalls)

    def __hash__(self) -> int:
        env = tuple(sorted(self.env.items()))
        return hash((self.runtime, env, self.cwd, self.level, self.syscalls))


def _restore(
    runtime: Runtime, env: dict[str, str], cwd: str, level: str | None, syscalls: str | Policy
) -> Sandbox:
    return Sandbox(runtime=runtime, env=env, cwd=cwd, level=level, syscalls=syscalls)


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
