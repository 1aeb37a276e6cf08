"""Watched runs: ``run --explain`` and ``run --learn``."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from .terminal import say

if TYPE_CHECKING:
    from ..explaining import Explanation, Learned
    from ..result import Completed
    from ..sandbox import Sandbox

__all__ = ["runner"]

#: Lines that a terminal shows at once; the rest is counted.
_LINES_MAX = 200
_NAMES_MAX = 8


@contextlib.contextmanager
def runner(*, explain: bool, learn: str | None) -> Iterator[Callable[..., Completed]]:
    """Yield what runs a program: ``process.run``, or one that says or writes what it saw."""
    if learn is not None:
        with _profile_for(learn) as keep:
            yield _learning(learn, keep)
    elif explain:
        yield _explaining
    else:
        yield _plainly


def _plainly(args: list[str], **settings: Any) -> Completed:
    from .. import process

    box: Sandbox = settings["sandbox"]
    if box.syscalls not in ("default", "strict"):
        from .._launch import beyond_default

        more = beyond_default(box.syscalls)
        if more:
            some = ", ".join(more[:_NAMES_MAX]) + (", ..." if len(more) > _NAMES_MAX else "")
            say(
                f"--syscalls only narrows: {len(more)} calls that it allows stay refused, as"
                f" default refuses them: {some}"
            )
    return process.run(args, **settings)


def _explaining(args: list[str], **settings: Any) -> Completed:
    from ..explaining import explain

    seen = explain(args, **settings)
    _report(args[0], seen)
    return seen.completed


def _report(name: str, seen: Explanation) -> None:
    for refusal in seen.refusals[:_LINES_MAX]:
        say(f"{name}: refused: {refusal}")
    more = len(seen.refusals) - _LINES_MAX
    if more > 0:
        say(f"{name}: refused: {more} more kinds of calls")
    if seen.dropped:
        say(f"{name}: refused: {seen.dropped} more calls of kinds that were not kept")
    if not seen.refusals:
        say(f"{name}: no system call was refused")
    if seen.beyond_default:
        names = ", ".join(seen.beyond_default)
        say(
            f"{name}: --syscalls allows what stays refused, as it only narrows the default: {names}"
        )


def _learning(path: str, keep: Callable[[bytes], None]) -> Callable[..., Completed]:
    def run(args: list[str], **settings: Any) -> Completed:
        from ..explaining import learn

        seen: Learned = learn(args, **settings)
        keep(seen.profile)
        say(f"{args[0]}: {path} allows the {len(seen.names)} system calls that this run needs")
        if seen.completed.termination.reason is not None:
            say(f"{args[0]}: it did not run to its own end, so {path} may lack some")
        return seen.completed

    return run


@contextlib.contextmanager
def _profile_for(path: str) -> Iterator[Callable[[bytes], None]]:
    """Make sure that a file can be written before anything runs; it appears whole or not at all."""
    directory = os.path.dirname(path) or "."
    try:
        descriptor, fresh = tempfile.mkstemp(prefix=".0xgenctl-", dir=directory)
    except OSError as exc:
        raise UsageError(f"--learn: {path}: {exc.strerror}") from None

    def keep(text: bytes) -> None:
        file.write(text)
        file.flush()
        os.fchmod(descriptor, 0o666 & ~_umask())
        os.replace(fresh, path)

    with open(descriptor, "wb") as file:
        try:
            yield keep
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(fresh)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
