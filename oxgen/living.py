"""Living: objects that are known as long as somebody else holds them.

As ``weakref`` has them, but no reference has a callback: those of ``WeakSet`` and the like are
Python code, in which the exception of a signal handler is lost with a message on stderr. The dead
are taken out when there are many.
"""

from __future__ import annotations

import weakref
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

__all__ = ["Living", "LivingByKey"]

_Key = TypeVar("_Key", bound=Hashable)
_One = TypeVar("_One")
#: Below this number nobody looks for the dead.
_LEAST = 32


class Living(Generic[_One]):
    """A set of objects that hash by their identity. Each step is one of the interpreter, so that
    threads and interrupts may come between any two."""

    __slots__ = ("_clean_at", "_references")

    def __init__(self) -> None:
        self._references: set[weakref.ref[_One]] = set()
        self._clean_at = _LEAST

    def add(self, one: _One) -> None:
        """Know it from now on."""
        if len(self._references) >= self._clean_at:
            self._clean()
        self._references.add(weakref.ref(one))

    def discard(self, one: _One) -> None:
        """Know it no more."""
        self._references.discard(weakref.ref(one))

    def __iter__(self) -> Iterator[_One]:
        for reference in list(self._references):
            one = reference()
            if one is not None:
                yield one

    def _clean(self) -> None:
        for reference in list(self._references):
            if reference() is None:
                self._references.discard(reference)
        self._clean_at = max(_LEAST, 2 * len(self._references))


class LivingByKey(Generic[_Key, _One]):
    """The same by a key. What another thread adds while the dead are taken out may be forgotten."""

    __slots__ = ("_clean_at", "_references")

    def __init__(self) -> None:
        self._references: dict[_Key, weakref.ref[_One]] = {}
        self._clean_at = _LEAST

    def get(self, key: _Key) -> _One | None:
        """Return who lives under this key."""
        reference = self._references.get(key)
        return None if reference is None else reference()

    def set(self, key: _Key, one: _One) -> None:
        """Know it under this key from now on."""
        if len(self._references) >= self._clean_at:
            self._clean()
        self._references[key] = weakref.ref(one)

    def _clean(self) -> None:
        for key, reference in list(self._references.items()):
            if reference() is None:
                self._references.pop(key, None)
        self._clean_at = max(_LEAST, 2 * len(self._references))
