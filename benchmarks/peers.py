"""Peers: every other way to start a program, unconfined, by hand, or with another tool."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from . import bpf
from .measure import Absent, Kind, Row, Rows, Turn, every
from .targets import ROOT, Target, Workshop
from .workers import Worker, WorkerError

__all__ = ["BASE", "FLOOR", "PeerError", "Peers", "bwrap_command"]

#: What ratios are taken to.
BASE = "subprocess.run"
FLOOR = "vfork+exec in C"
NOBODY = 65534

_BWRAP = ("filesystem", "network", "whole_tree_kill")


class PeerError(Exception):
    """A way to launch did not work."""


#: How other people's code says that it cannot launch here.
_DOES_NOT_WORK = (
    PeerError,
    WorkerError,
    OSError,
    RuntimeError,
    ValueError,
    subprocess.SubprocessError,
)


def run_checked(args: Sequence[str], **settings: Any) -> None:
    """``subprocess.run(capture_output=True)`` of a command that has to exit with 0."""
    done = subprocess.run(args, capture_output=True, **settings)
    if done.returncode != 0:
        words = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise PeerError(words[-1] if words else f"exit status {done.returncode}")


def bwrap_command(target: Target) -> list[str]:
    """Return the bwrap command that runs a target with all namespaces and nothing to spare."""
    words = ["bwrap", "--unshare-all", "--die-with-parent"]
    if target.system:
        words += ["--ro-bind", "/usr", "/usr", "--proc", "/proc", "--dev", "/dev"]
        for path in ("/lib", "/lib64", "/bin"):
            if os.path.islink(path):
                words += ["--symlink", os.readlink(path), path]
            elif os.path.isdir(path):
                words += ["--ro-bind", path, path]
        if not sys.base_prefix.startswith("/usr"):  # a Python of its own
            words += ["--ro-bind", sys.base_prefix, sys.base_prefix]
    inside = f"/run/{os.path.basename(target.path)}"
    return [*words, "--ro-bind", target.path, inside, inside]


class Peers:
    """Makes the rows of one target; what they hold is released with ``held``."""

    def __init__(self, target: Target, workshop: Workshop, held: contextlib.ExitStack) -> None:
        self._target = target
        self._held = held
        self._workshop = workshop
        self._jail = workshop.directory / f"jail-{target.name}"
        self._inside = "/" + os.path.basename(target.path)

    def rows(self) -> Rows:
        """Try every way once; what does not work here is listed with the reason."""
        rows = Rows()
        makers: list[tuple[str, Callable[[], Row]]] = [
            (FLOOR, self._floor),
            (BASE, self._subprocess),
            ("bwrap --unshare-all", self._bwrap),
        ]
        if not self._target.system:
            makers += [
                ("asyncio.create_subprocess_exec", self._asyncio),
                ("Popen(user=, group=)", self._popen_user),
                ("Popen(preexec_fn=)", self._popen_preexec),
                ("bwrap --unshare-all --seccomp", self._bwrap_seccomp),
                ("unshare + chroot", self._unshare),
                ("crun run", self._crun),
                ("firejail", self._firejail),
                ("sandlock", self._sandlock),
                ("nono-py", self._nono),
                ("wasmtime", self._wasmtime),
            ]
            self._make_jail()
        for name, make in makers:
            rows.add(self._tried(name, make))
        return rows

    def _make_jail(self) -> None:
        """A directory with the target and nothing else, for everybody who changes the root."""
        self._jail.mkdir(mode=0o755, exist_ok=True)
        self._jail.chmod(0o755)
        shutil.copy(self._target.path, self._jail)

    def _tried(self, name: str, make: Callable[[], Row]) -> Row | Absent:
        try:
            row = make()
            row.turn(1)
        except ModuleNotFoundError as missing:
            return Absent(name, f"the Python package {missing.name} is not installed")
        except FileNotFoundError as missing:
            return Absent(name, f"{missing.filename} is not installed")
        except _DOES_NOT_WORK as failed:
            return Absent(name, f"does not work here: {failed}")
        return row

    def _row(
        self,
        name: str,
        kind: Kind,
        turn: Turn,
        promises: Sequence[str] = (),
        note: str = "",
    ) -> Row:
        return Row(
            name=name,
            kind=kind,
            turn=turn,
            promises=tuple(promises),
            note=note,
            disturbs=kind in ("by hand", "peer"),
        )

    # --- no isolation -----------------------------------------------------------------------------

    def _floor(self) -> Row:
        worker = self._held.enter_context(
            Worker([self._workshop.helper("floor"), self._target.path])
        )
        return self._row(FLOOR, "floor", worker.latency, note="no output is read")

    def _subprocess(self) -> Row:
        args = [self._target.path]
        return self._row(BASE, "unconfined", every(lambda: run_checked(args)))

    def _asyncio(self) -> Row:
        loop = asyncio.new_event_loop()
        self._held.callback(loop.close)

        async def one() -> None:
            child = await asyncio.create_subprocess_exec(
                self._target.path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            await child.communicate()
            if child.returncode != 0:
                raise PeerError(f"exit status {child.returncode}")

        launch = every(lambda: loop.run_until_complete(one()))
        return self._row("asyncio.create_subprocess_exec", "unconfined", launch)

    # --- by hand ----------------------------------------------------------------------------------

    def _popen_user(self) -> Row:
        def launch() -> None:
            run_checked([self._target.path], user=NOBODY, group=NOBODY, extra_groups=[])

        return self._row("Popen(user=, group=)", "by hand", every(launch), note="other ids only")

    def _popen_preexec(self) -> Row:
        launch = every(lambda: popen_preexec(str(self._jail), self._inside))
        note = "chroot, one limit, other ids; runs Python between fork and exec"
        return self._row("Popen(preexec_fn=)", "by hand", launch, ("filesystem",), note)

    # --- other tools ------------------------------------------------------------------------------

    def _bwrap(self) -> Row:
        args = bwrap_command(self._target)
        launch = every(lambda: run_checked(args))
        return self._row("bwrap --unshare-all", "peer", launch, _BWRAP, "no limits, no filter")

    def _bwrap_seccomp(self) -> Row:
        code = os.memfd_create("filter")
        self._held.callback(os.close, code)
        os.write(code, bpf.filter_bytes())
        command = bwrap_command(self._target)
        args = [command[0], "--seccomp", str(code), *command[1:]]

        def launch() -> None:
            os.lseek(code, 0, os.SEEK_SET)
            run_checked(args, pass_fds=(code,))

        return self._row(
            "bwrap --unshare-all --seccomp",
            "peer",
            every(launch),
            (*_BWRAP, "syscalls"),
            "no limits; a filter of 37 instructions",
        )

    def _unshare(self) -> Row:
        kinds = ("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup")
        ids = ("--setuid", str(NOBODY), "--setgid", str(NOBODY))
        root = f"--root={self._jail}"
        args = ["unshare", *kinds, "--fork", "--kill-child", root, *ids, self._inside]
        note = "no limits, no filter"
        return self._row("unshare + chroot", "peer", every(lambda: run_checked(args)), _BWRAP, note)

    def _crun(self) -> Row:
        if shutil.which("crun") is None:
            raise FileNotFoundError(2, "not found", "crun")
        bundle = self._workshop.directory / f"bundle-{self._target.name}"
        _write_bundle(bundle, self._target.path)
        command = [sys.executable, "-m", "benchmarks.workers"]
        if os.path.exists("/sys/fs/cgroup/unified/cgroup.controllers"):
            # crun refuses machines that have controllers in both versions of cgroups: the worker
            # gets a mount namespace without the second one.
            script = 'umount /sys/fs/cgroup/unified && exec "$@"'
            unshare = ["unshare", "--mount", "--propagation", "private"]
            command = [*unshare, "sh", "-c", script, "sh", *command]
        name = f"oxgen-bench-{os.getpid()}-{self._target.name}"
        worker = Worker([*command, "crun", "run", "--bundle", str(bundle), name], cwd=ROOT)
        self._held.enter_context(worker)
        promises = (*_BWRAP, "memory_tree", "processes", "syscalls")
        note = "an OCI bundle; limits of memory and processes, a filter of 2 calls"
        return self._row("crun run", "peer", worker.latency, promises, note)

    def _firejail(self) -> Row:
        options = ("--noprofile", "--net=none", "--seccomp", "--caps.drop=all", "--nonewprivs")
        args = ["firejail", "--quiet", *options, self._target.path]
        promises = ("network", "whole_tree_kill", "syscalls")
        note = "the host's files stay visible, most of them read-only"
        return self._row("firejail", "peer", every(lambda: run_checked(args)), promises, note)

    def _sandlock(self) -> Row:
        sandlock = importlib.import_module("sandlock")
        box = sandlock.Sandbox(
            fs_readable=[str(self._jail)], max_memory="512M", max_processes=64, max_open_files=256
        )
        args = [str(self._jail) + self._inside]

        def launch() -> None:
            done = box.run(args)
            if not done.success:
                raise PeerError(f"exit status {done.exit_code}: {done.error}")

        promises = ("filesystem", "network", "processes", "syscalls")
        note = "Landlock and a seccomp supervisor; no namespaces; forks the calling process"
        return self._row("sandlock", "peer", every(launch), promises, note)

    def _nono(self) -> Row:
        nono = importlib.import_module("nono_py")
        allowed = nono.CapabilitySet()
        allowed.allow_path(str(self._jail), nono.AccessMode.READ)
        allowed.block_network()
        args = [str(self._jail) + self._inside]

        def launch() -> None:
            done = nono.sandboxed_exec(
                allowed, args, max_open_files=256, max_cpu_seconds=60, uid=NOBODY
            )
            if done.exit_code != 0:
                raise PeerError(f"exit status {done.exit_code}")

        note = "Landlock, limits of one process, another uid; forks the calling process"
        return self._row("nono-py", "peer", every(launch), ("filesystem", "network"), note)

    def _wasmtime(self) -> Row:
        wasmtime = importlib.import_module("wasmtime")
        engine = wasmtime.Engine()
        module = wasmtime.Module(engine, '(module (memory 1) (func (export "run")))')

        def launch() -> None:
            store = wasmtime.Store(engine)
            wasmtime.Instance(store, module, []).exports(store)["run"](store)

        note = "instantiates a compiled module in this process: no process is made at all"
        return self._row("wasmtime", "in-process", every(launch), note=note)


def popen_preexec(jail: str, inside: str) -> None:
    """What people write by hand: chroot, a limit and ids between fork and exec."""

    def confine() -> None:
        os.chroot(jail)
        os.chdir("/")
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)

    run_checked([inside], preexec_fn=confine)


def _write_bundle(bundle: Path, program: str) -> None:
    """Write an OCI bundle whose root holds the program and nothing else."""
    root = bundle / "rootfs"
    for name in ("dev", "proc", "sys"):
        (root / name).mkdir(parents=True, exist_ok=True)
    shutil.copy(program, root / "program")
    kinds = ("pid", "network", "ipc", "uts", "mount", "cgroup")
    arch = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}[platform.machine()]
    none: list[str] = []
    config = {
        "ociVersion": "1.0.0",
        "process": {
            "user": {"uid": NOBODY, "gid": NOBODY},
            "args": ["/program"],
            "env": ["PATH=/bin"],
            "cwd": "/",
            "noNewPrivileges": True,
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), none),
        },
        "root": {"path": "rootfs", "readonly": True},
        "mounts": [],
        "linux": {
            "namespaces": [{"type": kind} for kind in kinds],
            "resources": {"memory": {"limit": 512 << 20}, "pids": {"limit": 64}},
            "seccomp": {
                "defaultAction": "SCMP_ACT_ALLOW",
                "architectures": [arch],
                "syscalls": [{"names": ["ptrace", "mount"], "action": "SCMP_ACT_ERRNO"}],
            },
        },
    }
    (bundle / "config.json").write_text(json.dumps(config))
