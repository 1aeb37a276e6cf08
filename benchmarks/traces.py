"""Traces: what a launch costs that leaves something, beside a clean one of the same program."""

from __future__ import annotations

from typing import Any

import oxgen

from .measure import Row, every, measure
from .ours import TENANCY, Ours, checked
from .peers import BASE, run_checked
from .targets import Workshop

__all__ = ["CLEAN", "WORDS", "measure_traces"]

CLEAN = "nothing"
WORDS = {
    CLEAN: "leaves nothing",
    "output": "writes 1 MiB of output",
    "file": "writes 1 MiB to a file in /workspace",
    "daemon": "leaves a daemon behind",
}
#: A daemon of an unconfined program would stay, a file would lie in our directory.
_UNCONFINED = (CLEAN, "output")


def measure_traces(workshop: Workshop, ours: Ours, *, seconds: float) -> dict[str, Any]:
    """Measure each kind of trace in turn."""
    program = workshop.helper("traces")
    ours.prove(TENANCY, ours.tenancy)
    rows = []

    def confined(word: str) -> None:
        done = oxgen.run([program, word], launcher=ours.tenancy, capture_output=True)
        checked(done)
        if word == "output" and len(done.stdout or b"") != oxgen.MIB:
            raise RuntimeError(f"{len(done.stdout or b'')} bytes of output arrived, not 1 MiB")

    for word in WORDS:
        turn = every(lambda word=word: confined(word))  # type: ignore[misc]
        disturbs = word in ("file", "daemon")
        rows.append(Row(name=f"{TENANCY}: {word}", kind="oxgen", turn=turn, disturbs=disturbs))
    for word in _UNCONFINED:
        turn = every(lambda word=word: run_checked([program, word]))  # type: ignore[misc]
        rows.append(Row(name=f"{BASE}: {word}", kind="unconfined", turn=turn))
    series = measure(rows, seconds)
    found = []
    for row in rows:
        way, _, word = row.name.rpartition(": ")
        figures = series.figures(row.name, {"to_clean": f"{way}: {CLEAN}"})
        found.append({"name": way, "leaves": WORDS[word]} | figures)
    return {"rows": found}
