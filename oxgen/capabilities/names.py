"""Capability names: the ten surfaces of the broker."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from enum import Enum

from ..errors import CapabilityError
from ..values import check_type

__all__ = ["REQUIRES", "Capability", "parse_capabilities"]


class Capability(str, Enum):
    """One surface of the broker, named as 0xGen names it."""

    CAP_EMIT_FINDINGS = "CAP_EMIT_FINDINGS"
    CAP_HTTP_PASSIVE = "CAP_HTTP_PASSIVE"
    CAP_FLOW_INSPECT = "CAP_FLOW_INSPECT"
    CAP_FLOW_INSPECT_RAW = "CAP_FLOW_INSPECT_RAW"
    CAP_HTTP_ACTIVE = "CAP_HTTP_ACTIVE"
    CAP_WS = "CAP_WS"
    CAP_SPIDER = "CAP_SPIDER"
    CAP_REPORT = "CAP_REPORT"
    CAP_STORAGE = "CAP_STORAGE"
    CAP_AI_ANALYSIS = "CAP_AI_ANALYSIS"

    # That of Enum is a function of Python, and every look into a table of them would call it.
    __hash__ = str.__hash__

    # Without this, str() and format() of a str-Enum differ between Python 3.10, 3.11 and 3.12.
    def __str__(self) -> str:
        return str(self.value)


#: What a capability is worth nothing without: a grant of the key must also hold the value.
REQUIRES: dict[Capability, Capability] = {
    Capability.CAP_FLOW_INSPECT_RAW: Capability.CAP_FLOW_INSPECT
}


def parse_capabilities(names: Iterable[str]) -> tuple[Capability, ...]:
    """Return the capabilities with these exact names, in the order of `Capability`, each once.

    An empty list grants nothing. Raises ``CapabilityError`` with reason ``unknown_capability`` for
    any other name (names are compared byte by byte: no case folding, no trimming) and
    ``needs_capability`` where a capability is asked for without the one it rests on.
    """
    if isinstance(names, str):
        raise CapabilityError(
            "unknown_capability", f"capabilities must be a list of names, got the text {names!r}"
        )
    wanted = tuple(check_type("capabilities", names, Iterable, "a list of names"))
    try:
        return _parse(wanted)
    except TypeError:  # something that cannot be hashed, and so is no name
        return _parse.__wrapped__(wanted)


@functools.lru_cache(maxsize=256)
def _parse(names: tuple[str, ...]) -> tuple[Capability, ...]:
    wanted: set[Capability] = set()
    for name in names:
        try:
            wanted.add(Capability(name))
        except ValueError:
            known = ", ".join(each.value for each in Capability)
            raise CapabilityError(
                "unknown_capability", f"there is no capability {name!r}; there are {known}"
            ) from None
    for capability, needed in REQUIRES.items():
        if capability in wanted and needed not in wanted:
            raise CapabilityError(
                "needs_capability", f"{capability.value} needs {needed.value} beside it"
            )
    return tuple(each for each in Capability if each in wanted)
