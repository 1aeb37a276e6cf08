"""Watched runs: ``run --explain`` and ``run --learn``."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING, Any

from ..errors import UsageError
from ..values import why_not_replaced
from .terminal import say

if TYPE_CHECKING:
    from ..explaining import Explanation, Learned
    from ..result import Completed
    from ..sandbox import Sandbox

__all__ = ["Runner", "runner"]

#: Lines that a terminal shows at once; the rest is counted.
_LINES_MAX = 200
_NAMES_MAX = 8


class Runner:
    """Runs a program as ``process.run`` does. ``failed``: what was to be written of it is lost."""

    def __init__(self, run: Callable[..., Completed], keep: _Keep | None = None) -> None:
        self._run = run
        self._keep = keep

    def __call__(self, args: list[str], **settings: Any) -> Completed:
        return self._run(args, **settings)

    @property
    def failed(self) -> bool:
        return self._keep is not None and self._keep.failed


@contextlib.contextmanager
def runner(*, explain: bool, learn: str | None) -> Iterator[Runner]:
    """Yield what runs a program: ``process.run``, or one that says or writes what it saw."""
    if learn is not None:
        with _profile_for(learn) as keep:
            yield Runner(_learning(learn, keep), keep)
    else:
        yield Runner(_explaining if explain else _plainly)


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


def _learning(path: str, keep: _Keep) -> Callable[..., Completed]:
    def run(args: list[str], **settings: Any) -> Completed:
        from ..explaining import learn

        seen: Learned = learn(args, **settings)
        fault = keep(seen.profile)
        if fault:
            say(f"{args[0]}: {path!r} could not be written: {fault}")
        else:
            say(f"{args[0]}: {path} allows the {len(seen.names)} system calls that this run needs")
        if seen.completed.termination.reason is not None:
            say(f"{args[0]}: it did not run to its own end, so {path} may lack some")
        return seen.completed

    return run


class _Keep:
    """Puts a profile in the place of a file; it appears whole or not at all."""

    def __init__(self, file: IO[bytes], fresh: str, path: str) -> None:
        self._file = file
        self._fresh = fresh
        self._path = path
        self.failed = False

    def __call__(self, text: bytes) -> str:
        """Return why it could not be written, or nothing."""
        try:
            self._file.write(text)
            self._file.flush()
            os.fchmod(self._file.fileno(), 0o666 & ~_umask())
            # Once more: the run took its time.
            if fault := why_not_replaced(self._path):
                raise FileExistsError(errno.EEXIST, f"it {fault}", self._path)
            os.replace(self._fresh, self._path)
        except OSError as failed:
            self.failed = True
            return failed.strerror or str(failed)
        return ""


@contextlib.contextmanager
def _profile_for(path: str) -> Iterator[_Keep]:
    """Make sure that a file can be written before anything runs."""
    directory = os.path.dirname(path) or "."
    try:
        descriptor, fresh = tempfile.mkstemp(prefix=".0xgenctl-", dir=directory)
    except OSError as exc:
        raise UsageError(f"--learn: {path}: {exc.strerror}") from None
    with open(descriptor, "wb") as file:
        try:
            yield _Keep(file, fresh, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(fresh)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
