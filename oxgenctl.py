"""Start 0xgenctl from outside of the package, whose import fails where its C core is missing."""

from __future__ import annotations

import sys

__all__ = ["main"]

_OURS_FAILED = 125


def main() -> int:
    """Run the command line, or say in one sentence why there is none."""
    try:
        from oxgen.cli import main as command_line
    except ImportError as missing:
        if missing.name != "oxgen._native":
            raise
        print(f"0xgenctl: {missing}", file=sys.stderr)
        return _OURS_FAILED
    command_line()
    return 0
