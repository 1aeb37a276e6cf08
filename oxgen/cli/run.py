"""``0xgenctl run``: any command, in a sandbox, with no trust in it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import click

from ..errors import OxgenError
from ..sandbox import Mount, Network, Runtime
from .copies import copies_of, copy_options
from .opening import opening_options
from .options import (
    Environment,
    InsidePath,
    Label,
    ReplacedFile,
    Syscalls,
    confinement_options,
    limit_options,
    limits_from,
    runtime_option,
    sandbox_from,
    status_options,
    task_option,
)
from .outcome import advice_for, cancelled, ended_by, finish, never_ran
from .status import StatusSink, cancellable, noise_on_stderr

if TYPE_CHECKING:
    from ..syscalls import Policy

__all__ = ["run"]

_EXAMPLES = """\
\b
Examples:
  0xgenctl run -- echo hello
  0xgenctl run --wall-limit 5s --memory-limit 64M -- sh -c 'echo started'
  0xgenctl run --env MODE=quick --cwd /tmp -- sh -c 'echo $MODE in $PWD'
  0xgenctl run --copy-in /etc/hosts -- sh -c 'read first <hosts; echo $first'
  0xgenctl run --json-status-fd 3 -- sh -c 'echo hello' 3>status.json

\b
The exit status is the command's own, or 124 wall limit, 137 memory limit,
152 CPU limit, 159 denied system call, 128+n signal n, 125 oxgen failed,
126 refused, 127 not found, 130 cancelled. A command can return these numbers
too: programs read the status object (--json-status-fd).
"""


@click.command(
    "run",
    epilog=_EXAMPLES,
    short_help="Run any command in a sandbox.",
    context_settings={"allow_interspersed_args": False},
)
@limit_options(defaults=True)
@runtime_option
@confinement_options
@click.option(
    "--env", "env", type=Environment(), multiple=True, metavar="K=V", help="set a variable inside"
)
@click.option(
    "--cwd",
    type=InsidePath(),
    default="/workspace",
    show_default=True,
    metavar="DIR",
    help="start in this directory of the sandbox",
)
@copy_options
@opening_options
@click.option(
    "--syscalls",
    type=Syscalls(),
    default="default",
    show_default=True,
    metavar="default|strict|FILE",
    help="narrow the system calls that are allowed; FILE is an OCI profile",
)
@click.option(
    "--explain", is_flag=True, help="say which system calls were refused (slower, for looking only)"
)
@click.option(
    "--learn",
    type=ReplacedFile(),
    metavar="FILE",
    help="write the OCI profile that allows what this run does, for --syscalls (slower)",
)
@click.option(
    "--tenant", type=Label(), metavar="T", help="never share a prepared sandbox with other tenants"
)
@task_option
@status_options
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- CMD ARGS")
@click.pass_context
def run(
    ctx: click.Context,
    runtime: Runtime,
    env: tuple[tuple[str, str], ...],
    cwd: str,
    mounts: tuple[Mount, ...],
    network: Network,
    exec_tmp: bool,
    syscalls: str | Policy,
    explain: bool,
    learn: str | None,
    tenant: str | None,
    task_id: str | None,
    status_descriptor: int | None,
    json_stdout: bool,
    command: tuple[str, ...],
) -> None:
    """Run CMD with ARGS in a sandbox: no network, no files but its own, limits on everything.

    CMD with a slash is a path; without one it is looked up in PATH. Nothing else is copied in: a
    file that ARGS name is not there inside, unless --copy-in or --ro-bind says so. Its stdin is
    empty.

    Its output is copied to stdout and stderr. Where their reader goes away (| head), the rest is
    dropped and the run goes on to its own end or limit.
    """
    if not command[0]:
        raise click.UsageError("CMD is empty; accepted: a path, or a name to look up in PATH", ctx)
    if explain and learn is not None:
        raise click.UsageError("--explain and --learn: accepted is one of them at a time", ctx)
    from .watched import runner

    copies = copies_of(ctx)
    sink = StatusSink(status_descriptor, on_stdout=json_stdout)
    limits = limits_from(ctx)
    launched = False
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(advice_for("run"))
            sandbox = sandbox_from(
                ctx,
                runtime=runtime,
                env=dict(env),
                cwd=cwd,
                mounts=mounts,
                network=network,
                exec_tmp=exec_tmp,
                syscalls=syscalls,
            )
            start = stack.enter_context(runner(explain=explain, learn=learn))
            stack.enter_context(cancellable())
            if json_stdout:
                stack.enter_context(noise_on_stderr())
            launched = True
            try:
                completed = start(
                    list(command),
                    sandbox=sandbox,
                    limits=limits,
                    tenant=tenant or "",
                    task_id=task_id,
                    files=copies.files,
                    collect=copies.collect,
                )
            except KeyboardInterrupt as interrupt:
                completed = ended_by(interrupt)
    except OxgenError as exc:
        never_ran(ctx, sink, exc, limits=limits, task_id=task_id)
    except KeyboardInterrupt:
        cancelled(ctx, sink, launched=launched, limits=limits, task_id=task_id)
    copied_to = (2, 2) if json_stdout else (1, 2)
    written = copies.write(completed, name=command[0]) and not start.failed
    finish(ctx, sink, completed, name=command[0], recorded=written, copied_to=copied_to)
