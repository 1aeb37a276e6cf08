"""A trust root of one's own, and plugins in it: signed and approved by the code under test."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from oxgen.errors import IntegrityError
from oxgen.integrity import TrustRoot, approve, approve_files, sign_file

PROGRAM = b"#!/bin/true\nthe program\n"


@dataclass
class Root:
    """A trust root in a temporary directory, and the private key that its operator signs with."""

    path: Path
    secret: Path

    @property
    def root(self) -> TrustRoot:
        return TrustRoot.locate(str(self.path))

    @property
    def allowlist(self) -> Path:
        return self.path / "ALLOWLIST"

    def write(self, name: str = "hello", program: bytes = PROGRAM, **changes: Any) -> Path:
        """Write a plugin's folder without signature or approval; None takes a key away.

        ``name_in_manifest`` makes it an impostor.
        """
        claimed = changes.pop("name_in_manifest", name)
        folder = self.path / name
        folder.mkdir(exist_ok=True)
        (folder / "prog").write_bytes(program)
        members = {
            "name": claimed,
            "version": "1.0",
            "entry": "prog",
            "artifact": "prog",
            "capabilities": ["CAP_EMIT_FINDINGS"],
            "runtime": "python",
            **changes,
        }
        kept = {key: value for key, value in members.items() if value is not None}
        (folder / "manifest.json").write_text(json.dumps(kept), encoding="utf-8")
        return folder

    def add(self, name: str = "hello", program: bytes = PROGRAM, **changes: Any) -> Path:
        """Write, sign and approve a plugin."""
        folder = self.write(name, program, **changes)
        sign_file(folder / "prog", self.secret)
        approve_files(self.root, folder)
        return folder

    def refusal(self, plugin: str | Path) -> str:
        """Return the reason for which ``plugin`` is refused."""
        with pytest.raises(IntegrityError) as caught:
            approve(plugin, self.root)
        return caught.value.reason

    def approves(self, plugin: str | Path) -> bool:
        with approve(plugin, self.root) as approved:
            return bool(approved.digest)
