"""Soak: a hundred thousand launches from one process, and what they leave behind.

    python -m benchmarks.soak [--launches N] [--reuse tenancy|never] [--dirty N] [--json FILE]

Every 5,000 launches it writes p50 and p99, and looks at the host (this process), the launcher and
the wardens: resident memory, descriptors, cgroups, mounts, processes. Ends with 1 where anything
leaked, or where memory of the host, the launcher or a warden grew by more than 2 MiB after the
warm-up (a tenth of the launches). Needs root.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import psutil

import oxgen

from .confined import prove
from .machine import describe_machine
from .ours import checked
from .targets import Workshop, open_workshop

__all__ = ["GROWTH_KIB", "Sample", "leaks", "run_soak"]

LAUNCHES = 100_000
WINDOW = 5_000
#: So much may resident memory differ between the end of the warm-up and the end.
GROWTH_KIB = 2048
#: A cell that is taken apart is gone from the kernel a little later.
_SETTLE_SECONDS = 5.0
_ROLES = ("host", "launcher", "warden")
_CELLS = 4
#: With reuse "never" as many again are made ahead.
CELLS_MAX = 2 * _CELLS


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What there is at one moment; of the wardens the largest counts."""

    launches: int
    host_rss_kib: int
    launcher_rss_kib: int
    warden_rss_kib: int
    host_descriptors: int
    launcher_descriptors: int
    warden_descriptors: int
    host_mounts: int
    launcher_mounts: int
    warden_mounts: int
    cgroups: int
    wardens: int
    other_processes: int


#: What one more cell of the pool may add: its descriptors in host and launcher, its cgroups.
_OF_A_CELL = {"host_descriptors": 8, "launcher_descriptors": 8, "cgroups": 4, "wardens": 1}
#: What the launcher keeps of ended cells for the next ones, when it keeps most: 16 cgroups in three
#: hierarchies (with five descriptors), 16 network namespaces (two).
KEPT = {"launcher_descriptors": 16 * 7, "cgroups": 16 * 3}


def leaks(before: Sample, after: Sample) -> list[str]:
    """Compare the end of the warm-up with the end; one sentence for each thing that grew.

    The pool may hold more cells than at first, up to ``CELLS_MAX``: it makes them ahead. What the
    launcher keeps of ended ones may be there at the end only.
    """
    found = []
    more = max(0, after.wardens - before.wardens) if after.wardens <= CELLS_MAX else 0
    for role in _ROLES:
        name = f"{role}_rss_kib"
        grown = getattr(after, name) - getattr(before, name)
        if grown > GROWTH_KIB:
            found.append(f"resident memory of the {role} grew by {grown} KiB")
    counted = [f"{role}_{what}" for what in ("descriptors", "mounts") for role in _ROLES]
    for name in (*counted, "cgroups", "wardens", "other_processes"):
        old, new = getattr(before, name), getattr(after, name)
        if new > old + more * _OF_A_CELL.get(name, 0) + KEPT.get(name, 0):
            found.append(f"{name.replace('_', ' ')}: {old} after the warm-up, {new} at the end")
    return found


def _mounts(pid: int) -> int:
    return len(Path(f"/proc/{pid}/mountinfo").read_bytes().splitlines())


def _cgroups(launcher: int) -> int:
    """Count the cgroups below those that a launcher made for itself."""
    prefix = f"oxgen-{launcher}-"
    return sum(
        len(list(os.walk(os.path.join(directory, name)))) - 1
        for directory, names, _ in os.walk("/sys/fs/cgroup")
        for name in names
        if name.startswith(prefix)
    )


def _of(process: psutil.Process) -> tuple[int, int, int]:
    """Return resident memory in KiB, descriptors and mounts of a process."""
    return process.memory_info().rss // 1024, process.num_fds(), _mounts(process.pid)


def take_sample(launches: int, launcher: psutil.Process) -> Sample:
    """Look at this process, its launcher and the wardens."""
    host = psutil.Process()
    wardens = []
    largest = (0, 0, 0)
    for child in launcher.children():
        # One that is ending, or ended meanwhile; if it stays it counts among the other processes.
        with contextlib.suppress(psutil.Error, OSError):
            seen = _of(child)
            wardens.append(child)
            largest = tuple(map(max, largest, seen))  # type: ignore[assignment]
    of_host, of_launcher = _of(host), _of(launcher)
    below_launcher = len(launcher.children(recursive=True))
    return Sample(
        launches=launches,
        host_rss_kib=of_host[0],
        launcher_rss_kib=of_launcher[0],
        warden_rss_kib=largest[0],
        host_descriptors=of_host[1],
        launcher_descriptors=of_launcher[1],
        warden_descriptors=largest[1],
        host_mounts=of_host[2],
        launcher_mounts=of_launcher[2],
        warden_mounts=largest[2],
        cgroups=_cgroups(launcher.pid),
        wardens=len(wardens),
        other_processes=below_launcher - len(wardens),
    )


def highest(samples: Sequence[Sample]) -> Sample:
    """Return the largest value of each field."""
    names = [field.name for field in fields(Sample)]
    return Sample(**{name: max(getattr(one, name) for one in samples) for name in names})


def settled_sample(launches: int, launcher: psutil.Process, before: Sample | None) -> Sample:
    """Take a sample; where it shows more than before, look again until it does not, for a while."""
    deadline = time.monotonic() + _SETTLE_SECONDS
    while True:
        sample = take_sample(launches, launcher)
        if before is None or not leaks(before, sample) or time.monotonic() > deadline:
            return sample
        time.sleep(0.05)


def _samples_of_a_while(launches: int, launcher: psutil.Process) -> Iterator[Sample]:
    for _ in range(10):
        time.sleep(0.02)
        yield take_sample(launches, launcher)


