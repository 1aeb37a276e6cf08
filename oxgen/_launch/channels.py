"""Channels: a launcher process for each level that is in use. For one thread."""

from __future__ import annotations

from ..errors import UnsupportedError
from ..sandbox import LEVELS
from . import refusals, trial
from .cells import Cell, Recipe
from .channel import Channel
from .levels import AUTOMATIC, or_else, waiver

__all__ = ["Channels"]

#: Levels that this machine has refused since the process started: a policy that names none does not
#: try them again. One that names it does. With each, whether that was for programs that need /proc
#: and /dev, for those that do not, or (None) for every launcher.
_refused: dict[tuple[str, bool | None], UnsupportedError] = {}


class Channels:
    """The launcher processes of one pool, each started when it is first needed."""

    def __init__(self, uids: tuple[int, int], cells_max: int) -> None:
        self._uids = uids
        #: Levels whose launcher runs and whose cells could not be made, and for which programs.
        self._failed: set[tuple[str, bool]] = set()
        self._channels = {level: Channel(level, uids, cells_max) for level in LEVELS}

    def start(
        self, level: str | None, *, system: bool = False
    ) -> tuple[Channel, UnsupportedError | None]:
        """Start the launcher of a level unless it runs; None takes the best that can be had here.

        ``system``: for a program that needs /proc and /dev. With it comes why a better one than
        that cannot be had. Raises ``UnsupportedError`` where there is none at all: of the best
        level, if none was named.
        """
        if level is not None:
            self._channels[level].start()
            return self._channels[level], None
        better = None
        for name in AUTOMATIC:
            channel = self._channels[name]
            try:
                known = _refused.get((name, system))
                if known is None and channel.native is None:
                    known = _refused.get((name, None))
                if known is not None:
                    raise refusals.again(known)
                channel.start()
            except UnsupportedError as refused:
                better = better or refused
                if known is None:
                    _refused[name, None] = refused
            else:
                return channel, better
        # Where nothing serves, the next run had better try again.
        for name in AUTOMATIC:
            _refused.pop((name, None), None)
            _refused.pop((name, system), None)
        assert better is not None
        raise better

    def falls(self, channel: Channel, recipe: Recipe, failure: UnsupportedError) -> bool:
        """Whether a cell that this machine refuses is to be tried at the next level.

        The launcher of the best level may start where its cells cannot be made: the kernel grants a
        namespace and refuses a mount in it, or a filter a call that no launcher makes for itself.
        """
        self._failed.add((channel.level, recipe.program.needed.system))
        if recipe.tenancy.demand.level is not None or channel.level != AUTOMATIC[0]:
            return False
        if not refusals.is_lasting(failure):
            return False
        for system in (True, False):
            if system == recipe.program.needed.system or not refusals.is_of_system(failure):
                _refused[channel.level, system] = failure
        return True

    def advised(self, failure: UnsupportedError, recipe: Recipe) -> UnsupportedError:
        """Add the level to the remedy that can be had instead. It is tried, by a cell."""
        demand, system = recipe.tenancy.demand, recipe.program.needed.system
        tried = AUTOMATIC if demand.level is None else (demand.level,)
        had = any(
            self._channels[name].native is not None and (name, system) not in self._failed
            for name in tried
        )
        if had and demand.level is None:
            return failure  # what the best one does not hold no other does
        for level in LEVELS:
            if level in tried:
                continue
            missing = trial.missing_at(level, self._uids, recipe)
            if missing is None or (missing and had):
                continue
            without = "" if not missing else f", {waiver(missing)}"
            failure.remedy = or_else(
                failure.remedy, f'use level="{level}"{without}, which can be had here'
            )
            break
        return failure

    def running(self) -> list[Channel]:
        """Return those that have a launcher process."""
        return [channel for channel in self._channels.values() if channel.native is not None]

    def of(self, cell: Cell) -> Channel | None:
        """Return whose launcher keeps the cell; None where that process has ended."""
        for channel in self.running():
            if cell.launcher is channel.native:
                return channel
        return None

    def stop(self) -> None:
        """End all launcher processes, and with them their cells."""
        for channel in self._channels.values():
            channel.stop()

    def forget(self) -> None:
        """Close their descriptors without a word: after a fork, in the child."""
        for channel in self._channels.values():
            channel.forget()
