"""Boot Debian's kernels under qemu, one after the other, and run the plan in each.

    boot.py [--docs] [--stage NUMBER]... [KERNEL...]

KERNEL is 5.10, 6.1, 6.12, newest, or the path of a vmlinuz; a stage is one of plan.py, from 0.

Called by scripts/vm.sh. What each machine says is in build/vm/logs/, what it found in
build/vm/results/ as JSON. --docs writes docs/kernels.md from all results there are.
Exit status: 0 every kernel ran and no test failed, 1 otherwise.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import image
import report
from plan import STAGES

TREE = Path(__file__).resolve().parents[2]
OUTPUT = TREE / "build" / "vm"
KERNELS = ("5.10", "6.1", "6.12", "newest")
#: A hang is told by its deadline; without KVM a whole run takes some minutes.
MACHINE_SECONDS = 1200
FETCH_SECONDS = 1000
MEMORY_MIB = 3072


def fetch(name: str) -> tuple[Path, str] | None:
    """Return a kernel and its package; None, and a word why, where it cannot be had."""
    if Path(name).is_file():
        return Path(name), name
    done = subprocess.run(
        [str(TREE / "tests" / "vm" / "fetch.sh"), name],
        stdout=subprocess.PIPE,
        text=True,
        timeout=FETCH_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        return None
    kernel = Path(done.stdout.strip())
    return kernel, (kernel.parent / "package").read_text(encoding="utf-8").strip()


def mappers() -> list[Path]:
    """Return newuidmap and newgidmap; Debian's package is unpacked where they are not installed."""
    names = ("newuidmap", "newgidmap")
    installed = [Path(found) for name in names if (found := shutil.which(name))]
    place = OUTPUT / "uidmap"
    if len(installed) == len(names):
        return installed
    if not (place / "usr").exists():
        place.mkdir(parents=True, exist_ok=True)
        script = "apt-get -q -o APT::Sandbox::User=root download uidmap && dpkg -x uidmap_*.deb ."
        subprocess.run(["sh", "-c", script], cwd=place, timeout=FETCH_SECONDS, check=False)
    return [path for name in names if (path := place / "usr" / "bin" / name).exists()]


def boot(kernel: Path, archive: Path, log: Path, answer: Path, stages: list[int]) -> str:
    """Run one machine to its end; return a word on what went wrong, or none."""
    answer.unlink(missing_ok=True)
    command = [
        # Whatever ends this process ends the machine.
        *("setpriv", "--pdeathsig", "KILL", "nice", "-n", "10", "qemu-system-x86_64"),
        *("-M", "q35", "-cpu", "max", "-smp", "2"),
        *("-accel", "tcg,thread=multi", "-m", str(MEMORY_MIB), "-nodefaults", "-nographic"),
        *("-no-reboot", "-nic", "none", "-serial", "stdio", "-serial", f"file:{answer}"),
        *("-kernel", str(kernel), "-initrd", str(archive)),
        *(
            "-append",
            f"console=ttyS0 quiet loglevel=3 panic=-1 OXGEN_STAGES={','.join(map(str, stages))}",
        ),
    ]
    with open(log, "wb") as stream:
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                timeout=MACHINE_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"it did not end within {MACHINE_SECONDS} s"
    return "" if done.returncode == 0 else f"qemu ended with {done.returncode}"


def try_kernel(name: str, archive: Path, stages: list[int]) -> dict[str, Any] | None:
    """Run one kernel and keep what it found."""
    found = fetch(name)
    if found is None:
        return None
    kernel, package = found
    word = kernel.stem if Path(name).is_file() else name
    log, answer = OUTPUT / "logs" / f"{word}.log", OUTPUT / f"{word}.serial"
    begun = time.monotonic()
    wrong = boot(kernel, archive, log, answer, stages)
    try:
        told = json.loads(answer.read_text(encoding="ascii"))
    except (OSError, ValueError):
        tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
        told = {"error": wrong or "it said nothing", "log": tail, "stages": []}
    told |= {"package": package, "seconds": round(time.monotonic() - begun, 1)}
    result = OUTPUT / "results" / f"{word}.json"
    result.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    return dict(told)


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the plan in virtual machines.")
    parser.add_argument("--docs", action="store_true", help="write docs/kernels.md")
    parser.add_argument("--stage", type=int, action="append", choices=range(len(STAGES)))
    parser.add_argument("kernels", nargs="*", metavar="KERNEL")
    asked = parser.parse_args()
    for name in ("logs", "results"):
        (OUTPUT / name).mkdir(parents=True, exist_ok=True)
    # One machine at a time: its programs are emulated, and their deadlines are real.
    lock = open(OUTPUT / ".lock", "w")  # noqa: SIM115 (held to the end of the process)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        print(f"tests/vm: another run holds {OUTPUT / '.lock'}", file=sys.stderr)
        return 1
    sys.path.insert(0, str(TREE / "tests"))
    from control import programs

    archive = OUTPUT / "image"
    built = [programs.build_probe(), programs.build_probe("-pie", "-fPIE")]
    size = image.build(TREE, built, mappers()).write(archive)
    print(f"image: {size >> 20} MiB, {sys.executable}", flush=True)
    failed = False
    for name in asked.kernels or KERNELS:
        told = try_kernel(name, archive, asked.stage or [])
        if told is None:
            print(f"left out: {name}: its package cannot be had here", flush=True)
            failed |= bool(asked.kernels)
            continue
        print("\n".join(report.lines(name, told)), flush=True)
        failed |= not report.is_good(told)
    if asked.docs:
        report.write(OUTPUT / "results", TREE / "docs" / "kernels.md")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
