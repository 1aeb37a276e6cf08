"""Emitted findings: what a plugin may call them, number them and date them.

A finding that looks like one of the supervisor's must not come from a plugin. Names are compared
byte by byte and by eye, so they are kept to an alphabet in which two that look alike are alike.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

from ..errors import FindingError
from ..findings import Finding

__all__ = ["CLOCK_SLACK_SECONDS", "Emitted"]

#: How far the time of a finding may lie outside the run: clocks of processes agree in a cell, but
#: a plugin may round, and the host's clock may be set.
CLOCK_SLACK_SECONDS = 300.0

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_EXPECTED = "must be of a-z, 0-9, '.', '_', '-' and begin with a letter or digit"
#: Only the supervisor says why a run ended, and under what limits.
_RESERVED_TYPE = "oxg.supervisor"
_RESERVED_META = "sandbox."
_TIME = re.compile(r"(.{10})[Tt](.{5}):(..)(?:\.[0-9]+)?([Zz]|[+-].{5})")


class Emitted:
    """The findings of one run: what may still be emitted under which name, id and time."""

    def __init__(self, plugin: str) -> None:
        self._plugin = plugin
        self._ids: set[str] = set()
        self._began = datetime.now(timezone.utc)

    def check(self, params: Mapping[str, Any]) -> None:
        """Refuse names that a plugin must not use (``FindingError``)."""
        if params.get("plugin", self._plugin) != self._plugin:
            raise FindingError("plugin", f"must be {self._plugin!r}, or be left out")
        kind, meta = params.get("type"), params.get("meta")
        if isinstance(kind, str):
            _check_name("type", kind, _RESERVED_TYPE)
        if isinstance(meta, dict):
            for name in meta:
                _check_name("meta", name, _RESERVED_META)

    def check_new(self, finding: Finding) -> None:
        """Refuse an id that this run has used, and a time outside the run (``FindingError``)."""
        if finding.id in self._ids:
            raise FindingError("id", "was used in this run; leave it out, and the host makes one")
        slack = timedelta(seconds=CLOCK_SLACK_SECONDS)
        try:
            inside = (
                self._began - slack
                <= _moment(finding.ts)
                <= max(self._began, datetime.now(timezone.utc)) + slack
            )
        except (ValueError, OverflowError):
            inside = False
        if not inside:
            raise FindingError(
                "ts",
                f"must lie within the run, give or take {CLOCK_SLACK_SECONDS:.0f} s; leave it out,"
                " and the host sets it",
            )

    def add(self, finding: Finding) -> None:
        """Remember an accepted finding."""
        self._ids.add(finding.id)


def _check_name(member: str, name: str, reserved: str) -> None:
    # First the reason that helps most: " OXG.Supervisor.x" breaks both rules.
    if name.strip().lower().startswith(reserved):
        raise FindingError(member, f"{reserved}* is kept for the supervisor")
    if _NAME.fullmatch(name) is None:
        raise FindingError(member, f"{name!a:.80} {_EXPECTED}")


def _moment(text: str) -> datetime:
    """Return the time of an RFC 3339 text that the finding's own check has accepted."""
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError(text)
    date, minute, second, offset = found.groups()
    second = "59" if second == "60" else second
    return datetime.fromisoformat(
        f"{date}T{minute}:{second}{offset.upper().replace('Z', '+00:00')}"
    )
