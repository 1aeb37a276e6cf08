"""Cells: whom one belongs to, and what it is made of."""

from __future__ import annotations

import contextlib
import errno
import os
from dataclasses import dataclass, field
from typing import Any

from ..errors import LaunchError
from ..limits import Limits
from ..result import Confinement
from ..sandbox import Sandbox
from .levels import Demand, demand_of
from .mounts import Opened, open_place
from .native import ffi, lib
from .program import Program

__all__ = ["Cell", "Recipe", "Tenancy", "cell_spec", "no_cell"]


@dataclass(frozen=True, slots=True)
class Tenancy:
    """Whom a cell belongs to: one program, one policy, one tenant."""

    program: tuple[object, ...]
    runtime: str
    memory_bytes: int | None
    processes: int | None
    disk_bytes: int | None
    tenant: str
    demand: Demand
    cpu_is_bound: bool
    opened: Opened | None = None
    #: A filter on top of the one that all cells have, compiled; empty: none.
    filter: bytes = b""
    #: ``enum ox_notes``: which calls wait for the answer of who watches.
    notes: int = 0
    #: Whether a limit of the disk was asked for. Where it was not, that of memory bounds it anyhow.
    disk_is_bound: bool = True
    cpus: float | None = None

    @classmethod
    def of(
        cls,
        program: Program,
        limits: Limits,
        box: Sandbox,
        tenant: str,
        opened: Opened | None = None,
        filter: bytes = b"",
        notes: int = 0,
    ) -> Tenancy:
        """Return the tenancy of a run."""
        return cls(
            program.identity,
            box.runtime,
            limits.memory_bytes,
            limits.processes,
            limits.effective_disk_bytes,
            tenant,
            demand_of(box),
            limits.cpu_seconds is not None,
            opened,
            filter,
            notes,
            limits.disk_bytes is not None,
            limits.cpus,
        )


class Recipe:
    """What cells of one tenancy are made of."""

    def __init__(self, tenancy: Tenancy, program: Program) -> None:
        self.tenancy = tenancy
        #: Held open for the cells to come.
        self.program = program


@dataclass(eq=False)
class Cell:
    """A cell that the pool has: its ``struct ox_cell``, and the launcher that keeps it.

    One that an exception of a signal handler made everybody forget ends with its descriptors, which
    close when it is collected: its warden then sees the end of its socket.
    """

    recipe: Recipe
    native: Any
    launcher: Any
    confinement: Confinement
    idle_since: float = field(default=0.0)
    #: Whether the last run began on another processor than its caller's.
    apart: bool = False
    #: ``struct ox_run **`` of the run that it serves, for a child that was forked meanwhile.
    run: Any = None

    @property
    def tenancy(self) -> Tenancy:
        """Whom it belongs to."""
        return self.recipe.tenancy


def no_cell() -> Any:
    """A ``struct ox_cell`` that holds nothing: descriptor 0 is somebody else's."""
    return ffi.new(
        "struct ox_cell *",
        dict.fromkeys(
            ("warden", "pidfd", "cpu", "oom", "usage", "peak", "gone", "writable", "listener"), -1
        ),
    )


def cell_spec(recipe: Recipe, opened: contextlib.ExitStack) -> tuple[Any, list[Any]]:
    """Fill ``struct ox_cell_spec``; the second value keeps its memory alive."""
    tenancy, program = recipe.tenancy, recipe.program
    mounts = program.needed.mounts
    places = () if tenancy.opened is None else tenancy.opened.mounts
    rows = ffi.new("struct ox_mount[]", max(len(mounts) + len(places), 1))
    kept: list[Any] = [rows]
    for row, (inside, outside) in zip(rows, mounts, strict=False):
        try:
            row.fd = os.open(outside, os.O_PATH | os.O_CLOEXEC)
        except OSError as gone:
            text = f"is needed by the runtime: {gone.strerror}"
            raise LaunchError("tree", gone.errno or errno.EIO, text, path=outside) from None
        opened.callback(os.close, row.fd)
        text = ffi.new("char[]", os.fsencode(inside))
        kept.append(text)
        row.destination = text
    # After what the runtime needs: they are at the places that the policy names.
    for row, place in zip(rows[len(mounts) : len(mounts) + len(places)], places, strict=True):
        row.fd = open_place(place)
        opened.callback(os.close, row.fd)
        text = ffi.new("char[]", os.fsencode(place.destination))
        kept.append(text)
        row.destination, row.flags = text, 0 if place.executable else lib.OX_MOUNT_NOEXEC
    spec = ffi.new("struct ox_cell_spec *")
    entry = ffi.new("char[]", os.fsencode(program.entry))
    digest = ffi.NULL if program.digest is None else ffi.new("char[]", program.digest.encode())
    kept += [spec, entry, digest, program]
    spec.entry, spec.digest, spec.program = entry, digest, program.descriptor
    spec.features = 0
    if program.needed.system:
        spec.features = lib.OX_FEATURE_PROC | lib.OX_FEATURE_DEV | lib.OX_FEATURE_ETC
    if tenancy.opened is not None:
        spec.features |= lib.OX_FEATURE_EXEC if tenancy.opened.exec_tmp else 0
        spec.features |= lib.OX_FEATURE_HOST_NETWORK if tenancy.opened.host_network else 0
    spec.memory_bytes = -1 if tenancy.memory_bytes is None else tenancy.memory_bytes
    spec.processes = -1 if tenancy.processes is None else tenancy.processes
    spec.disk_bytes = -1 if tenancy.disk_bytes is None else tenancy.disk_bytes
    spec.cpu_quota_us = -1 if tenancy.cpus is None else round(tenancy.cpus * 100_000)
    spec.mounts, spec.mounts_count = rows, len(mounts) + len(places)
    if tenancy.filter:
        kept.append(ffi.from_buffer("struct ox_instruction[]", tenancy.filter))
        spec.filter, spec.filter_count = kept[-1], len(kept[-1])
    spec.notes = tenancy.notes
    return spec, kept
