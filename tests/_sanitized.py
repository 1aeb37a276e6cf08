"""pytest plugin of scripts/sanitize.sh: refuse to test any build but the sanitized one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def pytest_sessionstart(session: pytest.Session) -> None:
    """End the run unless ``oxgen`` and its launcher are those of the directory that was named."""
    import oxgen

    wanted = Path(os.environ["OXGEN_SANITIZED"]).resolve()
    package = Path(oxgen.__file__).resolve().parent
    if package.parent != wanted:
        pytest.exit(f"oxgen comes from {package}, not from {wanted}", returncode=3)
    for program in (package / "_launcher", *package.glob("_native*.so")):
        if b"__asan_" not in program.read_bytes():
            pytest.exit(f"{program} was built without AddressSanitizer", returncode=3)
