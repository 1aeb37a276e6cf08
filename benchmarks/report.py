"""Report: the figures as Markdown, and as lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

__all__ = ["goal_lines", "markdown"]

Results = dict[str, Any]
_PROPERTIES = 9


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    names = list(head)
    yield "| " + " | ".join(names) + " |"
    yield "|" + "---|" * len(names)
    for row in rows:
        yield "| " + " | ".join(row) + " |"
    yield ""


def _code(text: str) -> str:
    return f"`{text}`"


def _microseconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _ratio(ratio: dict[str, Any] | None) -> str:
    return "-" if ratio is None else f"{ratio['median']:.2f}"


def _promises(row: dict[str, Any]) -> str:
    kept = row["promises"]
    return "all nine" if len(kept) == _PROPERTIES else ", ".join(kept) or "none"


def _machine(machine: Results) -> Iterator[str]:
    virtual = "a virtual machine with " if machine["virtual"] else ""
    yield (
        f"On {virtual}{machine['processors']} processors ({machine['cpu']},"
        f" {machine['architecture']}), {machine['memory_mib']:,} MiB; Linux {machine['kernel']},"
        f" cgroups of version {machine['cgroup_versions']}; {machine['python']};"
        f" oxgen {machine['oxgen']} at {machine['commit'] or 'an unknown commit'};"
        f" {machine['date']}."
    )
    found = [f"{name} {version}" for name, version in machine["peers"].items() if version]
    yield f"Peers: {', '.join(found) or 'none'}."
    yield ""


def _absent(section: Results) -> Iterator[str]:
    for one in section.get("absent", ()):
        yield f"Absent: {one['name']} ({one['reason']})."
    if section.get("absent"):
        yield ""


def _goals(results: Results) -> Iterator[str]:
    yield "## Goals"
    yield ""
    verdict = {True: "reached", False: "**not reached**", None: "-"}
    rows = [
        (goal["what"], goal["goal"], goal["text"], verdict[goal["reached"]])
        for goal in results["goals"]
    ]
    yield from _table(("what", "goal", "measured", ""), rows)


def _target(section: Results) -> Iterator[str]:
    yield f"## One launch: {section['about']} ({section['size_bytes']:,} bytes)"
    yield ""
    rows = [
        (
            _code(row["name"]),
            _microseconds(row["p50_us"]),
            _microseconds(row["p99_us"]),
            _ratio(row["to_subprocess"]),
            str(row["launches"]),
            _promises(row) + (f"; {row['note']}" if row["note"] else ""),
        )
        for row in section["rows"]
    ]
    head = ("way", "p50 us", "p99 us", "x subprocess", "launches", "promises")
    yield from _table(head, rows)
    yield from _absent(section)


def _throughput(section: Results) -> Iterator[str]:
    yield "## Launches a second"
    yield ""
    numbers = [str(number) for number in section["in_flight"]]
    rows = [
        (_code(row["name"]), *(f"{row['launches_per_second'][one]:,.0f}" for one in numbers))
        for row in section["rows"]
    ]
    yield from _table(("way", *(f"{one} in flight" for one in numbers)), rows)
    yield from _absent(section)


def _heap(section: Results) -> Iterator[str]:
    yield "## By the heap of the calling process"
    yield ""
    rows = [
        (
            _code(row["name"]),
            f"{row['heap_mib']} MiB",
            _microseconds(row["p50_us"]),
            _microseconds(row["p99_us"]),
            _ratio(row["to_small"]),
            _ratio(row["to_ours"]),
        )
        for row in section["rows"]
    ]
    head = ("way", "heap", "p50 us", "p99 us", "x smallest heap", "x `oxgen.run`")
    yield from _table(head, rows)
    yield from _absent(section)


def _artifacts(section: Results) -> Iterator[str]:
    yield "## By the size of the artifact"
    yield ""
    rows = [
        (
            _code(row["name"]),
            f"{row['artifact_mib']:g} MiB",
            _microseconds(row["p50_us"]),
            _microseconds(row["p99_us"]),
            _ratio(row["to_unverified"]),
        )
        for row in section["rows"]
    ]
    yield from _table(("way", "artifact", "p50 us", "p99 us", "x unverified"), rows)


def _traces(section: Results) -> Iterator[str]:
    yield "## A launch that leaves something"
    yield ""
    rows = [
        (
            _code(row["name"]),
            row["leaves"],
            _microseconds(row["p50_us"]),
            _microseconds(row["p99_us"]),
            _ratio(row["to_clean"]),
        )
        for row in section["rows"]
    ]
    yield from _table(("way", "the program", "p50 us", "p99 us", "x clean"), rows)


def _soak(section: Results) -> Iterator[str]:
    cells = "each in a new cell" if section["reuse"] == "never" else "in reused cells"
    yield f"## {section['launches']:,} launches from one process, {cells}"
    yield ""
    roles = ("host", "launcher", "warden")
    rows = [
        (
            f"{window['launches']:,}",
            _microseconds(window["p50_us"]),
            _microseconds(window["p99_us"]),
            *(
                " / ".join(str(window[f"{role}_{what}"]) for role in roles)
                for what in ("rss_kib", "descriptors", "mounts")
            ),
            str(window["cgroups"]),
        )
        for window in section["windows"]
    ]
    head = ("launches", "p50 us", "p99 us", "memory KiB", "descriptors", "mounts", "cgroups")
    yield "Memory, descriptors and mounts: host / launcher / the largest warden."
    yield ""
    yield from _table(head, rows)
    yield "; ".join(section["leaks"]) or "Nothing leaked."
    yield ""


def markdown(results: Results, charts: Iterable[str]) -> str:
    """Return the whole report; ``charts`` are the names of files beside it."""
    lines = ["# Figures", ""]
    lines += _machine(results["machine"])
    if results["settings"]["quick"]:
        lines += ["A quick run: short, so its tails say little.", ""]
    lines += _goals(results)
    for name in charts:
        lines += [f"![{name.rpartition('.')[0]}]({name})", ""]
    for section in results["targets"]:
        lines += _target(section)
    parts = {
        "throughput": _throughput,
        "heap": _heap,
        "artifacts": _artifacts,
        "traces": _traces,
        "soak": _soak,
        "soak_never": _soak,
    }
    for key, show in parts.items():
        if results.get(key):
            lines += show(results[key])
    return "\n".join(lines).rstrip() + "\n"


def goal_lines(results: Results) -> Iterator[str]:
    """Return the goals as lines for a terminal."""
    mark = {True: "reached    ", False: "NOT REACHED", None: "-          "}
    for goal in results["goals"]:
        yield f"{mark[goal['reached']]}  {goal['what']} ({goal['goal']}): {goal['text']}"
