"""The table of system calls: which number a name has on which architecture."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

__all__ = ["AARCH64", "ARCHES", "X86_64", "Table", "arch_name"]

#: AUDIT_ARCH_* of linux/audit.h.
X86_64: Final = 0xC000003E
AARCH64: Final = 0xC00000B7
#: The architectures with a table, and what the kernel calls them.
ARCHES: Final = {X86_64: "x86_64", AARCH64: "aarch64"}
#: Those that a kernel for one of them can serve as well, and no cell does.
_OTHERS: Final = {0x40000003: "i386", 0x40000028: "arm"}


class Table:
    """Names and numbers. They come from the C core, which has the one list of them.

    ``rows`` are ``(name, number on x86-64, number on aarch64)``, -1 where there is no such call.
    """

    def __init__(self, rows: Iterable[tuple[str, int, int]]) -> None:
        kept = tuple(rows)
        self.names = frozenset(name for name, _, _ in kept)
        self._numbers = {
            X86_64: {name: x86 for name, x86, _ in kept if x86 >= 0},
            AARCH64: {name: arm for name, _, arm in kept if arm >= 0},
        }
        self._names = {
            arch: {number: name for name, number in numbers.items()}
            for arch, numbers in self._numbers.items()
        }

    def numbers(self, arch: int) -> dict[str, int]:
        """Return the number of each name that the architecture has."""
        return self._numbers[arch]

    def name(self, arch: int, number: int) -> str | None:
        """Return the name of a number; None where the table has none."""
        return self._names.get(arch, {}).get(number)


def arch_name(arch: int) -> str:
    """Return a name for an AUDIT_ARCH_* number that a call can have on a machine with a table."""
    return ARCHES.get(arch) or _OTHERS.get(arch) or f"architecture {arch:#x}"
