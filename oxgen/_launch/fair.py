"""FairQueue: who waits for a cell, and whose turn it is."""

from __future__ import annotations

import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

__all__ = ["FairQueue", "Waits"]

#: Among so many tenants, those whose last turn is longest ago, the one with the fewest runs is
#: next: finding it must not cost more with every tenant that waits.
_CANDIDATES = 64


class Waits(Protocol):
    """What can stand in the queue."""

    @property
    def tenant(self) -> str:
        """Whose turn it takes."""

    @property
    def waiting(self) -> bool:
        """False once it has what it waits for, or wants it no more."""


Item = TypeVar("Item", bound=Waits)


class FairQueue(Generic[Item]):
    """First come, first served inside a tenant; between tenants the one that has least.

    Holds its members weakly: one that its owner forgot is not waited for. Not thread-safe. An
    exception of a signal handler at any moment costs a place of the bound at most, until it is
    reached.
    """

    def __init__(self, bound: int) -> None:
        self.bound = bound
        self._lines: OrderedDict[str, deque[weakref.ref[Item]]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        """How many count towards the bound, some of whom may wait no more."""
        return self._count

    def __bool__(self) -> bool:
        """False when surely nobody waits."""
        return bool(self._lines)

    def __iter__(self) -> Iterator[Item]:
        for line in list(self._lines.values()):
            for reference in list(line):
                item = reference()
                if item is not None and item.waiting:
                    yield item

    def push(self, item: Item, passing: int = 0) -> bool:
        """Put it at the end of its tenant's line; False when the queue is full.

        So many more than the bound may be in it as only pass through.
        """
        if self._count >= self.bound + passing:
            self._sweep()
            if self._count >= self.bound + passing:
                return False
        self._count += 1
        self._lines.setdefault(item.tenant, deque()).append(weakref.ref(item))
        return True

    def first(self, busy: Callable[[str], int]) -> Item | None:
        """Return whose turn it is, by how many cells each tenant holds; it stays in the queue."""
        best: tuple[int, Item] | None = None
        seen = 0
        for tenant in list(self._lines):
            item = self._front(tenant)
            if item is None:
                continue
            has = busy(tenant)
            if best is None or has < best[0]:
                best = has, item
            seen += 1
            if has == 0 or seen == _CANDIDATES:
                break
        return None if best is None else best[1]

    def served(self, item: Item) -> None:
        """Take it out; its tenant goes to the end of the tenants."""
        line = self._lines.get(item.tenant)
        if line is None:
            return
        if line and line[0]() is item:
            line.popleft()
            self._count -= 1
        if line:
            self._lines.move_to_end(item.tenant)
        else:
            del self._lines[item.tenant]

    def _front(self, tenant: str) -> Item | None:
        """Return who is first of a tenant, past those who wait no more."""
        line = self._lines[tenant]
        while line:
            item = line[0]()
            if item is not None and item.waiting:
                return item
            line.popleft()
            self._count -= 1
        del self._lines[tenant]
        return None

    def _sweep(self) -> None:
        for tenant, line in list(self._lines.items()):
            kept = deque(one for one in line if (item := one()) is not None and item.waiting)
            if kept:
                self._lines[tenant] = kept
            else:
                del self._lines[tenant]
        self._count = sum(map(len, self._lines.values()))
