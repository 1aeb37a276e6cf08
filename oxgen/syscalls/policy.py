"""Policy: which system calls a program may make, as a frozen value."""

from __future__ import annotations

import errno
import operator
from collections.abc import Callable, Iterable
from dataclasses import KW_ONLY, dataclass
from typing import Final, Literal, get_args

from ..errors import UsageError

__all__ = ["Action", "Comparison", "Kind", "Operator", "Policy", "Rule"]

Kind = Literal["allow", "errno", "kill"]
Operator = Literal["==", "!=", "<", "<=", ">", ">=", "masked"]

_ERRNO_MAX: Final = 4095
_WORD: Final = (1 << 64) - 1
#: More would not fit the reach of a conditional jump.
_COMPARISONS_MAX: Final = 32
_STRICTNESS: Final = {"allow": 0, "errno": 1, "kill": 2}
_PLAIN: Final[dict[str, Callable[[int, int], bool]]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True, slots=True)
class Action:
    """What happens to a call: it is allowed, fails with ``errnum``, or ends the whole process."""

    kind: Kind
    errnum: int = 0

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise UsageError(
                f"action must be one of {', '.join(get_args(Kind))}, got {self.kind!r}"
            )
        if self.kind != "errno" and self.errnum != 0:
            raise UsageError(f"only action 'errno' has a number, got {self.errnum!r}")
        if self.kind == "errno" and not _is_int(self.errnum, 1, _ERRNO_MAX):
            # 0 would make a call that did not take place look like one that succeeded.
            raise UsageError(f"errnum must be from 1 to {_ERRNO_MAX}, got {self.errnum!r}")

    @classmethod
    def allow(cls) -> Action:
        """The call takes place, if ``default`` lets it."""
        return cls("allow")

    @classmethod
    def refuse(cls, errnum: int = errno.EPERM) -> Action:
        """The call fails. ENOSYS sends a program the way that it goes on an older kernel."""
        return cls("errno", errnum)

    @classmethod
    def kill(cls) -> Action:
        """The process is ended by SIGSYS."""
        return cls("kill")

    @property
    def strictness(self) -> int:
        """Rises from "allow" over "errno" to "kill"."""
        return _STRICTNESS[self.kind]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A test of one argument, all 64 bits of it: ``args[index] op value``.

    ``masked``: the bits of ``mask`` are those of ``value``. A pointer is a number here; what it
    points to is out of sight.
    """

    index: int
    op: Operator
    value: int
    mask: int = _WORD

    def __post_init__(self) -> None:
        if not _is_int(self.index, 0, 5):
            raise UsageError(f"index of an argument must be from 0 to 5, got {self.index!r}")
        if self.op not in get_args(Operator):
            raise UsageError(f"op must be one of {', '.join(get_args(Operator))}, got {self.op!r}")
        for name in ("value", "mask"):
            if not _is_int(getattr(self, name), 0, _WORD):
                raise UsageError(
                    f"{name} must be a whole number of 64 bits, got {getattr(self, name)!r}"
                )
        if self.op != "masked" and self.mask != _WORD:
            raise UsageError(f"only op 'masked' has a mask, got {self.mask!r}")

    def holds(self, args: tuple[int, ...]) -> bool:
        """Whether it is true of these six arguments."""
        argument = args[self.index]
        if self.op == "masked":
            return argument & self.mask == self.value & self.mask
        return _PLAIN[self.op](argument, self.value)


@dataclass(frozen=True, slots=True)
class Rule:
    """What happens to the calls of these names; with ``args``, if all comparisons hold."""

    names: tuple[str, ...]
    action: Action
    args: tuple[Comparison, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.names, str):
            raise UsageError(f"names must be a tuple of names, got {self.names!r}")
        object.__setattr__(self, "names", tuple(self.names))
        object.__setattr__(self, "args", tuple(self.args))
        for name in self.names:
            if not isinstance(name, str) or not name:
                raise UsageError(f"a name of a system call must be text, got {name!r}")
        _check_type("action", self.action, Action)
        if len(self.args) > _COMPARISONS_MAX:
            raise UsageError(f"args must be at most {_COMPARISONS_MAX} comparisons")
        for comparison in self.args:
            _check_type("args", comparison, Comparison)

    def holds(self, args: tuple[int, ...]) -> bool:
        """Whether all its comparisons are true of these arguments."""
        return all(comparison.holds(args) for comparison in self.args)


@dataclass(frozen=True, slots=True)
class Policy:
    """Which calls a program may make besides, or rather within, what every cell allows.

    Of the rules that match a call the strictest decides (kill, then errno, then allow; among equals
    the first); where none matches, ``default``. So a policy without rules is its default, and an
    empty list of allowed calls allows none. The exec that starts the program is always let through.
    ``ignore_unknown``: names that no table knows are passed over; else they are an error.
    """

    default: Action
    rules: tuple[Rule, ...] = ()
    _: KW_ONLY
    ignore_unknown: bool = False

    def __post_init__(self) -> None:
        _check_type("default", self.default, Action)
        object.__setattr__(self, "rules", tuple(self.rules))
        for rule in self.rules:
            _check_type("rules", rule, Rule)

    def names(self) -> frozenset[str]:
        """Return every name that a rule has."""
        return frozenset(name for rule in self.rules for name in rule.names)

    def chain(self, name: str) -> tuple[tuple[tuple[Comparison, ...], Action], ...]:
        """Return conditions and actions for a call, in the order in which they are to be tried.

        The last has no condition.
        """
        return _chain((rule for rule in self.rules if name in rule.names), self.default)

    def decide(self, name: str | None, args: tuple[int, ...]) -> Action:
        """Return what happens to a call; ``name`` None is one that no table knows."""
        if name is None:
            return self.default
        for conditions, action in self.chain(name):
            if all(condition.holds(args) for condition in conditions):
                return action
        raise AssertionError("the last of a chain has no condition")


def _chain(
    rules: Iterable[Rule], default: Action
) -> tuple[tuple[tuple[Comparison, ...], Action], ...]:
    links = []
    for rule in sorted(rules, key=lambda rule: -rule.action.strictness):
        links.append((rule.args, rule.action))
        if not rule.args:
            return tuple(links)
    return (*links, ((), default))


def _check_type(name: str, value: object, wanted: type) -> None:
    if not isinstance(value, wanted):
        raise UsageError(f"{name} must be of type {wanted.__name__}, got {value!r}")


def _is_int(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
