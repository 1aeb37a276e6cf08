"""Machine: what a compiled program answers, worked out as the kernel does."""

from __future__ import annotations

import struct
from typing import Final

__all__ = ["ALLOW", "ERRNO", "KILL", "MISMATCH", "answers", "evaluate"]

#: SECCOMP_RET_* of linux/seccomp.h.
ALLOW: Final = 0x7FFF0000
ERRNO: Final = 0x00050000
KILL: Final = 0x80000000

_CALL: Final = struct.Struct("=iIQ6Q")
_STEP: Final = struct.Struct("=HBBI")

#: What is wrong with a program that the kernel would not have taken.
MISMATCH: Final = "not a program of loads, comparisons and answers"


def evaluate(program: bytes, number: int, arch: int, args: tuple[int, ...], at: int = 0) -> int:
    """Return the SECCOMP_RET_* of a program for one call; ``at`` is the instruction pointer.

    ``ValueError`` for a program that seccomp would refuse.
    """
    signed = number - (1 << 32) if number >= 1 << 31 else number
    call = _CALL.pack(signed, arch, at, *args)
    steps = list(_STEP.iter_unpack(program))
    accumulator = position = 0
    while position < len(steps):
        code, yes, no, k = steps[position]
        position += 1
        match code:
            case 0x20:
                (accumulator,) = struct.unpack_from("=I", call, k)
            case 0x54:
                accumulator &= k
            case 0x05:
                position += k
            case 0x15:
                position += yes if accumulator == k else no
            case 0x25:
                position += yes if accumulator > k else no
            case 0x35:
                position += yes if accumulator >= k else no
            case 0x45:
                position += yes if accumulator & k else no
            case 0x06:
                return int(k)
            case _:
                raise ValueError(MISMATCH)
    raise ValueError(MISMATCH)


def answers(program: bytes, number: int, arch: int) -> frozenset[int]:
    """Return every SECCOMP_RET_* that some arguments can get from a program for one call."""
    steps = list(_STEP.iter_unpack(program))
    known = {0: number & 0xFFFFFFFF, 4: arch}
    found: set[int] = set()
    seen: set[tuple[int, int | None]] = set()
    todo: list[tuple[int, int | None]] = [(0, 0)]
    while todo:
        position, accumulator = todo.pop()
        if (position, accumulator) in seen:
            continue
        seen.add((position, accumulator))
        code, yes, no, k = steps[position]
        after = position + 1
        if code == 0x06:
            found.add(k)
        elif code == 0x20:
            todo.append((after, known.get(k)))
        elif code == 0x54:
            todo.append((after, None if accumulator is None else accumulator & k))
        elif code == 0x05:
            todo.append((after + k, accumulator))
        elif accumulator is None:
            todo += [(after + yes, None), (after + no, None)]
        else:
            holds = {
                0x15: accumulator == k,
                0x25: accumulator > k,
                0x35: accumulator >= k,
                0x45: accumulator & k != 0,
            }[code]
            todo.append((after + (yes if holds else no), accumulator))
    return frozenset(found)
