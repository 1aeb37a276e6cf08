"""Chart: latency distributions and throughput as a picture, drawn with matplotlib."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
from collections.abc import Mapping, Sequence

import click

from ..closing import Closes
from ..values import other_kind
from .options import FileName

__all__ = ["ChartFile", "ChartName", "draw"]

_ENDINGS = ("svg", "png")
#: As many points show all that a line of a few hundred pixels can.
_POINTS = 1000
_COLOURS = ("#7f7f7f", "#1f77b4", "#d95f02")


class ChartName(FileName):
    """The name of a file that a chart is written to; its ending says in which format."""

    def __init__(self) -> None:
        super().__init__("a file name that ends with .svg or .png")

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        text = super().convert(value, param, ctx)
        if _format_of(text) not in _ENDINGS:
            self.fail(f"{text!r} is refused; accepted: {self.accepted}.", param, ctx)
        return text


def _format_of(path: str) -> str:
    return os.path.splitext(path)[1][1:].lower()


class ChartFile(Closes):
    """The file of a chart, opened before anything is measured; its old content stays until then.

    Raises ``click.UsageError`` where matplotlib is not installed, ``OSError`` where the file cannot
    be written. Left without ``write``, a file that was not there before is gone again.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        if other_kind(path):
            raise OSError(errno.EINVAL, "is not a regular file", path)
        # O_NONBLOCK: opening a FIFO that comes this very moment must not wait for its reader.
        flags = os.O_WRONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        try:
            self._descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666)
            self._is_new = True
        except FileExistsError:
            self._descriptor = os.open(path, flags)
            self._is_new = False
            if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
                os.close(self._descriptor)
                raise OSError(errno.EINVAL, "is not a regular file", path) from None

        try:
            import matplotlib.figure  # noqa: F401
        except ImportError as exc:
            self.close()
            raise click.UsageError(
                f"--plot needs matplotlib, which cannot be imported ({exc});"
                " pip install 'oxgen[plot]'"
            ) from None

    def close(self) -> None:
        """Close it; a new one that was not written is gone."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
        if self._is_new:
            self._is_new = False
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)

    def write(self, content: bytes) -> None:
        """Replace the file's content; raise ``OSError``, which names the file, where it cannot."""
        rest = memoryview(content)
        try:
            os.ftruncate(self._descriptor, 0)
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError as exc:
            raise OSError(exc.errno, exc.strerror, self.path) from None
        self._is_new = False

    @property
    def format(self) -> str:
        """What its ending says: ``svg`` or ``png``."""
        return _format_of(self.path)


def draw(
    latencies_us: Mapping[str, Sequence[float]],
    rates: Mapping[str, Mapping[int, float]],
    *,
    title: str,
    format: str,
) -> bytes:
    """Return a picture: how the latencies are distributed, and launches/s by runs in flight.

    Both kinds of cell get lines and bars of the same weight.
    """
    from matplotlib.figure import Figure

    from .histogram import duration

    # Text of strangers (a program's name) is not to be taken for a formula.
    plain = {"parse_math": False}
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    colours = dict(zip(latencies_us, _COLOURS, strict=False))
    for name, values in latencies_us.items():
        if values:
            left.plot(*_distribution(values), label=name, color=colours[name], linewidth=1.8)
    left.set_xscale("log")
    left.xaxis.set_major_formatter(lambda value, place: duration(value))
    left.set(xlabel="latency of one launch", ylabel="% of launches at or below", ylim=(0, 100))
    left.grid(True, which="both", alpha=0.25)
    left.legend(fontsize="small", loc="lower right")

    groups = sorted({concurrency for column in rates.values() for concurrency in column})
    width = 0.8 / max(1, len(rates))
    for index, (name, column) in enumerate(rates.items()):
        places = [groups.index(concurrency) + index * width for concurrency in column]
        right.bar(places, list(column.values()), width, label=name, color=colours[name])
    middle = width * (len(rates) - 1) / 2
    right.set_xticks([place + middle for place in range(len(groups))], [str(g) for g in groups])
    right.set(xlabel="runs in flight", ylabel="launches/s")
    right.grid(True, axis="y", alpha=0.25)
    if rates:
        right.legend(fontsize="small")
    figure.suptitle(title, fontsize="small", **plain)
    picture = io.BytesIO()
    figure.savefig(picture, format=format)
    return picture.getvalue()


def _distribution(values: Sequence[float]) -> tuple[list[float], list[float]]:
    ordered = sorted(values)
    count = len(ordered)
    steps = sorted({round(step * (count - 1) / _POINTS) for step in range(_POINTS + 1)})
    return [ordered[step] for step in steps], [100 * (step + 1) / count for step in steps]
