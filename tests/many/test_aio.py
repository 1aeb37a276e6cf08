"""``aio``: thousands of runs in one event loop, without a thread for each."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import os
import resource
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from control import watch

import oxgen
from oxgen import Launcher, Limits, Request, aio

if TYPE_CHECKING:
    from pathlib import Path

    from control.confined import Probe
    from control.hosts import Host

pytestmark = pytest.mark.root

#: A daemon in a session of its own, whose leader stays.
LONG = ("daemonise", 60, 60)


@pytest.fixture
def pool() -> Iterator[Launcher]:
    with Launcher(cells=8) as launcher:
        yield launcher


def words(probe: Probe, *more: object) -> list[str]:
    return [str(probe.path), *map(str, more)]


async def started(tag: str, count: int) -> bool:
    for _ in range(1000):
        if len(watch.processes(tag)) >= count:
            return True
        await asyncio.sleep(0.01)
    return False


# --- run ------------------------------------------------------------------------------------------


def test_a_run_is_as_one_of_the_package_itself(probe: Probe, pool: Launcher) -> None:
    async def main() -> oxgen.Completed:
        return await aio.run(
            words(probe, "cat"), input=b"text", task_id="seven", launcher=pool, tenant="t"
        )

    done = asyncio.run(main())
    assert (done.stdout, done.returncode, done.task_id) == (b"text", 0, "seven")
    assert done.confinement == probe.run("exit", 0, launcher=pool).confinement


def test_what_never_ran_is_an_exception(probe: Probe, pool: Launcher) -> None:
    with pytest.raises(oxgen.ProgramNotFoundError):
        asyncio.run(aio.run(["./no-such-program"], launcher=pool))
    with pytest.raises(oxgen.LaunchError) as caught:
        box = oxgen.Sandbox(cwd="/nowhere")
        asyncio.run(aio.run(words(probe, "exit", 0), sandbox=box, launcher=pool))
    assert caught.value.stage == "workdir"
    with pytest.raises(oxgen.UsageError, match="args"):
        asyncio.run(aio.run("true", launcher=pool))


def test_check_raises_as_run_does(probe: Probe, pool: Launcher) -> None:
    with pytest.raises(oxgen.RunFailedError) as caught:
        asyncio.run(aio.run(words(probe, "exit", 3), check=True, launcher=pool))
    assert caught.value.completed.returncode == 3


def test_two_thousand_in_flight_need_no_more_threads_and_all_end(probe: Probe) -> None:
    seen: list[int] = []

    async def main(launcher: Launcher) -> list[oxgen.Completed]:
        await aio.run(words(probe, "exit", 0), launcher=launcher)
        seen.append(threading.active_count())
        tasks = [
            asyncio.ensure_future(
                aio.run(words(probe, "print", n), launcher=launcher, task_id=str(n))
            )
            for n in range(2000)
        ]
        while not all(task.done() for task in tasks):
            seen.append(threading.active_count())
            await asyncio.sleep(0.02)
        return [task.result() for task in tasks]

    with Launcher(cells=16) as launcher:
        done = asyncio.run(main(launcher))
    assert max(seen) == seen[0]
    assert [one.stdout for one in done] == [f"{n}\n".encode() for n in range(2000)]
    assert [one.task_id for one in done] == [str(n) for n in range(2000)]


def test_many_that_wait_need_no_descriptor_each(probe: Probe) -> None:
    few, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    here = len(os.listdir("/proc/self/fd"))

    async def main(launcher: Launcher) -> list[oxgen.Completed]:
        runs = (aio.run(words(probe, "exit", 0), launcher=launcher) for _ in range(500))
        return await asyncio.gather(*runs)

    resource.setrlimit(resource.RLIMIT_NOFILE, (here + 100, most))
    try:
        with Launcher(cells=4) as launcher:
            done = asyncio.run(main(launcher))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (few, most))
    assert {one.returncode for one in done} == {0}


def test_the_event_loop_goes_on_meanwhile(probe: Probe, pool: Launcher) -> None:
    async def main() -> int:
        ticks = 0
        run = asyncio.ensure_future(aio.run(words(probe, "sleep", 0.5), launcher=pool))
        while not run.done():
            ticks += 1
            await asyncio.sleep(0.01)
        return ticks

    assert asyncio.run(main()) > 20


def test_limits_hold_side_by_side(probe: Probe, pool: Launcher) -> None:
    async def main() -> list[oxgen.Completed]:
        return await asyncio.gather(
            aio.run(words(probe, "flood", 1e12), limits=Limits(wall_seconds=1.5), launcher=pool),
            aio.run(words(probe, "sleep", 30), limits=Limits(wall_seconds=0.4), launcher=pool),
            aio.run(
                words(probe, "burn-children", 2, 30), limits=Limits(cpu_seconds=0.3), launcher=pool
            ),
            aio.run(words(probe, "flood", 3e6), limits=Limits(output_bytes=10), launcher=pool),
        )

    flood, sleeper, burner, talker = asyncio.run(main())
    assert flood.termination.reason == sleeper.termination.reason == "timeout"
    assert sleeper.usage.wall_seconds < 0.9 and flood.usage.wall_seconds < 2
    assert burner.termination.reason == "cpu_limit"
    assert (talker.stdout, talker.output.stdout_bytes) == (b"x" * 10, 3e6) or len(
        talker.stdout or b""
    ) == 10


def test_limits_hold_though_the_event_loop_is_held_up(
    probe: Probe, pool: Launcher, tag: str
) -> None:
    async def main() -> oxgen.Completed:
        limits = Limits(wall_seconds=0.5)
        run = aio.run(words(probe, *LONG, tag), limits=limits, launcher=pool)
        task = asyncio.ensure_future(run)
        assert await started(tag, 2)
        time.sleep(1.2)
        assert watch.processes(tag) == []
        return await asyncio.wait_for(task, 1)

    done = asyncio.run(main())
    assert done.termination.reason == "timeout" and done.usage.wall_seconds < 1


# --- cancelling -----------------------------------------------------------------------------------


def test_cancelling_kills_and_waits(probe: Probe, pool: Launcher, tag: str) -> None:
    async def main() -> None:
        task = asyncio.ensure_future(aio.run(words(probe, *LONG, tag), launcher=pool))
        assert await started(tag, 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert watch.processes(tag) == []

    asyncio.run(main())


def test_a_timeout_kills_and_waits(probe: Probe, pool: Launcher, tag: str) -> None:
    async def main() -> None:
        begin = time.monotonic()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(aio.run(words(probe, *LONG, tag), launcher=pool), 0.5)
        assert watch.processes(tag) == []
        assert time.monotonic() - begin < 1.5

    asyncio.run(main())


def test_cancelling_again_and_again_changes_nothing(probe: Probe, pool: Launcher, tag: str) -> None:
    async def main() -> None:
        task = asyncio.ensure_future(aio.run(words(probe, *LONG, tag), launcher=pool))
        assert await started(tag, 2)
        while not task.done():
            task.cancel()
            await asyncio.sleep(0)
        assert task.cancelled()
        assert watch.processes(tag) == []

    asyncio.run(main())


def test_what_waits_for_a_cell_can_be_cancelled_at_once(probe: Probe, tag: str) -> None:
    async def main(launcher: Launcher) -> None:
        holder = asyncio.ensure_future(aio.run(words(probe, *LONG, tag), launcher=launcher))
        assert await started(tag, 2)
        waiting = [
            asyncio.ensure_future(aio.run(words(probe, "exit", 0), launcher=launcher))
            for _ in range(20)
        ]
        await asyncio.sleep(0.1)
        begin = time.monotonic()
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        assert time.monotonic() - begin < 0.5
        assert all(task.cancelled() for task in waiting)
        assert not holder.done()
        holder.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await holder
        assert (await aio.run(words(probe, "exit", 4), launcher=launcher)).returncode == 4

    with Launcher(cells=1) as launcher:
        asyncio.run(main(launcher))


@pytest.mark.parametrize("delay", [0, 0.0003, 0.001, 0.002, 0.004, 0.008])
def test_cancelling_while_the_cell_is_made_costs_no_cell(probe: Probe, delay: float) -> None:
    async def main(launcher: Launcher) -> int:
        for number in range(10):  # of ten tenants: each needs a cell of its own
            run = aio.run(words(probe, "sleep", 60), launcher=launcher, tenant=str(number))
            task = asyncio.ensure_future(run)
            await asyncio.sleep(delay)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        runs = (aio.run(words(probe, "sleep", 0.3), launcher=launcher) for _ in range(2))
        begin = time.monotonic()
        done = await asyncio.gather(*runs)
        assert time.monotonic() - begin < 0.58 + 1  # both at once
        return sum(one.returncode for one in done)

    with Launcher(cells=2) as launcher:
        assert asyncio.run(main(launcher)) == 0


# --- event loops ----------------------------------------------------------------------------------


def test_two_event_loops_in_two_threads(probe: Probe, pool: Launcher) -> None:
    counts: list[int] = []

    async def main() -> None:
        runs = (aio.run(words(probe, "exit", 0), launcher=pool) for _ in range(200))
        counts.append(sum(one.returncode == 0 for one in await asyncio.gather(*runs)))

    threads = [threading.Thread(target=lambda: asyncio.run(main())) for _ in range(2)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(60)
    assert counts == [200, 200]


def test_event_loops_one_after_the_other_leave_no_descriptor(probe: Probe, pool: Launcher) -> None:
    asyncio.run(aio.run(words(probe, "exit", 0), launcher=pool))
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        asyncio.run(aio.run(words(probe, "exit", 0), launcher=pool))
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before


def test_a_closed_event_loop_leaves_no_run_behind(probe: Probe, pool: Launcher, tag: str) -> None:
    loop = asyncio.new_event_loop()
    task = loop.create_task(aio.run(words(probe, *LONG, tag), launcher=pool))
    assert loop.run_until_complete(started(tag, 2))
    loop.close()
    assert watch.wait_until(lambda: watch.processes(tag) == [], 2)
    assert watch.wait_until(lambda: pool_is_free(probe, pool), 5)
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    del task


def pool_is_free(probe: Probe, pool: Launcher) -> bool:
    results = oxgen.map([Request(words(probe, "sleep", 0.05))] * 8, 8, pool)
    return [getattr(one, "returncode", 1) for one in results] == [0] * 8


def test_many_runs_leave_no_descriptor(probe: Probe, pool: Launcher) -> None:
    async def main() -> tuple[int, int]:
        async def some(count: int) -> None:
            runs = (aio.run(words(probe, "print", "x" * 99), launcher=pool) for _ in range(count))
            await asyncio.gather(*runs)

        await some(16)
        before = len(os.listdir("/proc/self/fd"))
        await some(500)
        return before, len(os.listdir("/proc/self/fd"))

    before, after = asyncio.run(main())
    assert after == before


def test_keyboard_interrupt_leaves_nothing(
    host: Callable[..., Host], probe_path: Path, tag: str
) -> None:
    text = """
