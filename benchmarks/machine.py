"""The machine: figures without it mean nothing."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import oxgen

from .targets import ROOT

__all__ = ["describe_machine", "versions_of_peers"]

_ASK_SECONDS = 10
_COMMANDS = {
    "bwrap": ("bwrap", "--version"),
    "crun": ("crun", "--version"),
    "firejail": ("firejail", "--version"),
    "unshare": ("unshare", "--version"),
}
_PACKAGES = ("sandlock", "nono-py", "wasmtime")


def _answer(*words: str) -> str | None:
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            words, cwd=ROOT, capture_output=True, text=True, timeout=_ASK_SECONDS, check=True
        )
        lines = done.stdout.strip().splitlines()
        return lines[0].strip() if lines else None
    return None


def versions_of_peers() -> dict[str, str | None]:
    """Return the version of each peer, None where it is not installed."""
    found: dict[str, str | None] = {}
    for name, words in _COMMANDS.items():
        text = _answer(*words)
        found[name] = None if text is None else text.split()[-1]
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def _cgroups() -> str:
    unified = Path("/sys/fs/cgroup/cgroup.controllers").exists()
    if unified:
        return "2"
    return "1 and 2" if Path("/sys/fs/cgroup/unified").is_dir() else "1"


def _cpu() -> tuple[str, bool]:
    """Return the processor's name, and whether this is a virtual machine."""
    text = Path("/proc/cpuinfo").read_text()
    name = platform.machine()
    for line in text.splitlines():
        if line.startswith("model name"):
            name = line.split(":", 1)[1].strip()
            break
    return name, " hypervisor" in text


def _memory_mib() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20


def describe_machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    cpu, virtual = _cpu()
    huge = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    changed = _answer("git", "status", "--porcelain", "--untracked-files=no", "--", "oxgen", "csrc")
    commit = _answer("git", "rev-parse", "--short=12", "HEAD")
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "cpu": cpu,
        "architecture": platform.machine(),
        "processors": len(os.sched_getaffinity(0)),
        "virtual": virtual,
        "memory_mib": _memory_mib(),
        "kernel": platform.release(),
        "cgroup_versions": _cgroups(),
        "huge_pages": huge.read_text().strip() if huge.exists() else None,
        "libc": " ".join(platform.libc_ver()),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "oxgen": oxgen.__version__,
        "commit": None if commit is None else commit + ("+" if changed else ""),
        "peers": versions_of_peers(),
    }
