"""Channel: the launcher process, and what is said to it. For one thread."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..errors import LaunchError, UnsupportedError
from . import refusals
from .cells import Cell, Recipe, cell_spec, no_cell
from .levels import level_number
from .native import ffi, lib, stage_name, text_of
from .places import directory_of

__all__ = ["EXECUTABLE", "Answer", "Channel", "GoneError"]

#: The launcher executable of this package.
EXECUTABLE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "_launcher")

_START_MS = 15_000
_STOP_MS = 5_000


class GoneError(Exception):
    """The launcher process cannot be talked to any more."""

    def __init__(self, number: int) -> None:
        super().__init__(os.strerror(number))
        self.number = number


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one request for a cell: its ``struct ox_cell``, or why there is none."""

    sequence: int
    native: Any
    failure: LaunchError | UnsupportedError | None


class Channel:
    """Starts the launcher process when it is first needed; its cells end with it."""

    def __init__(self, level: str, uids: tuple[int, int], cells_max: int) -> None:
        self.level = level
        self._uids = uids
        self._cells_max = cells_max
        #: ``struct ox_launcher`` of the process that runs, None while there is none.
        self.native: Any = None

    def start(self) -> Any:
        """Start the launcher process unless it runs; returns its ``struct ox_launcher``."""
        if self.native is not None:
            return self.native
        config = ffi.new("struct ox_config *")
        config.level = level_number(self.level)
        config.uid_base, config.uid_count = self._uids
        config.cells_max = self._cells_max
        config.directory = os.fsencode(directory_of(self.level))
        native = ffi.new("struct ox_launcher *")
        problem = ffi.new("struct ox_problem *")
        path = os.fsencode(EXECUTABLE)
        if lib.ox_launcher_start(path, config, _START_MS, native, problem) < 0:
            raise refusals.of_launcher(
                stage_name(problem.error.stage),
                problem.error.errnum,
                text_of(problem.cause),
                text_of(problem.remedy),
                EXECUTABLE,
            )
        self.native = native
        return native

    def stop(self) -> None:
        """End the launcher process, and with it its cells."""
        native, self.native = self.native, None
        if native is not None:
            lib.ox_launcher_stop(native, _STOP_MS)

    def forget(self) -> None:
        """Close the descriptors without a word: after a fork, in the child."""
        native, self.native = self.native, None
        if native is not None:
            for descriptor in (native.socket, native.pidfd):
                with contextlib.suppress(OSError):
                    os.close(descriptor)

    def request(self, recipe: Recipe, sequence: int) -> None:
        """Ask for a cell; the answer comes later, under this number."""
        error = ffi.new("struct ox_error *")
        with contextlib.ExitStack() as opened:
            spec, kept = cell_spec(recipe, opened)
            r = lib.ox_cell_request(self.start(), spec, sequence, error)
            del kept
        if r < 0:
            if error.errnum in (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN):
                raise GoneError(error.errnum)
            raise refusals.of_cell(stage_name(error.stage), error.errnum, self.level)

    def try_cell(self, recipe: Recipe) -> bool:
        """Make a cell and let it go; whether it could be made. Nothing else may be under way."""
        native, error = no_cell(), ffi.new("struct ox_error *")
        with contextlib.ExitStack() as opened:
            spec, kept = cell_spec(recipe, opened)
            made = bool(lib.ox_cell_create(self.start(), spec, _START_MS, native, error) == 0)
            del kept
        lib.ox_cell_forget(native)
        return made

    def answers(self) -> Iterator[Answer]:
        """Yield the answers that have come; raises ``GoneError`` when there will be no more."""
        while self.native is not None:
            native = ffi.gc(no_cell(), lib.ox_cell_forget)
            sequence = ffi.new("uint32_t *")
            error = ffi.new("struct ox_error *")
            r = lib.ox_cell_answer(self.native, 0, sequence, native, error)
            if r < 0:
                raise GoneError(-r)
            if r == 0:
                return
            failure = None
            if error.stage != lib.OX_STAGE_NONE:
                failure = refusals.of_cell(stage_name(error.stage), error.errnum, self.level)
            yield Answer(sequence[0], native, failure)

    def destroy(self, cell: Cell) -> None:
        """Have a cell taken apart; nothing is waited for."""
        r = lib.ox_cell_destroy(self.native, cell.native)
        lib.ox_cell_forget(cell.native)
        if r < 0:
            raise GoneError(-r)
