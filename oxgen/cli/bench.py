"""``0xgenctl bench``: what a confined launch costs on this machine, and how many it makes."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import click

from ..errors import OxgenError
from ..sandbox import Runtime
from .chart import ChartFile, ChartName
from .options import (
    Seconds,
    confinement_options,
    limit_options,
    limits_from,
    runtime_option,
    sandbox_from,
)
from .outcome import advice_for
from .program import NO, never_ran_status
from .status import cancellable
from .terminal import say

if TYPE_CHECKING:
    from ..limits import Limits
    from ..sandbox import Sandbox
    from .measure import Confined
    from .report import Report

__all__ = ["bench"]

_SECONDS_LEAST, _SECONDS_MOST = 0.5, 3600.0
_CONCURRENCY_MOST = 1024
#: Of the time: what the single launches get, and what stays for the last ones to end in.
_LATENCY_SHARE = 0.6
_LAST_SHARE = 0.05

_EXAMPLES = """\
\b
Examples:
  0xgenctl bench
  0xgenctl bench --seconds 30 --concurrency 1,4,16 --plot bench.svg
  0xgenctl bench --reuse never --memory-limit 64M -- /bin/true
  0xgenctl bench --json | jq '.latency[] | {name, reuse, p50_us}'

\b
Exit status: 0 measured, 1 something was not measured in the time, 2 usage,
125 oxgen failed (or would not confine), 126 CMD refused, 127 CMD not found,
130 cancelled.
"""


def _seconds_of(ctx: click.Context, param: click.Parameter, value: str) -> float:
    seconds = Seconds("wall_seconds").parse(value)
    if seconds is None or not _SECONDS_LEAST <= seconds <= _SECONDS_MOST:
        accepted = f"{_SECONDS_LEAST:g} to {_SECONDS_MOST:g} seconds, such as 0.5, 10s or 2m"
        raise click.BadParameter(f"{value[:40]!r} is refused; accepted: {accepted}.", ctx, param)
    return seconds


def _concurrency_of(ctx: click.Context, param: click.Parameter, value: str) -> tuple[int, ...]:
    """Return the numbers, each once, in the order given."""
    words = value.split(",")
    for word in words:
        if not re.fullmatch("[0-9]{1,4}", word) or not 1 <= int(word) <= _CONCURRENCY_MOST:
            accepted = f"whole numbers from 1 to {_CONCURRENCY_MOST} with commas, such as 1,2,8"
            raise click.BadParameter(f"{word[:40]!r} is refused; accepted: {accepted}.", ctx, param)
    return tuple(dict.fromkeys(map(int, words)))


@click.command(
    "bench",
    epilog=_EXAMPLES,
    short_help="Measure launches on this machine.",
    context_settings={"allow_interspersed_args": False},
)
@click.option(
    "--seconds",
    callback=_seconds_of,
    default="10",
    show_default=True,
    metavar="S",
    help="time for everything together, 0.5 to 3600",
)
@click.option(
    "--concurrency",
    callback=_concurrency_of,
    default="1,2,8",
    show_default=True,
    metavar="N,N...",
    help="launches in flight, each measured by itself",
)
@click.option(
    "--reuse",
    type=click.Choice(("tenancy", "never", "both")),
    default="both",
    show_default=True,
    help="cells that serve their own tenancy again, a new cell for every launch, or both",
)
@click.option(
    "--unconfined",
    is_flag=True,
    help="also run CMD with NO confinement, as you, with all your rights, to compare with",
)
@click.option("--json", "as_json", is_flag=True, help="print one JSON object")
@click.option(
    "--plot",
    type=ChartName(),
    metavar="FILE",
    help="draw a chart: FILE.svg or FILE.png (oxgen[plot])",
)
@limit_options(defaults=True)
@runtime_option
@confinement_options
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- CMD ARGS]")
@click.pass_context
def bench(
    ctx: click.Context,
    seconds: float,
    concurrency: tuple[int, ...],
    reuse: str,
    unconfined: bool,
    as_json: bool,
    plot: str | None,
    runtime: Runtime,
    command: tuple[str, ...],
) -> None:
    """Measure what a confined launch costs on this machine, and how many it makes in a second.

    Launched is CMD, or else a built-in program of a few instructions that exits at once, so that
    the launch is all there is. In turn, a few launches each, so that a machine whose speed drifts
    slows all alike: subprocess.run with no confinement, oxgen with cells that are used again, oxgen
    with a new cell for every launch. Nothing is measured before a probe in the same pool of cells
    has found itself confined.

    CMD is launched many times, and what it prints is dropped. Unlike the built-in program it is
    never run without confinement, unless --unconfined asks for that.
    """
    _check_words(ctx, command, unconfined, runtime)
    plan = _Plan(
        command=command,
        box=sandbox_from(ctx, runtime=runtime),
        limits=limits_from(ctx),
        seconds=seconds,
        concurrency=concurrency,
        reuses=("tenancy", "never") if reuse == "both" else (reuse,),
        unconfined=unconfined or not command,
    )
    with contextlib.ExitStack() as stack:
        chart = stack.enter_context(ChartFile(plot)) if plot is not None else None
        try:
            with advice_for("run"), cancellable():
                report = _measure(plan)
        except OxgenError as exc:
            say(exc)
            ctx.exit(never_ran_status(exc))
        if chart is not None and not report.is_empty:
            chart.write(report.chart(chart.format))
    _show(report, as_json=as_json)
    if few := report.without_tail():
        say(f"too few launches for a p99: {', '.join(few)}; --seconds gives it more time")
    if not report.complete:
        what = "nothing" if report.is_empty else "not everything"
        say(f"{what} was measured in {seconds:g} s; --seconds gives it more time")
        ctx.exit(NO)


def _check_words(
    ctx: click.Context, command: tuple[str, ...], unconfined: bool, runtime: Runtime
) -> None:
    if command and not command[0]:
        raise click.UsageError("CMD is empty; accepted: a path, or a name to look up in PATH", ctx)
    if not command and unconfined:
        raise click.UsageError(
            "--unconfined is for a CMD: the built-in program is run without confinement too", ctx
        )
    if not command and runtime not in ("auto", "static"):
        raise click.UsageError(
            f"--runtime {runtime} is for a CMD: the built-in program is a static one", ctx
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What is to be measured."""

    command: tuple[str, ...]  # empty: the built-in program
    box: Sandbox
    limits: Limits
    seconds: float
    concurrency: tuple[int, ...]
    reuses: tuple[str, ...]
    unconfined: bool


