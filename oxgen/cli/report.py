"""Report: what ``0xgenctl bench`` measured, for people, for programs and as a chart."""

from __future__ import annotations

import codecs
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .histogram import buckets_for, histogram_lines
from .measure import Rate, Row, percentile
from .terminal import PROGRAM, visible

if TYPE_CHECKING:
    from ..limits import Limits
    from ..result import Confinement

__all__ = ["TAIL_LAUNCHES", "Report", "machine"]

_COLUMNS = 80
#: Of fewer launches, none is the one in a hundred that takes longer than p99.
TAIL_LAUNCHES = 100
#: What people read for each kind of cell.
_CELL_NAMES = {"tenancy": "oxgen, cell reused", "never": "oxgen, new cell each"}
_BASE_NAME = "subprocess.run, unconfined"


@dataclass(slots=True)
class Report:
    """What was measured so far; ``cells``, ``rates`` and ``confinement`` by kind of reuse."""

    command: tuple[str, ...]  # empty: the built-in program
    seconds: float
    limits: Limits
    baseline: Row | None = None
    cells: dict[str, Row] = field(default_factory=dict)
    rates: dict[str, list[Rate]] = field(default_factory=dict)
    confinement: dict[str, Confinement] = field(default_factory=dict)

    def rows(self) -> list[Row]:
        """Return what is measured in turn."""
        return [*([self.baseline] if self.baseline else []), *self.cells.values()]

    @property
    def complete(self) -> bool:
        """Whether there is a figure for everything that was to be measured."""
        rates = [rate.per_second for column in self.rates.values() for rate in column]
        return (
            bool(self.cells)
            and all(row.turns and row.turns[0] for row in self.rows())
            and all(rates)
        )

    @property
    def is_empty(self) -> bool:
        """Whether not a single launch was measured."""
        return not any(turn for row in self.rows() for turn in row.turns)

    def without_tail(self) -> list[str]:
        """Return what was measured too few times for a p99, which is null then."""
        counts = {title: len(row.values_us()) for title, row in self._named_rows().items()}
        return [
            f"{title} ({count})" for title, count in counts.items() if 0 < count < TAIL_LAUNCHES
        ]

    def otherwise_lines(self) -> list[str]:
        """Return a line for each way to launch whose launches did not all exit with 0."""
        lines = []
        name = visible(self.command[0]) if self.command else "the built-in program"
        for title, row in self._named_rows().items():
            ways, count = row.otherwise.copy(), sum(len(turn) for turn in row.turns)
            for rate in self.rates.get(row.reuse or "", ()):
                ways += rate.otherwise
                count += rate.launches
            if ways:
                said = ", ".join(f"{way} ({many})" for way, many in ways.most_common())
                lines.append(
                    f"{name}: {title}: {ways.total()} of {count} launches did not exit with 0:"
                    f" {said}"
                )
        return lines

    def _named_rows(self) -> dict[str, Row]:
        named = {_BASE_NAME: self.baseline} if self.baseline else {}
        return {**named, **{_CELL_NAMES[reuse]: row for reuse, row in self.cells.items()}}

    # --- for programs -----------------------------------------------------------------------------

    def as_object(self) -> dict[str, Any]:
        """Return the ``oxgen.bench/1`` object (docs/cli.md)."""
        edges = buckets_for([row.values_us() for row in self.rows()])
        latency = []
        for row in self.rows():
            values = row.values_us()
            latency.append(
                {
                    "name": row.name,
                    "reuse": row.reuse,
                    "launches": len(values),
                    **_figures(values),
                    "ratio": row.ratio_to(self.baseline) if self.baseline else None,
                    "otherwise": dict(row.otherwise),
                    "histogram": edges.count(values),
                }
            )
        return {
            "schema": "oxgen.bench/1",
            "complete": self.complete,
            "machine": machine(),
            "command": list(self.command) or None,
            "seconds": self.seconds,
            "limits": self.limits.as_dict(),
            "confinement": {
                reuse: {
                    "level": box.level,
                    "limits": box.limits,
                    "enforced": list(box.enforced),
                    "missing": list(box.missing),
                }
                for reuse, box in self.confinement.items()
            },
            "latency": latency,
            "histogram_from_us": [round(edge, 3) for edge in edges.edges],
            "throughput": [
                {
                    "reuse": reuse,
                    "concurrency": rate.concurrency,
                    "launches": rate.launches,
                    "seconds": round(rate.seconds, 6),
                    "launches_per_second": rate.per_second and round(rate.per_second, 1),
                    "otherwise": dict(rate.otherwise),
                }
                for reuse, column in self.rates.items()
                for rate in column
            ],
        }

    # --- for people -------------------------------------------------------------------------------

    def as_text(self) -> str:
        """Return tables and a histogram of at most 80 columns."""
        return "\n".join(
            [
                *self._heading(),
                "",
                *self._latency_table(),
                "",
                "distribution: of each column's own launches, how many took so long",
                *self._histogram(),
                "",
                *self._rate_table(),
            ]
        )

    def _heading(self) -> list[str]:
        about = machine()
        box = next(iter(self.confinement.values()), None)
        launched = (
            " ".join(self.command) if self.command else "a built-in program that exits at once"
        )
        confined = f"{box.level}, limits held by {box.limits}" if box else "not known"
        return [
            f"machine   {visible(about['cpu'])}, {about['processors']} processors",
            f"kernel    {visible(about['kernel'])} {about['architecture']}",
            f"oxgen     {about['oxgen']} ({about['build']})",
            f"confined  {confined}",
            f"launched  {visible(launched)[: _COLUMNS - 10]}",
        ]

    def _latency_table(self) -> list[str]:
        head = "".join(f"{word:>9}" for word in ("p50", "p90", "p99", "max", "launches"))
        lines = [f"{'latency in us':26}{head}{'ratio':>8}"]
        for title, row in self._named_rows().items():
            values = row.values_us()
            cells = "".join(f"{_number(value):>9}" for value in _figures(values).values())
            ratio = row.ratio_to(self.baseline) if self.baseline else None
            ratio_text = "-" if ratio is None else f"{ratio:.2f}"
            lines.append(f"{title:26}{cells}{len(values):>9}{ratio_text:>8}")
        if self.baseline:
            lines.append("ratio: to subprocess.run, p50 of each round; below 1 is faster")
        return lines

    def _histogram(self) -> list[str]:
        series = {
            title.replace(", unconfined", ""): row.values_us()
            for title, row in self._named_rows().items()
        }
        return histogram_lines(series, width=_COLUMNS, blocks=_is_utf8(sys.stdout.encoding))

    def _rate_table(self) -> list[str]:
        titles = [_CELL_NAMES[reuse] for reuse in self.rates]
        lines = ["".join(["launches/s".ljust(26), *(f"{title:>24}" for title in titles)])]
        for column in zip(*self.rates.values(), strict=True):
            cells = (f"{_number(rate.per_second):>24}" for rate in column)
            lines.append("".join([f"{column[0].concurrency:>5} in flight".ljust(26), *cells]))
        return lines

    # --- as a picture -----------------------------------------------------------------------------

    def chart(self, format: str) -> bytes:
        """Return a chart, ``svg`` or ``png``; matplotlib draws it."""
        from .chart import draw

        about = machine()
        launched = " ".join(self.command) if self.command else "a program that exits at once"
        return draw(
            {title: row.values_us() for title, row in self._named_rows().items()},
            {
                _CELL_NAMES[reuse]: {
                    rate.concurrency: rate.per_second for rate in column if rate.per_second
                }
                for reuse, column in self.rates.items()
            },
            title=f"launching {visible(launched)[:60]} on {visible(about['cpu'])},"
            f" {about['processors']} processors, {visible(about['kernel'])}; {PROGRAM}"
            f" {about['oxgen']}",
            format=format,
        )


