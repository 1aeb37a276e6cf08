"""Measure: launches of one command in several ways, in turn, and many of them at once."""

from __future__ import annotations

import collections
import contextlib
import itertools
import math
import signal
import statistics
import subprocess
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import TYPE_CHECKING, Final

from .. import many, process
from ..errors import LaunchError, UnsupportedError
from ..limits import Limits
from ..request import Request
from ..result import signal_name
from ..sandbox import Enforce
from .static_elf import CONFINED, OF_USER_NAMESPACE

if TYPE_CHECKING:
    from .._launch import Launcher
    from ..result import Completed, Confinement
    from ..sandbox import Sandbox

__all__ = [
    "Confined",
    "Rate",
    "Row",
    "Unconfined",
    "check_confinement",
    "ended_otherwise",
    "measure_latency",
    "measure_rate",
    "percentile",
    "time_bound",
]

#: Launches of a row before the next one has its turn; fewer where these take longer than this.
_TURN_LAUNCHES: Final = 10
_TURN_SECONDS: Final = 0.02
#: More turns of a row make its figures no better, and an hour of them would fill the memory.
_TURNS_MOST: Final = 20_000
#: A cell without one of these would make a launch cheaper, whatever limits were asked for.
_REQUIRED: Final = ("filesystem", "network", "whole_tree_kill", "syscalls", "neighbours")


class _TimeIsUp(BaseException):
    """Raised by SIGALRM wherever the main thread is, as KeyboardInterrupt is by Ctrl-C."""