@dataclass(slots=True)
class _Stage:
    """What the measuring needs: the pools, the programs, and the unconfined command's stdin."""

    pools: dict[str, Confined] = field(default_factory=dict)
    words: tuple[str, ...] = ()
    probe: str | None = None
    stdin: int | None = None


def _measure(plan: _Plan) -> Report:
    from .measure import check_confinement, time_bound
    from .report import Report

    began = time.monotonic()
    report = Report(plan.command, plan.seconds, plan.limits)
    with contextlib.ExitStack() as stack:
        stage = _set_up(plan, stack)
        with time_bound(plan.seconds):
            for reuse, pool in stage.pools.items():
                report.confinement[reuse] = check_confinement(pool, stage.probe)
            _take_figures(plan, stage, report, began)
    return report


def _set_up(plan: _Plan, stack: contextlib.ExitStack) -> _Stage:
    from .._launch import Launcher
    from .measure import Confined
    from .static_elf import is_supported, tiny_programs

    stage = _Stage(words=plan.command)
    if not plan.command or is_supported():
        tiny = stack.enter_context(tiny_programs())
        stage.words = plan.command or (tiny.exits,)
        stage.probe = tiny.probe
    if plan.command and plan.unconfined:
        # As in a cell, where stdin is empty: a command that reads must not wait for a terminal.
        stage.stdin = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        stack.callback(os.close, stage.stdin)
    for reuse in plan.reuses:
        launcher = Launcher(cells=max(plan.concurrency), reuse=reuse)  # type: ignore[arg-type]
        stack.enter_context(launcher)
        stage.pools[reuse] = Confined(stage.words, plan.box, plan.limits, launcher)
    return stage


def _take_figures(plan: _Plan, stage: _Stage, report: Report, began: float) -> None:
    from .measure import Rate, Row, Unconfined, measure_latency, measure_rate

    end = began + (1 - _LAST_SHARE) * plan.seconds
    if plan.unconfined:
        report.baseline = Row("subprocess", Unconfined(stage.words, stage.stdin))
    report.cells = {reuse: Row("oxgen", pool, reuse) for reuse, pool in stage.pools.items()}
    report.rates = {
        reuse: [Rate(concurrency) for concurrency in plan.concurrency] for reuse in stage.pools
    }
    measure_latency(report.rows(), _LATENCY_SHARE * (end - time.monotonic()))
    left = len(plan.concurrency) * len(stage.pools)
    for column in zip(*report.rates.values(), strict=True):
        for pool, rate in zip(stage.pools.values(), column, strict=True):
            measure_rate(pool, rate, max(0.0, end - time.monotonic()) / left)
            left -= 1


def _show(report: Report, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(report.as_object(), allow_nan=False))
    elif not report.is_empty:
        click.echo(report.as_text())
    for line in report.otherwise_lines():
        say(line)
