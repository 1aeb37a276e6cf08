"""``map``: many runs from one thread, results as they come, nothing left behind."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from control import watch

import oxgen
from oxgen import Completed, Launcher, Limits, Request

if TYPE_CHECKING:
    from control.confined import Probe
    from control.hosts import Host

pytestmark = pytest.mark.root


@pytest.fixture
def pool() -> Iterator[Launcher]:
    with Launcher(cells=8) as launcher:
        yield launcher


def request(probe: Probe, *words: object, **options: Any) -> Request:
    return Request([str(probe.path), *map(str, words)], **options)


# --- results --------------------------------------------------------------------------------------


def test_each_result_is_that_of_its_request(probe: Probe, pool: Launcher) -> None:
    requests = [request(probe, "print", n, task_id=f"task {n}") for n in range(50)]
    results = list(oxgen.map(requests, 8, pool))
    assert sorted((done.task_id, done.stdout) for done in results) == sorted(
        (f"task {n}", f"{n}\n".encode()) for n in range(50)
    )
    assert {done.args for done in results} == {one.args for one in requests}
    assert len({done.run_id for done in results}) == 50


def test_results_come_in_the_order_of_the_ends(probe: Probe, pool: Launcher) -> None:
    seconds = [0.9, 0.1, 0.5]
    results = oxgen.map([request(probe, "sleep", s, task_id=str(s)) for s in seconds], 3, pool)
    assert [done.task_id for done in results] == ["0.1", "0.5", "0.9"]


def test_as_many_as_allowed_run_at_once(probe: Probe, pool: Launcher) -> None:
    begin = time.monotonic()
    assert len(list(oxgen.map([request(probe, "sleep", 0.5)] * 8, 8, pool))) == 8
    assert time.monotonic() - begin < 1.5


def test_more_than_there_are_cells_wait_for_their_turn(probe: Probe) -> None:
    with Launcher(cells=2) as pool:
        results = list(oxgen.map([request(probe, "exit", 0)] * 40, 20, pool))
    assert [done.returncode for done in results] == [0] * 40


def test_input_reaches_the_program(probe: Probe, pool: Launcher) -> None:
    text = os.urandom(300_000)
    (done,) = oxgen.map([request(probe, "cat", input=text)], 8, pool)
    assert done.stdout == text


def test_output_is_dropped_on_request_and_counted(probe: Probe, pool: Launcher) -> None:
    (done,) = oxgen.map([request(probe, "flood", 300_000, capture_output=False)], 8, pool)
    assert (done.stdout, done.stderr, done.output.stdout_bytes) == (None, None, 300_000)


def test_output_is_capped_by_its_limit(probe: Probe, pool: Launcher) -> None:
    limits = Limits(output_bytes=1000)
    (done,) = oxgen.map([request(probe, "flood", 3e6, limits=limits)], 8, pool)
    assert (len(done.stdout), done.output.stdout_bytes, done.output.truncated) == (1000, 3e6, True)


def test_no_requests_no_results(pool: Launcher) -> None:
    assert list(oxgen.map([], 8, pool)) == []


# --- what never ran -------------------------------------------------------------------------------


def test_a_run_that_never_ran_is_an_exception_with_its_request(
    probe: Probe, pool: Launcher
) -> None:
    bad, good = Request(["./no-such-program"]), request(probe, "exit", 3)
    results = list(oxgen.map([bad, good, bad], 8, pool))
    never = [one for one in results if isinstance(one, Exception)]
    assert [one.returncode for one in results if isinstance(one, Completed)] == [3]
    assert [(type(one), one.request) for one in never] == [(oxgen.ProgramNotFoundError, bad)] * 2


def test_a_launch_that_fails_inside_the_cell_is_an_exception(probe: Probe, pool: Launcher) -> None:
    lost = request(probe, "exit", 0, sandbox=oxgen.Sandbox(cwd="/nowhere"))
    (failure,) = oxgen.map([lost], 8, pool)
    assert isinstance(failure, oxgen.LaunchError)
    assert (failure.stage, failure.request) == ("workdir", lost)


def test_what_is_no_request_is_a_usage_error(probe: Probe, pool: Launcher) -> None:
    results = list(oxgen.map([["true"], None, request(probe, "exit", 0)], 8, pool))
    errors = [one for one in results if isinstance(one, oxgen.UsageError)]
    assert [one.request for one in errors] == [["true"], None]
    assert len(results) == 3


@pytest.mark.parametrize("concurrency", [0, -1, 1.5, True, "8"])
def test_a_bad_concurrency_is_refused(concurrency: Any) -> None:
    with pytest.raises(oxgen.UsageError, match="concurrency"):
        oxgen.map([], concurrency)


def test_a_wait_for_a_cell_that_is_too_long_is_an_exception(probe: Probe, tag: str) -> None:
    with (
        Launcher(cells=1, queue_seconds=0.3) as pool,
        oxgen.spawn([str(probe.path), "announce", "30", tag], launcher=pool),
    ):
        (failure,) = oxgen.map([request(probe, "exit", 0)], 8, pool)
    assert isinstance(failure, oxgen.LaunchError) and failure.stage == "queue"


# --- back-pressure --------------------------------------------------------------------------------


def test_an_endless_supply_is_taken_no_further_than_allowed(probe: Probe, pool: Launcher) -> None:
    taken = 0
    ahead = []

    def supply() -> Iterator[Request]:
        nonlocal taken
        while True:
            taken += 1
            yield request(probe, "exit", 0)

    with oxgen.map(supply(), 5, pool) as results:
        for number, _ in enumerate(itertools.islice(results, 60)):
            ahead.append(taken - number - 1)
            time.sleep(0.002)
    assert max(ahead) <= 5


def test_a_slow_supply_does_not_hold_results_back(probe: Probe, pool: Launcher) -> None:
    def supply() -> Iterator[Request]:
        for _ in range(3):
            yield request(probe, "exit", 0)
            time.sleep(0.4)

    begin = time.monotonic()
    results = oxgen.map(supply(), 8, pool)
    next(results)
    assert time.monotonic() - begin < 1.1
    results.close()


# --- leaving --------------------------------------------------------------------------------------


LONG = ("daemonise", 60, 60)


def started(tag: str, count: int) -> bool:
    return watch.wait_until(lambda: len(watch.processes(tag)) >= count, 10)


def test_leaving_the_context_kills_what_is_under_way(
    probe: Probe, pool: Launcher, tag: str
) -> None:
    requests = [request(probe, "exit", 0), *[request(probe, *LONG, tag)] * 3]
    with oxgen.map(requests, 8, pool) as results:
        next(results)
        assert started(tag, 6)
    assert watch.processes(tag) == []


def test_an_exception_of_the_caller_leaves_nothing(probe: Probe, pool: Launcher, tag: str) -> None:
    requests = [request(probe, "exit", 0), *[request(probe, *LONG, tag)] * 3]
    with pytest.raises(ZeroDivisionError), oxgen.map(requests, 8, pool) as results:
        for _ in results:
            assert started(tag, 6)
            _ = 1 / 0
    assert watch.processes(tag) == []


def test_results_that_nobody_holds_any_more_leave_nothing(
    probe: Probe, pool: Launcher, tag: str
) -> None:
    results = oxgen.map([request(probe, "exit", 0), request(probe, *LONG, tag)], 8, pool)
    next(results)
    assert started(tag, 2)
    del results
    assert watch.wait_until(lambda: watch.processes(tag) == [], 1)


def test_an_exception_of_the_supply_leaves_nothing_and_is_raised(
    probe: Probe, pool: Launcher, tag: str
) -> None:
    def supply() -> Iterator[Request]:
        yield request(probe, *LONG, tag)
        assert started(tag, 2) or True
        yield request(probe, "exit", 0)
        raise ZeroDivisionError

    results = oxgen.map(supply(), 8, pool)
    with pytest.raises(ZeroDivisionError):
        for _ in results:
            continue
    assert watch.processes(tag) == []
    assert list(results) == []


def test_what_was_closed_has_no_more_results(probe: Probe, pool: Launcher) -> None:
    results = oxgen.map([request(probe, "exit", 0)] * 3, 8, pool)
    next(results)
    results.close()
    results.close()
    assert list(results) == []


@pytest.mark.parametrize("call", ["next(results)", "time.sleep(60)"], ids=["inside", "between"])
def test_keyboard_interrupt_kills_and_is_raised(
    host: Callable[..., Host], probe_path: Path, tag: str, call: str
) -> None:
    text = f"""
