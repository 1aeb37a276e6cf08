"""Orders: one run as its caller wants it, and what all runs of one kind have in common."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..limits import Limits
from ..sandbox import Sandbox
from .cells import Tenancy
from .native import ffi, lib
from .program import Program

__all__ = ["CAPTURE", "NOTHING", "Order", "Plan", "Stream", "plan_of", "standard_stream"]

_FIXED_ENVIRONMENT = {
    "PATH": "/bin",
    "HOME": "/home/plugin",
    "TMPDIR": "/tmp",
    "TMP": "/tmp",
    "TEMP": "/tmp",
    "LANG": "C.UTF-8",
    "OXGEN_WORKSPACE": "/workspace",
}
_MODES = {
    "null": lib.OX_STREAM_NULL,
    "capture": lib.OX_STREAM_CAPTURE,
    "copy": lib.OX_STREAM_COPY,
    "direct": lib.OX_STREAM_DIRECT,
}
#: Plans that a program keeps: so many kinds of run of one program are usual at most.
_PLANS_MAX = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Where a stream of the program goes. A descriptor to ``copy`` to stays the caller's."""

    mode: Literal["null", "capture", "copy", "direct"] = "null"
    descriptor: int = -1
    escape: bool = False
    exclusive: bool = False


NOTHING = Stream()
CAPTURE = Stream(mode="capture")


class Plan:
    """What all runs of one program with the same arguments, policy and tenant have in common."""

    __slots__ = (
        "_captured",
        "_kept",
        "_native",
        "args",
        "is_short",
        "limits",
        "sandbox",
        "tenancy",
    )

    def __init__(
        self, program: Program, args: tuple[str, ...], sandbox: Sandbox, limits: Limits, tenant: str
    ) -> None:
        self.args = args
        self.sandbox = sandbox
        self.limits = limits
        self.tenancy = Tenancy.of(program, limits, sandbox.runtime, tenant)
        #: Whether the last run of it ended so soon that its caller had better not sleep.
        self.is_short = False
        self._native = ffi.new("struct ox_run_spec *")
        self._kept = _set_strings(self._native, program, self, {})
        _set_limits(self._native, limits)
        self._native.named = program.needed.system
        self._native.broker = self._native.wake = -1
        #: Runs that are captured and nothing else differ in nothing: they share these.
        self._captured: dict[int, Any] = {}

    def spec(self, order: Order, spin_ns: int) -> tuple[Any, Any]:
        """Return the ``struct ox_run_spec *`` of a run, and what keeps its memory alive."""
        if order.is_plain():
            shared = self._captured.get(spin_ns)
            if shared is None:
                shared = ffi.new("struct ox_run_spec *", self._native[0])
                shared.streams[1].mode = shared.streams[2].mode = lib.OX_STREAM_CAPTURE
                shared.spin_ns = spin_ns
                self._captured[spin_ns] = shared
            return shared, self
        spec = ffi.new("struct ox_run_spec *", self._native[0])
        kept: list[Any] = [self, spec]
        if order.env:
            kept += _set_strings(spec, order.program, self, order.env)
        spec.broker, spec.wake, spec.confirm = order.broker, order.wake, order.confirm
        spec.spin_ns = spin_ns
        for row, stream in zip(
            spec.streams, (order.stdin, order.stdout, order.stderr), strict=True
        ):
            row.mode = _MODES[stream.mode]
            row.fd, row.escape, row.exclusive = stream.descriptor, stream.escape, stream.exclusive
        if order.input is not None:
            data = ffi.from_buffer("char[]", order.input)
            kept += [data, order.input]
            spec.streams[0].mode = lib.OX_STREAM_CAPTURE
            spec.input, spec.input_size = data, len(order.input)
        return spec, kept


def plan_of(
    program: Program, args: tuple[str, ...], sandbox: Sandbox, limits: Limits, tenant: str
) -> Plan:
    """Return the plan of a kind of run; the program keeps it for the next one."""
    # By identity: the values are frozen, the plan holds them, and their hashes cost more than this.
    key = (args, id(sandbox), id(limits), tenant)
    plan: Plan | None = program.plans.get(key)
    if plan is None:
        plan = Plan(program, args, sandbox, limits, tenant)
        if len(program.plans) >= _PLANS_MAX:
            program.plans.clear()
        program.plans[key] = plan
    return plan


@dataclass(eq=False, slots=True, kw_only=True)
class Order:
    """One run as its caller wants it; no descriptor is owned, nothing changes it."""

    program: Program
    plan: Plan
    run_id: str
    input: bytes | None = None
    stdin: Stream = NOTHING
    stdout: Stream = NOTHING
    stderr: Stream = NOTHING
    broker: int = -1
    env: Mapping[str, str] = field(default_factory=dict)
    task_id: str | None = None
    confirm: bool = False
    wake: int = -1

    def copies(self) -> bool:
        """Whether there is a reader outside to whom output is delivered."""
        return self.stdout.mode == "copy" or self.stderr.mode == "copy"

    def is_plain(self) -> bool:
        """Whether its output is captured, and there is nothing else to it."""
        return (
            self.stdout is CAPTURE
            and self.stderr is CAPTURE
            and self.stdin is NOTHING
            and self.input is None
            and self.broker < 0
            and self.wake < 0
            and not self.confirm
            and not self.env
        )


def _set_strings(spec: Any, program: Program, plan: Plan, extra: Mapping[str, str]) -> list[Any]:
    """Fill in path, working directory, arguments and environment; returns what holds them."""
    inside = f"/bin/{program.entry}"
    argv = (*program.needed.prefix, inside, *plan.args[1:])
    path = program.needed.prefix[0] if program.needed.prefix else inside
    environment = {**_FIXED_ENVIRONMENT, **plan.sandbox.env, **extra}
    names = [f"{name}={value}" for name, value in environment.items()]
    # None of them holds a NUL: args and the sandbox have been checked.
    packed = os.fsencode("\0".join((path, plan.sandbox.cwd, *argv, *names, "")))
    text = ffi.from_buffer("char[]", packed)
    spec.strings, spec.strings_size = text, len(packed)
    spec.argc, spec.envc = len(argv), len(names)
    return [text, packed]


def _set_limits(spec: Any, limits: Limits) -> None:
    spec.wall_ns = _nanoseconds(limits.wall_seconds)
    spec.cpu_ns = _nanoseconds(limits.cpu_seconds)
    spec.output_bytes = _count(limits.output_bytes)
    spec.open_files = _count(limits.open_files)
    spec.file_bytes = _count(limits.file_bytes)
    spec.processes = _count(limits.processes)


def _nanoseconds(seconds: float | None) -> int:
    return -1 if seconds is None else max(1, round(seconds * 1e9))


def _count(value: int | None) -> int:
    return -1 if value is None else value


def standard_stream(number: int, *, capture: bool) -> Stream:
    """Keep a stream, or copy it on to the caller's own, escaped where that is a terminal."""
    if capture:
        return CAPTURE
    try:
        terminal = os.isatty(number)
        os.fstat(number)
    except OSError:
        return NOTHING  # the caller has closed it: nobody would read
    stream = sys.stdout if number == 1 else sys.stderr
    if stream is not None:
        stream.flush()
    return Stream(mode="copy", descriptor=number, escape=terminal)
