"""The only way to C: cells, the launcher process, and one run in one cell."""

from __future__ import annotations

from ..sandbox import PROPERTIES
from .channel import EXECUTABLE
from .crowd import Crowd, Job
from .ends import classify
from .execution import Execution, begin, carry_out, end
from .filters import beyond_default, filter_of, floor, native_arch, syscall_table
from .launcher import (
    UID_BASE,
    UID_COUNT,
    Launcher,
    Lease,
    check_launcher,
    chosen_launcher,
    default_launcher,
)
from .levels import AUTOMATIC
from .loop import deliver
from .native import stages
from .order import (
    Order,
    Plan,
    Stream,
    archive_of,
    plan_of,
    planned,
    standard_order,
    standard_stream,
)
from .pipes import Pipes
from .pool import PoolStats
from .program import Program, open_program, verified_program

__all__ = [
    "AUTOMATIC",
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
    "Pipes",
    "Plan",
    "PoolStats",
    "Program",
    "Stream",
    "archive_of",
    "begin",
    "beyond_default",
    "build",
    "carry_out",
    "check_launcher",
    "chosen_launcher",
    "classify",
    "default_launcher",
    "deliver",
    "end",
    "filter_of",
    "floor",
    "native_arch",
    "open_program",
    "plan_of",
    "planned",
    "stages",
    "standard_order",
    "standard_stream",
    "syscall_table",
    "verified_program",
]


def build() -> str:
    """Return what the C extension says of its own build."""
    from .native import ffi, lib

    text: bytes = ffi.string(lib.ox_build())
    return text.decode("ascii")
