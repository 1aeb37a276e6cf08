"""The only way to C: cells, the launcher process, and one run in one cell."""

from __future__ import annotations

from .cells import PROPERTIES
from .channel import EXECUTABLE
from .crowd import Crowd, Job
from .ends import classify
from .execution import Execution, Order, Stream, standard_stream, timestamp, under_way
from .launcher import (
    UID_BASE,
    UID_COUNT,
    Launcher,
    Lease,
    default_launcher,
)
from .loop import deliver
from .native import stages
from .pool import PoolStats
from .program import Program, open_program, verified_program

__all__ = [
    "EXECUTABLE",
    "PROPERTIES",
    "UID_BASE",
    "UID_COUNT",
    "Crowd",
    "Execution",
    "Job",
    "Launcher",
    "Lease",
    "Order",
    "PoolStats",
    "Program",
    "Stream",
    "build",
    "classify",
    "default_launcher",
    "deliver",
    "open_program",
    "stages",
    "standard_stream",
    "timestamp",
    "under_way",
    "verified_program",
]


def build() -> str:
    """Return what the C extension says of its own build."""
    from .native import ffi, lib

    text: bytes = ffi.string(lib.ox_build())
    return text.decode("ascii")
