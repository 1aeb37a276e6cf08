"""Histogram: distributions of times, side by side in text, on one logarithmic scale."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["Buckets", "bar", "buckets_for", "duration", "histogram_lines"]

#: Buckets for each doubling of the time, the finest first.
_PER_OCTAVE: Final = (8.0, 4.0, 2.0, 1.0, 0.5, 0.25, 0.125, 0.0625)
#: What lies above this share of a series does not stretch the scale: it goes to the open bucket.
_COVERED: Final = 0.99
_LINES_MAX: Final = 16
_EIGHTHS: Final = " ▏▎▍▌▋▊▉█"
_LABEL: Final = 10
_GAP: Final = 2


@dataclass(frozen=True, slots=True)
class Buckets:
    """Where each bucket begins, in us, ascending; the last one has no end if ``is_open``."""

    edges: tuple[float, ...]
    is_open: bool

    def count(self, values: Sequence[float]) -> list[int]:
        """Return how many of ``values`` lie in each bucket; none is left out."""
        import bisect

        counts = [0] * (len(self.edges) - (not self.is_open))
        for value in values:
            index = bisect.bisect_right(self.edges, value) - 1
            counts[min(max(index, 0), len(counts) - 1)] += 1
        return counts


def buckets_for(series: Sequence[Sequence[float]], lines: int = _LINES_MAX) -> Buckets:
    """Return at most ``lines`` buckets, the finest that cover 99 % of each of the series.

    An outlier beyond gets no scale of its own: the open bucket at the end takes it.
    """
    filled = [sorted(values) for values in series if values]
    if not filled:
        return Buckets((), is_open=False)
    least = max(min(values[0] for values in filled), 1e-3)
    most = max(values[-1] for values in filled)
    covered = max(values[math.ceil(_COVERED * len(values)) - 1] for values in filled)
    for per_octave in _PER_OCTAVE:
        first = math.floor(math.log2(least) * per_octave)
        last = math.floor(math.log2(max(covered, least)) * per_octave)
        if last - first + 2 <= lines:
            break
    # The end of the last closed bucket is the begin of the open one, where there is one.
    edges = tuple(2 ** (step / per_octave) for step in range(first, last + 2))
    return Buckets(edges, is_open=most >= edges[-1])


def bar(share: float, width: int, *, blocks: bool) -> str:
    """Return a bar for ``share`` (0 to 1) of ``width`` characters; nothing but 0 is invisible."""
    if share <= 0 or width <= 0:
        return ""
    if not blocks:
        return "#" * min(width, round(share * width)) or "."
    eighths = min(8 * width, max(1, round(share * width * 8)))
    full, rest = divmod(eighths, 8)
    return _EIGHTHS[8] * full + (_EIGHTHS[rest] if rest else "")


def duration(microseconds: float) -> str:
    """Return a time with three digits and its unit."""
    for unit, size in (("us", 1.0), ("ms", 1e3), ("s", 1e6)):
        amount = microseconds / size
        if amount < 999.5 or unit == "s":
            return f"{amount:.{2 if amount < 9.995 else 1 if amount < 99.95 else 0}f} {unit}"
    raise AssertionError  # the last unit returns


def histogram_lines(
    series: Mapping[str, Sequence[float]], *, width: int = 80, blocks: bool
) -> list[str]:
    """Return lines of at most ``width`` columns: one bucket each, every series a column of its own.

    All columns have one width and one scale: the share of their own launches, the same length for
    the same share. ``blocks`` False keeps to ASCII.
    """
    buckets = buckets_for(list(series.values()))
    if not buckets.edges:
        return []
    room = max((width - _LABEL) // len(series) - _GAP, 8)
    counts = {name: buckets.count(values) for name, values in series.items()}
    shares = {
        name: [one / max(1, sum(counted)) for one in counted] for name, counted in counts.items()
    }
    top = max(max(column) for column in shares.values())
    titles = (" " * _GAP + name[:room].ljust(room) for name in series)
    lines = [("from".rjust(_LABEL) + "".join(titles)).rstrip()]
    for index in range(len(next(iter(shares.values())))):
        cells = []
        for column in shares.values():
            share = column[index]
            drawn = bar(share / top, room - 5, blocks=blocks)
            percent = f" {_percent(share)}" if share else ""
            cells.append(" " * _GAP + (drawn + percent).ljust(room))
        label = duration(buckets.edges[index]).rjust(_LABEL)
        lines.append((label + "".join(cells)).rstrip())
    return lines


def _percent(share: float) -> str:
    if share < 0.005:
        return "<1%"
    return f"{share * 100:.0f}%"
