"""Levels: how cells are kept apart, what a tenancy demands, and what a launcher holds of it."""

from __future__ import annotations

import errno
import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import UnsupportedError
from ..result import Confinement
from ..sandbox import PROPERTIES, Enforce, Sandbox
from .native import lib, stage_name, text_of

if TYPE_CHECKING:
    from .cells import Tenancy

__all__ = [
    "AUTOMATIC",
    "WEAKER",
    "Demand",
    "confinement",
    "demand_of",
    "level_number",
    "or_else",
    "waiver",
]

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
        if text_of(lib.ox_level_name(number)) == name:
            return number
    raise UnsupportedError(
        (), f"level {name!r} is not in this build", "name another level, or none"
    )


def confinement(
    tenancy: Tenancy, native: Any, better: UnsupportedError | None = None
) -> Confinement:
    """What a cell of this tenancy will enforce; ``native`` is the ``struct ox_launcher``.

    A limit of None was not asked for, so it is neither enforced nor missing; nor is the host's
    network, which is one of the exceptions that the policy makes. Raises ``UnsupportedError`` where
    something is missing that the tenancy requires. ``better`` says why it is not a better level.
    """
    _check_policy(tenancy, native, better)
    opened = tenancy.opened
    asked = {
        "network": opened is None or not opened.host_network,
        "memory_tree": tenancy.memory_bytes is not None,
        "cpu_tree": tenancy.cpu_is_bound or tenancy.cpus is not None,
        "processes": tenancy.processes is not None,
        "disk": tenancy.disk_is_bound,
    }
    wanted = [name for name in PROPERTIES if asked.get(name, True)]
    held = {name for bit, name in enumerate(PROPERTIES) if native.holds & 1 << bit}
    if tenancy.cpus is not None and not native.holds & lib.OX_CPU_RATE:
        held.discard("cpu_tree")
    missing = tuple(name for name in wanted if name not in held)
    demand = tenancy.demand
    refused = tuple(name for name in missing if name not in demand.waived)
    if refused and demand.enforce is Enforce.REQUIRE:
        why = _why(refused, native, better)
        why.remedy = or_else(why.remedy, f"do without: {waiver(refused)}")
        raise why
    why = _why(missing, native, better)
    return Confinement(
        level=_level_of(native),
        limits="cgroup" if native.memory_version else "rlimit",
        enforced=tuple(name for name in wanted if name in held),
        missing=missing,
        exceptions=() if opened is None else opened.exceptions,
        weaker=tuple(name for bit, name in enumerate(WEAKER) if native.weaker & 1 << bit),
        cause=why.cause,
        remedy=why.remedy,
    )


def waiver(names: Iterable[str]) -> str:
    """The argument of ``Sandbox`` that does without these properties, as it is typed."""
    quoted = [f'"{name}"' for name in names]
    return f"enforce_except=({', '.join(quoted)}{',' if len(quoted) == 1 else ''})"


def or_else(remedy: str, other: str) -> str:
    """Two remedies, of which either helps."""
    return f"{remedy}; or {other}" if remedy else other


def _level_of(native: Any) -> str:
    return text_of(lib.ox_level_name(native.level))


def _check_policy(tenancy: Tenancy, native: Any, better: UnsupportedError | None) -> None:
    """Refuse what a policy asks for and cells of this launcher cannot do, property or not."""
    opened, level = tenancy.opened, _level_of(native)
    if tenancy.notes and level != AUTOMATIC[0]:
        raise _not_below(
            f"level {level!r} has a filter of its own below the one that can be watched, so not"
            " every refusal would be seen",
            "run it without explain and learn",
            better,
        )
    if opened is not None and level != AUTOMATIC[0]:
        raise _not_below(
            f"level {level!r} has no mounts and no network of its own, so it cannot open"
            f" {', '.join(opened.exceptions)} and nothing else",
            "take a policy without mounts, network and exec_tmp",
            better,
        )
    if opened is not None and opened.host_network and native.weaker & lib.OX_WEAKER_DEVICES:
        raise UnsupportedError(
            (),
            "the launcher of an ordinary user is in a network namespace of its own, which it cannot"
            " leave for the host's",
            "run as root, or without network 'host'",
        )


def _not_below(cause: str, remedy: str, better: UnsupportedError | None) -> UnsupportedError:
    """Only the best level does it; ``better`` says why that one cannot be had, if it was tried."""
    if better is None:
        return UnsupportedError((), cause, remedy)
    cause = f"{cause}, and level {AUTOMATIC[0]!r} cannot be had here: {better.cause}"
    return UnsupportedError((), cause, or_else(better.remedy, remedy))


#: What a level without namespaces does not hold whatever the machine, or with this kernel's
#: Landlock: properties, cause, remedy.
_NEVER = (
    (
        ("disk",),
        "without mounts of its own a cell's files share the disk of the machine",
        "",
    ),
    (
        ("whole_tree_kill", "neighbours"),
        "this kernel's Landlock does not keep signals between processes of one user",
        "use Linux 6.12 or later",
    ),
)


def _why(
    missing: tuple[str, ...], native: Any, better: UnsupportedError | None
) -> UnsupportedError:
    """Say of every property why it is missing; those of one cause are named together."""
    if not missing:
        return UnsupportedError((), "")
    lacking = native.lacking
    reasons = []
    rest = missing
    for names, cause, remedy in _NEVER:
        those = tuple(name for name in rest if name in names)
        if those:
            reasons.append((those, cause, remedy))
            rest = tuple(name for name in rest if name not in names)
    if "cpu_tree" in rest and native.holds & lib.OX_CPU_TREE:
        # CPU time is counted here, and its rate cannot be bounded.
        rest = tuple(name for name in rest if name != "cpu_tree")
        rate = native.lacking_rate
        reasons.append((("cpu_tree",), text_of(rate.cause), text_of(rate.remedy)))
        lacking = lacking if rest else rate
    else:
        rate = None
    if rest:
        reasons.insert(0, (rest, text_of(lacking.cause), text_of(lacking.remedy)))
    single = len(reasons) == 1
    causes = [cause if single else f"{', '.join(names)}: {cause}" for names, cause, _ in reasons]
    remedies = [
        remedy if single else f"for {', '.join(names)}: {remedy}"
        for names, _, remedy in reasons
        if remedy
    ]
    if better is not None:
        causes.append(f"level {AUTOMATIC[0]!r} cannot be had here: {better.cause}")
        if better.remedy:
            remedies.append(f"for level {AUTOMATIC[0]!r}: {better.remedy}")
    number, stage = lacking.error.errnum, stage_name(lacking.error.stage)
    if not rest and rate is None:
        number, stage = (better.errno or 0, better.stage) if better else (errno.ENOTSUP, "writable")
    return UnsupportedError(
        missing, "; ".join(causes), "; ".join(remedies), errno=number, stage=stage
    )
