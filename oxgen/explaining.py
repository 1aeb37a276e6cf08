"""Explain which system calls of a run are refused, and learn which ones a program needs."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from . import _launch
from ._launch.notices import Sighting, Watcher, carry_out_watched, watched_plan
from .limits import Limits
from .process import new_run_id
from .request import Request
from .result import Completed
from .sandbox import Sandbox

__all__ = ["Explanation", "Learned", "Refusal", "explain", "learn"]

#: Whether a program makes these depends on signals, on how it ends and on how much memory it needs.
_ALWAYS = frozenset(
    {
        "exit",
        "exit_group",
        "rt_sigreturn",
        "restart_syscall",
        "rt_sigaction",
        "rt_sigprocmask",
        "getpid",
        "gettid",
        "tgkill",
        "brk",
        "mmap",
        "munmap",
        "mremap",
        "mprotect",
        "madvise",
    }
)
#: What goes with calls that were made: whether one waits, is woken or must be ended is a matter of
#: time, and a run that is watched has its own.
_COMPANIONS: tuple[tuple[frozenset[str], frozenset[str]], ...] = tuple(
    (frozenset(made.split()), frozenset(also.split()))
    for made, also in (
        ("clone fork vfork", "futex kill rseq sched_yield set_robust_list wait4 waitid"),
        ("futex", "sched_yield"),
        ("clock_nanosleep nanosleep", "clock_nanosleep nanosleep"),
        ("poll ppoll", "poll ppoll"),
        ("pselect6 select", "pselect6 select"),
        ("epoll_pwait epoll_wait", "epoll_pwait epoll_wait"),
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A system call that a run made and did not get, with all the times that it did.

    ``name`` is None for a number that no table knows. ``errnum`` is what the program got, None
    where the call ended its process. ``by`` says which filter decided: the one that every cell has
    (``default``), or the sandbox's own ``policy``. ``arguments`` holds the first few different
    sets, six numbers each, of which a call may use fewer.
    """

    name: str | None
    number: int
    arch: str
    errnum: int | None
    by: str
    count: int
    arguments: tuple[tuple[int, ...], ...]

    def __str__(self) -> str:
        answer = "ended the process"
        if self.errnum is not None:
            answer = errno.errorcode.get(self.errnum, f"errno {self.errnum}")
        times = "once" if self.count == 1 else f"{self.count} times"
        first = ", ".join(f"{argument:#x}" for argument in self.arguments[0])
        name = self.name or "a call without a name"
        return (
            f"{name} (number {self.number}, {self.arch}): {answer}, {times}, by {self.by};"
            f" arguments {first}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A run and what was refused to it, in the order of the first refusals.

    ``dropped`` counts refusals of kinds that there was no room for. ``beyond_default`` names the
    calls that the sandbox's policy would allow and ``default`` refuses all the same.
    """

    completed: Completed
    refusals: tuple[Refusal, ...]
    dropped: int
    beyond_default: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """A run and the profile that allows what it did: ``profile`` is the text of an OCI profile."""

    completed: Completed
    names: tuple[str, ...]
    profile: bytes


def explain(
    args: Sequence[str | os.PathLike[str]],
    *,
    sandbox: Sandbox | None = None,
    limits: Limits | None = None,
    input: bytes | None = None,
    capture_output: bool = False,
    tenant: str = "",
    task_id: str | None = None,
    files: Mapping[str, bytes | os.PathLike[str]] | None = None,
    collect: Sequence[str] = (),
) -> Explanation:
    """Run a program as ``run`` does and note every system call that is refused to it.

    It gets the answers that it would get without, from a cell of its own, more slowly: each refused
    call, and under a policy each call, waits for an answer of this process. A call that ends the
    program is named in ``Completed.termination``, with ``certain`` True. Raises as ``run`` does.
    """
    request = Request(
        args,
        sandbox=sandbox,
        limits=limits,
        input=input,
        capture_output=capture_output,
        tenant=tenant,
        task_id=task_id,
        files=files,
        collect=collect,
    )
    box = request.box
    completed, watcher = _watch(request, everything=box.syscalls != "default")
    return Explanation(
        completed=completed,
        refusals=tuple(_refusal(seen) for seen in watcher.sightings.values() if seen.errnum != 0),
        dropped=watcher.dropped,
        beyond_default=_launch.beyond_default(box.syscalls),
    )


def learn(
    args: Sequence[str | os.PathLike[str]],
    *,
    sandbox: Sandbox | None = None,
    limits: Limits | None = None,
    input: bytes | None = None,
    capture_output: bool = False,
    tenant: str = "",
    task_id: str | None = None,
    files: Mapping[str, bytes | os.PathLike[str]] | None = None,
    collect: Sequence[str] = (),
) -> Learned:
    """Run a program and return the profile that allows the system calls that it made.

    The program is confined as ever: what its sandbox refuses is refused and not learnt. Whoever
    calls this trusts it to do what it is for: a path that it did not take is not in the profile.
    Raises as ``run`` does.
    """
    from .syscalls import write_profile

    request = Request(
        args,
        sandbox=sandbox,
        limits=limits,
        input=input,
        capture_output=capture_output,
        tenant=tenant,
        task_id=task_id,
        files=files,
        collect=collect,
    )
    completed, watcher = _watch(request, everything=True)
    arch = _launch.native_arch()
    made = {seen.name for seen in watcher.sightings.values() if seen.errnum == 0 and seen.name}
    made |= _ALWAYS
    for some, also in _COMPANIONS:
        if made & some:
            made |= also
    names = tuple(sorted(made & _launch.syscall_table().numbers(arch).keys()))
    # What was refused is to get the same answer again: EPERM and ENOSYS send a program other ways.
    refused: dict[int, set[str]] = {}
    for seen in watcher.sightings.values():
        if seen.errnum and seen.name and seen.name not in names:
            refused.setdefault(seen.errnum, set()).add(seen.name)
    profile = write_profile(names, arch, refused)
    return Learned(completed=completed, names=names, profile=profile)


def _watch(request: Request, *, everything: bool) -> tuple[Completed, Watcher]:
    program, plan = _launch.planned(request)
    watched = watched_plan(program, plan, everything=everything)
    order = _launch.standard_order(request, program, watched, new_run_id())
    # Of its own: no cell that somebody watched is ever used again.
    with _launch.Launcher(cells=1, reuse="never") as pool:
        return carry_out_watched(pool, order)


def _refusal(seen: Sighting) -> Refusal:
    from .syscalls import arch_name

    return Refusal(
        name=seen.name,
        number=seen.number,
        arch=arch_name(seen.arch),
        errnum=seen.errnum,
        by="default" if seen.by_default else "policy",
        count=seen.count,
        arguments=tuple(seen.args),
    )
