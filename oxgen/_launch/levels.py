"""Levels: how cells are kept apart, what a tenancy demands, and what a launcher holds of it."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import UnsupportedError
from ..result import Confinement
from ..sandbox import PROPERTIES, Enforce, Sandbox
from .native import ffi, lib, stage_name

if TYPE_CHECKING:
    from .cells import Tenancy

__all__ = ["AUTOMATIC", "WEAKER", "Demand", "confinement", "demand_of", "level_number", "text_of"]

#: What a policy that names no level accepts, best first.
AUTOMATIC = ("namespaces", "chroot")

#: Names of ``enum ox_weakness``, lowest bit first.
WEAKER = ("groups", "uid", "devices", "second_wall")


@dataclass(frozen=True, slots=True, eq=False)
class Demand:
    """What the policy of a tenancy demands of its cells. Equal ones are one object."""

    level: str | None
    enforce: Enforce
    waived: frozenset[str]


@functools.cache
def _demand(level: str | None, enforce: Enforce, waived: frozenset[str]) -> Demand:
    # There are a few levels and properties, and policies are written by people: it stays small.
    return Demand(level, enforce, waived)


def demand_of(box: Sandbox) -> Demand:
    """Return what a sandbox demands."""
    return _demand(box.level, box.enforce, frozenset(box.enforce_except))


def level_number(name: str) -> int:
    """Return the ``enum ox_level`` of a name."""
    for number in range(lib.OX_LEVEL_COUNT):
        if ffi.string(lib.ox_level_name(number)).decode() == name:
            return number
    raise UnsupportedError(
        (), f"level {name!r} is not in this build", "use level 'namespaces', or name none"
    )


def text_of(field: Any) -> str:
    """Return a text that C has written into an array."""
    return bytes(ffi.string(field)).decode("utf-8", "replace")


def confinement(
    tenancy: Tenancy, native: Any, better: UnsupportedError | None = None
) -> Confinement:
    """What a cell of this tenancy will enforce; ``native`` is the ``struct ox_launcher``.

    A limit of None was not asked for, so it is neither enforced nor missing; nor is the host's
    network, which is one of the exceptions that the policy makes. Raises ``UnsupportedError`` where
    something is missing that the tenancy requires. ``better`` says why it is not a better level,
    and so why the rest is missing.
    """
    opened = tenancy.opened
    if tenancy.notes and native.level != lib.OX_LEVEL_NAMESPACES:
        raise UnsupportedError(
            (),
            f"level {text_of(lib.ox_level_name(native.level))!r} has a filter of its own below the"
            " one that can be watched, so not every refusal would be seen",
            "explain and learn at level 'namespaces'",
        )
    if opened is not None and native.level != lib.OX_LEVEL_NAMESPACES:
        raise UnsupportedError(
            (),
            f"level {text_of(lib.ox_level_name(native.level))!r} has no mounts and no network of"
            f" its own, so it cannot open {', '.join(opened.exceptions)} and nothing else",
            "use level 'namespaces', or a policy without mounts, network and exec_tmp",
        )
    if opened is not None and opened.host_network and native.weaker & lib.OX_WEAKER_DEVICES:
        raise UnsupportedError(
            (),
            "the launcher of an ordinary user is in a network namespace of its own, which it cannot"
            " leave for the host's",
            "run as root, or without network 'host'",
        )
    asked = {
        "network": opened is None or not opened.host_network,
        "memory_tree": tenancy.memory_bytes is not None,
        "cpu_tree": tenancy.cpu_is_bound,
        "processes": tenancy.processes is not None,
        "disk": tenancy.disk_bytes is not None,
    }
    wanted = [name for name in PROPERTIES if asked.get(name, True)]
    held = {name for bit, name in enumerate(PROPERTIES) if native.holds & 1 << bit}
    missing = tuple(name for name in wanted if name not in held)
    why = better or _lacking(native)
    demand = tenancy.demand
    refused = tuple(name for name in missing if name not in demand.waived)
    if refused and demand.enforce is Enforce.REQUIRE:
        waiving = " ".join(f"--enforce-except {name}" for name in refused)
        raise UnsupportedError(
            refused,
            why.cause,
            f"{why.remedy}; or do without: {waiving}",
            errno=why.errno or 0,
            stage=why.stage,
        )
    return Confinement(
        level=text_of(lib.ox_level_name(native.level)),
        limits="cgroup" if native.memory_version else "rlimit",
        enforced=tuple(name for name in wanted if name in held),
        missing=missing,
        exceptions=() if opened is None else opened.exceptions,
        weaker=tuple(name for bit, name in enumerate(WEAKER) if native.weaker & 1 << bit),
        cause=why.cause if missing else "",
        remedy=why.remedy if missing else "",
    )


def _lacking(native: Any) -> UnsupportedError:
    lacking = native.lacking
    return UnsupportedError(
        (),
        text_of(lacking.cause),
        text_of(lacking.remedy),
        errno=lacking.error.errnum,
        stage=stage_name(lacking.error.stage),
    )
