"""Request: one run as its caller wants it, to be handed to ``map``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass

from .errors import UsageError
from .limits import Limits
from .sandbox import Sandbox, is_encodable
from .values import check_bool, plain_path

__all__ = ["Request"]

_SANDBOX = Sandbox()
_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Request:
    """What ``run`` would be called with: a frozen value that starts nothing.

    ``args[0]`` with a slash is a path of the host, without one it is looked up in the caller's
    PATH. ``capture_output`` keeps stdout and stderr; without it they are read, counted and dropped:
    many runs at once have no terminal to share. Raises ``UsageError`` for bad values.
    """

    args: Sequence[str | os.PathLike[str]]
    _: KW_ONLY
    sandbox: Sandbox | None = None
    limits: Limits | None = None
    input: bytes | None = None
    capture_output: bool = True
    tenant: str = ""
    task_id: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "args", _words(self.args))
        _check_type("sandbox", self.sandbox, Sandbox)
        _check_type("limits", self.limits, Limits)
        if self.input is not None and not isinstance(self.input, bytes):
            raise UsageError(f"input must be bytes or None, got {type(self.input).__name__}")
        check_bool("capture_output", self.capture_output)
        if not isinstance(self.tenant, str):
            raise UsageError(f"tenant must be text, got {self.tenant!r}")
        object.__setattr__(self, "tenant", str.__str__(self.tenant))
        if self.task_id is not None and not isinstance(self.task_id, str):
            raise UsageError(f"task_id must be text or None, got {self.task_id!r}")

    @property
    def words(self) -> tuple[str, ...]:
        """``args`` as the program gets them."""
        return self.args  # type: ignore[return-value]  # __post_init__ made them that

    @property
    def box(self) -> Sandbox:
        """``sandbox``, or the usual one."""
        return self.sandbox or _SANDBOX

    @property
    def bounds(self) -> Limits:
        """``limits``, or the usual ones."""
        return self.limits or _LIMITS


def _words(args: object) -> tuple[str, ...]:
    if isinstance(args, (str, bytes)) or not isinstance(args, Sequence) or not args:
        raise UsageError(f"args must be a sequence of at least the program's name, got {args!r}")
    return tuple(map(_word, args))


def _word(word: object) -> str:
    text = plain_path("args", word) if isinstance(word, os.PathLike) else word
    if not isinstance(text, str) or "\0" in text or not is_encodable(text):
        raise UsageError(f"args must be text or paths without NUL, got {word!r}")
    # A subclass may compare and hash as it likes, and what runs have in common is found by that.
    return str.__str__(text)


def _check_type(name: str, value: object, wanted: type) -> None:
    if value is not None and not isinstance(value, wanted):
        raise UsageError(f"{name} must be a {wanted.__name__} or None, got {value!r}")