def _figures(ascending: list[float]) -> Mapping[str, float | None]:
    shares = {"p50_us": 0.5, "p90_us": 0.9, "p99_us": 0.99, "max_us": 1.0}
    if not ascending:
        return dict.fromkeys(shares)
    figures: dict[str, float | None] = {
        name: round(percentile(ascending, share), 1) for name, share in shares.items()
    }
    if len(ascending) < TAIL_LAUNCHES:
        figures["p99_us"] = None
    return figures


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def _is_utf8(encoding: str | None) -> bool:
    try:
        return codecs.lookup(encoding or "ascii").name == "utf-8"
    except LookupError:
        return False


def machine() -> dict[str, Any]:
    """Return what the figures depend on: processor, kernel, and the builds of oxgen and Python."""
    from .. import __version__, _launch

    system = os.uname()
    return {
        "cpu": _cpu() or system.machine,
        "processors": len(os.sched_getaffinity(0)),
        "kernel": f"{system.sysname} {system.release}",
        "architecture": system.machine,
        "python": platform.python_version(),
        "oxgen": __version__,
        "build": _launch.build(),
    }


def _cpu() -> str:
    """Return the model name of the first processor; not every architecture has one in the file."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                name, colon, value = line.partition(":")
                if colon and name.strip() == "model name":
                    return value.strip()
    except OSError:
        return ""  # no /proc: the architecture says what there is to say
    return ""