import asyncio
from oxgen import aio
signal.signal(signal.SIGINT, signal.default_int_handler)
async def main():
    runs = [aio.run([sys.argv[1], "announce", "60", sys.argv[2]]) for _ in range(3)]
    await asyncio.gather(*runs)
try:
    asyncio.run(main())
except KeyboardInterrupt:
    say(len(watch.plugins(sys.argv[2])))
"""
    started_host = host(text, probe_path, tag)
    assert watch.wait_until(lambda: len(watch.plugins(tag)) == 3, 10)
    os.kill(started_host.pid, 2)
    assert started_host.end() == [0]


# --- map ------------------------------------------------------------------------------------------


async def gather(results: AsyncIterator[Any]) -> list[Any]:
    return [one async for one in results]


def requests(probe: Probe, count: int, *more: object) -> list[Request]:
    return [Request(words(probe, *more), task_id=str(n)) for n in range(count)]


def test_map_has_a_result_for_each_request(probe: Probe, pool: Launcher) -> None:
    bad = Request(["./no-such-program"])
    done = asyncio.run(gather(aio.map([*requests(probe, 50, "exit", 0), bad, None], 8, pool)))
    ran = [one for one in done if isinstance(one, oxgen.Completed)]
    never = [one.request for one in done if isinstance(one, Exception)]
    assert sorted(int(one.task_id or "") for one in ran) == list(range(50))
    assert never == [bad, None] or never == [None, bad]


def test_map_takes_asynchronous_requests(probe: Probe, pool: Launcher) -> None:
    async def supply() -> AsyncIterator[Request]:
        for one in requests(probe, 10, "exit", 0):
            await asyncio.sleep(0.005)
            yield one

    assert len(asyncio.run(gather(aio.map(supply(), 3, pool)))) == 10


def test_map_takes_no_more_than_allowed_ahead(probe: Probe, pool: Launcher) -> None:
    taken = 0

    def supply() -> Iterator[Request]:
        nonlocal taken
        while True:
            taken += 1
            yield Request(words(probe, "exit", 0))

    async def main() -> int:
        most = 0
        async with contextlib.aclosing(aio.map(supply(), 5, pool)) as results:
            number = 0
            async for _ in results:
                number += 1
                most = max(most, taken - number)
                await asyncio.sleep(0.002)
                if number == 60:
                    break
        return most

    assert asyncio.run(main()) <= 5


@pytest.mark.parametrize("how", ["aclosing", "error", "cancel", "supply"])
def test_leaving_a_map_leaves_nothing(probe: Probe, pool: Launcher, tag: str, how: str) -> None:
    def supply() -> Iterator[Request]:
        yield Request(words(probe, "exit", 0))
        yield from [Request(words(probe, *LONG, tag))] * 2
        if how == "supply":
            raise ZeroDivisionError

    async def use() -> None:
        async with contextlib.aclosing(aio.map(supply(), 8, pool)) as results:
            async for _ in results:
                assert await started(tag, 4)
                if how == "aclosing":
                    return
                if how == "error":
                    raise ZeroDivisionError

    async def main() -> None:
        task = asyncio.ensure_future(use())
        if how == "cancel":
            assert await started(tag, 4)
            task.cancel()
        with contextlib.suppress(ZeroDivisionError, asyncio.CancelledError):
            await task
        assert watch.processes(tag) == []

    asyncio.run(main())


def test_an_endless_supply_of_bad_requests_does_not_hold_up_the_loop(pool: Launcher) -> None:
    async def main() -> int:
        ticks = 0

        async def use() -> None:
            async for _ in aio.map(itertools.repeat(Request(["./nothing"])), 2, pool):
                continue

        task = asyncio.ensure_future(use())
        for _ in range(20):
            await asyncio.sleep(0.005)
            ticks += 1
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return ticks

    assert asyncio.run(asyncio.wait_for(main(), 10)) == 20
