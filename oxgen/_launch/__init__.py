"""The only way to C: cells, the launcher process, and one run in one cell."""

from __future__ import annotations

from ..sandbox import PROPERTIES
from .channel import EXECUTABLE
from .crowd import Crowd, Job
from .ends import classify
from .execution import Execution, begin, carry_out, end
from .launcher import (
    UID_BASE,
    UID_COUNT,
    Launcher,
    Lease,
    default_launcher,
)
from .loop import deliver
from .native import stages
from .order import Order, Plan, Stream, archive_of, plan_of, planned, standard_stream
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
    "Plan",
    "PoolStats",
    "Program",
    "Stream",
    "archive_of",
    "begin",
    "build",
    "carry_out",
    "classify",
    "default_launcher",
    "deliver",
    "end",
    "open_program",
    "plan_of",
    "planned",
    "stages",
    "standard_stream",
    "verified_program",
]


def build() -> str:
    """Return what the C extension says of its own build."""
    from .native import ffi, lib

    text: bytes = ffi.string(lib.ox_build())
    return text.decode("ascii")
