"""Options: the values that commands share, checked where they are read."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar, get_args

import click

from ..errors import UsageError
from ..limits import Limits, bounds_of
from ..sandbox import LEVELS, PROPERTIES, Enforce, Runtime, Sandbox
from ..values import why_not_replaced

__all__ = [
    "Bound",
    "Count",
    "Descriptor",
    "Environment",
    "FileName",
    "InsidePath",
    "Label",
    "Named",
    "Processors",
    "ReplacedFile",
    "Seconds",
    "Size",
    "Syscalls",
    "confinement_options",
    "limit_options",
    "limits_from",
    "runtime_option",
    "sandbox_from",
    "status_options",
    "task_option",
    "trust_root_option",
]

if TYPE_CHECKING:
    _ParamType = click.ParamType[Any]
else:
    # Older releases of click, which serve as well, have no generic one.
    _ParamType = click.ParamType

F = TypeVar("F", bound=Callable[..., Any])

_SECONDS = re.compile(r"([0-9]{1,15}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})(ms|s|m|h)?")
_SECONDS_UNITS: Final = {
    None: Decimal(1),
    "ms": Decimal("0.001"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
}
_SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})(B|[KMGT](?:iB)?)?", re.IGNORECASE)
_SIZE_UNITS: Final = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_COUNT = re.compile(r"[0-9]{1,18}")
_PROCESSORS = re.compile(r"[0-9]{1,9}(?:\.[0-9]{0,9})?|\.[0-9]{1,9}")

#: Longer labels would not fit the lines people read them in.
_LABEL_MAX = 256


class Bound(_ParamType):
    """One bound of ``Limits``: the word ``none``, or a value that ``Limits`` accepts.

    ``convert`` returns ``(field, value)``, with the value None for "no bound".
    """

    #: What is accepted, in words: the second half of every refusal.
    accepted = ""

    def __init__(self, field: str) -> None:
        self.field = field

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, float | int | None]:
        if isinstance(value, tuple):
            return value
        text = str(value)
        if text == "none":
            return self.field, None
        amount = self.parse(text)
        if amount is None:
            self.fail(f"{text!r} is refused; accepted: {self.accepted}.", param, ctx)
        if amount == 0:
            self.fail(
                f"{text!r} is refused, as some programs read 0 as 'no bound' and others as"
                f" 'nothing at all'; accepted: {self.accepted}.",
                param,
                ctx,
            )
        least, most = bounds_of(self.field)
        if not least <= amount <= most:
            span = f"{self.written(least or 1)} to {self.written(most)}"
            self.fail(
                f"{text!r} is refused, as it is not in {span}; accepted: {self.accepted}.",
                param,
                ctx,
            )
        return self.field, amount

    def written(self, amount: float) -> str:
        """Return an amount as it may be written."""
        return f"{amount:.0f}"

    def parse(self, text: str) -> float | int | None:
        """Return the amount, or None where ``text`` is not written as ``accepted`` says."""
        raise click.UsageError(f"{type(self).__name__} reads no value")


class Seconds(Bound):
    """A time: ``0.5``, ``5s``, ``2m``."""

    name = "seconds"
    accepted = "seconds such as 0.5, 5s or 250ms, minutes such as 2m, hours such as 1h, or none"

    def parse(self, text: str) -> float | None:
        match = _SECONDS.fullmatch(text)
        return float(Decimal(match[1]) * _SECONDS_UNITS[match[2]]) if match else None

    def written(self, amount: float) -> str:
        return f"{amount * 1000:g}ms" if amount < 1 else f"{amount / 3600:.0f}h"


class Size(Bound):
    """A number of bytes: ``512M`` is 512 MiB."""

    name = "size"
    accepted = "bytes such as 65536, powers of 1024 such as 64K, 512M, 1.5G or 1T, or none"

    def parse(self, text: str) -> int | None:
        match = _SIZE.fullmatch(text)
        if match is None:
            return None
        amount = Decimal(match[1]) * _SIZE_UNITS[(match[2] or "")[:1].lower()]
        return int(amount) if amount == amount.to_integral_value() else None

    def written(self, amount: float) -> str:
        # Of the least and the most that limits accept, and both are whole.
        for letter, unit in (("T", 1 << 40), ("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)):
            if amount >= unit and amount % unit == 0:
                return f"{amount / unit:.0f}{letter}"
        return f"{amount:.0f}"


class Count(Bound):
    """A whole number of things."""

    name = "number"
    accepted = "a whole number such as 64, or none"

    def parse(self, text: str) -> int | None:
        return int(text) if _COUNT.fullmatch(text) else None


class Processors(Bound):
    """A number of processors: ``0.5``, ``2``."""

    name = "processors"
    accepted = "a number of processors such as 2 or 0.5, or none"

    def parse(self, text: str) -> float | None:
        return float(text) if _PROCESSORS.fullmatch(text) else None

    def written(self, amount: float) -> str:
        return f"{amount:g}"


_LIMITS: Final = (
    ("--cpu-limit", Seconds("cpu_seconds"), "S", "CPU time of all processes together"),
    ("--memory-limit", Size("memory_bytes"), "SIZE", "memory of all processes and written files"),
    ("--wall-limit", Seconds("wall_seconds"), "S", "time from the launch to the end"),
    ("--process-limit", Count("processes"), "N", "processes and threads at one time"),
    ("--open-files-limit", Count("open_files"), "N", "open files of each process"),
    ("--file-limit", Size("file_bytes"), "SIZE", "size of each written file"),
    ("--disk-limit", Size("disk_bytes"), "SIZE", "written files together"),
    ("--output-limit", Size("output_bytes"), "SIZE", "stdout and stderr; more is counted, dropped"),
    ("--cpus", Processors("cpus"), "N", "processors kept busy at one time; slowed down there"),
)


def limit_options(*, defaults: bool) -> Callable[[F], F]:
    """Add the nine limits; the command gets them as ``limits``, a dict of those that were given.

    ``defaults``: the help names the values that hold where an option is not given.
    """

    def decorate(command: F) -> F:
        for name, kind, metavar, meaning in reversed(_LIMITS):
            default = f"  [default: {_written(kind)}]" if defaults else ""
            command = click.option(
                name,
                type=kind,
                metavar=metavar,
                help=meaning + default,
                callback=_collect,
                expose_value=False,
            )(command)
        return command

    return decorate


def _collect(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    if value is not None:
        field, amount = value
        ctx.meta.setdefault("oxgen.limits", {})[field] = amount


def limits_from(ctx: click.Context, base: Limits | None = None) -> Limits:
    """Return ``base`` (the documented defaults) with the limits of the command line put in."""
    import dataclasses

    return dataclasses.replace(base or Limits(), **ctx.meta.get("oxgen.limits", {}))


def _written(kind: Bound) -> str:
    value = getattr(Limits(), kind.field)
    if value is None:
        return "none"
    if not isinstance(kind, Size):
        return f"{value:g}"
    return f"{value >> 20}M"


class Environment(_ParamType):
    """One variable, ``NAME=VALUE``; the rules for names and values are those of ``Sandbox``."""

    name = "environment"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        name, equals, text = str(value).partition("=")
        if not equals:
            self.fail(f"{value!r} has no '='; accepted: NAME=VALUE.", param, ctx)
        try:
            Sandbox(env={name: text})
        except UsageError as exc:
            self.fail(f"{exc}; accepted: NAME=VALUE.", param, ctx)
        return name, text


def confinement_options(command: F) -> F:
    """Add ``--level``, ``--enforce`` and ``--enforce-except``.

    The command gets ``confinement``: those that were given, as arguments of ``Sandbox``.
    """
    for name, kind, metavar, text in (
        (
            "--enforce-except",
            click.Choice(PROPERTIES),
            "P",
            "start although the property P cannot be enforced here (repeatable)",
        ),
        (
            "--enforce",
            click.Choice([choice.value for choice in Enforce]),
            None,
            "refuse to start without a property, or start and list what is missing"
            "  [default: require]",
        ),
        (
            "--level",
            click.Choice(LEVELS),
            None,
            "accept this level of isolation only  [default: namespaces, else chroot]",
        ),
    ):
        command = click.option(
            name,
            type=kind,
            metavar=metavar,
            multiple=name == "--enforce-except",
            help=text,
            callback=_collect_confinement,
            expose_value=False,
        )(command)
    return command


def _collect_confinement(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    if not value or param.name is None:
        return
    given = ctx.meta.setdefault("oxgen.confinement", {})
    given[param.name] = Enforce(value) if param.name == "enforce" else value


def sandbox_from(ctx: click.Context, base: Sandbox | None = None, **values: Any) -> Sandbox:
    """Return ``base`` with these values and the confinement of the command line put in."""
    import dataclasses

    given = ctx.meta.get("oxgen.confinement", {})
    return dataclasses.replace(base or Sandbox(), **values, **given)


class InsidePath(_ParamType):
    """A directory inside the sandbox; the rules are those of ``Sandbox``."""

    name = "directory"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            Sandbox(cwd=str(value))
        except UsageError:
            accepted = "an absolute path inside the sandbox, at most 1024 characters"
            self.fail(f"{str(value)[:40]!r} is refused; accepted: {accepted}.", param, ctx)
        return str(value)


class Syscalls(_ParamType):
    """A policy on system calls, as ``Sandbox`` takes it; ``convert`` returns what it made of it."""

    name = "policy"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        from ..sandbox import Sandbox

        try:
            return Sandbox(syscalls=value).syscalls
        except UsageError as exc:
            words = str(exc).replace("a Policy or the path", "or the path")
            self.fail(words.removeprefix("syscalls ").removeprefix("syscalls: "), param, ctx)


class Named(_ParamType):
    """The name of something, which an unset variable of a script must not leave empty."""

    name = "path"

    def __init__(self, accepted: str) -> None:
        self.accepted = accepted

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        if not text:
            self.fail(f"'' is refused: it names nothing; accepted: {self.accepted}.", param, ctx)
        return text


class FileName(Named):
    """The name of a file that may not exist yet; ``-`` is not one, as it means a stream elsewhere.

    ``instead`` says what to do for that.
    """

    name = "file"

    def __init__(self, accepted: str = "the path of a file", *, instead: str = "") -> None:
        super().__init__(accepted)
        self.instead = instead

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = super().convert(value, param, ctx)
        if text == "-":
            reason = f": {self.instead}" if self.instead else ", as it is no stream here"
            self.fail(
                f"'-' is refused{reason}; accepted: {self.accepted} (./- for one of that name).",
                param,
                ctx,
            )
        return text


class ReplacedFile(FileName):
    """The name of a file that appears whole by rename(2), in the place of a file or of nothing."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = super().convert(value, param, ctx)
        fault = why_not_replaced(text)
        if fault:
            accepted = "a name that a regular file has, or nothing"
            self.fail(f"{text!r} is refused: it {fault}; accepted: {accepted}.", param, ctx)
        return text


