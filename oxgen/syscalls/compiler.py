"""Compiler: from a policy to a classic BPF program, as seccomp takes it.

The program is a search tree over ranges of numbers with one answer, then the comparisons of
arguments in their order. Numbers of another architecture, and x32 calls on x86-64, end the process:
they would be taken for other calls.
"""

from __future__ import annotations

import struct
from typing import Final

from ..errors import UsageError
from .elsewhere import ELSEWHERE
from .machine import ALLOW, ERRNO, KILL
from .policy import Action, Comparison, Policy
from .table import X86_64, Table

__all__ = ["PROGRAM_MAX", "compile_policy"]

#: Instructions that a launcher accepts (OX_FILTER_MAX in csrc/wire.h).
PROGRAM_MAX: Final = 4064

_X32_BIT: Final = 0x40000000
_X32_END: Final = 0x80000000
_NR: Final = 0
_ARCH: Final = 4
_ARGS: Final = 16
#: How far a conditional jump reaches.
_NEAR: Final = 255

_LOAD, _AND, _JUMP, _EQUAL, _GREATER, _AT_LEAST, _ANSWER = (
    0x20,
    0x54,
    0x05,
    0x15,
    0x25,
    0x35,
    0x06,
)

_ANSWERS: Final = {"allow": "allowed", "errno": "refused, not killed", "kill": "killed"}

_Instruction = tuple[int, int, int, int]
_Leaf = tuple[_Instruction, ...]


def _check_dropped(policy: Policy, table: Table) -> None:
    """Refuse a rule that would be stricter than the default, if anybody knew its name."""
    for rule in policy.rules:
        if rule.action.strictness > policy.default.strictness:
            for name in rule.names:
                if name not in table.names and name not in ELSEWHERE:
                    raise UsageError(
                        f"syscalls: no system call has the name {name!r}, and what is not named is"
                        f" {_ANSWERS[policy.default.kind]}: the rule would be passed over"
                    )


def compile_policy(policy: Policy, table: Table, arch: int) -> bytes:
    """Return the program, ``struct sock_filter`` after ``struct sock_filter``.

    ``arch`` is an AUDIT_ARCH_* number. A name that the table lacks is a ``UsageError`` unless the
    policy ignores such and the rule is not stricter than the default; one that only this
    architecture lacks is passed over. A policy too large for a filter is a ``UsageError``.
    """
    unknown = sorted(policy.names() - table.names)
    if unknown and not policy.ignore_unknown:
        raise UsageError(f"syscalls: no system call has the name {unknown[0]!r}")
    _check_dropped(policy, table)
    leaf = _leaf_of_action(policy.default)
    leaves: dict[int, _Leaf] = {}
    for name in policy.names():
        number = table.numbers(arch).get(name)
        if number is not None:
            leaves[number] = _leaf_of_chain(policy.chain(name))
    ranges = _ranges(leaves, leaf, arch)
    code = [
        (_LOAD, 0, 0, _ARCH),
        (_EQUAL, 1, 0, arch),
        (_ANSWER, 0, 0, KILL),
        (_LOAD, 0, 0, _NR),
        *_tree(ranges),
    ]
    if len(code) > PROGRAM_MAX:
        raise UsageError(
            f"syscalls: the policy needs {len(code)} instructions, and a filter has at most"
            f" {PROGRAM_MAX}; one with fewer comparisons of arguments is accepted"
        )
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def _ranges(leaves: dict[int, _Leaf], default: _Leaf, arch: int) -> list[tuple[int, _Leaf]]:
    """Return (first number, leaf), ascending; a range ends where the next begins."""
    marks: dict[int, _Leaf] = {0: default}
    for number in sorted(leaves):
        marks[number] = leaves[number]
        if number + 1 not in leaves:
            marks[number + 1] = default
    if arch == X86_64:
        marks[_X32_BIT] = _leaf_of_action(Action.kill())
        marks[_X32_END] = default
    ranges: list[tuple[int, _Leaf]] = []
    for first in sorted(marks):
        if not ranges or ranges[-1][1] != marks[first]:
            ranges.append((first, marks[first]))
    return ranges


def _tree(ranges: list[tuple[int, _Leaf]]) -> list[_Instruction]:
    if len(ranges) == 1:
        return list(ranges[0][1])
    half = len(ranges) // 2
    left, right = _tree(ranges[:half]), _tree(ranges[half:])
    first = ranges[half][0]
    if len(left) <= _NEAR:
        return [(_AT_LEAST, len(left), 0, first), *left, *right]
    return [(_AT_LEAST, 0, 1, first), (_JUMP, 0, 0, len(left)), *left, *right]


def _leaf_of_action(action: Action) -> _Leaf:
    value = {"allow": ALLOW, "errno": ERRNO | action.errnum, "kill": KILL}[action.kind]
    return ((_ANSWER, 0, 0, value),)


def _leaf_of_chain(chain: tuple[tuple[tuple[Comparison, ...], Action], ...]) -> _Leaf:
    code: list[_Instruction] = []
    for conditions, action in chain:
        answer = _leaf_of_action(action)
        tests: list[_Instruction] = []
        # From the last to the first, so that the way out of each is known: behind the answer.
        for condition in reversed(conditions):
            tests = [*_test(condition, len(tests) + len(answer)), *tests]
        code += [*tests, *answer]
    return tuple(code)


def _test(condition: Comparison, behind: int) -> list[_Instruction]:
    """Go on with the next instruction where it holds, else ``behind`` instructions further."""
    low_at = _ARGS + 8 * condition.index
    load_low, load_high = (_LOAD, 0, 0, low_at), (_LOAD, 0, 0, low_at + 4)
    high, low = condition.value >> 32, condition.value & 0xFFFFFFFF
    match condition.op:
        case "==":
            return [load_high, (_EQUAL, 0, behind + 2, high), load_low, (_EQUAL, 0, behind, low)]
        case "!=":
            return [load_high, (_EQUAL, 0, 2, high), load_low, (_EQUAL, behind, 0, low)]
        case "masked":
            masks = condition.mask >> 32, condition.mask & 0xFFFFFFFF
            return [
                load_high,
                (_AND, 0, 0, masks[0]),
                (_EQUAL, 0, behind + 3, high & masks[0]),
                load_low,
                (_AND, 0, 0, masks[1]),
                (_EQUAL, 0, behind, low & masks[1]),
            ]
    # The high halves decide unless they are equal; then the low ones do.
    last = _AT_LEAST if condition.op in (">=", "<") else _GREATER
    yes, no = (0, behind) if condition.op in (">=", ">") else (behind, 0)
    return [
        load_high,
        (_GREATER, yes + 3, 0, high),
        (_EQUAL, 0, no + 2, high),
        load_low,
        (last, yes, no, low),
    ]
