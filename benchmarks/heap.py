"""Heap: what one launch costs a process of 20 MiB, 1 GiB, 4 GiB of touched memory.

Each size is a process of its own (``python -m benchmarks.heap MIB PROGRAM JAIL PROBE``) that takes
orders, so that they take turns with each other.
"""

from __future__ import annotations

import json
import mmap
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import oxgen

from .confined import prove
from .measure import Row, Turn, every, measure
from .ours import TENANCY, checked
from .peers import BASE, popen_preexec, run_checked
from .targets import ROOT, Target, Workshop
from .workers import Worker

__all__ = ["PREEXEC", "SIZES_MIB", "measure_heap"]

SIZES_MIB = (20, 1024, 4096)
PREEXEC = "Popen(preexec_fn=)"
_WAYS = (BASE, PREEXEC, TENANCY)
#: What must stay free beside the heaps.
_RESERVE_MIB = 1024


def _available_mib() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) // 1024
    return 0


def measure_heap(
    target: Target, workshop: Workshop, *, seconds: float, sizes_mib: tuple[int, ...] = SIZES_MIB
) -> dict[str, Any]:
    """Measure each way from a process of each size, all of them in turn."""
    absent = []
    rows: list[Row] = []
    jail = workshop.directory / "jail-heap"
    jail.mkdir(mode=0o755, exist_ok=True)
    inside = jail / os.path.basename(target.path)
    inside.write_bytes(Path(target.path).read_bytes())
    inside.chmod(0o755)
    with ExitStack() as held:
        processes = {}
        proofs = {}
        for size in sizes_mib:
            if _available_mib() < size + _RESERVE_MIB:
                reason = f"{_available_mib()} MiB of memory are available"
                absent.append({"name": f"{size} MiB", "reason": reason})
                continue
            words = [str(size), target.path, str(jail), workshop.helper("confined")]
            command = [sys.executable, "-m", "benchmarks.heap", *words]
            worker = held.enter_context(Worker(command, cwd=ROOT))
            about = json.loads(worker.ask("describe"))
            proofs[str(size)] = about.pop("proof")
            processes[str(size)] = about
            for way in _WAYS:
                rows.append(
                    Row(
                        name=f"{way} @{size}",
                        kind="oxgen",
                        turn=_turn(worker, way),
                        disturbs=way == PREEXEC,
                    )
                )
        series = measure(rows, seconds)
    small = min(int(text) for text in processes)
    found = []
    for row in rows:
        way, _, text = row.name.rpartition(" @")
        bases = {"to_small": f"{way} @{small}", "to_ours": f"{TENANCY} @{text}"}
        figures = series.figures(row.name, bases)
        found.append({"name": way, "heap_mib": int(text)} | figures)
    return {"processes": processes, "proofs": proofs, "rows": found, "absent": absent}


def _turn(worker: Worker, way: str) -> Turn:
    return lambda count: [float(word) for word in worker.ask(f"{count} {way}").split()]


def _touched(mebibytes: int) -> mmap.mmap:
    """Return so much memory, written to, in pages of the usual size as an allocator's are."""
    heap = mmap.mmap(-1, mebibytes << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        heap.madvise(mmap.MADV_NOHUGEPAGE)
    for offset in range(0, mebibytes << 20, mmap.PAGESIZE):
        heap[offset] = 1
    return heap


def _resident_mib() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * mmap.PAGESIZE >> 20


def main(words: list[str]) -> int:
    """Be one of the processes: answer ``describe`` and ``COUNT WAY``."""
    mebibytes, program, jail, probe = int(words[0]), words[1], words[2], words[3]
    heap = _touched(mebibytes)
    inside = "/" + os.path.basename(program)
    with oxgen.Launcher(cells=1) as launcher:
        turns = {
            BASE: every(lambda: run_checked([program])),
            PREEXEC: every(lambda: popen_preexec(jail, inside)),
            TENANCY: every(
                lambda: checked(oxgen.run([program], launcher=launcher, capture_output=True))
            ),
        }
        for line in sys.stdin:
            if line.strip() == "describe":
                about = {"proof": prove(probe, launcher), "resident_mib": _resident_mib()}
                print(json.dumps(about), flush=True)
                continue
            count, _, way = line.strip().partition(" ")
            print(*turns[way](int(count)), flush=True)
    heap.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
