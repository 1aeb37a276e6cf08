"""A cgroup that root gives to an ordinary user makes that user's cells hold everything."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.root

#: A uid that nobody has.
THROW_AWAY = 47_219

#: Reading is all that the host may do beside an ordinary user: its interpreter may lie anywhere.
AS_USER = (
    "setpriv", f"--reuid={THROW_AWAY}", f"--regid={THROW_AWAY}", "--clear-groups",
    "--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search",
)  # fmt: skip

HOST = """
import json, sys
import oxgen
words = sys.argv[1:]
try:
    done = oxgen.run(words, capture_output=True, limits=oxgen.Limits(memory_bytes=32 << 20))
except oxgen.UnsupportedError as refused:
    print(json.dumps({"missing": refused.missing, "stage": refused.stage,
                      "remedy": refused.remedy}))
else:
    box = done.confinement
    print(json.dumps({"missing": box.missing, "limits": box.limits, "weaker": box.weaker,
                      "reason": done.termination.reason, "cpu": done.usage.cpu_seconds}))
"""


def _mounts(kind: str) -> Iterator[tuple[str, list[str]]]:
    for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines():
        _, point, found, options, *_ = line.split(" ")
        if found == kind:
            yield point, options.split(",")


def _places() -> list[Path]:
    """Our own cgroup in each hierarchy with memory, pids or cpuacct; version 2 has all three."""
    own = {}
    for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
        _, controllers, path = line.split(":", 2)
        own.update(dict.fromkeys(controllers.split(","), path))
    found = []
    for controller in ("memory", "pids", "cpuacct"):
        for point, options in _mounts("cgroup"):
            if controller in options:
                inside = Path(point + own[controller])
                found.append(inside if inside.is_dir() else Path(point))
    if len(found) < 3:
        found += [Path(point) for point, _ in _mounts("cgroup2")]
    return list(dict.fromkeys(found))


@pytest.fixture
def delegated() -> Iterator[list[Path]]:
    """Cgroups that belong to the throw-away uid; the last one of each path is for its processes."""
    made = []
    for place in _places():
        top = place / f"oxgen-test-{secrets.token_hex(4)}"
        if (place / "cgroup.controllers").exists():
            (place / "cgroup.subtree_control").write_text("+memory +pids")
        for directory in (top, top / "host"):
            directory.mkdir()
            made.append(directory)
            os.chown(directory, THROW_AWAY, THROW_AWAY)
            for file in ("cgroup.procs", "cgroup.subtree_control", "cgroup.threads"):
                if (directory / file).exists():
                    os.chown(directory / file, THROW_AWAY, THROW_AWAY)
    yield made
    for directory in reversed(made):
        for _ in range(100):
            try:
                directory.rmdir()
            except OSError:
                time.sleep(0.05)
            else:
                break
        assert not directory.exists(), "something was left in a cgroup"


@pytest.fixture
def run_as_user(probe_path: Path) -> Iterator[Callable[..., Any]]:
    """Run the probe from a host of the throw-away uid in these cgroups."""
    directory = Path(tempfile.mkdtemp(prefix="oxgen-delegated-", dir="/tmp"))
    directory.chmod(0o755)
    program = shutil.copy(probe_path, directory / "probe")
    enter = 'for d in $1; do echo $$ > "$d/cgroup.procs"; done; shift; exec "$@"'

    def start(cgroups: list[Path], *words: object) -> Any:
        leaves = " ".join(str(one) for one in cgroups if one.name == "host")
        host = [*AS_USER, sys.executable, "-c", HOST, str(program), *map(str, words)]
        done = subprocess.run(
            ["sh", "-c", enter, "sh", leaves, *host], capture_output=True, text=True, timeout=60
        )
        assert done.stderr == ""
        return json.loads(done.stdout)

    yield start
    shutil.rmtree(directory)


def test_nothing_is_missing_with_a_cgroup_of_ones_own(
    run_as_user: Callable[..., Any], delegated: list[Path]
) -> None:
    seen = run_as_user(delegated, "burn", 0.1)
    assert (seen["missing"], seen["limits"], seen["reason"]) == ([], "cgroup", None)
    assert 0.1 <= seen["cpu"] < 1
    assert "uid" in seen["weaker"]


def test_the_memory_of_the_tree_is_held(
    run_as_user: Callable[..., Any], delegated: list[Path]
) -> None:
    """Four processes of 12 MiB each, of which none is above 32 MiB by itself."""
    assert run_as_user(delegated, "touch-children", 4, 12)["reason"] == "memory_limit"


def test_control_without_one_it_is_refused(run_as_user: Callable[..., Any]) -> None:
    seen = run_as_user([], "touch-children", 4, 12)
    assert (seen["missing"], seen["stage"]) == (["memory_tree", "cpu_tree"], "cgroup_base")


def test_the_remedy_names_cgroups_below_ours_and_gives_none_of_ours_away(
    run_as_user: Callable[..., Any],
) -> None:
    if any((place / "cgroup.controllers").exists() for place in _places()):
        pytest.skip("needs-cgroup1: version 2 is delegated by systemd")
    remedy = run_as_user([], "exit", 0)["remedy"]
    named = remedy.split("for each D of ")[1].split(": ")[0].split()
    assert [Path(one) for one in named] == _places()
    assert "mkdir D/oxgen && chown USER D/oxgen" in remedy
    assert "systemd-run" not in remedy
