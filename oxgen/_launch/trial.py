"""Trial: whether a level can be had for a kind of cell, found out by making one.

For the advice of an error alone, so that it names no level that is refused as well.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os

from ..errors import OxgenError
from ..sandbox import Enforce, Sandbox
from .cells import Recipe
from .channel import Channel
from .levels import confinement, demand_of

__all__ = ["missing_at"]

#: Levels that are for root, or for everybody else, only.
_OF_ROOT = {"chroot": True, "landlock": False}
#: By level and by all that decides what it holds for a cell: a machine seldom changes meanwhile.
_known: dict[tuple[object, ...], tuple[str, ...] | None] = {}


def missing_at(level: str, uids: tuple[int, int], recipe: Recipe) -> tuple[str, ...] | None:
    """Return what cells like this one would lack at a level; nothing, if the policy waives it all.

    None: it cannot be had.
    """
    if _OF_ROOT.get(level, os.geteuid() == 0) != (os.geteuid() == 0):
        return None
    tenancy = recipe.tenancy
    key = (
        level,
        uids,
        recipe.program.needed.system,
        tenancy.opened is not None,
        tenancy.notes,
        tenancy.memory_bytes is not None,
        tenancy.cpu_is_bound,
        tenancy.processes is not None,
        tenancy.disk_is_bound,
        tenancy.cpus is not None,
    )
    if key not in _known:
        _known[key] = _try(level, uids, recipe)
    missing = _known[key]
    if missing is None or not tenancy.demand.waived.issuperset(missing):
        return missing
    return ()


def _try(level: str, uids: tuple[int, int], recipe: Recipe) -> tuple[str, ...] | None:
    anyhow = demand_of(Sandbox(level=level, enforce=Enforce.BEST_EFFORT))
    like = Recipe(dataclasses.replace(recipe.tenancy, demand=anyhow), recipe.program)
    channel = Channel(level, uids, 1)
    home = os.path.join(os.path.expanduser("~"), "tmp")
    is_new = not os.path.lexists(home)
    try:
        missing = confinement(like.tenancy, channel.start()).missing
        return missing if channel.try_cell(like) else None
    except OxgenError:
        return None
    finally:
        channel.stop()
        if is_new:
            # places.directory_of() makes it, which advice must not.
            with contextlib.suppress(OSError):
                os.rmdir(home)
