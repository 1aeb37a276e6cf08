"""Opening: the options that show a run more of the host than it sees otherwise."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar, get_args

import click

from ..errors import UsageError
from ..sandbox import Mount, Network
from .options import Named

__all__ = ["Bind", "opening_options"]

F = TypeVar("F", bound=Callable[..., Any])


class Bind(Named):
    """``SRC[:DST]``: a file or directory of the host, and its place inside."""

    name = "mount"

    def __init__(self) -> None:
        super().__init__("a file or directory, and where it is inside, such as /opt/data:/data")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, Mount):
            return value
        source, colon, destination = str(value).rpartition(":")
        if not colon:
            source, destination = destination, ""
        super().convert(source, param, ctx)
        if colon and not destination:
            self.fail(f"{value!r} names no place inside; accepted: {self.accepted}.", param, ctx)
        try:
            return Mount(os.path.abspath(source), destination or None)
        except UsageError as refused:
            self.fail(str(refused).partition(": ")[2] + ".", param, ctx)


def opening_options(command: F) -> F:
    """Add ``--ro-bind``, ``--network`` and ``--exec-tmp``."""
    command = click.option(
        "--exec-tmp",
        "exec_tmp",
        is_flag=True,
        help="let files that it has written be executed",
    )(command)
    command = click.option(
        "--network",
        type=click.Choice(get_args(Network)),
        default="none",
        show_default=True,
        help="host: everything that this machine reaches",
    )(command)
    return click.option(
        "--ro-bind",
        "mounts",
        type=Bind(),
        multiple=True,
        metavar="SRC[:DST]",
        help="show a file or directory inside, read-only",
    )(command)
