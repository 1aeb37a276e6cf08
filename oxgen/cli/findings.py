"""``0xgenctl findings``: look at records of findings."""

from __future__ import annotations

from typing import BinaryIO, cast

import click

from .program import NO, Group
from .terminal import visible

__all__ = ["findings"]

#: A file of another kind would otherwise repeat one complaint a million times.
_FAULTS_SHOWN = 100


_GROUP_EXAMPLES = """\
\b
Examples:
  0xgenctl findings validate found.jsonl
  0xgenctl findings validate - <found.jsonl
"""


@click.group("findings", cls=Group, epilog=_GROUP_EXAMPLES, short_help="Check files of findings.")
def findings() -> None:
    """Check files of findings (JSON lines, schema 0.2)."""


_VALIDATE_EXAMPLES = """\
\b
Examples:
  0xgenctl findings validate found.jsonl
  0xgenctl findings validate reports/*.jsonl
  some-tool | 0xgenctl findings validate -

\b
Exit status: 0 all valid, 1 a line is not, 2 usage.
"""


@findings.command("validate", epilog=_VALIDATE_EXAMPLES, short_help="Check each line of files.")
@click.argument(
    "files",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, dir_okay=False, allow_dash=True),
    metavar="FILE...",
)
@click.pass_context
def validate(ctx: click.Context, files: tuple[str, ...]) -> None:
    """Check each line of each FILE against the finding schema; - is stdin."""
    valid = True
    for path in files:
        valid &= _validate_file(path)
    if not valid:
        ctx.exit(NO)


def _validate_file(path: str) -> bool:
    """Print each line that is not valid, then the sum; return whether all are valid."""
    from ..findings import validate_lines

    shown = "stdin" if path == "-" else visible(path)
    valid = faults = 0
    with click.open_file(path, "rb") as stream:
        for report in validate_lines(cast(BinaryIO, stream)):
            if report.finding is not None:
                valid += 1
                continue
            faults += 1
            if faults <= _FAULTS_SHOWN:
                click.echo(f"{shown}:{report.number}: {visible(report.error)}")
    if faults > _FAULTS_SHOWN:
        click.echo(f"{shown}: and {faults - _FAULTS_SHOWN} more lines that are not valid")
    click.echo(f"{shown}: {valid} valid, {faults} not")
    return faults == 0
