"""0xgenctl: the command line of oxgen.

The first lines of a run cost time before the plugin starts, so a command imports what it needs
when it runs, and nothing here imports cryptography, rich, msgspec or elftools.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import click

from .bench import bench as bench_command
from .doctor import doctor as doctor_command
from .findings import findings as findings_command
from .plugin import plugin as plugin_command
from .program import Program
from .run import run as run_command
from .terminal import PROGRAM

__all__ = ["main"]

_EXAMPLES = """\
\b
Examples:
  0xgenctl doctor
  0xgenctl run --wall-limit 5s -- sh -c 'echo hello'
  0xgenctl plugin run --flows capture.har --findings found.jsonl hydra
  0xgenctl findings validate found.jsonl

\b
OXGEN_TRACEBACK=1 shows where an unexpected error comes from.
"""


def _print_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    from .doctor import version_line

    click.echo(version_line())
    ctx.exit()


@click.group(PROGRAM, cls=Program, epilog=_EXAMPLES)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
def command_line() -> None:
    """Launch plugins that nobody trusts: isolated, limited, verified, supervised."""


for _command in (run_command, plugin_command, findings_command, doctor_command, bench_command):
    command_line.add_command(_command)


def main() -> NoReturn:
    """Run 0xgenctl with the arguments of this process, and exit."""
    _open_standard_descriptors()
    for stream in (sys.stdout, sys.stderr):
        # Text of strangers that the terminal's encoding cannot write is no reason to stop.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    command_line.main()


def _open_standard_descriptors() -> None:
    """Put /dev/null where the caller closed 0, 1 or 2: the next file must not get that number."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