@contextlib.contextmanager
def time_bound(seconds: float) -> Iterator[None]:
    """Leave the block after ``seconds``, whatever it waits for; runs in it are killed first."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise _TimeIsUp

    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3))
        yield
    except _TimeIsUp:
        pass  # what was measured until now is the result
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# --- one launch -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Confined:
    """One way to launch the command: in cells of ``launcher``."""

    words: tuple[str, ...]
    sandbox: Sandbox
    limits: Limits
    launcher: Launcher

    def complete(self) -> Completed:
        """Launch it once, with its output kept as ``subprocess.run(capture_output=True)`` does."""
        return process.run(
            self.words,
            sandbox=self.sandbox,
            limits=self.limits,
            launcher=self.launcher,
            capture_output=True,
        )

    def __call__(self) -> str:
        """Launch it once; return how it ended, if otherwise than with exit status 0."""
        return ended_otherwise(self.complete())


@dataclass(frozen=True, slots=True)
class Unconfined:
    """The other way: ``subprocess.run(capture_output=True)``.

    ``stdin`` is a descriptor; None lets the command have ours.
    """

    words: tuple[str, ...]
    stdin: int | None = None

    def __call__(self) -> str:
        """Launch it once; return how it ended, if otherwise than with exit status 0."""
        try:
            done = subprocess.run(self.words, stdin=self.stdin, capture_output=True)
        except OSError as exc:
            raise LaunchError(
                "exec", exc.errno or 0, f"without confinement: {exc.strerror}", path=self.words[0]
            ) from None
        return _ending(done.returncode)


def ended_otherwise(completed: Completed) -> str:
    """Return how a run ended, in words; an empty string for exit status 0."""
    reason = completed.termination.reason
    if reason is not None and reason != "killed":
        return reason
    return _ending(completed.returncode)


def _ending(returncode: int) -> str:
    if returncode < 0:
        return signal_name(-returncode)
    return f"exit status {returncode}" if returncode else ""


def check_confinement(command: Confined, probe: str | None) -> Confinement:
    """Launch the command once and return what confines it; refuse a pool that does not confine.

    ``probe`` is the program of ``static_elf`` that asks the kernel from inside a cell of the same
    pool; None where there is none for this machine. What the sandbox waives may be missing. Raises
    ``UnsupportedError``.
    """
    box = command.complete().confinement
    policy = command.sandbox
    waived = box.missing if policy.enforce is Enforce.BEST_EFFORT else policy.enforce_except
    lacking = tuple(name for name in _REQUIRED if name not in box.enforced)
    missing = tuple(name for name in dict.fromkeys((*box.missing, *lacking)) if name not in waived)
    if box.level is None or missing:
        raise _not_confined(missing, f"its cells are without {', '.join(missing) or 'a level'}")
    if probe is not None:
        # The command's times and output are not the probe's: what makes the cell is the same.
        usual = Limits()
        limits = replace(
            command.limits,
            wall_seconds=usual.wall_seconds,
            cpu_seconds=usual.cpu_seconds,
            output_bytes=usual.output_bytes,
        )
        found = replace(command, words=(probe,), limits=limits).complete()
        status = found.termination.exit_code
        ignored = 0 if box.level == "namespaces" else OF_USER_NAMESPACE
        wanted = CONFINED & ~ignored
        if status is None or status & ~ignored != wanted:
            said = ended_otherwise(found) if status is None else f"exit status {status:#04x}"
            raise _not_confined(
                ("syscalls", "neighbours"),
                "a probe in it has no system call filter, no no_new_privs or not the uid 65534"
                f" ({said}, wanted {wanted:#04x})",
            )
    return box


def _not_confined(missing: tuple[str, ...], cause: str) -> UnsupportedError:
    return UnsupportedError(
        missing,
        f"nothing was measured, as the pool to be measured does not confine: {cause}",
        "0xgenctl doctor says what this machine enforces",
    )


# --- latency --------------------------------------------------------------------------------------


@dataclass(slots=True)
class Row:
    """One way to launch the command, and how long that took, turn by turn."""

    name: str
    launch: Callable[[], str]
    reuse: str | None = None
    #: Nanoseconds of each launch.
    turns: list[list[int]] = field(default_factory=list)
    #: How launches ended otherwise than with exit status 0, and how many.
    otherwise: collections.Counter[str] = field(default_factory=collections.Counter)

    def values_us(self) -> list[float]:
        """Return all latencies in microseconds, ascending."""
        return sorted(took / 1000 for turn in self.turns for took in turn)

    def ratio_to(self, base: Row) -> float | None:
        """Return how many times as long as ``base`` it takes: the median over the rounds."""
        ratios = [
            statistics.median(turn) / statistics.median(other)
            for turn, other in zip(self.turns, base.turns, strict=False)
            if turn and other
        ]
        return statistics.median(ratios) if ratios else None


def measure_latency(rows: Sequence[Row], seconds: float) -> None:
    """Launch each row a few times in turn, in another order each round, until ``seconds`` are over.

    A machine whose speed drifts then slows all of them alike. There is one round at least, and no
    more than 200,000 launches of a row.
    """
    end = time.monotonic() + seconds
    order = list(rows)
    for _ in range(_TURNS_MOST):
        for row in order:
            _take_turn(row)
        if time.monotonic() >= end:
            return
        order = order[1:] + order[:1]


def _take_turn(row: Row) -> None:
    turn: list[int] = []
    row.turns.append(turn)
    end = time.perf_counter_ns() + round(_TURN_SECONDS * 1e9)
    while len(turn) < _TURN_LAUNCHES:
        begun = time.perf_counter_ns()
        otherwise = row.launch()
        done = time.perf_counter_ns()
        turn.append(done - begun)
        if otherwise:
            row.otherwise[otherwise] += 1
        if done >= end:
            return


def percentile(ascending: Sequence[float], share: float) -> float:
    """Return the value that ``share`` of the values do not exceed (nearest rank)."""
    return ascending[max(0, math.ceil(share * len(ascending)) - 1)]


# --- throughput -----------------------------------------------------------------------------------


@dataclass(slots=True)
class Rate:
    """How many launches ended in a time, with so many of them in flight."""

    concurrency: int
    launches: int = 0
    seconds: float = 0.0
    otherwise: collections.Counter[str] = field(default_factory=collections.Counter)

    @property
    def per_second(self) -> float | None:
        """None where no launch ended while it was measured."""
        return self.launches / self.seconds if self.launches and self.seconds else None


def measure_rate(command: Confined, rate: Rate, seconds: float) -> None:
    """Keep ``rate.concurrency`` launches in flight for ``seconds``, and count those that end.

    Counting begins when so many have ended that every cell has been made, at the latest half-way.
    """
    begun = time.monotonic()
    end, half = begun + seconds, begun + seconds / 2
    counted_from: float | None = None
    before = 0
    with contextlib.closing(_in_flight(command, rate.concurrency, end)) as ended:
        for completed in ended:
            now = time.monotonic()
            if counted_from is None:
                before += 1
                if before >= rate.concurrency or now >= half:
                    counted_from = now
            elif now < end:
                rate.launches += 1
                rate.seconds = now - counted_from
                otherwise = ended_otherwise(completed)
                if otherwise:
                    rate.otherwise[otherwise] += 1


def _in_flight(command: Confined, concurrency: int, end: float) -> Generator[Completed, None, None]:
    """Launch until ``end``, ``concurrency`` at a time, and yield what ends as it ends.

    Left early, it kills what is in flight.
    """
    request = Request(command.words, sandbox=command.sandbox, limits=command.limits)
    requests = itertools.takewhile(lambda _: time.monotonic() < end, itertools.repeat(request))
    with many.map(requests, concurrency, command.launcher) as results:
        for result in results:
            if isinstance(result, Exception):
                raise result
            yield result
