"""A recipe holds its program open for as long as anybody can get at it."""

from __future__ import annotations

import os
import weakref

import pytest

from oxgen import Limits
from oxgen._launch import cells
from oxgen._launch.program import Needed, Program


def test_a_recipe_is_out_of_reach_before_its_program_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Closing lets other threads run: one that took it then would mount another file, or none."""
    descriptor = os.open("/dev/null", os.O_RDONLY)
    program = Program("x", "/x", descriptor, None, ("x",), Needed())
    recipe = cells.Recipe(cells.Tenancy.of(program, Limits(), "static", ""), program)
    os.close(descriptor)
    known: weakref.WeakValueDictionary[int, cells.Recipe] = weakref.WeakValueDictionary()
    known[0] = recipe
    held = recipe.descriptor
    seen: list[object] = []
    close = os.close

    def spy(number: int) -> None:
        seen.append((number, known.get(0)))
        close(number)

    monkeypatch.setattr(os, "close", spy)
    del recipe
    monkeypatch.undo()
    assert seen == [(held, None)]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(held)
