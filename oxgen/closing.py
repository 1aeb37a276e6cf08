"""Closes: a context manager that ends with ``close``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import TypeVar

__all__ = ["Closes"]

Itself = TypeVar("Itself", bound="Closes")


class Closes(ABC):
    """``with`` gives the object itself, and closes it in the end."""

    __slots__ = ()

    @abstractmethod
    def close(self) -> None:
        """End it. May be called twice."""

    def __enter__(self: Itself) -> Itself:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
