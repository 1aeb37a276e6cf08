"""A program stays open for as long as anybody can get at it."""

from __future__ import annotations

import os
import shutil
import weakref
from pathlib import Path

import pytest

from oxgen._launch.program import open_program


def test_a_program_is_opened_once_while_somebody_holds_it() -> None:
    program = open_program("/bin/true", "auto")
    assert open_program("/bin/true", "auto") is program


def test_a_program_that_nobody_holds_is_closed_and_out_of_reach(tmp_path: Path) -> None:
    path = shutil.copy("/bin/true", tmp_path / "mine")  # no cell of another test has it open
    program = open_program(str(path), "auto")
    descriptor, known = program.descriptor, weakref.ref(program)
    assert os.path.samefile(f"/proc/self/fd/{descriptor}", path)
    del program
    assert known() is None
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


@pytest.mark.parametrize("change", ["replaced", "rewritten", "mode", "gone"])
def test_a_program_that_has_changed_is_opened_again(
    change: str, tmp_path: os.PathLike[str]
) -> None:
    path = os.path.join(tmp_path, "program")

    def write(name: str) -> None:
        with open("/bin/true", "rb") as source, open(name, "wb") as target:
            target.write(source.read())
        os.chmod(name, 0o755)

    write(path)
    before = open_program(path, "auto")
    assert before.is_current()
    if change == "replaced":
        write(path + ".new")
        os.rename(path + ".new", path)
    elif change == "rewritten":
        write(path)
    elif change == "mode":
        os.chmod(path, 0o711)
    else:
        os.unlink(path)
        assert not before.is_current()
        return
    after = open_program(path, "auto")
    assert after is not before
    assert after.identity != before.identity
