"""``aio.spawn``: a program to talk to from an event loop."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from control import watch

import oxgen
from oxgen import Launcher, Limits, aio

if TYPE_CHECKING:
    from control.confined import Probe

pytestmark = pytest.mark.root

Spawn = Callable[..., Awaitable[aio.Process]]


@pytest.fixture
def spawn(probe: Probe) -> Iterator[Spawn]:
    """Start the probe with these words."""
    with Launcher(cells=4) as launcher:

        async def start(*words: object, **options: Any) -> aio.Process:
            return await aio.spawn(
                [str(probe.path), *map(str, words)], launcher=launcher, **options
            )

        yield start


async def both(tag: str) -> bool:
    """Wait until leader and daemon are there."""
    for _ in range(1000):
        if len(watch.processes(tag)) >= 2:
            return True
        await asyncio.sleep(0.01)
    return False


def test_it_talks(spawn: Spawn) -> None:
    async def main() -> None:
        async with await spawn("cat") as process:
            for line in (b"one\n", b"two\n"):
                process.stdin.write(line)
                await process.stdin.drain()
                assert await process.stdout.readline() == line
            assert process.poll() is None and process.returncode is None
            process.stdin.close()
            assert await process.stdout.read() == b""
            done = await process.wait()
            assert (done.returncode, process.returncode, process.poll()) == (0, 0, done)

    asyncio.run(main())


def test_communicate_moves_more_than_pipes_hold(spawn: Spawn) -> None:
    text = os.urandom(1_000_000)

    async def main() -> tuple[bytes, bytes]:
        async with await spawn("cat") as process:
            return await process.communicate(text)

    assert asyncio.run(main()) == (text, b"")


def test_a_program_that_wants_no_input_is_no_error(spawn: Spawn) -> None:
    async def main() -> tuple[bytes, bytes]:
        async with await spawn("print", "word") as process:
            return await process.communicate(b"x" * 1_000_000)

    assert asyncio.run(main()) == (b"word\n", b"")


def test_it_has_started_when_spawn_returns(spawn: Spawn, tag: str) -> None:
    async def main() -> None:
        async with await spawn("announce", 30, tag):
            # The kernel lets go of a vfork's parent a moment before the new arguments can be read.
            assert watch.wait_until(lambda: len(watch.plugins(tag)) == 1, 0.5)

    asyncio.run(main())


def test_what_never_ran_is_an_exception(spawn: Spawn) -> None:
    before = len(os.listdir("/proc/self/fd"))

    async def main() -> None:
        with pytest.raises(oxgen.LaunchError) as caught:
            await spawn("exit", 0, sandbox=oxgen.Sandbox(cwd="/nowhere"))
        assert caught.value.stage == "workdir"
        with pytest.raises(oxgen.ProgramNotFoundError):
            await aio.spawn(["./no-such-program"])

    asyncio.run(main())
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before + 16  # the launcher's and one cell's


def test_kill_ends_the_tree(spawn: Spawn, tag: str) -> None:
    async def main() -> None:
        async with await spawn("daemonise", 60, 60, tag) as process:
            assert await both(tag)
            process.kill()
            done = await process.wait()
            assert done.termination.reason == "cancelled"
            assert watch.processes(tag) == []

    asyncio.run(main())


def test_leaving_the_context_kills_and_waits(spawn: Spawn, tag: str) -> None:
    async def main() -> None:
        async with await spawn("daemonise", 60, 60, tag):
            assert await both(tag)
        assert watch.processes(tag) == []

    asyncio.run(main())


def test_cancelling_a_wait_leaves_the_program_alone(spawn: Spawn, tag: str) -> None:
    async def main() -> None:
        async with await spawn("announce", 30, tag) as process:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(process.wait(), 0.1)
            assert len(watch.plugins(tag)) == 1 and process.poll() is None

    asyncio.run(main())


def test_cancelling_while_it_starts_leaves_nothing(spawn: Spawn, tag: str) -> None:
    async def main() -> None:
        for delay in (0, 0.0005, 0.001, 0.002, 0.005):
            task = asyncio.ensure_future(spawn("announce", 30, tag))
            await asyncio.sleep(delay)
            task.cancel()
            try:
                process = await task
            except asyncio.CancelledError:
                pass
            else:
                await process.close()
            assert watch.plugins(tag) == []

    asyncio.run(main())


def test_output_of_an_ended_program_waits_for_a_slow_reader(spawn: Spawn) -> None:
    async def main() -> int:
        async with await spawn("flood", 300_000) as process:
            await asyncio.sleep(0.3)
            total = 0
            while chunk := await process.stdout.read(50_000):
                total += len(chunk)
                await asyncio.sleep(0.01)
            assert (await process.wait()).output.truncated is False
            return total

    assert asyncio.run(main()) == 300_000


def test_the_cell_of_an_ended_program_does_not_wait_for_its_reader(probe: Probe) -> None:
    async def main(launcher: Launcher) -> None:
        args = [str(probe.path), "flood", "150000"]  # more than the reader and its pipe take up
        async with await aio.spawn(args, launcher=launcher) as process:
            await asyncio.wait_for(process.wait(), 5)
            done = await asyncio.wait_for(
                aio.run([str(probe.path), "exit", "0"], launcher=launcher), 5
            )
            assert done.returncode == 0
            assert len(await process.stdout.read()) == 150_000

    with Launcher(cells=1) as launcher:
        asyncio.run(main(launcher))


def test_limits_hold_though_nobody_reads(spawn: Spawn) -> None:
    async def main() -> oxgen.Completed:
        async with await spawn("flood", 1e12, limits=Limits(wall_seconds=0.5)) as process:
            return await asyncio.wait_for(process.wait(), 3)

    assert asyncio.run(main()).termination.reason == "timeout"


def test_output_beyond_its_limit_is_dropped(spawn: Spawn) -> None:
    async def main() -> None:
        async with await spawn("flood", 1e6, limits=Limits(output_bytes=1000)) as process:
            assert len(await process.stdout.read()) == 1000
            done = await process.wait()
            assert done.output.truncated and done.output.stdout_bytes == 1e6

    asyncio.run(main())


def test_many_leave_no_descriptor(spawn: Spawn) -> None:
    async def main() -> tuple[int, int]:
        async def some(count: int) -> None:
            for _ in range(count):
                async with await spawn("print", "word") as process:
                    await process.communicate()

        await some(5)
        before = len(os.listdir("/proc/self/fd"))
        begin = time.monotonic()
        await some(100)
        assert time.monotonic() - begin < 30
        await asyncio.sleep(0.05)  # transports close in the loop
        return before, len(os.listdir("/proc/self/fd"))

    before, after = asyncio.run(main())
    assert after <= before
