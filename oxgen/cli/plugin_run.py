"""``0xgenctl plugin run``: approve, grant what the manifest lists, run, keep records."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, TextIO

import click

from ..errors import CaptureError, IntegrityError, LaunchError, OxgenError, UsageError
from .copies import copies_of, copy_options
from .options import (
    FileName,
    confinement_options,
    limit_options,
    limits_from,
    sandbox_from,
    status_options,
    task_option,
    trust_root_option,
)
from .outcome import advice_for, cancelled, ended_by, finish, never_ran
from .records import FindingsSink
from .status import StatusSink, cancellable, noise_on_stderr
from .terminal import say
from .trust import locate

if TYPE_CHECKING:
    from ..capabilities import AuditLog
    from ..integrity import Approved
    from ..result import Completed

__all__ = ["plugin_run", "resolve"]

#: So many skipped entries of a capture are named one by one.
_SKIPPED_SHOWN: Final = 10

_EXAMPLES = """\
\b
Examples:
  0xgenctl plugin run hydra
  0xgenctl plugin run --flows capture.har --findings found.jsonl plugins/hydra
  0xgenctl plugin run --wall-limit 30s --json-status-fd 3 hydra 3>status.json
  0xgenctl plugin run hydra -- --depth 2
  0xgenctl plugin run --cpu-limit 2s ./my-experiment

\b
PLUGIN is a folder or manifest.json, which must be on the ALLOWLIST and
signed; or a bare executable file, which runs unverified: same jail, same
limits, no capability, no broker; or else the name of a plugin of the trust
root. What the plugin writes to stdout and stderr is noise and goes to stderr.

\b
Findings go to the --findings file. A terminal shows them as a table; where
stdout is no terminal and there is no file, stdout gets them as JSON lines.

\b
The exit status is that of 0xgenctl run, with 126 for a plugin that is found
but refused. Programs read the status object (--json-status-fd).
"""


class _PluginRun(click.Command):
    """Everything after ``--`` belongs to the plugin and is not looked at."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ours, rest = args, None
        if "--" in args:
            at = args.index("--")
            ours, rest = args[:at], args[at + 1 :]
        ctx.meta["oxgen.rest"] = rest
        return super().parse_args(ctx, ours)


@click.command(
    "run", cls=_PluginRun, epilog=_EXAMPLES, short_help="Run a plugin under its capabilities."
)
@limit_options(defaults=False)
@click.option(
    "--flows",
    type=click.Path(exists=True, dir_okay=False),
    metavar="FILE.har",
    help="HTTP flows for the plugin to look at",
)
@click.option(
    "--findings",
    "findings_path",
    type=FileName(
        instead="without --findings, stdout gets them (a terminal as a table, else as JSON lines)"
    ),
    metavar="FILE.jsonl",
    help="append the findings to this file",
)
@click.option(
    "--audit-log",
    type=FileName(),
    metavar="FILE",
    help="append who was granted and refused what to this file",
)
@copy_options
@confinement_options
@trust_root_option
@task_option
@status_options
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="PLUGIN [-- ARGS]")
@click.pass_context
def plugin_run(
    ctx: click.Context,
    flows: str | None,
    findings_path: str | None,
    audit_log: str | None,
    trust_root: str | None,
    task_id: str | None,
    status_descriptor: int | None,
    json_stdout: bool,
    words: tuple[str, ...],
) -> None:
    """Run PLUGIN in a sandbox, under limits, with the capabilities its manifest lists.

    Limits that are not given are those of the manifest, else the defaults of 0xgenctl run.
    """
    plugin, args = _plugin_and_args(ctx, words)
    job = _Job(ctx, plugin, args, flows, trust_root, task_id)
    sink = StatusSink(status_descriptor, on_stdout=json_stdout)
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(cancellable())
            findings = _findings_sink(findings_path, sys.stderr if json_stdout else sys.stdout)
            stack.callback(findings.close)
            audit = stack.enter_context(_audit_log(audit_log))
            real_stdout = stack.enter_context(noise_on_stderr())
            if not json_stdout:
                stack.enter_context(findings.through(real_stdout))
            try:
                completed = job.run(findings, audit)
            except KeyboardInterrupt as interrupt:
                completed = ended_by(interrupt)
            job.record_end(completed, findings, audit)
    except OxgenError as exc:
        never_ran(ctx, sink, exc, found=job.found, **job.record())
    except KeyboardInterrupt:
        cancelled(ctx, sink, launched=job.launched, **job.record())
    copied = job.copies.write(completed, name=job.name)
    finish(
        ctx,
        sink,
        completed,
        name=job.name,
        plugin=job.name,
        integrity=job.integrity,
        recorded=copied and not (findings.failed or job.failed),
        copied_to=(2, 2),
    )