signal.signal(signal.SIGINT, signal.default_int_handler)
requests = [oxgen.Request([sys.argv[1], "announce", "60", sys.argv[2]]) for _ in range(3)]
requests[0] = oxgen.Request([sys.argv[1], "exit", "0"])
try:
    with oxgen.map(requests) as results:
        next(results)
        {call}
except KeyboardInterrupt:
    say([time.monotonic(), len(watch.plugins(sys.argv[2]))])
"""
    started_host = host(text, probe_path, tag)
    assert watch.wait_until(lambda: len(watch.plugins(tag)) == 2, 10)
    time.sleep(0.1)
    sent = time.monotonic()
    os.kill(started_host.pid, signal.SIGINT)
    raised, left = started_host.hear()
    assert left == 0
    assert raised - sent < 0.5


def test_interrupts_at_any_moment_cost_neither_cells_nor_descriptors(
    host: Callable[..., Host], probe_path: Path
) -> None:
    text = """
import gc, itertools
signal.signal(signal.SIGALRM, signal.default_int_handler)
launcher = oxgen.Launcher(cells=3)
quick = oxgen.Request([sys.argv[1], "exit", "0"])
list(oxgen.map([quick] * 3, 3, launcher))
before = len(os.listdir("/proc/self/fd"))
for number in range(60):
    signal.setitimer(signal.ITIMER_REAL, 0.0005 + number * 0.0007)
    try:
        for _ in oxgen.map(itertools.repeat(quick, 500), 3, launcher):
            continue
    except KeyboardInterrupt:
        pass
    signal.setitimer(signal.ITIMER_REAL, 0)
