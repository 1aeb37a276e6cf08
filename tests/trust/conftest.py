"""Fixtures: trust roots in temporary directories."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from _trust_root import Root

from oxgen.integrity import keygen


@pytest.fixture
def make_root(tmp_path: Path) -> Callable[[str], Root]:
    """Make trust roots by name, each with one key and no ALLOWLIST."""

    def make(name: str) -> Root:
        path = tmp_path / name
        (path / "keys").mkdir(parents=True, mode=0o755)
        path.chmod(0o755)
        secret = tmp_path / f"{name}.key"
        keygen(secret, path / "keys" / "operator.pub")
        return Root(path, secret)

    return make


@pytest.fixture
def trust(make_root: Callable[[str], Root]) -> Root:
    return make_root("root")
