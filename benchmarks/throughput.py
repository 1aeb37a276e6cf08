"""Throughput: launches a second with so many in flight, every way in turn."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from typing import Any

import oxgen

from .measure import Absent
from .ours import AIO, MAP, NEVER, TENANCY, Ours, aio_run, checked, has_aio, has_map
from .peers import BASE, FLOOR, PeerError, bwrap_command, run_checked
from .targets import Target, Workshop
from .workers import Worker

__all__ = ["IN_FLIGHT", "measure_throughput"]

IN_FLIGHT = (1, 2, 8, 64)

#: Keep so many in flight for so many seconds; returns how many ended, and in how many seconds.
Load = Callable[[int, float], tuple[int, float]]

_JOIN_SECONDS = 120.0


def by_threads(launch: Callable[[], object]) -> Load:
    """One thread for each launch in flight."""

    def load(in_flight: int, seconds: float) -> tuple[int, float]:
        ended = [0] * in_flight
        failures: list[BaseException] = []
        begun = time.monotonic()
        end = begun + seconds

        def work(index: int) -> None:
            try:
                while time.monotonic() < end and not failures:
                    launch()
                    ended[index] += 1
            except Exception as failure:
                failures.append(failure)

        threads = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(in_flight)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(_JOIN_SECONDS)
        if failures:
            raise failures[0]
        return sum(ended), time.monotonic() - begun

    return load


def by_tasks(loop: asyncio.AbstractEventLoop, launch: Callable[[], Awaitable[object]]) -> Load:
    """One task for each launch in flight, in one thread."""

    async def keep(in_flight: int, seconds: float) -> tuple[int, float]:
        begun = time.monotonic()

        async def work() -> int:
            ended = 0
            while time.monotonic() < begun + seconds:
                await launch()
                ended += 1
            return ended

        total = sum(await asyncio.gather(*(work() for _ in range(in_flight))))
        return total, time.monotonic() - begun

    return lambda in_flight, seconds: loop.run_until_complete(keep(in_flight, seconds))


def by_map(program: str, launcher: oxgen.Launcher) -> Load:
    """One ``oxgen.map`` over requests that end when the time is over."""

    def load(in_flight: int, seconds: float) -> tuple[int, float]:
        begun = time.monotonic()
        request: Any = getattr(oxgen, "Request")  # noqa: B009 - a build without it is measured too
        one = request([program], capture_output=True)

        def requests() -> Iterator[Any]:
            return itertools.takewhile(
                lambda _: time.monotonic() < begun + seconds, itertools.repeat(one)
            )

        runs: Any = getattr(oxgen, "map")  # noqa: B009
        ended = 0
        for done in runs(requests(), concurrency=in_flight, launcher=launcher):
            checked(done)
            ended += 1
        return ended, time.monotonic() - begun

    return load


def _asyncio_exec(program: str) -> Callable[[], Awaitable[None]]:
    async def launch() -> None:
        child = await asyncio.create_subprocess_exec(
            program, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        await child.communicate()
        if child.returncode != 0:
            raise PeerError(f"exit status {child.returncode}")

    return launch


def _confined(program: str, launcher: oxgen.Launcher) -> Callable[[], object]:
    return lambda: checked(oxgen.run([program], launcher=launcher, capture_output=True))


def _ways(
    target: Target, workshop: Workshop, ours: Ours, held: ExitStack
) -> tuple[dict[str, Load], list[Absent]]:
    program = target.path
    loop = asyncio.new_event_loop()
    held.callback(loop.close)
    floor = held.enter_context(Worker([workshop.helper("floor"), program]))
    bwrap = bwrap_command(target)
    ways: dict[str, Load] = {
        FLOOR: floor.throughput,
        BASE: by_threads(lambda: run_checked([program])),
        "asyncio.create_subprocess_exec": by_tasks(loop, _asyncio_exec(program)),
        "bwrap --unshare-all": by_threads(lambda: run_checked(bwrap)),
        TENANCY: by_threads(_confined(program, ours.tenancy)),
        NEVER: by_threads(_confined(program, ours.never)),
    }
    absent = []
    ours.prove(TENANCY, ours.tenancy)
    ours.prove(NEVER, ours.never)
    if has_map():
        ours.prove_map()
        ways[MAP] = by_map(program, ours.tenancy)
    else:
        absent.append(Absent(MAP, "this build has no oxgen.map"))
    if has_aio():
        ours.prove_aio(loop)
        ways[AIO] = by_tasks(loop, lambda: aio_run(program, ours.tenancy))
    else:
        absent.append(Absent(AIO, "this build has no oxgen.aio"))
    return ways, absent


def measure_throughput(
    target: Target,
    workshop: Workshop,
    ours: Ours,
    *,
    seconds: float,
    repeats: int,
    in_flight: tuple[int, ...] = IN_FLIGHT,
) -> dict[str, Any]:
    """Measure every way at every number in flight, ``repeats`` times ``seconds`` each."""
    with ExitStack() as held:
        ways, absent = _ways(target, workshop, ours, held)
        for name, load in list(ways.items()):
            try:
                load(1, min(0.1, seconds))
            except (OSError, PeerError) as failed:
                if name in (TENANCY, NEVER, MAP, AIO):
                    raise
                del ways[name]
                absent.append(Absent(name, f"does not work here: {failed}"))
        rates: dict[tuple[str, int], list[float]] = {}
        for _ in range(repeats):
            for number in in_flight:
                for name, load in ways.items():
                    ended, took = load(number, seconds)
                    rates.setdefault((name, number), []).append(ended / took)
                    time.sleep(min(0.25, seconds / 4))  # namespaces are still being taken apart
    return {
        "target": target.name,
        "seconds": seconds,
        "repeats": repeats,
        "in_flight": list(in_flight),
        "rows": [
            {
                "name": name,
                "launches_per_second": {
                    str(number): round(statistics.median(rates[name, number]), 1)
                    for number in in_flight
                },
                "of_each_repeat": {
                    str(number): [round(rate, 1) for rate in rates[name, number]]
                    for number in in_flight
                },
            }
            for name in ways
        ],
        "absent": [{"name": one.name, "reason": one.reason} for one in absent],
    }