class Label(_ParamType):
    """A short text that records carry: 1 to 256 printable characters."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        if not 1 <= len(text) <= _LABEL_MAX or not text.isprintable():
            self.fail(
                f"{text[:40]!r} is refused; accepted: 1 to {_LABEL_MAX} printable characters.",
                param,
                ctx,
            )
        return text


class Descriptor(_ParamType):
    """The number of a descriptor that the caller opened for writing.

    It is checked and duplicated while the command line is read, so before anything else can have
    opened a descriptor under that number; ``convert`` returns the duplicate, close-on-exec.
    """

    name = "descriptor"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        accepted = "accepted: the number of a descriptor open for writing, as in 3>status.json"
        if not _COUNT.fullmatch(str(value)) or len(str(value)) > 9:
            self.fail(f"{value!r} is not a descriptor number; {accepted}.", param, ctx)
        return _own_descriptor(int(value), lambda text: self.fail(text, param, ctx), accepted)


def _own_descriptor(number: int, fail: Callable[[str], NoReturn], accepted: str) -> int:
    import fcntl

    try:
        mode = fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE
    except OSError:
        fail(f"descriptor {number} is not open; {accepted}.")
    if mode == os.O_RDONLY or fcntl.fcntl(number, fcntl.F_GETFL) & getattr(os, "O_PATH", 0):
        fail(f"descriptor {number} is not open for writing; {accepted}.")
    if number > 2:
        # A reader waits for the last writer to close: no program that we start may keep it.
        os.set_inheritable(number, False)
    return fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 10)


def status_options(command: F) -> F:
    """Add ``--json-status-fd`` and ``--json``: where the status object goes."""
    command = click.option(
        "--json",
        "json_stdout",
        is_flag=True,
        help="print the status object on stdout, and all other output on stderr",
    )(command)
    return click.option(
        "--json-status-fd",
        "status_descriptor",
        type=Descriptor(),
        metavar="N",
        help="write the status object, one line, to descriptor N",
    )(command)


def runtime_option(command: F) -> F:
    """Add ``--runtime``."""
    return click.option(
        "--runtime",
        type=click.Choice(get_args(Runtime)),
        default="auto",
        show_default=True,
        help="what the command needs beside itself; auto looks at the file",
    )(command)


def task_option(command: F) -> F:
    """Add ``--task-id``."""
    return click.option(
        "--task-id", type=Label(), metavar="ID", help="your own name for this run, in its records"
    )(command)


def trust_root_option(command: F) -> F:
    """Add ``--trust-root``."""
    return click.option(
        "--trust-root",
        type=Named("the path of a directory"),
        metavar="DIR",
        help="holds ALLOWLIST and keys/  [default: /etc/oxgen, else ./plugins]",
    )(command)
