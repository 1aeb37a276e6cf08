"""The probe inside a sandbox, and what it says of itself."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import oxgen

__all__ = ["Portrait", "Probe"]


class Portrait(SimpleNamespace):
    """What the probe saw; the names are those of probe.c."""

    environment: list[str]
    places: dict[str, dict[str, Any]]

    @property
    def variables(self) -> dict[str, str]:
        """The environment as a mapping."""
        return dict(entry.split("=", 1) for entry in self.environment)


class Probe:
    """Runs the probe with the settings of a test and reads its answer."""

    def __init__(self, path: Path, **settings: Any) -> None:
        self.path = path
        self.settings = settings

    def using(self, **settings: Any) -> Probe:
        """Return a probe with these settings of ``oxgen.run`` added."""
        return Probe(self.path, **{**self.settings, **settings})

    def run(self, *words: object, **settings: Any) -> oxgen.Completed:
        """Run the probe with these words, output captured."""
        options = {"capture_output": True, **self.settings, **settings}
        return oxgen.run([str(self.path), *map(str, words)], **options)

    def answer(self, *words: object, **settings: Any) -> Any:
        """Run it, expect it to end well, and return the JSON that it printed."""
        done = self.run(*words, **settings)
        assert done.returncode == 0 and done.termination.reason is None, done
        assert done.stdout is not None
        return json.loads(done.stdout)

    def look(self, *words: object, **settings: Any) -> Portrait:
        """Return what the probe sees (``words`` may only be tags)."""
        return Portrait(**self.answer(*words, **settings))
