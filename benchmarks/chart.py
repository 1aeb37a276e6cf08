"""Charts: the figures as SVG, for those who have matplotlib (``pip install oxgen[plot]``)."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from .ours import AIO, MAP, NEVER, TENANCY
from .peers import BASE, FLOOR

__all__ = ["draw"]

Results = dict[str, Any]

#: One colour a kind. The reused cell and the one that is never reused have the same colour and the
#: same weight; they differ by their names alone.
_COLOURS = {
    "floor": "#7f7f7f",
    "unconfined": "#bcbcbc",
    "by hand": "#d8a25e",
    "peer": "#c0504d",
    "in-process": "#8064a2",
    "oxgen": "#1f77b4",
}
_TEXT = "#222222"
#: Lines: what is ours is solid and equally wide, everything else is thin.
_LINES = {
    FLOOR: "#7f7f7f",
    BASE: "#9a9a9a",
    "asyncio.create_subprocess_exec": "#c9a227",
    "bwrap --unshare-all": "#c0504d",
    "Popen(preexec_fn=)": "#d8a25e",
    TENANCY: "#1f77b4",
    NEVER: "#12395b",
    MAP: "#17a2b8",
    AIO: "#2ca02c",
}


def draw(results: Results, directory: Path) -> list[str]:
    """Write what can be drawn and return the files' names; without matplotlib there are none."""
    try:
        matplotlib: Any = importlib.import_module("matplotlib")
    except ModuleNotFoundError:
        return []
    matplotlib.use("svg")
    # Equal figures give equal files: no date, no random ids.
    matplotlib.rcParams |= {"svg.hashsalt": "oxgen", "svg.fonttype": "none", "font.size": 9.0}
    pyplot: Any = importlib.import_module("matplotlib.pyplot")
    written = []
    charts = (
        ("latency.svg", _latency, results["targets"][0] if results["targets"] else None),
        ("throughput.svg", _throughput, results.get("throughput")),
        ("heap.svg", _heap, results.get("heap")),
    )
    for name, make, section in charts:
        if not section:
            continue
        figure = make(pyplot, section)
        figure.savefig(directory / name, metadata={"Date": None}, bbox_inches="tight")
        pyplot.close(figure)
        written.append(name)
    return written


def _latency(pyplot: Any, section: Results) -> Any:
    rows = sorted(section["rows"], key=lambda row: -row["p50_us"])
    # Side by side, whatever lies between them: what a cell costs and what its reuse saves.
    never = next((row for row in rows if row["name"] == NEVER), None)
    if never is not None and any(row["name"] == TENANCY for row in rows):
        rows.remove(never)
        rows.insert([row["name"] for row in rows].index(TENANCY), never)
    figure, axes = pyplot.subplots(figsize=(8, 0.33 * len(rows) + 1.2))
    for place, row in enumerate(rows):
        axes.barh(place, row["p50_us"], height=0.62, color=_COLOURS[row["kind"]])
        label = f" {row['p50_us']:,.0f}"
        end = row["p50_us"]
        if row["p99_us"] is not None:
            axes.plot([row["p50_us"], row["p99_us"]], [place, place], color=_TEXT, linewidth=1)
            axes.plot(row["p99_us"], place, marker="|", color=_TEXT, markersize=8)
            label += f" / {row['p99_us']:,.0f}"
            end = max(end, row["p99_us"])
        axes.text(end * 1.06, place, label, va="center", color=_TEXT)
    axes.set_yticks(range(len(rows)), [row["name"] for row in rows])
    axes.set_xscale("log")
    axes.set_xlim(right=axes.get_xlim()[1] * 4)
    axes.set_xlabel("microseconds for one launch: p50 (bar) / p99 (line), logarithmic")
    axes.set_title(f"One launch: {section['about']} ({section['size_bytes']:,} bytes)")
    _legend(pyplot, axes, [row["kind"] for row in rows])
    return _plain(figure, axes)


def _legend(pyplot: Any, axes: Any, kinds: list[str]) -> None:
    used = [kind for kind in _COLOURS if kind in kinds]
    handles = [pyplot.Rectangle((0, 0), 1, 1, color=_COLOURS[kind]) for kind in used]
    axes.legend(handles, used, loc="upper right", frameon=False)


def _line(name: str) -> dict[str, Any]:
    style: dict[str, Any] = {"label": name, "color": _LINES[name], "marker": "o", "markersize": 4}
    if name.startswith("oxgen"):
        return style | {"linewidth": 2.2}
    return style | {"linewidth": 1.2, "linestyle": "--"}


def _throughput(pyplot: Any, section: Results) -> Any:
    numbers = section["in_flight"]
    figure, axes = pyplot.subplots(figsize=(8, 4.5))
    for row in section["rows"]:
        rates = [row["launches_per_second"][str(number)] for number in numbers]
        axes.plot(numbers, rates, **_line(row["name"]))
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(numbers, [str(number) for number in numbers])
    axes.set_xlabel("launches in flight")
    axes.set_ylabel("launches a second, logarithmic")
    axes.set_title("Throughput (solid: confined by oxgen)")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    return _plain(figure, axes)


def _heap(pyplot: Any, section: Results) -> Any:
    figure, axes = pyplot.subplots(figsize=(8, 3.6))
    names = list(dict.fromkeys(row["name"] for row in section["rows"]))
    for name in names:
        rows = [row for row in section["rows"] if row["name"] == name]
        sizes = [row["heap_mib"] for row in rows]
        axes.plot(sizes, [row["p50_us"] for row in rows], **_line(name))
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    sizes = sorted({row["heap_mib"] for row in section["rows"]})
    axes.set_xticks(
        sizes, [f"{size} MiB" if size < 1024 else f"{size // 1024} GiB" for size in sizes]
    )
    axes.set_xlabel("touched heap of the calling process")
    axes.set_ylabel("p50, microseconds, logarithmic")
    axes.set_title("One launch by the size of the calling process")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    return _plain(figure, axes)


def _plain(figure: Any, axes: Any) -> Any:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.grid(axis="x", which="major", alpha=0.25)
    return figure
