"""Measure: rows take turns, a few launches each, and ratios are taken round by round.

A machine whose speed drifts then slows all rows alike, and the ratios stay. Rows that leave the
kernel busy (namespaces are taken apart after the launch was reaped, a large fork has left pages to
copy) have their turns at the end of a round, with a pause after each. Within both groups the order
moves on by one each round, so that no row always follows the same neighbour, and each turn begins
with two launches that are not counted: they find the caches as the neighbour left them.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

__all__ = ["Absent", "Ratio", "Row", "Rows", "Series", "every", "measure"]

Kind = Literal["floor", "unconfined", "by hand", "peer", "in-process", "oxgen"]
Turn = Callable[[int], list[float]]

#: How much of a round one row may take, about.
_TURN_US = 6000
_PER_TURN_MAX = 10
_SETTLE_SECONDS = 0.004
_UNCOUNTED = 2


@dataclass(frozen=True, slots=True)
class Absent:
    """A way to launch that could not be measured here, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One way to launch. ``turn(n)`` launches n times and returns the microseconds of each.

    ``disturbs``: it leaves the kernel busy with what it did.
    """

    name: str
    kind: Kind
    turn: Turn
    promises: tuple[str, ...] = ()
    note: str = ""
    disturbs: bool = False


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows that can be measured, and the names of those that cannot."""

    present: list[Row] = field(default_factory=list)
    absent: list[Absent] = field(default_factory=list)

    def add(self, row: Row | Absent) -> None:
        """Put a row where it belongs."""
        if isinstance(row, Absent):
            self.absent.append(row)
        else:
            self.present.append(row)


@dataclass(frozen=True, slots=True)
class Ratio:
    """The median over the rounds of one row's time divided by another's, and its quartiles."""

    median: float
    low: float
    high: float
    rounds: int


class Series:
    """What was measured: for each row, for each round, the launches in microseconds."""

    def __init__(self, names: Sequence[str]) -> None:
        self.rounds: list[dict[str, list[float]]] = []
        self.names = list(names)

    def launches(self, name: str) -> list[float]:
        """Return every launch of a row, in microseconds, fastest first."""
        return sorted(taken for turns in self.rounds for taken in turns.get(name, ()))

    def ratio(self, above: str, below: str) -> Ratio | None:
        """Return how often ``below`` fits into ``above``; None where they share no round."""
        found = sorted(
            statistics.median(turns[above]) / statistics.median(turns[below])
            for turns in self.rounds
            if turns.get(above) and turns.get(below)
        )
        if not found:
            return None
        return Ratio(
            round(statistics.median(found), 3),
            round(found[len(found) // 4], 3),
            round(found[(3 * len(found)) // 4], 3),
            len(found),
        )

    def summary(self, row: Row, bases: Mapping[str, str]) -> dict[str, Any]:
        """Return what one row is, and its ``figures``."""
        what = {
            "name": row.name,
            "kind": row.kind,
            "promises": list(row.promises),
            "note": row.note,
        }
        return what | self.figures(row.name, bases)

    def figures(self, name: str, bases: Mapping[str, str]) -> dict[str, Any]:
        """Return the figures of one row; p99 is None below a hundred launches.

        ``bases`` are the rows it is compared with: the key of the ratio, the name of the row.
        """
        times = self.launches(name)
        figures: dict[str, Any] = {
            "launches": len(times),
            "p50_us": round(statistics.median(times), 1),
            "p99_us": round(times[int(len(times) * 0.99)], 1) if len(times) >= 100 else None,
            "min_us": round(times[0], 1),
        }
        for key, base in bases.items():
            ratio = self.ratio(name, base)
            figures[key] = None if ratio is None else asdict(ratio)
        return figures


def every(launch: Callable[[], object]) -> Turn:
    """Make a turn of an action: time each call of it."""

    def turn(count: int) -> list[float]:
        taken = []
        for _ in range(count):
            begun = time.perf_counter_ns()
            launch()
            taken.append((time.perf_counter_ns() - begun) / 1000)
        return taken

    return turn


@dataclass(slots=True)
class _Pace:
    """How many launches a row does in a turn, and in which rounds it has one."""

    per_turn: int
    in_rounds: int


_Paced = tuple[Row, _Pace]


def _paces(rows: Sequence[Row]) -> list[_Paced]:
    """Give each row about the same share of a round."""
    costs = []
    for row in rows:
        row.turn(2)  # cold
        costs.append(statistics.median(row.turn(3)))
    share = max(_TURN_US, 2 * min(costs))
    return [
        (
            row,
            _Pace(
                per_turn=max(1, min(_PER_TURN_MAX, round(share / cost))),
                # A power of two, so that slow rows meet in the same rounds.
                in_rounds=1 << max(0, round(math.log2(cost / share))),
            ),
        )
        for row, cost in zip(rows, costs, strict=True)
    ]


def _rotated(group: list[_Paced], number: int) -> list[_Paced]:
    first = number % len(group) if group else 0
    return [*group[first:], *group[:first]]


def measure(rows: Sequence[Row], seconds: float, *, rounds_min: int = 2) -> Series:
    """Let the rows take turns for this long, and for at least ``rounds_min`` rounds."""
    paces = _paces(rows)
    groups = [[one for one in paces if one[0].disturbs == late] for late in (False, True)]
    series = Series([row.name for row in rows])
    end = time.monotonic() + seconds
    while len(series.rounds) < rounds_min or time.monotonic() < end:
        number = len(series.rounds)
        turns: dict[str, list[float]] = {}
        for row, pace in (one for group in groups for one in _rotated(group, number)):
            if number % pace.in_rounds and rounds_min <= number:
                continue
            turns[row.name] = row.turn(pace.per_turn + _UNCOUNTED)[_UNCOUNTED:]
            if row.disturbs:
                time.sleep(_SETTLE_SECONDS)
        series.rounds.append(turns)
    return series
