"""``0xgenctl doctor``: what this machine would enforce, and what to change where it would not."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import click

from ..errors import IntegrityError
from ..result import Confinement
from .options import trust_root_option
from .outcome import in_options
from .program import NO
from .terminal import PROGRAM, print_table
from .trust import locate

__all__ = ["doctor", "version_line"]

_State = Literal["yes", "no", "note"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Check:
    """One thing that was looked at; ``note``: nothing is wrong, but it is worth knowing."""

    name: str
    state: _State
    detail: str
    remedy: str = ""


_EXAMPLES = """\
\b
Examples:
  0xgenctl doctor
  0xgenctl doctor --json | jq -r '.checks[] | select(.state == "no") | .remedy'

\b
Exit status: 0 a plugin would be confined as asked, 1 it would not, 2 usage.
"""


@click.command("doctor", epilog=_EXAMPLES, short_help="Say what this machine would enforce.")
@trust_root_option
@click.option("--json", "as_json", is_flag=True, help="print one JSON object")
@click.pass_context
def doctor(ctx: click.Context, trust_root: str | None, as_json: bool) -> None:
    """Try the real steps of a launch in a throw-away process, and report what holds."""
    levels = _levels()
    checks = [
        *_builds(),
        _kernel(),
        *_confinement(_default(levels)),
        *_each_level(levels),
        *_settings(levels),
        _uids(),
        _trust_root(trust_root),
    ]
    healthy = all(check.state != "no" for check in checks)
    if as_json:
        click.echo(json.dumps(_as_object(checks, levels, healthy)))
    else:
        print_table(
            sys.stdout,
            ("check", "state", "what was found", "remedy"),
            [(check.name, check.state, check.detail, check.remedy) for check in checks],
        )
    if not healthy:
        ctx.exit(NO)


def _as_object(
    checks: list[_Check], levels: dict[str, Confinement], healthy: bool
) -> dict[str, Any]:
    return {
        "schema": "oxgen.doctor/1",
        "healthy": healthy,
        "levels": {
            name: {
                "available": box.level is not None,
                "limits": box.limits,
                "enforced": list(box.enforced),
                "missing": list(box.missing),
                "weaker": list(box.weaker),
                "cause": box.cause,
                "remedy": in_options(box.remedy, "run"),
            }
            for name, box in levels.items()
        },
        "checks": [
            {
                "name": check.name,
                "state": check.state,
                "detail": check.detail,
                "remedy": check.remedy,
            }
            for check in checks
        ],
    }


def version_line() -> str:
    """Return the line of ``--version``."""
    from .. import __version__

    python = ".".join(str(part) for part in sys.version_info[:3])
    return f"{PROGRAM} {__version__}, Python {python}"


def _kernel() -> _Check:
    system = os.uname()
    return _Check(
        name="kernel", state="note", detail=f"{system.sysname} {system.release} {system.machine}"
    )


def _builds() -> list[_Check]:
    from .. import _launch

    runnable = os.access(_launch.EXECUTABLE, os.X_OK)
    return [
        _Check(name="version", state="note", detail=version_line()),
        _Check(name="extension", state="yes", detail=_launch.build()),
        _Check(
            name="launcher",
            state="yes" if runnable else "no",
            detail=_launch.EXECUTABLE if runnable else f"{_launch.EXECUTABLE} cannot be executed",
            remedy="" if runnable else "pip install --force-reinstall oxgen",
        ),
    ]


def _levels() -> dict[str, Confinement]:
    """Return what each level would hold here, tried by its real steps."""
    from ..process import probe
    from ..sandbox import LEVELS, Enforce, Sandbox

    return {level: probe(Sandbox(level=level, enforce=Enforce.BEST_EFFORT)) for level in LEVELS}


def _default(levels: dict[str, Confinement]) -> Confinement:
    """What a run gets that names no level, or why it gets nothing."""
    from .._launch import AUTOMATIC
    from ..process import probe

    whole = (box for name, box in levels.items() if name in AUTOMATIC and _is_whole(box))
    return next(whole, None) or probe()


def _is_whole(box: Confinement) -> bool:
    return box.level is not None and not box.missing


def _confinement(box: Confinement) -> list[_Check]:
    """What a run that names no level would have."""
    if box.level is None:
        level = _Check(
            name="level",
            state="no",
            detail=box.cause or "no level of isolation can be had here",
            remedy=in_options(box.remedy, "run"),
        )
        return [level, *(_Check(name=name, state="no", detail="missing") for name in box.missing)]
    return [
        _Check(name="level", state="yes", detail=f"{box.level}, limits held by {box.limits}"),
        *(_Check(name=name, state="yes", detail="enforced") for name in box.enforced),
        *(
            _Check(
                name=name,
                state="no",
                detail=box.cause or "missing",
                remedy=in_options(box.remedy, "run") or f"--enforce-except {name} runs without",
            )
            for name in box.missing
        ),
    ]


def _each_level(levels: dict[str, Confinement]) -> Iterator[_Check]:
    """One line for each level: none of them makes the machine unhealthy, the default may."""
    for name, box in levels.items():
        weaker = f"; weaker: {', '.join(box.weaker)} (docs/architecture.md)" if box.weaker else ""
        if _is_whole(box):
            detail = f"holds all that is asked for{weaker}"
            yield _Check(name=f"level {name}", state="yes", detail=detail)
            continue
        remedy = in_options(box.remedy, "run")
        if box.level is None:
            detail = f"cannot be had: {box.cause}"
        else:
            detail = f"does not hold {', '.join(box.missing)}: {box.cause}{weaker}"
            waiving = " ".join(f"--enforce-except {one}" for one in box.missing)
            without = f"--level {name} {waiving} runs without"
            remedy = f"{remedy}; or {without}" if remedy else without
        yield _Check(name=f"level {name}", state="note", detail=detail, remedy=remedy)


def _settings(levels: dict[str, Confinement]) -> Iterator[_Check]:
    from .. import _launch
    from ..machine import settings

    counts = any("memory_tree" in box.enforced for box in levels.values())
    for one in settings(launcher=_launch.EXECUTABLE, has_cgroup=counts):
        way = f" (in the way of level {', '.join(one.hinders)})" if one.hinders else ""
        yield _Check(name=one.name, state="note", detail=one.found + way, remedy=one.remedy)


def _uids() -> _Check:
    """Look for users who were given ids of the range that cells use (subuid(5))."""
    from .. import _launch

    first, last = _launch.UID_BASE, _launch.UID_BASE + _launch.UID_COUNT - 1
    overlapping = []
    for path in ("/etc/subuid", "/etc/subgid"):
        try:
            with open(path, encoding="utf-8", errors="replace") as lines:
                rows = [line.split(":") for line in lines.read(1 << 20).splitlines()]
        except OSError:
            continue  # no such file: nobody was given any
        for row in rows:
            if len(row) != 3 or not (row[1].isascii() and row[1].isdigit() and row[2].isdigit()):
                continue
            begin, end = int(row[1]), int(row[1]) + int(row[2]) - 1
            if begin <= last and end >= first:
                overlapping.append(f"{path}: {row[0]} has {begin}-{end}")
    if overlapping:
        return _Check(
            name="uid range",
            state="no",
            detail=f"cells use {first}-{last}, which overlaps: {'; '.join(overlapping)}",
            remedy="move that user's range; a program in Python can use Launcher(uid_base=...)",
        )
    return _Check(
        name="uid range", state="yes", detail=f"cells use {first}-{last}, nobody else does"
    )


#: What is wrong with a trust root that nobody has set up yet.
_NOT_SET_UP = {
    "not_found": "needed for 'plugin run' of a plugin folder or name: make /etc/oxgen with keys/",
    "no_keys": f"{PROGRAM} plugin keygen release.key; put release.pub into keys/",
    "no_allowlist": f"{PROGRAM} plugin approve PLUGIN",
}


def _trust_root(explicit: str | None) -> _Check:
    try:
        root = locate(explicit)
        with root.open() as opened:
            keys = len(opened.keys())
            entries = len(opened.allowlist().entries)
    except IntegrityError as exc:
        # What nobody has set up yet is no fault of the machine, unless it was asked about.
        unused = exc.reason in _NOT_SET_UP and explicit is None
        return _Check(
            name="trust root",
            state="note" if unused else "no",
            detail=str(exc),
            remedy=_NOT_SET_UP.get(exc.reason, ""),
        )
    return _Check(
        name="trust root",
        state="yes",
        detail=f"{root.directory}: {entries} listed files, {keys} keys",
    )
