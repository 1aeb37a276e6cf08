"""Where a run began is told, so that its caller sleeps exactly where it would be in the way."""

from __future__ import annotations

import os
from collections.abc import Iterator

import psutil
import pytest

import oxgen

pytestmark = pytest.mark.root


@pytest.fixture
def processors() -> Iterator[list[int]]:
    """The processors that this thread may use; it is given back all of them."""
    mine = os.sched_getaffinity(0)
    try:
        yield sorted(mine)
    finally:
        os.sched_setaffinity(0, mine)


def test_a_run_that_began_on_another_processor_is_told_from_one_that_did_not(
    processors: list[int],
) -> None:
    first, last = processors[0], processors[-1]
    with oxgen.Launcher(cells=1) as launcher:
        oxgen.run(["/bin/true"], launcher=launcher, capture_output=True)
        (cell,) = launcher.pool.stock.all
        (warden,) = psutil.Process(launcher.pid).children()
        os.sched_setaffinity(0, {first})
        for where, apart in ((last, last != first), (first, False)):
            os.sched_setaffinity(warden.pid, {where})
            oxgen.run(["/bin/true"], launcher=launcher, capture_output=True)
            assert launcher.stats().idle == 1  # the same cell
            assert cell.apart is apart
