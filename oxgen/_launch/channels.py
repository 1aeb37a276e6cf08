"""Channels: a launcher process for each level that is in use. For one thread."""

from __future__ import annotations

from ..errors import UnsupportedError
from ..sandbox import LEVELS
from . import refusals
from .cells import Cell
from .channel import Channel
from .levels import AUTOMATIC

__all__ = ["Channels"]

#: Levels that this machine has refused since the process started: a policy that names none does not
#: try them again. One that names it does.
_refused: dict[str, UnsupportedError] = {}


class Channels:
    """The launcher processes of one pool, each started when it is first needed."""

    def __init__(self, uids: tuple[int, int], cells_max: int) -> None:
        self._channels = {level: Channel(level, uids, cells_max) for level in LEVELS}

    def start(self, level: str | None) -> tuple[Channel, UnsupportedError | None]:
        """Start the launcher of a level unless it runs; None takes the best that can be had here.

        With it comes why a better one than that cannot be had. Raises ``UnsupportedError`` where
        there is none at all: of the best level, if none was named.
        """
        if level is not None:
            self._channels[level].start()
            return self._channels[level], None
        better = None
        for name in AUTOMATIC:
            channel = self._channels[name]
            try:
                if channel.native is None and name in _refused:
                    raise refusals.again(_refused[name])
                channel.start()
            except UnsupportedError as refused:
                better = better or refused
            else:
                # Only now: where nothing serves, the next run had better try again.
                if better is not None:
                    _refused.setdefault(AUTOMATIC[0], better)
                return channel, better
        assert better is not None
        raise better

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
