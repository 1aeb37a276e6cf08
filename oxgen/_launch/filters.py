"""Filters: policies on system calls, compiled for this machine."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Any

from .native import ffi, lib

if TYPE_CHECKING:
    from ..syscalls import Policy, Table

__all__ = ["beyond_default", "filter_of", "floor", "native_arch", "policy_of", "syscall_table"]

_FLOOR_MAX = 4096


def native_arch() -> int:
    """Return the AUDIT_ARCH_* of this build."""
    number: int = lib.ox_filter_native()
    return number


@functools.cache
def syscall_table() -> Table:
    """Return the table of system calls, which stands in the C core."""
    from ..syscalls import Table

    rows: list[tuple[str, int, int]] = []
    row: Any = lib.ox_syscall_at(0)
    while row != ffi.NULL:
        rows.append((ffi.string(row.name).decode("ascii"), row.x86_64, row.aarch64))
        row = lib.ox_syscall_at(len(rows))
    return Table(rows)


@functools.cache
def floor(arch: int) -> bytes:
    """Return the program of the filter that all cells have; empty: none for that architecture."""
    code = ffi.new("struct ox_instruction[]", _FLOOR_MAX)
    count = lib.ox_filter_floor(arch, code, _FLOOR_MAX)
    return bytes(ffi.buffer(code)[: count * ffi.sizeof("struct ox_instruction")])


def policy_of(syscalls: str | os.PathLike[str] | Policy) -> Policy | None:
    """Return the policy that a sandbox puts on top of ``default``; None: none."""
    if syscalls == "default":
        return None
    from ..syscalls import STRICT, Policy

    if syscalls == "strict":
        return STRICT
    if isinstance(syscalls, Policy):
        return syscalls
    raise AssertionError("a sandbox holds no path: it was read when the sandbox was made")


def filter_of(syscalls: str | os.PathLike[str] | Policy) -> bytes:
    """Return the program that a sandbox puts on top of ``default``; empty: none.

    Raises ``UsageError`` for names that no table knows and for a policy that is too large.
    """
    policy = policy_of(syscalls)
    return b"" if policy is None else _compiled(policy)


@functools.lru_cache(maxsize=64)
def _compiled(policy: Policy) -> bytes:
    from ..syscalls import compile_policy

    return compile_policy(policy, syscall_table(), native_arch())


def beyond_default(syscalls: str | os.PathLike[str] | Policy) -> tuple[str, ...]:
    """Return the names of calls that a policy allows and ``default`` never does, so nothing does.

    Sorted. Calls that ``default`` allows with some arguments are not among them, nor are those that
    only the policy's own default would allow.
    """
    policy = policy_of(syscalls)
    if policy is None:
        return ()
    from ..syscalls import ALLOW, answers

    arch, own = native_arch(), _compiled(policy)
    least, named = floor(arch), policy.names()
    return tuple(
        name
        for name, number in sorted(syscall_table().numbers(arch).items())
        if name in named
        and ALLOW in answers(own, number, arch)
        and ALLOW not in answers(least, number, arch)
    )
