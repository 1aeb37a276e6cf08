"""Goals: what a launch may cost, compared with what was measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from .artifacts import ALONE, VERIFIED, VERIFIED_BROKER
from .heap import PREEXEC
from .ours import AIO, MAP, NEVER, TENANCY, WARM
from .peers import BASE, FLOOR

__all__ = ["Goal", "evaluate"]

Results = dict[str, Any]

_BWRAP = "bwrap --unshare-all"
#: Ways to use the reused cell; the fastest counts.
_REUSED = (TENANCY, MAP, AIO)


@dataclass(frozen=True, slots=True)
class Goal:
    """One line of the table. ``reached`` is None where it only states, or was not measured."""

    what: str
    goal: str
    measured: float | None
    text: str
    reached: bool | None


def evaluate(results: Results) -> list[dict[str, Any]]:
    """Return every goal with what was measured, as JSON has it."""
    return [asdict(goal) for goal in _goals(results)]


def _goals(results: Results) -> Iterator[Goal]:
    yield _latency(results, "p50 oxgen.run / subprocess.run", TENANCY, BASE, "at most", 1.0)
    yield _latency(results, "p50 warm launch in C / bare vfork+exec", WARM, FLOOR, "at most", 1.6)
    yield _latency(results, f"p50 {_BWRAP} / oxgen.run", _BWRAP, TENANCY, "at least", 15)
    yield _latency(results, "p50 sandlock / oxgen.run", "sandlock", TENANCY, "at least", 15)
    yield _latency(results, "p50 nono-py / oxgen.run", "nono-py", TENANCY, "at least", 5)
    yield _rate(results, "launches/s at 8 in flight / bwrap's", _REUSED, _BWRAP, 15)
    yield _rate(results, "launches/s at 8 in flight / the bare floor's", _REUSED, FLOOR, 0.6)
    yield _heap_flat(results)
    yield _heap_preexec(results)
    yield _verified(results)
    yield _rate(
        results, 'reuse="never", launches/s at 8 in flight / bwrap\'s', (NEVER,), _BWRAP, 2.5
    )
    yield from _traces(results)
    yield _soak(results)


def _judge(what: str, kind: str, bound: float, measured: float | None, text: str) -> Goal:
    if measured is None:
        return Goal(what, f"{kind} {bound:g}", None, text or "not measured", None)
    reached = measured <= bound if kind == "at most" else measured >= bound
    return Goal(what, f"{kind} {bound:g}", measured, text, reached)


def _rows(section: Results | None) -> list[dict[str, Any]]:
    return [] if not section else list(section["rows"])


def _row(section: Results | None, fits: Callable[[dict[str, Any]], bool]) -> dict[str, Any] | None:
    return next((row for row in _rows(section) if fits(row)), None)


def _target(results: Results, name: str) -> Results | None:
    return next((one for one in results.get("targets", ()) if one["target"] == name), None)


def _between(section: Results | None, above: str, below: str) -> dict[str, Any] | None:
    """Return the ratio of two rows, round by round, that the section holds."""
    key = {BASE: "to_subprocess", TENANCY: "to_ours", FLOOR: "to_floor"}[below]
    row = _row(section, lambda row: row["name"] == above)
    ratio: dict[str, Any] | None = row[key] if row else None
    return ratio


def _with_quartiles(ratio: dict[str, Any]) -> str:
    return f"{ratio['median']:.2f} (quartiles {ratio['low']:.2f}-{ratio['high']:.2f})"


def _latency(results: Results, what: str, above: str, below: str, kind: str, bound: float) -> Goal:
    ratio = _between(_target(results, "tiny"), above, below)
    beside = _between(_target(results, "glibc"), above, below)
    words = []
    if ratio:
        words.append(_with_quartiles(ratio))
    if beside:
        words.append(f"static glibc {beside['median']:.2f}")
    return _judge(what, kind, bound, ratio["median"] if ratio else None, "; ".join(words))


def _rate(results: Results, what: str, names: tuple[str, ...], other: str, bound: float) -> Goal:
    section = results.get("throughput")
    rates = {row["name"]: row["launches_per_second"].get("8") for row in _rows(section)}
    ours = [(rates[name], name) for name in names if rates.get(name)]
    if not ours or not rates.get(other):
        return _judge(what, "at least", bound, None, "")
    best, name = max(ours)
    measured = round(best / rates[other], 3)
    text = f"{measured:.2f} ({name}: {best:.0f}/s; {other}: {rates[other]:.0f}/s)"
    return _judge(what, "at least", bound, measured, text)


def _heap(results: Results, way: str, mebibytes: int) -> dict[str, Any] | None:
    return _row(
        results.get("heap"), lambda row: row["name"] == way and row["heap_mib"] == mebibytes
    )


def _heap_flat(results: Results) -> Goal:
    row = _heap(results, TENANCY, 1024)
    ratio = row["to_small"] if row else None
    measured = ratio["median"] if ratio else None
    text = _with_quartiles(ratio) if ratio else ""
    large = _heap(results, TENANCY, 4096)
    if large and large["to_small"]:
        text += f"; from 4 GiB {large['to_small']['median']:.2f}"
    return _judge("p50 from a 1 GiB process / from 20 MiB", "at most", 1.05, measured, text)


def _heap_preexec(results: Results) -> Goal:
    row = _heap(results, PREEXEC, 1024)
    ratio = row["to_ours"] if row else None
    measured = ratio["median"] if ratio else None
    text = _with_quartiles(ratio) if ratio else ""
    return _judge("Popen(preexec_fn=) at 1 GiB / oxgen.run", "at least", 150, measured, text)


def _verified(results: Results) -> Goal:
    """The largest of all sizes. A broker is no part of verifying; what it costs is stated."""
    what = "verified plugin (seen before, no broker) / unverified, any size"
    rows = [row for row in _rows(results.get("artifacts")) if row["to_unverified"]]
    worst = {
        way: max(
            (row["to_unverified"]["median"] for row in rows if row["name"] == way), default=None
        )
        for way in (ALONE, VERIFIED, VERIFIED_BROKER)
    }
    measured = worst[ALONE]
    if measured is None:
        return _judge(what, "at most", 1.05, None, "")
    parts = [f"{measured:.2f}"]
    for way, words in (
        (VERIFIED, "a broker that does nothing"),
        (VERIFIED_BROKER, "broker and token"),
    ):
        if worst[way] is not None:
            parts.append(f"with {words} {worst[way]:.2f}")
    sizes = {row["artifact_mib"]: row["p50_us"] for row in rows if row["name"] == ALONE}
    small, large = min(sizes), max(sizes)
    parts.append(f"{large:g} MiB / {small:g} MiB {sizes[large] / sizes[small]:.2f}")
    return _judge(what, "at most", 1.05, measured, "; ".join(parts))


def _traces(results: Results) -> Iterator[Goal]:
    for row in _rows(results.get("traces")):
        ratio = row["to_clean"]
        if row["name"] == TENANCY and ratio and ratio["median"] != 1.0:
            text = f"{ratio['median']:.2f} (p50 {row['p50_us']:.0f} us)"
            what = f"a launch that {row['leaves']} / a clean one"
            yield Goal(what, "stated", ratio["median"], text, None)


def _soak(results: Results) -> Goal:
    soak = results.get("soak")
    never = results.get("soak_never")
    goal = "no leak, memory flat within 2 MiB"
    if not soak:
        return Goal("after 100,000 launches", goal, None, "not measured", None)
    first, last = soak["windows"][0], soak["windows"][-1]
    grown = last["host_rss_kib"] - first["host_rss_kib"]
    text = f"{soak['launches']:,} launches: " + ("; ".join(soak["leaks"]) or "no leak")
    text += f", host {grown:+d} KiB, p50 {first['p50_us']:.0f} -> {last['p50_us']:.0f} us"
    if never:
        text += f"; {never['launches']:,} in new cells: " + ("; ".join(never["leaks"]) or "no leak")
    leaked = bool(soak["leaks"] or (never and never["leaks"]))
    reached = not leaked if soak["launches"] >= 100_000 else None
    return Goal(
        f"after {soak['launches']:,} launches", goal, float(len(soak["leaks"])), text, reached
    )
