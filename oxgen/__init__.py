"""oxgen launches plugins that nobody trusts, each in a cell of its own.

::

    done = oxgen.run(["./scan", "--fast"], limits=oxgen.Limits(cpu_seconds=5), capture_output=True)
    print(done.returncode, done.termination.reason, done.confinement.enforced)

Importing it without its C extension is an error: there is no weaker pure-Python path.
"""

from __future__ import annotations

import importlib
from typing import Any

from ._launch import Launcher
from .errors import (
    CapabilityError,
    CaptureError,
    FindingError,
    IntegrityError,
    LaunchError,
    LostError,
    ManifestError,
    OxgenError,
    ProgramNotFoundError,
    RunFailedError,
    UnsupportedError,
    UsageError,
)
from .limits import GIB, KIB, MIB, Limits
from .many import map
from .process import Process, probe, run, spawn
from .request import Request
from .result import Collected, Completed, Confinement, Output, Termination, Usage
from .sandbox import Enforce, Mount, Sandbox

__version__ = "0.1.0"

__all__ = [
    "GIB",
    "KIB",
    "MIB",
    "CapabilityError",
    "CaptureError",
    "Collected",
    "Completed",
    "Confinement",
    "Enforce",
    "FindingError",
    "IntegrityError",
    "LaunchError",
    "Launcher",
    "Limits",
    "LostError",
    "ManifestError",
    "Mount",
    "Output",
    "OxgenError",
    "Process",
    "ProgramNotFoundError",
    "Request",
    "RunFailedError",
    "Sandbox",
    "Termination",
    "UnsupportedError",
    "Usage",
    "UsageError",
    "__version__",
    "map",
    "probe",
    "run",
    "spawn",
]


def __getattr__(name: str) -> Any:
    """Import ``oxgen.aio`` when it is first used: few programs need asyncio, which is large."""
    if name == "aio":
        return importlib.import_module("oxgen.aio")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
