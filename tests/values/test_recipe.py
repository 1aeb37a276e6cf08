"""A recipe holds its program open for as long as anybody can get at it."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable

import pytest

from oxgen import Limits
from oxgen._launch import cells
from oxgen._launch.program import Needed, Program


class Witness:
    """Says what it sees when it goes, as the descriptor beside it does."""

    def __init__(self, look: Callable[[], object], seen: list[object]) -> None:
        self._look = look
        self._seen = seen

    def __del__(self) -> None:
        self._seen.append(self._look())


def test_a_recipe_is_out_of_reach_before_its_program_is_closed() -> None:
    """Closing lets other threads run: one that took it then would mount another file, or none."""
    descriptor = os.open("/dev/null", os.O_RDONLY)
    program = Program("x", "/x", descriptor, None, ("x",), Needed())
    recipe = cells.Recipe(cells.Tenancy.of(program, Limits(), "static", ""), program)
    os.close(descriptor)
    known: weakref.WeakValueDictionary[int, cells.Recipe] = weakref.WeakValueDictionary()
    known[0] = recipe
    held = recipe.descriptor
    assert os.fstat(held).st_rdev == os.makedev(1, 3)
    seen: list[object] = []
    vars(recipe)["witness"] = Witness(lambda: known.get(0), seen)
    del recipe
    assert seen == [None]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(held)
