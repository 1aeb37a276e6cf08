"""Limits: upper bounds for one run."""

from __future__ import annotations

from dataclasses import dataclass, fields

from .errors import UsageError

__all__ = ["GIB", "KIB", "MIB", "Limits", "bounds_of"]

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

#: The largest number of bytes, processes or files that is accepted: the kernel's own counters are
#: signed 64-bit numbers, some of them in pages.
_COUNT_MAX = 1 << 50
#: One hundred years: still exact as nanoseconds in a signed 64-bit number.
_SECONDS_MAX = 100.0 * 365 * 86400
_SECONDS_MIN = 0.001
_SHOWN_MAX = 100
#: A cell's own memory (its first process, its mounts) is charged to the same cgroup.
_MEMORY_MIN = 4 * MIB
#: One part in a hundred of a processor: the kernel hands out no less than a millisecond at a time.
_CPUS_MIN, _CPUS_MAX = 0.01, 1024.0
_LEAST = {
    "memory_bytes": _MEMORY_MIN,
    "processes": 1,
    # 0, 1, 2 and the broker are open when the program starts, and a loader needs one more.
    "open_files": 5,
    "file_bytes": 0,
    "disk_bytes": 64 * KIB,
    "output_bytes": 0,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Upper bounds for one run; ``None`` means no bound.

    ``wall_seconds`` counts from the moment the launch is requested; ``cpu_seconds`` is user plus
    system time of all processes of the run together; ``memory_bytes`` is what the cgroup is
    charged, which includes files in the writable directories (they live in memory);
    ``processes`` counts processes and threads together; ``open_files`` and ``file_bytes`` hold
    for each process; ``disk_bytes`` for all writable directories together;
    ``cpus`` is how many processors all processes together may keep busy, as a rate: they are slowed
    down and not ended there;
    ``output_bytes`` for stdout and stderr together: what goes beyond it is read, counted and
    dropped. Raises ``UsageError`` for zero, negative, NaN, infinite and absurdly large values.
    """

    wall_seconds: float | None = 300.0
    cpu_seconds: float | None = 60.0
    memory_bytes: int | None = 512 * MIB
    processes: int | None = 64
    open_files: int | None = 256
    file_bytes: int | None = 64 * MIB
    disk_bytes: int | None = 128 * MIB
    output_bytes: int | None = 16 * MIB
    cpus: float | None = None

    def __post_init__(self) -> None:
        for name in ("wall_seconds", "cpu_seconds"):
            _check_seconds(name, getattr(self, name))
        for name, least in _LEAST.items():
            _check_count(name, getattr(self, name), least)
        _check_cpus(self.cpus)

    @property
    def effective_disk_bytes(self) -> int | None:
        """The size the writable directories really get.

        Files there are memory: a quarter of ``memory_bytes`` stays out of their reach, so that a
        full disk is ENOSPC to the program and not an out-of-memory kill.
        """
        if self.memory_bytes is None:
            return self.disk_bytes
        room = self.memory_bytes - self.memory_bytes // 4
        return room if self.disk_bytes is None else min(self.disk_bytes, room)

    def as_dict(self) -> dict[str, float | int | None]:
        """Return the fields by name, as the status object lists them."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def bounds_of(name: str) -> tuple[float, float]:
    """Return the least and the largest value that the field of this name accepts."""
    if name == "cpus":
        return _CPUS_MIN, _CPUS_MAX
    return (_LEAST[name], _COUNT_MAX) if name in _LEAST else (_SECONDS_MIN, _SECONDS_MAX)


def _check_seconds(name: str, value: object) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise UsageError(f"{name} must be a number of seconds or None, got {_shown(value)}")
    # NaN is neither above nor below anything.
    if not _SECONDS_MIN <= value <= _SECONDS_MAX:
        raise UsageError(
            f"{name} must be between {_SECONDS_MIN} and {_SECONDS_MAX:.0f} seconds"
            f" (None for no bound), got {_shown(value)}"
        )


def _check_cpus(value: object) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise UsageError(f"cpus must be a number of processors or None, got {_shown(value)}")
    # NaN is neither above nor below anything.
    if not _CPUS_MIN <= value <= _CPUS_MAX:
        raise UsageError(
            f"cpus must be between {_CPUS_MIN} and {_CPUS_MAX:.0f} processors, fractions too"
            f" (None for no bound), got {_shown(value)}"
        )


def _check_count(name: str, value: object, least: int) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise UsageError(f"{name} must be a whole number or None, got {_shown(value)}")
    if not least <= value <= _COUNT_MAX:
        raise UsageError(
            f"{name} must be between {least} and {_COUNT_MAX} (None for no bound),"
            f" got {_shown(value)}"
        )


def _shown(value: object) -> str:
    """A value for a message. Python refuses to write integers of thousands of digits."""
    if isinstance(value, int) and value.bit_length() > 128:
        return f"a number of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= _SHOWN_MAX else text[:_SHOWN_MAX] + "..."
