"""Latency of one launch: confined by oxgen, against ``subprocess`` without any confinement.

Every row is measured in turn, a few launches each, over and over in one run, so that a machine
whose speed drifts slows all of them alike; ratios are taken round by round. The same happens again
from a process with 1 GiB of heap. Needs root. ``--help`` shows the options.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import oxgen

TARGET = "int main(void) { return 0; }\n"
PER_TURN = 10


def build_target(directory: Path) -> str:
    source = directory / "exit.c"
    source.write_text(TARGET)
    program = directory / "exit"
    subprocess.run(["cc", "-O2", "-static", "-o", program, source], check=True, timeout=60)
    directory.chmod(0o755)
    return str(program)


def by_hand(program: str) -> None:
    """What people write by hand: chroot, a limit and ids between fork and exec."""

    def confine() -> None:
        os.chroot(os.path.dirname(program))
        os.chdir("/")
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)

    inside = "/" + os.path.basename(program)
    with subprocess.Popen([inside], preexec_fn=confine, stdout=subprocess.PIPE) as child:
        child.communicate()
        assert child.returncode == 0


def rows(program: str, launchers: dict[str, oxgen.Launcher]) -> dict[str, Callable[[], None]]:
    def confined(launcher: oxgen.Launcher) -> None:
        done = oxgen.run([program], launcher=launcher, capture_output=True)
        assert done.returncode == 0
        assert "syscalls" in done.confinement.enforced

    def bare() -> None:
        assert subprocess.run([program], capture_output=True).returncode == 0

    return {
        "subprocess.run, no isolation": bare,
        "oxgen.run, cell reused in its tenancy": lambda: confined(launchers["tenancy"]),
        'oxgen.run, reuse="never"': lambda: confined(launchers["never"]),
        "Popen(preexec_fn=chroot, limit, ids)": lambda: by_hand(program),
    }


def prove_confined(program_directory: Path, launcher: oxgen.Launcher) -> dict[str, object]:
    """A probe in the very pool that is measured reads what the kernel says of its own process."""
    probe = program_directory / "probe.py"
    probe.write_text(
        "import json\n"
        "fields = dict(l.split(':', 1) for l in open('/proc/self/status') if ':' in l)\n"
        "names = ('Seccomp', 'NoNewPrivs', 'NSpid', 'Uid', 'CapEff', 'CapBnd')\n"
        "print(json.dumps({k: fields[k].split() for k in names}))\n"
    )
    done = oxgen.run(
        [str(probe)],
        sandbox=oxgen.Sandbox(runtime="python"),
        launcher=launcher,
        capture_output=True,
        check=True,
    )
    assert done.stdout is not None
    seen: dict[str, list[str]] = json.loads(done.stdout)
    assert seen["Seccomp"] == ["2"] and seen["NoNewPrivs"] == ["1"], seen
    assert seen["Uid"] == ["65534"] * 4 and int(seen["CapEff"][0], 16) == 0, seen
    return {"enforced": list(done.confinement.enforced), "probe": seen}


def measure(actions: dict[str, Callable[[], None]], seconds: float) -> dict[str, list[list[float]]]:
    """Return, for each row, the launches of each round in microseconds."""
    for action in actions.values():
        for _ in range(PER_TURN):
            action()
    rounds: dict[str, list[list[float]]] = {name: [] for name in actions}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for name, action in actions.items():
            turn = []
            for _ in range(PER_TURN):
                begun = time.perf_counter_ns()
                action()
                turn.append((time.perf_counter_ns() - begun) / 1000)
            rounds[name].append(turn)
    return rounds


def summarise(rounds: dict[str, list[list[float]]]) -> dict[str, dict[str, float]]:
    base = next(iter(rounds))
    result = {}
    for name, turns in rounds.items():
        every = sorted(value for turn in turns for value in turn)
        ratios = [
            statistics.median(turn) / statistics.median(other)
            for turn, other in zip(turns, rounds[base], strict=True)
        ]
        result[name] = {
            "p50_us": round(every[len(every) // 2], 1),
            "p99_us": round(every[int(len(every) * 0.99)], 1),
            "ratio_p50": round(statistics.median(ratios), 2),
            "launches": len(every),
        }
    return result


def machine() -> dict[str, object]:
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    return {
        "cpu": model,
        "processors": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "oxgen": oxgen.__version__,
    }


def show(title: str, table: dict[str, dict[str, float]]) -> None:
    print(f"\n{title}")
    print(f"  {'':42}{'p50 us':>10}{'p99 us':>10}{'x subprocess':>14}")
    for name, row in table.items():
        print(f"  {name:42}{row['p50_us']:>10.0f}{row['p99_us']:>10.0f}{row['ratio_p50']:>14.2f}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="time for each heap size")
    parser.add_argument(
        "--heap", type=int, default=1024, help="MiB of the large heap (0: leave out)"
    )
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("latency: needs root, as the level namespaces does: sudo", *sys.argv, file=sys.stderr)
        return 2

    figures: dict[str, object] = {"machine": machine(), "per_turn": PER_TURN}
    print("machine:", json.dumps(figures["machine"]))
    with (
        tempfile.TemporaryDirectory() as scratch,
        oxgen.Launcher(cells=2) as tenancy,
        oxgen.Launcher(cells=2, reuse="never") as never,
    ):
        program = build_target(Path(scratch))
        actions = rows(program, {"tenancy": tenancy, "never": never})
        figures["confined"] = prove_confined(Path(scratch), tenancy)
        small = summarise(measure(actions, options.seconds))
        show("small process", small)
        figures["small_heap"] = small
        if options.heap:
            heap = bytearray(options.heap << 20)
            heap[::4096] = b"x" * len(heap[::4096])  # touched, so that fork has pages to copy
            large = summarise(measure(actions, options.seconds))
            show(f"process with {options.heap} MiB of heap", large)
            figures["large_heap"] = large
            del heap
    if options.json:
        Path(options.json).write_text(json.dumps(figures, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
