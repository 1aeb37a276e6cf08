"""How tests start 0xgenctl as a program of its own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["SECONDS", "program_environment", "program_words"]

ROOT = Path(__file__).resolve().parents[2]
#: No command of these tests may take longer.
SECONDS = 60


def program_words() -> list[str]:
    """Return the words that start 0xgenctl from this source tree, wherever it is installed.

    A test runner in the background may have signals ignored, and a child inherits that.
    """
    start = (
        "import signal as s, sys\n"
        "s.signal(s.SIGINT, s.default_int_handler)\n"
        "s.signal(s.SIGTERM, s.SIG_DFL)\n"
        "s.signal(s.SIGHUP, s.SIG_DFL)\n"
        "s.signal(s.SIGQUIT, s.SIG_DFL)\n"
        "sys.argv[0] = '0xgenctl'\n"
        "from oxgen.cli import main\n"
        "main()\n"
    )
    return [sys.executable, "-c", start]


def program_environment() -> dict[str, str]:
    """Return this environment with this source tree first."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path}