class _Load:
    """The launches: clean ones of a target, and now and then one that leaves something."""

    def __init__(self, workshop: Workshop, launcher: oxgen.Launcher, dirty: int) -> None:
        self._clean = [workshop.target("tiny").path]
        traces = workshop.helper("traces") if dirty else ""
        self._traces = traces
        self._dirty = ([traces, "file"], [traces, "daemon"], [traces, "output"])
        self._launcher = launcher
        self._every = dirty
        self._number = 0

    def window(self, times: array[int]) -> None:
        """Launch once for each place in ``times`` and put the nanoseconds there."""
        for index in range(len(times)):
            self._number += 1
            args = self._clean
            if self._every and self._number % self._every == 0:
                args = self._dirty[self._number // self._every % len(self._dirty)]
            begun = time.perf_counter_ns()
            checked(oxgen.run(args, launcher=self._launcher, capture_output=True))
            times[index] = time.perf_counter_ns() - begun
        if self._every:  # so that each tenancy has its cell again whenever it is looked at
            checked(oxgen.run([self._traces, "nothing"], launcher=self._launcher))


def run_soak(
    workshop: Workshop,
    *,
    launches: int = LAUNCHES,
    reuse: Any = "tenancy",
    dirty: int = 0,
    progress: bool = False,
) -> dict[str, Any]:
    """Launch so often and return windows, samples and what leaked."""
    window = max(1, min(WINDOW, launches // 10))
    # Allocated once: what is measured must not be what the measuring keeps.
    times = array("q", bytes(8 * window))
    windows: list[dict[str, Any]] = []
    warm: Sample | None = None
    begun = time.monotonic()
    before = {child.pid for child in psutil.Process().children()}
    with oxgen.Launcher(cells=_CELLS, reuse=reuse) as launcher:
        proof = prove(workshop.helper("confined"), launcher)
        process = _launcher_process(before)
        load = _Load(workshop, launcher, dirty)
        while len(windows) * window < launches:
            load.window(times)
            done = (len(windows) + 1) * window
            sample = settled_sample(done, process, warm)
            ordered = sorted(times)
            p50, p99 = ordered[window // 2] / 1000, ordered[int(window * 0.99)] / 1000
            del ordered
            windows.append({"p50_us": round(p50, 1), "p99_us": round(p99, 1), **asdict(sample)})
            if warm is None and done * 10 >= launches:
                # Cells come and go all the time where none is used twice.
                warm = highest([sample, *_samples_of_a_while(done, process)])
            if progress:
                _show(windows[-1])
        assert warm is not None
        found = leaks(warm, sample)
    found += _left_after_close(before, process.pid)
    return {
        "launches": len(windows) * window,
        "reuse": reuse,
        "dirty_every": dirty,
        "seconds": round(time.monotonic() - begun, 1),
        "growth_allowed_kib": GROWTH_KIB,
        "proof": proof,
        "windows": windows,
        "leaks": found,
    }


def _launcher_process(before: set[int]) -> psutil.Process:
    """Find the launcher of the pool: it is the one child that is new."""
    found = [
        child
        for child in psutil.Process().children()
        if child.pid not in before and child.exe().endswith("/_launcher")
    ]
    if len(found) != 1:
        raise RuntimeError(f"{len(found)} new launchers, not one: {found}")
    return found[0]


def _left_after_close(before: set[int], launcher: int) -> list[str]:
    """After the pool was closed nothing of it may be there."""
    deadline = time.monotonic() + _SETTLE_SECONDS
    while left := {child.pid for child in psutil.Process().children()} - before:
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    found = [f"process {pid} is left after the pool was closed" for pid in sorted(left)]
    prefix = f"oxgen-{launcher}-"
    for directory, names, _ in os.walk("/sys/fs/cgroup"):
        found += [f"{directory}/{name} is left" for name in names if name.startswith(prefix)]
    return found


def _show(window: dict[str, Any]) -> None:
    memory = "/".join(str(window[f"{role}_rss_kib"]) for role in _ROLES)
    descriptors = "/".join(str(window[f"{role}_descriptors"]) for role in _ROLES)
    mounts = "/".join(str(window[f"{role}_mounts"]) for role in _ROLES)
    print(
        f"{window['launches']:>8}  p50 {window['p50_us']:>7.0f} us  p99 {window['p99_us']:>7.0f} us"
        f"  rss {memory} KiB  descriptors {descriptors}  mounts {mounts}"
        f"  cgroups {window['cgroups']}  wardens {window['wardens']}",
        flush=True,
    )


def main() -> int:
    """Run the soak from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--launches", type=int, default=LAUNCHES)
    parser.add_argument("--reuse", choices=("tenancy", "never"), default="tenancy")
    parser.add_argument(
        "--dirty", type=int, default=0, metavar="N", help="every Nth launch leaves something"
    )
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    options = parser.parse_args()
    if options.launches < 10 or options.dirty < 0:
        parser.error("--launches must be at least 10, --dirty not negative")
    if os.geteuid() != 0:
        print("soak: needs root, as the level namespaces does", file=sys.stderr)
        return 2
    print("host/launcher/largest warden:", flush=True)
    with open_workshop() as workshop:
        result = run_soak(
            workshop,
            launches=options.launches,
            reuse=options.reuse,
            dirty=options.dirty,
            progress=True,
        )
    if options.json:
        text = json.dumps({"machine": describe_machine(), "soak": result}, indent=1)
        path = Path(options.json)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    for leak in result["leaks"]:
        print(f"leak: {leak}")
    if not result["leaks"]:
        print(f"no leak in {result['launches']} launches, {result['seconds']} s")
    return 1 if result["leaks"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
