"""Program: the group that turns every outcome, expected or not, into one line and an exit status.

The numbers are those of docs/exit-status.md.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from typing import Any, Final, NoReturn

import click

from ..errors import (
    CapabilityError,
    CaptureError,
    IntegrityError,
    LaunchError,
    ManifestError,
    OxgenError,
    ProgramNotFoundError,
    UsageError,
)
from .terminal import say, silence_stdout, tell

__all__ = [
    "CANCELLED",
    "NO",
    "NOT_FOUND",
    "OURS_FAILED",
    "REFUSED",
    "USAGE",
    "Group",
    "Program",
    "never_ran_status",
]

NO: Final = 1
USAGE: Final = 2
OURS_FAILED: Final = 125
REFUSED: Final = 126
NOT_FOUND: Final = 127
CANCELLED: Final = 130

#: Set to anything, it lets the traceback of an unexpected exception through.
_TRACEBACK = "OXGEN_TRACEBACK"


def never_ran_status(exc: OxgenError, *, found: bool = False) -> int:
    """Return the exit status of ``run`` and ``plugin run`` where nothing ran because of ``exc``.

    ``found``: the plugin is there, so that what was not found is something that it needs.
    """
    match exc:
        case UsageError() | CaptureError():
            return USAGE
        case ProgramNotFoundError():
            return NOT_FOUND
        case IntegrityError(reason="not_found") if not found:
            return NOT_FOUND
        case IntegrityError() | ManifestError() | CapabilityError():
            return REFUSED
        case LaunchError(stage="program" | "exec"):
            return REFUSED
    return OURS_FAILED


#: What a write to stdout fails with, where nothing of ours is wrong.
_WRITE_FAILED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class Group(click.Group):
    """A group that shows its help, and ends with 2, where no command is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            tell(ctx.get_help())
            ctx.exit(USAGE)
        return super().parse_args(ctx, args)


class Program(Group):
    """The command line as a whole.

    ``main`` never returns and never shows a traceback: a usage error ends with 2, an
    ``OxgenError`` with what its command says (1 unless it runs something), Ctrl-C with 130, a
    closed stdout quietly, and what nobody expected with 125 and one line.
    """

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:
        words: Sequence[str] | None = args[0] if args else kwargs.get("args")
        sys.exit(self._outcome(list(sys.argv[1:] if words is None else words)))

    def _outcome(self, words: list[str]) -> int:
        try:
            status = self._run(words)
            sys.stdout.flush()
            return status
        except BrokenPipeError:
            silence_stdout()
            return NO
        except KeyboardInterrupt:
            say("cancelled")
            return CANCELLED
        except OSError as exc:
            if exc.errno not in _WRITE_FAILED:
                return _report_surprise(exc)
            silence_stdout()
            say(f"output cannot be written: {exc.strerror}")
            return OURS_FAILED
        except Exception as exc:
            return _report_surprise(exc)

    def _run(self, words: list[str]) -> int:
        try:
            with self.make_context(self.name, words) as ctx:
                self.invoke(ctx)
            return 0
        except click.exceptions.Exit as exc:
            return exc.exit_code
        except click.UsageError as exc:
            say(exc.format_message())
            if exc.ctx is not None:
                say(f"try '{exc.ctx.command_path} --help'")
            return USAGE
        except click.ClickException as exc:
            say(exc.format_message())
            return exc.exit_code
        except click.Abort:
            raise KeyboardInterrupt from None
        except UsageError as exc:
            say(exc)
            return USAGE
        except OxgenError as exc:
            say(exc)
            return NO
        except OSError as exc:
            if exc.errno == errno.ENOENT and _directory_is_gone():
                say("the current directory does not exist any more; cd to one that does")
                return NO
            if exc.filename is None or isinstance(exc, BrokenPipeError):
                raise
            # A file that the user named: the kernel's own words say what is wrong.
            say(f"{exc.filename}: {exc.strerror}")
            return NO


def _directory_is_gone() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


def _report_surprise(exc: Exception) -> int:
    if os.environ.get(_TRACEBACK):
        import traceback

        traceback.print_exception(exc)
    missing = exc.name if isinstance(exc, ImportError) else None
    if missing is not None and missing.startswith("oxgen._"):
        # Without its compiled part nothing is confined: the message says how to get it.
        say(exc)
    else:
        say(
            f"unexpected {type(exc).__name__}: {exc}"
            f" (set {_TRACEBACK}=1 to see where it comes from, and report it)"
        )
    return OURS_FAILED
