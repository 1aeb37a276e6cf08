"""The C extension: the one place that imports it."""

from __future__ import annotations

import importlib
import os
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

__all__ = ["ffi", "held", "lib", "memory_file", "seal", "stage_name", "stages", "text_of"]

# cffi makes both at run time: there are no static types to be had.
ffi: Any = _native.ffi
lib: Any = _native.lib


def held() -> Any:
    """An ``int *`` for a descriptor that C is to open; it closes with ``ffi.release`` or when it is
    collected.

    An integer that Python holds has no owner yet when a signal handler raises.
    """
    return ffi.gc(ffi.new("int *", -1), lib.ox_close)


def memory_file(name: bytes) -> Any:
    """Return an ``int *`` with a new file in memory, to be sealed; raises ``OSError``."""
    file = held()
    r = lib.ox_memory_file(name, file)
    if r < 0:
        raise OSError(-r, os.strerror(-r))
    return file


def seal(descriptor: int) -> None:
    """Let nobody change a file in memory any more."""
    import fcntl

    every = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, every)


def text_of(field: Any) -> str:
    """Return a text of C: an array that it has written into, or a string of its own."""
    return bytes(ffi.string(field)).decode("utf-8", "replace")


def stage_name(number: int) -> str:
    """Return the name of a stage, ``unknown`` for a number that is none."""
    return text_of(lib.ox_stage_name(number))


def stages() -> tuple[str, ...]:
    """Return the names of all stages of a launch, in the order in which they happen."""
    return tuple(stage_name(number) for number in range(1, lib.OX_STAGE_COUNT))
