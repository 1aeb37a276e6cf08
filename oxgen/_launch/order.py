"""Orders: one run as its caller wants it, and what all runs of one kind have in common."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..limits import Limits
from ..request import Request
from ..sandbox import Sandbox
from .cells import Tenancy
from .files import Archive
from .filters import filter_of
from .mounts import Opened, opened_by
from .native import ffi, lib
from .program import Program, open_program

__all__ = [
    "CAPTURE",
    "NOTHING",
    "Order",
    "Plan",
    "Stream",
    "archive_of",
    "plan_of",
    "planned",
    "standard_order",
    "standard_stream",
]

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
        "_native",
        "_packed",
        "_text",
        "args",
        "is_short",
        "limits",
        "sandbox",
        "tenancy",
    )

    def __init__(
        self,
        program: Program,
        args: tuple[str, ...],
        sandbox: Sandbox,
        limits: Limits,
        tenant: str,
        opened: Opened | None,
        *,
        notes: int = 0,
    ) -> None:
        self.args = args
        self.sandbox = sandbox
        self.limits = limits
        # Who watches applies the policy as well: two filters cannot both ask.
        own = b"" if notes else filter_of(sandbox.syscalls)
        self.tenancy = Tenancy.of(program, limits, sandbox, tenant, opened, own, notes)
        #: Whether the last run of it ended so soon that its caller had better not sleep.
        self.is_short = False
        self._native = ffi.new("struct ox_run_spec *")
        self._set_strings(program)
        _set_limits(self._native, limits)
        self._native.named = program.needed.system
        self._native.broker = self._native.wake = self._native.files = -1
        #: Runs that are captured and nothing else differ in nothing: they share these.
        self._captured: dict[int, Any] = {}

    def spec(self, order: Order, spin_ns: int) -> tuple[Any, Any]:
        """Return the ``struct ox_run_spec *`` of a run, and what keeps its memory alive."""
        captured = self._capturing(spin_ns) if order.is_captured() else None
        if captured is not None and order.broker < 0 and not order.env and order.files is None:
            return captured, self
        spec = ffi.new("struct ox_run_spec *", (captured or self._native)[0])
        kept: list[Any] = [self, spec]
        if order.env:
            kept.append(self._add_environment(spec, order.env))
        spec.broker = order.broker
        if order.files is not None:
            spec.files = order.files.descriptor
            kept.append(order.files)
        if captured is not None:
            return spec, kept
        spec.wake, spec.confirm, spec.spin_ns = order.wake, order.confirm, spin_ns
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

    def _capturing(self, spin_ns: int) -> Any:
        shared = self._captured.get(spin_ns)
        if shared is None:
            shared = ffi.new("struct ox_run_spec *", self._native[0])
            shared.streams[1].mode = shared.streams[2].mode = lib.OX_STREAM_CAPTURE
            shared.spin_ns = spin_ns
            self._captured[spin_ns] = shared
        return shared

    def _set_strings(self, program: Program) -> None:
        """Fill in path, working directory, arguments and environment, which comes last."""
        inside = f"/bin/{program.entry}"
        needed = program.needed
        itself = (inside,) if needed.is_script or not needed.prefix else ()
        argv = (*needed.prefix, *itself, *self.args[1:])
        path = argv[0]
        environment = {**_FIXED_ENVIRONMENT, **dict(needed.environment), **self.sandbox.env}
        names = [f"{name}={value}" for name, value in environment.items()]
        # None of them holds a NUL: args and the sandbox have been checked.
        self._packed = os.fsencode("\0".join((path, self.sandbox.cwd, *argv, *names, "")))
        self._text = ffi.from_buffer("char[]", self._packed)
        spec = self._native
        spec.strings, spec.strings_size = self._text, len(self._packed)
        spec.argc, spec.envc = len(argv), len(names)

    def _add_environment(self, spec: Any, extra: Mapping[str, str]) -> Any:
        """Append variables that the sandbox may not set (``RESERVED_ENVIRONMENT``)."""
        names = "".join([f"{name}={value}\0" for name, value in extra.items()])
        packed = self._packed + os.fsencode(names)
        text = ffi.from_buffer("char[]", packed)
        spec.strings, spec.strings_size = text, len(packed)
        spec.envc += len(extra)
        return text


def plan_of(
    program: Program, args: tuple[str, ...], sandbox: Sandbox, limits: Limits, tenant: str
) -> Plan:
    """Return the plan of a kind of run; the program keeps it for the next one."""
    # What it opens may be another file by now. The rest by identity: the values are frozen, the
    # plan holds them, and their hashes cost more than this.
    opened = opened_by(sandbox) if sandbox.opens else None
    key = (args, id(sandbox), id(limits), tenant, opened)
    plan: Plan | None = program.plans.get(key)
    if plan is None:
        plan = Plan(program, args, sandbox, limits, tenant, opened)
        if len(program.plans) >= _PLANS_MAX:
            program.plans.clear()
        program.plans[key] = plan
    return plan


def archive_of(request: Request, limits: Limits | None = None) -> Archive | None:
    """Hold ready what a request wants to be put in; raises as ``Archive`` does.

    ``limits`` are those that hold where they are not the request's own.
    """
    return Archive(request.files, limits or request.bounds) if request.files else None


def planned(request: Request) -> tuple[Program, Plan]:
    """Open what a request wants to run, and look up what all such runs have in common.

    Raises as ``open_program`` does.
    """
    words, box = request.words, request.box
    program = open_program(words[0], box.runtime)
    return program, plan_of(program, words, box, request.bounds, request.tenant)


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
    env: Mapping[str, str] | None = None
    task_id: str | None = None
    confirm: bool = False
    wake: int = -1
    files: Archive | None = None
    collect: Sequence[str] = ()

    def copies(self) -> bool:
        """Whether there is a reader outside to whom output is delivered."""
        return self.stdout.mode == "copy" or self.stderr.mode == "copy"

    def is_captured(self) -> bool:
        """Whether its output is captured, its input empty, and nobody watches it from outside."""
        return (
            self.stdout is CAPTURE
            and self.stderr is CAPTURE
            and self.stdin is NOTHING
            and self.input is None
            and self.wake < 0
            and not self.confirm
        )


def standard_order(request: Request, program: Program, plan: Plan, run_id: str) -> Order:
    """Return the order of a request whose output is captured, or goes to the caller's own streams.

    Raises as ``Archive`` does.
    """
    capture = request.capture_output
    return Order(
        program=program,
        plan=plan,
        run_id=run_id,
        input=request.input,
        stdout=standard_stream(1, capture=capture),
        stderr=standard_stream(2, capture=capture),
        task_id=request.task_id,
        files=archive_of(request, plan.limits),
        collect=request.collect,
    )


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
