"""Ours: every way in which oxgen launches, each proved to confine before it is measured."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import time
from collections.abc import Callable
from typing import Any

import oxgen
from oxgen._launch import EXECUTABLE

from .confined import PROMISES, check, faults_inside, prove
from .measure import Absent, Row, Rows, Turn, every
from .targets import Target, Workshop
from .workers import Worker

__all__ = [
    "AIO",
    "MAP",
    "NEVER",
    "TENANCY",
    "WARM",
    "Ours",
    "aio_run",
    "checked",
    "has_aio",
    "has_map",
    "map_of",
]

WARM = "oxgen warm cell in C"
TENANCY = "oxgen.run"
NEVER = 'oxgen.run, reuse="never"'
MAP = "oxgen.map"
AIO = "oxgen.aio.run"

#: How many cells a pool of the benchmark has: as many as are ever in flight.
CELLS = 64

_REUSED = "the cell served this tenancy before and was proved empty"
_FRESH = "a cell of its own for every run"


def checked(done: Any) -> oxgen.Completed:
    """Return the result of a run that exited with 0 and had all that is promised."""
    if not isinstance(done, oxgen.Completed):
        raise done  # oxgen.map yields what never ran as its exception
    if done.returncode != 0 or done.confinement.missing:
        raise RuntimeError(f"a run of ours failed: {done}")
    return done


def has_map() -> bool:
    """Whether this build has ``oxgen.map`` and ``oxgen.Request``."""
    return hasattr(oxgen, "map") and hasattr(oxgen, "Request")


def has_aio() -> bool:
    """Whether this build has ``oxgen.aio``."""
    with contextlib.suppress(ModuleNotFoundError):
        importlib.import_module("oxgen.aio")
        return True
    return False


class Ours:
    """The two pools that everything of ours is measured in, and the probe that proves them."""

    def __init__(self, workshop: Workshop, held: contextlib.ExitStack) -> None:
        self._workshop = workshop
        self.probe = workshop.probe("tiny")
        self.tenancy = held.enter_context(oxgen.Launcher(cells=CELLS))
        self.never = held.enter_context(oxgen.Launcher(cells=CELLS, reuse="never"))
        self.proofs: dict[str, Any] = {}

    def prove(
        self,
        name: str,
        launcher: oxgen.Launcher,
        run: Callable[[str], oxgen.Completed] | None = None,
        target: str = "tiny",
    ) -> None:
        """Prove a row, once for each kind of cell."""
        key = name if target in ("tiny", "glibc") else f"{name} ({target})"
        if key not in self.proofs:
            self.proofs[key] = prove(self._workshop.probe(target), launcher, run)

    def prove_map(self) -> None:
        """Prove what ``oxgen.map`` runs."""
        self.prove(MAP, self.tenancy, lambda probe: next(iter(map_of(probe, 1, 1, self.tenancy))))

    def prove_aio(self, loop: asyncio.AbstractEventLoop) -> None:
        """Prove what ``oxgen.aio.run`` runs."""
        pool = self.tenancy
        self.prove(AIO, pool, lambda probe: loop.run_until_complete(aio_run(probe, pool)))

    def rows(self, target: Target, held: contextlib.ExitStack) -> Rows:
        """Return the rows of one target; a way that this build does not have is named."""
        rows = Rows()
        rows.add(self._run(target, TENANCY, self.tenancy, _REUSED))
        rows.add(self._run(target, NEVER, self.never, _FRESH))
        if not target.system:
            rows.add(self._warm(target, held))
            rows.add(self._map(target))
            rows.add(self._aio(target, held))
        return rows

    def _row(self, name: str, turn: Turn, note: str) -> Row:
        return Row(
            name=name,
            kind="oxgen",
            turn=turn,
            promises=PROMISES,
            note=note,
            disturbs=name == NEVER,
        )

    def _run(self, target: Target, name: str, launcher: oxgen.Launcher, note: str) -> Row:
        self.prove(name, launcher, target=target.name)
        args = [target.path]

        def launch() -> None:
            checked(oxgen.run(args, launcher=launcher, capture_output=True))

        return self._row(name, every(launch), note)

    def _warm(self, target: Target, held: contextlib.ExitStack) -> Row:
        words = [self._workshop.warm(), EXECUTABLE, target.path, self.probe]
        worker = held.enter_context(Worker(words))
        seen = json.loads(worker.ask("probe"))
        check(faults_inside(seen, oxgen.Limits()))
        self.proofs[WARM] = {"inside": seen}
        note = f"{_REUSED}; no Python, the same C and the same launcher"
        return self._row(WARM, worker.latency, note)

    def _map(self, target: Target) -> Row | Absent:
        if not has_map():
            return Absent(MAP, "this build has no oxgen.map")
        self.prove_map()

        def turn(count: int) -> list[float]:
            taken = []
            begun = time.perf_counter_ns()
            for done in map_of(target.path, count, 1, self.tenancy):
                checked(done)
                ended = time.perf_counter_ns()
                taken.append((ended - begun) / 1000)
                begun = ended
            return taken

        return self._row(MAP, turn, f"{_REUSED}; concurrency=1, from result to result")

    def _aio(self, target: Target, held: contextlib.ExitStack) -> Row | Absent:
        if not has_aio():
            return Absent(AIO, "this build has no oxgen.aio")
        loop = asyncio.new_event_loop()
        held.callback(loop.close)
        self.prove_aio(loop)

        async def turn(count: int) -> list[float]:
            taken = []
            for _ in range(count):
                begun = time.perf_counter_ns()
                checked(await aio_run(target.path, self.tenancy))
                taken.append((time.perf_counter_ns() - begun) / 1000)
            return taken

        return self._row(AIO, lambda count: loop.run_until_complete(turn(count)), _REUSED)


def map_of(program: str, count: int, concurrency: int, launcher: oxgen.Launcher) -> Any:
    """Return ``oxgen.map`` of so many runs of a program."""
    request_of: Any = getattr(oxgen, "Request")  # noqa: B009 - a build without it is measured too
    runs: Any = getattr(oxgen, "map")  # noqa: B009
    request = request_of([program], capture_output=True)
    return runs((request for _ in range(count)), concurrency=concurrency, launcher=launcher)


async def aio_run(program: str, launcher: oxgen.Launcher) -> oxgen.Completed:
    """``await oxgen.aio.run(...)``."""
    aio: Any = getattr(oxgen, "aio")  # noqa: B009
    done: oxgen.Completed = await aio.run([program], launcher=launcher, capture_output=True)
    return done