def _plugin_and_args(ctx: click.Context, words: tuple[str, ...]) -> tuple[str, list[str]]:
    rest: list[str] | None = ctx.meta["oxgen.rest"]
    if len(words) > 1:
        raise click.UsageError(
            f"{words[1]!r} comes after PLUGIN: arguments of the plugin stand after '--', as in"
            f" 'plugin run {words[0]} -- {' '.join(words[1:])}'",
            ctx,
        )
    if words:
        plugin, args = words[0], rest or []
        if plugin.startswith("-"):
            raise click.UsageError(
                f"PLUGIN {plugin!r} looks like an option; accepted: './{plugin}', or the name"
                " after '--'",
                ctx,
            )
    elif rest:
        plugin, args = rest[0], rest[1:]
    else:
        raise click.UsageError(
            "PLUGIN is missing; accepted: a folder, a manifest, an executable file, or the name of"
            " a plugin of the trust root",
            ctx,
        )
    if not plugin:
        raise click.UsageError("PLUGIN is empty; accepted: a path or a name", ctx)
    return plugin, args


def resolve(plugin: str) -> tuple[bool, str]:
    """Return whether ``plugin`` is a bare executable, and what to open.

    What exists as a file or folder is that, also without a slash; then the answer is a path with
    one, so that nothing takes it for a name. What does not exist and has no slash is the name of a
    plugin of the trust root. Raises ``IntegrityError``: ``not_found``, ``not_regular``,
    ``not_readable``.
    """
    path = plugin if "/" in plugin else f"./{plugin}"
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        if "/" not in plugin and not os.path.lexists(path):
            return False, plugin
        raise IntegrityError("not_found", "there is no such file or folder", path=plugin) from None
    except OSError as exc:
        raise IntegrityError("not_readable", exc.strerror or str(exc), path=plugin) from None
    if stat.S_ISDIR(mode):
        return False, path
    if stat.S_ISREG(mode):
        return not plugin.endswith(".json"), path
    raise IntegrityError(
        "not_regular", "a plugin is a folder, a manifest or a regular file", path=plugin
    )


def _findings_sink(path: str | None, stream: TextIO) -> FindingsSink:
    try:
        return FindingsSink(path, stream)
    except UsageError as exc:
        raise UsageError(
            f"--findings: {exc}; without --findings, stdout gets them (>/dev/null drops them)"
        ) from None
    except OSError as exc:
        raise LaunchError(
            "findings",
            exc.errno or errno.EIO,
            f"the findings file cannot be opened: {exc.strerror}",
            remedy="name a regular file that this user may append to",
            path=path,
        ) from exc


def _audit_log(path: str | None) -> AuditLog:
    from ..capabilities import AuditLog

    return AuditLog(path)


@contextlib.contextmanager
def _file_trouble() -> Iterator[None]:
    """Turn a record that cannot be written into a launch that did not happen."""
    try:
        yield
    except OxgenError:
        raise
    except OSError as exc:
        raise LaunchError(
            "request", exc.errno or errno.EIO, exc.strerror or str(exc), path=exc.filename
        ) from exc