done = [one.returncode for one in oxgen.map([quick] * 6, 3, launcher)]
launcher.close()
gc.collect()
say([done, len(os.listdir("/proc/self/fd")) <= before])
"""
    assert host(text, probe_path).end() == [[[0] * 6, True]]


# --- limits ---------------------------------------------------------------------------------------


def test_each_run_has_its_own_deadline_beside_floods(probe: Probe, pool: Launcher) -> None:
    flood = request(probe, "flood", 1e12, task_id="flood", limits=Limits(wall_seconds=2))
    short = [
        request(probe, "sleep", 30, task_id=str(s), limits=Limits(wall_seconds=s))
        for s in (0.3, 0.6, 0.9)
    ]
    results = list(oxgen.map([flood, flood, *short], 8, pool))
    assert [done.task_id for done in results] == ["0.3", "0.6", "0.9", "flood", "flood"]
    assert {done.termination.reason for done in results} == {"timeout"}
    assert all(done.usage.wall_seconds < done.limits.wall_seconds + 0.5 for done in results)


def test_cpu_time_is_limited_beside_floods(probe: Probe, pool: Launcher) -> None:
    flood = request(probe, "flood", 1e12, limits=Limits(wall_seconds=4))
    burner = request(probe, "burn-children", 2, 30, limits=Limits(cpu_seconds=0.5))
    with oxgen.map([flood, burner], 8, pool) as results:
        done = next(results)
    assert done.termination.reason == "cpu_limit"
    assert 0.5 <= done.usage.cpu_seconds < 1.2


def test_memory_is_limited_for_each(probe: Probe, pool: Launcher) -> None:
    limits = Limits(memory_bytes=32 * oxgen.MIB)
    greedy = request(probe, "touch", 64, limits=limits, task_id="greedy")
    modest = request(probe, "touch", 8, limits=limits, task_id="modest")
    results = {done.task_id: done for done in oxgen.map([greedy, modest], 8, pool)}
    assert results["greedy"].termination.reason == "memory_limit"
    assert results["modest"].termination.reason is None


def test_limits_hold_while_the_caller_is_busy_with_a_result(
    probe: Probe, pool: Launcher, tag: str
) -> None:
    limits = Limits(wall_seconds=0.5)
    long = request(probe, *LONG, tag, limits=limits)
    with oxgen.map([request(probe, "exit", 0), long], 8, pool) as results:
        next(results)
        assert started(tag, 2)
        time.sleep(1.2)  # nobody asks for a result
        assert watch.processes(tag) == []
        done = next(results)
    assert done.termination.reason == "timeout"
    assert done.usage.wall_seconds < 1.0


def test_a_program_that_hangs_does_not_delay_the_others(probe: Probe, pool: Launcher) -> None:
    hung = request(probe, "stop", task_id="hung", limits=Limits(wall_seconds=3))
    with oxgen.map([hung, *[request(probe, "exit", 0)] * 100], 4, pool) as results:
        begin = time.monotonic()
        assert all(done.task_id is None for done in itertools.islice(results, 100))
        assert time.monotonic() - begin < 2


# --- in company -----------------------------------------------------------------------------------


def test_a_map_inside_a_map_over_the_same_cells_ends(probe: Probe) -> None:
    with Launcher(cells=2) as pool:
        outer = oxgen.map([request(probe, "print", n) for n in range(6)], 2, pool)
        begin = time.monotonic()
        inner = [
            [one.returncode for one in oxgen.map([request(probe, "exit", 4)] * 3, 2, pool)]
            for _ in outer
        ]
        assert inner == [[4] * 3] * 6
        assert time.monotonic() - begin < 10


def test_maps_in_many_threads_share_a_launcher(probe: Probe, pool: Launcher) -> None:
    counts: list[int] = []

    def work() -> None:
        results = list(oxgen.map([request(probe, "exit", 0)] * 50, 4, pool))
        counts.append(sum(done.returncode == 0 for done in results))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(60)
    assert counts == [50] * 4


def test_a_fork_in_the_middle_leaves_the_runs_to_the_parent(
    host: Callable[..., Host], probe_path: Path
) -> None:
    text = """
