"""The C extension: the one place that imports it."""

from __future__ import annotations

import importlib
from typing import Any

try:
    _native: Any = importlib.import_module("oxgen._native")
except ImportError as missing:
    raise ImportError(
        "oxgen's C extension oxgen._native is missing or does not fit this Python "
        f"({missing}); there is no weaker pure-Python path. Install a wheel or build it: "
        "pip install --force-reinstall . in the source tree (needs gcc and Python's headers)",
        name="oxgen._native",
    ) from missing

__all__ = ["ffi", "held", "lib", "stage_name", "stages"]

# cffi makes both at run time: there are no static types to be had.
ffi: Any = _native.ffi
lib: Any = _native.lib


def held() -> Any:
    """An ``int *`` for a descriptor that C is to open; it closes with ``ffi.release`` or when it is
    collected.

    An integer that Python holds has no owner yet when a signal handler raises.
    """
    return ffi.gc(ffi.new("int *", -1), lib.ox_close)


def stage_name(number: int) -> str:
    """Return the name of a stage, ``unknown`` for a number that is none."""
    name: bytes = ffi.string(lib.ox_stage_name(number))
    return name.decode("ascii")


def stages() -> tuple[str, ...]:
    """Return the names of all stages of a launch, in the order in which they happen."""
    return tuple(stage_name(number) for number in range(1, lib.OX_STAGE_COUNT))