class _Job:
    """One ``plugin run``: what is known of it so far is what its records say."""

    def __init__(
        self,
        ctx: click.Context,
        plugin: str,
        args: list[str],
        flows: str | None,
        trust_root: str | None,
        task_id: str | None,
    ) -> None:
        self._ctx = ctx
        self._plugin = plugin
        self._args = args
        self._flows = flows
        self._trust_root = trust_root
        self._task_id = task_id
        self.copies = copies_of(ctx)
        self.name = os.path.basename(plugin.rstrip("/")) or plugin
        self.limits = limits_from(ctx)
        self.integrity = "unverified"
        self.digest: str | None = None
        self.failed = False
        self.launched = False
        self.found = False

    def record(self) -> dict[str, Any]:
        """Return what the record of a run that was prevented can say."""
        return {
            "plugin": self.name,
            "limits": self.limits,
            "integrity": self.integrity,
            "artifact_digest": self.digest,
            "task_id": self._task_id,
        }

    def run(self, findings: FindingsSink, audit: AuditLog) -> Completed:
        """Resolve, check, run."""
        bare, target = resolve(self._plugin)
        self.found = "/" in target
        if bare:
            with advice_for("file"):
                return self._run_unverified(target, audit)
        with advice_for("plugin"):
            return self._run_approved(target, findings, audit)

    def record_end(self, completed: Completed, findings: FindingsSink, audit: AuditLog) -> None:
        """Record how the run ended; a record that gets lost does not undo the run."""
        from ..findings import termination_finding

        ended = completed.termination
        try:
            if ended.reason is not None:
                findings.take(termination_finding(completed, plugin=self.name))
            audit.record(
                "termination",
                plugin=self.name,
                run_id=completed.run_id,
                task_id=self._task_id,
                reason=ended.reason,
                exit_code=ended.exit_code,
                signal=ended.signal,
            )
        except OSError as exc:
            say(f"the end of the run could not be recorded: {exc.strerror}")
            self.failed = True

    def _record(self, audit: AuditLog, event: str, **fields: object) -> None:
        with _file_trouble():
            audit.record(event, task_id=self._task_id, **fields)

    def _run_unverified(self, path: str, audit: AuditLog) -> Completed:
        from .. import process

        for option, value in (("--flows", self._flows), ("--trust-root", self._trust_root)):
            if value is not None:
                raise click.UsageError(
                    f"{option} has no effect on {self._plugin!r}: a bare executable runs unverified"
                    " and gets no broker; accepted: a plugin folder, or no such option",
                    self._ctx,
                )
        say(
            f"warning: {path} is a bare executable and runs unverified: jail and limits hold, but"
            " nobody vouches for it; it gets no capability"
        )
        self._record(audit, "launch", plugin=self.name, path=path, integrity="unverified")
        self.launched = True
        return process.run(
            [path, *self._args],
            sandbox=sandbox_from(self._ctx),
            limits=self.limits,
            task_id=self._task_id,
            files=self.copies.files,
            collect=self.copies.collect,
        )

    def _run_approved(self, target: str, findings: FindingsSink, audit: AuditLog) -> Completed:
        from ..integrity import approve

        root = locate(self._trust_root)
        self.found = self.found or os.path.lexists(os.path.join(root.directory, target))
        try:
            approved = approve(target, root)
        except OxgenError as exc:
            self._record(
                audit,
                "plugin_load",
                decision="deny",
                plugin=self.name,
                reason=getattr(exc, "reason", "manifest"),
                message=str(exc),
            )
            raise
        with approved:
            self.name, self.integrity, self.digest = approved.name, "verified", approved.digest
            self.limits = limits_from(self._ctx, approved.manifest.limits)
            self._record(
                audit,
                "plugin_load",
                decision="allow",
                plugin=approved.name,
                version=approved.version,
                artifact_digest=approved.digest,
                manifest_digest=approved.manifest_digest,
                signer=approved.signer,
            )
            return self._run_granted(approved, findings, audit)

    def _run_granted(
        self, approved: Approved, findings: FindingsSink, audit: AuditLog
    ) -> Completed:
        from ..broker import Broker
        from ..capabilities import Issuer, parse_capabilities
        from ..plugin import run_plugin
        from ..process import new_run_id

        run_id = new_run_id()
        issuer = Issuer(audit=audit)
        capabilities = parse_capabilities(approved.manifest.capabilities)
        broker = Broker(
            issuer=issuer,
            token_plugin=approved.name,
            run_id=run_id,
            flows=self._read_flows(),
            on_finding=findings.take,
            audit=audit,
            config=approved.manifest.config,
        )
        with _file_trouble():
            token = issuer.grant(plugin=approved.name, run_id=run_id, capabilities=capabilities)
        self._record(audit, "launch", plugin=approved.name, run_id=run_id, integrity="verified")
        self.launched = True
        completed = run_plugin(
            approved,
            broker=broker,
            token=token,
            limits=self.limits,
            sandbox=sandbox_from(self._ctx),
            args=self._args,
            task_id=self._task_id,
            run_id=run_id,
            files=self.copies.files,
            collect=self.copies.collect,
        )
        if broker.failure is not None:
            self.failed = True
            if not findings.failed:
                say(f"the broker failed, so findings may be missing: {broker.failure}")
        return completed

    def _read_flows(self) -> Any:
        if self._flows is None:
            return None
        from ..broker import read_har

        try:
            capture = read_har(self._flows)
        except OSError as exc:
            raise CaptureError(f"{self._flows}: cannot be read: {exc.strerror}") from exc
        for skipped in capture.skipped[:_SKIPPED_SHOWN]:
            say(f"{self._flows}: skipped {skipped}")
        more = len(capture.skipped) - _SKIPPED_SHOWN
        if more > 0:
            say(f"{self._flows}: skipped {more} more entries")
        return capture.flows