quick = [oxgen.Request([sys.argv[1], "print", str(n)]) for n in range(40)]
results = oxgen.map(quick, 8)
seen = [next(results).stdout]
child = os.fork()
if child == 0:
    try:
        next(results)
    except oxgen.UsageError as refused:
        fresh = [one.returncode for one in oxgen.map(quick[:3])]
        os._exit(0 if "forked" in str(refused) and fresh == [0] * 3 else 1)
    os._exit(2)
status = os.waitpid(child, 0)[1]
seen += [one.stdout for one in results]
say([status, len(seen), len(set(seen))])
"""
    assert host(text, probe_path).end() == [[0, 40, 40]]


def test_forks_while_another_thread_steps_do_no_harm(
    host: Callable[..., Host], probe_path: Path
) -> None:
    text = """
quick = oxgen.Request([sys.argv[1], "exit", "0"])
counts = []
thread = threading.Thread(
    target=lambda: counts.append(sum(1 for _ in oxgen.map([quick] * 2000, 8))))
thread.start()
states = []
while thread.is_alive() and len(states) < 50:
    child = os.fork()
    if child == 0:
        os._exit(0)
    states.append(os.waitpid(child, 0)[1])
thread.join()
say([counts, set(states) == {0}])
"""
    assert host(text, probe_path).end() == [[[2000], True]]


def test_many_runs_leave_no_descriptor_and_no_thread_each(probe: Probe) -> None:
    quick = request(probe, "print", "x" * 100)
    with Launcher(cells=8) as pool:
        list(oxgen.map([quick] * 20, 8, pool))
        before = len(os.listdir("/proc/self/fd"))
        threads = threading.active_count()
        most = 0
        for _ in oxgen.map([quick] * 500, 8, pool):
            most = max(most, threading.active_count())
        assert len(os.listdir("/proc/self/fd")) == before
        assert most <= threads + 1


def test_a_program_that_is_replaced_meanwhile_is_the_new_one(
    build_c: Callable[..., Path], pool: Launcher, tmp_path: Path
) -> None:
    path = tmp_path / "program"

    def supply() -> Iterator[Request]:
        for number in (5, 6):
            source = build_c(f"exit{number}", text=f"int main(void) {{ return {number}; }}")
            fresh = tmp_path / "fresh"
            fresh.write_bytes(source.read_bytes())
            fresh.chmod(0o755)
            fresh.rename(path)
            yield Request([str(path)])

    assert [done.returncode for done in oxgen.map(supply(), 1, pool)] == [5, 6]


def test_closing_the_launcher_ends_what_runs_in_it(probe: Probe, tag: str) -> None:
    pool = Launcher(cells=2)
    results = oxgen.map([request(probe, *LONG, tag)] * 3, 3, pool)
    timer = threading.Timer(0.5, pool.close)
    timer.start()
    ends = list(results)
    timer.join()
    assert watch.processes(tag) == []
    assert sorted(type(one).__name__ for one in ends) == ["Completed", "Completed", "UsageError"]
    assert {one.termination.reason for one in ends if isinstance(one, Completed)} == {"cancelled"}


def test_a_second_thread_in_the_iterator_is_refused(probe: Probe, pool: Launcher, tag: str) -> None:
    refused: list[BaseException] = []
    with oxgen.map([request(probe, *LONG, tag)], 8, pool) as results:

        def take() -> None:
            try:
                next(results)
            except BaseException as failure:
                refused.append(failure)

        first = threading.Thread(target=take)
        first.start()
        assert started(tag, 1)
        with pytest.raises(oxgen.UsageError, match="another thread"):
            next(results)
    first.join(10)
    assert len(refused) == 1 and watch.processes(tag) == []
