"""Report: what the virtual machines found, for people."""

from __future__ import annotations

import json
import re
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
    return (
        "; ".join(
            f"{name} without {', '.join(level['missing'])}" if level["missing"] else name
            for name, level in levels.items()
            if level["available"]
        )
        or "none"
    )


_HEAD = """# Kernels

What was tried in virtual machines with Debian's kernels. `make vm DOCS=1` boots them under qemu,
runs tests of confinement inside, as root and as an ordinary user, and writes this page. It needs
neither root nor KVM and changes nothing of the machine. Inside, cgroup version 2 has all
controllers; there is no systemd, but pid 1 makes the cgroups as systemd would.

| state of the machine | who | what is there |
|---|---|---|
"""

_STATES = {
    "root": ("root", "a cgroup of many, all controllers on above it"),
    "user, delegated cgroup": (
        "uid 1000",
        "the cgroup above its own belongs to it, as with `Delegate=yes`; no ids in /etc/subuid",
    ),
    "user, delegated cgroup, own ids": (
        "uid 1000",
        "the same, 65536 ids in /etc/subuid and /etc/subgid, newuidmap and newgidmap",
    ),
    "user, no cgroup": ("uid 1000", "every cgroup belongs to root"),
    "user, busy cgroup": (
        "uid 1000",
        "its own cgroup belongs to it, and holds its processes: `Delegate=yes` alone",
    ),
    "user, user namespaces off": (
        "uid 1000",
        "`kernel.unprivileged_userns_clone` is 0, a switch of Debian's kernels",
    ),
    "user, no user namespaces allowed": ("uid 1000", "`user.max_user_namespaces` is 0"),
}


_ONE_ID = """
With one id, process 1 of a cell has the plugin's: the plugin may send it signals, and the kernel
drops those that would end or stop it ([pid_namespaces(7)][1]). `weaker` of the record has `uid`.

[1]: https://man7.org/linux/man-pages/man7/pid_namespaces.7.html
"""


def write(results: Path, target: Path) -> None:
    """Write the page of all results that are in a directory."""
    machines = [
        told
        for path in results.glob("*.json")
        if (told := json.loads(path.read_text(encoding="utf-8"))).get("kernel")
    ]
    machines.sort(key=lambda told: [int(part) for part in re.findall(r"\d+", told["kernel"])[:3]])
    text = [_HEAD]
    text += [f"| {name} | {who} | {what} |\n" for name, (who, what) in _STATES.items()]
    text.append(_ONE_ID)
    text.append(
        "\n## Levels and tests\n\nA level that holds less than all properties is named with what it"
        " lacks (`0xgenctl doctor` in that state).\n\n"
        "| kernel | Landlock ABI | state | levels | passed | failed | skipped |\n"
        "|---|---|---|---|---|---|---|\n"
    )
    for told in machines:
        text += _rows(told)
    text.append(
        "\n## What a user is told\n\n"
        "| state | kernels | why not | what to change |\n|---|---|---|---|\n"
    )
    text += _explanations(machines)
    text.append("\n## Failed, and left out\n\n")
    text += _remarks(machines)
    target.write_text("".join(text), encoding="utf-8")


def _rows(told: dict[str, Any]) -> Iterator[str]:
    for stage in told["stages"]:
        if "left_out" in stage:
            yield f"| {_version(told)} | | {stage['name']} | {stage['left_out']} | | | |\n"
            continue
        counts = _counts(stage)
        numbers = " | ".join(str(counts[word]) for word in ("passed", "failed", "skipped"))
        abi = told["landlock_abi"] or "none"
        yield f"| {_version(told)} | {abi} | {stage['name']} | {_levels(stage)} | {numbers} |\n"


def _explanations(machines: list[dict[str, Any]]) -> Iterator[str]:
    """List what doctor says of level namespaces where it is not whole, once for each text."""
    kernels: dict[tuple[str, str, str], list[str]] = {}
    for told in machines:
        for stage in told["stages"]:
            level = ((stage.get("doctor") or {}).get("levels") or {}).get("namespaces")
            if level and level["cause"]:
                words = (stage["name"], _cell(level["cause"]), _cell(level["remedy"]))
                kernels.setdefault(words, []).append(_version(told))
    for (state, cause, remedy), names in kernels.items():
        yield f"| {state} | {', '.join(names)} | {cause} | {remedy} |\n"


def _remarks(machines: list[dict[str, Any]]) -> Iterator[str]:
    """List what failed, and each reason for which tests were skipped, on all kernels together."""
    failed: dict[str, list[str]] = {}
    skipped: Counter[str] = Counter()
    for told in machines:
        for stage in told["stages"]:
            for test, (outcome, text) in (stage.get("tests") or {}).items():
                if outcome == "failed":
                    failed.setdefault(test, []).append(f"{_version(told)}, {stage['name']}")
                elif outcome == "skipped":
                    skipped[text.partition(": ")[2]] += 1
    if not failed:
        yield "No test failed.\n"
    for test, where in sorted(failed.items()):
        yield f"- `{test}`: {'; '.join(where)}\n"
    yield "\n| left out because | tests, on all kernels together |\n|---|---|\n"
    for text, count in sorted(skipped.items()):
        yield f"| {_cell(text)} | {count} |\n"


def _version(told: dict[str, Any]) -> str:
    return str(told["kernel"])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
