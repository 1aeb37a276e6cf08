"""Report: what the virtual machines found, for people."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["is_good", "lines", "write"]


def _counts(stage: dict[str, Any]) -> Counter[str]:
    return Counter(outcome for outcome, _ in (stage.get("tests") or {}).values())


def is_good(told: dict[str, Any]) -> bool:
    """Whether a machine ran all its stages and nothing failed in them."""
    ran = [stage for stage in told["stages"] if "left_out" not in stage]
    return bool(ran) and all(
        stage["exit_status"] == 0 and _counts(stage)["passed"] for stage in ran
    )


def lines(name: str, told: dict[str, Any]) -> Iterator[str]:
    """Say how one machine did, each failure with its last line."""
    word = "passed" if is_good(told) else "FAILED"
    yield f"{word}: {name} ({told.get('kernel', 'no kernel')}), {told['seconds']} s"
    if "error" in told:
        yield f"    {told['error']}"
        yield from (f"    | {line}" for line in told["log"])
    for stage in told["stages"]:
        if "left_out" in stage:
            yield f"    {stage['name']}: left out: {stage['left_out']}"
            continue
        counts = _counts(stage)
        yield (
            f"    {stage['name']}: {counts['passed']} passed, {counts['failed']} failed,"
            f" {counts['skipped']} skipped, {stage['seconds']} s, exit status"
            f" {stage['exit_status']}; levels: {_levels(stage)}"
        )
        for test, (outcome, text) in (stage["tests"] or {}).items():
            if outcome == "failed":
                yield f"        {test}"
                yield from (f"            {line}" for line in text.splitlines() if line[:2] == "E ")


def _levels(stage: dict[str, Any]) -> str:
    levels = (stage.get("doctor") or {}).get("levels", {})
    return "; ".join(
        f"{name} without {', '.join(level['missing'])}" if level["missing"] else name
        for name, level in levels.items()
        if level["available"]
    ) or "none"


def write(results: Path, target: Path) -> None:
    """Write the page of all results."""
    raise NotImplementedError
