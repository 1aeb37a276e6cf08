"""Run all benchmarks: ``python -m benchmarks --help``."""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from . import artifacts, chart, goals, heap, report, soak, throughput, traces
from .machine import describe_machine
from .measure import measure
from .ours import TENANCY, Ours
from .peers import BASE, FLOOR, Peers
from .targets import ROOT, Workshop, open_workshop

__all__ = ["SECTIONS", "Settings", "run"]

SECTIONS = ("latency", "throughput", "heap", "artifacts", "traces", "soak")
_SCHEMA = "oxgen.bench/1"
_BASES = {"to_subprocess": BASE, "to_ours": TENANCY, "to_floor": FLOOR}
#: Nothing here may take so long: then the stacks are printed and the run ends.
_LONGEST_SECONDS = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How long each part measures, in seconds."""

    quick: bool = False
    target_seconds: tuple[tuple[str, float], ...] = (
        ("tiny", 120.0),
        ("glibc", 60.0),
        ("dynamic", 25.0),
        ("python", 30.0),
    )
    rate_seconds: float = 1.5
    rate_repeats: int = 3
    in_flight: tuple[int, ...] = throughput.IN_FLIGHT
    heap_seconds: float = 60.0
    heap_mib: tuple[int, ...] = heap.SIZES_MIB
    artifact_seconds: float = 40.0
    artifact_mib: tuple[float, ...] = artifacts.SIZES_MIB
    trace_seconds: float = 20.0
    soak_launches: int = soak.LAUNCHES
    soak_never_launches: int = 10_000


FULL = Settings()
QUICK = Settings(
    quick=True,
    target_seconds=(("tiny", 25.0), ("glibc", 12.0), ("dynamic", 5.0), ("python", 5.0)),
    rate_seconds=0.4,
    rate_repeats=1,
    heap_seconds=12.0,
    heap_mib=(20, 1024),
    artifact_seconds=8.0,
    trace_seconds=5.0,
    soak_launches=5000,
    soak_never_launches=500,
)


def _latency(workshop: Workshop, ours: Ours, name: str, seconds: float) -> dict[str, Any]:
    target = workshop.target(name)
    with contextlib.ExitStack() as held:
        rows = Peers(target, workshop, held).rows()
        mine = ours.rows(target, held)
        present = [*mine.present, *rows.present]
        absent = [*mine.absent, *rows.absent]
        series = measure(present, seconds)
    return {
        "target": target.name,
        "about": target.about,
        "size_bytes": target.size_bytes,
        "seconds": seconds,
        "rounds": len(series.rounds),
        "rows": [series.summary(row, _BASES) for row in present],
        "absent": [asdict(one) for one in absent],
    }


def run(
    settings: Settings, sections: tuple[str, ...] = SECTIONS, say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Measure the sections and return everything that was found, goals included."""
    begun = time.monotonic()
    results: dict[str, Any] = {
        "schema": _SCHEMA,
        "machine": describe_machine(),
        "settings": asdict(settings),
        "targets": [],
    }
    with open_workshop() as workshop:
        # The soak first: it counts this process's memory, which later parts enlarge.
        if "soak" in sections:
            count, never = settings.soak_launches, settings.soak_never_launches
            say(f"soak: {count:,} launches, then {never:,} in new cells")
            results["soak"] = soak.run_soak(workshop, launches=count)
            results["soak_never"] = soak.run_soak(workshop, launches=never, reuse="never")
        with contextlib.ExitStack() as held:
            ours = Ours(workshop, held)
            if "latency" in sections:
                for name, seconds in settings.target_seconds:
                    say(f"latency: {name}, {seconds:g} s")
                    results["targets"].append(_latency(workshop, ours, name, seconds))
            tiny = workshop.target("tiny")
            if "throughput" in sections:
                say("throughput")
                results["throughput"] = throughput.measure_throughput(
                    tiny,
                    workshop,
                    ours,
                    seconds=settings.rate_seconds,
                    repeats=settings.rate_repeats,
                    in_flight=settings.in_flight,
                )
            if "heap" in sections:
                say(f"heap, {settings.heap_seconds:g} s")
                results["heap"] = heap.measure_heap(
                    tiny, workshop, seconds=settings.heap_seconds, sizes_mib=settings.heap_mib
                )
            if "artifacts" in sections:
                say(f"artifacts, {settings.artifact_seconds:g} s")
                results["artifacts"] = artifacts.measure_artifacts(
                    workshop,
                    ours,
                    seconds=settings.artifact_seconds,
                    sizes_mib=settings.artifact_mib,
                )
            if "traces" in sections:
                say(f"traces, {settings.trace_seconds:g} s")
                results["traces"] = traces.measure_traces(
                    workshop, ours, seconds=settings.trace_seconds
                )
            results["proofs"] = ours.proofs
    results["goals"] = goals.evaluate(results)
    results["seconds"] = round(time.monotonic() - begun, 1)
    return results


def write(results: dict[str, Any], directory: Path) -> list[str]:
    """Write figures, report and charts; returns the files' names."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "figures.json").write_text(json.dumps(results, indent=1) + "\n")
    charts = chart.draw(results, directory)
    (directory / "figures.md").write_text(report.markdown(results, charts))
    return ["figures.json", "figures.md", *charts]


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="about two minutes")
    parser.add_argument("--only", action="append", choices=SECTIONS, help="leave out all others")
    parser.add_argument(
        "--out", default=str(ROOT / "build" / "bench" / "results"), metavar="DIRECTORY"
    )
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("benchmarks: need root, as the level namespaces does", file=sys.stderr)
        return 2
    faulthandler.dump_traceback_later(_LONGEST_SECONDS, exit=True)
    settings = QUICK if options.quick else FULL
    results = run(settings, tuple(options.only or SECTIONS), lambda line: print(line, flush=True))
    out = Path(options.out)
    names = write(results, out)
    print()
    for line in report.goal_lines(results):
        print(line)
    print(f"\n{results['seconds']:.0f} s; {', '.join(names)} in {out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
