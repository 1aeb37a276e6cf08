"""A program that is replaced while its run waits: the run has the file that it was asked to run."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from control import watch

import oxgen

if TYPE_CHECKING:
    from control.confined import Probe

pytestmark = pytest.mark.root


def replace(path: Path) -> None:
    new = path.with_suffix(".new")
    shutil.copy("/bin/true", new)
    new.rename(path)


def replace_a_link(path: Path) -> None:
    """The file keeps a name; the one that was opened is gone all the same."""
    os.link(path, path.with_suffix(".other"))
    replace(path)


@pytest.mark.parametrize("change", [replace, replace_a_link, Path.unlink])
def test_a_run_in_the_queue_has_the_program_of_its_call(
    change: object, probe: Probe, tmp_path: Path, tag: str
) -> None:
    path = tmp_path / "program"
    shutil.copy(probe.path, path)
    ends: list[object] = []

    def later(launcher: oxgen.Launcher) -> None:
        try:
            done = oxgen.run([path, "exit", "3"], launcher=launcher, tenant="other")
            ends.append(done.returncode)
        except oxgen.OxgenError as failure:
            ends.append(failure)

    with oxgen.Launcher(cells=1) as launcher:
        with oxgen.spawn([probe.path, "sleep", "20", tag], launcher=launcher):
            waits = threading.Thread(target=later, args=(launcher,))
            waits.start()
            assert watch.wait_until(lambda: launcher.stats().waiting == 1, 10)
            change(path)  # type: ignore[operator]
        waits.join(20)
        assert ends == [3]
        if path.exists():  # the twin: the next call has what is there now
            assert oxgen.run([path, "exit", "3"], launcher=launcher).returncode == 0


def test_a_program_may_be_replaced_at_any_time(probe: Probe, tmp_path: Path) -> None:
    path = tmp_path / "program"
    shutil.copy("/bin/true", path)
    stop = threading.Event()

    def swap() -> None:
        while not stop.wait(0.005):
            replace(path)

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        with oxgen.Launcher(cells=2) as launcher:
            requests = [oxgen.Request([path], tenant=str(number % 3)) for number in range(60)]
            results = list(oxgen.map(requests, launcher=launcher))
    finally:
        stop.set()
        swapping.join()
    assert [one for one in results if not isinstance(one, oxgen.Completed)] == []
    assert {one.returncode for one in results if isinstance(one, oxgen.Completed)} == {0}
