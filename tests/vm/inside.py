"""Inside a virtual machine: put it into each state of the plan, run the tests, report.

inside.py FILE       as root; FILE gets one line of JSON
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from image import TREE
from plan import STAGES, Stage

CGROUPS = Path("/sys/fs/cgroup")
UID = 1000
NEWUIDMAP = Path("/usr/bin/newuidmap")
STAGE_SECONDS = 420
DOCTOR_SECONDS = 60
SYS_LANDLOCK_CREATE_RULESET = 444
LANDLOCK_CREATE_RULESET_VERSION = 1


def landlock_abi() -> int:
    """Return the kernel's Landlock ABI, 0 without Landlock."""
    libc = ctypes.CDLL(None, use_errno=True)
    version = LANDLOCK_CREATE_RULESET_VERSION
    return max(0, int(libc.syscall(SYS_LANDLOCK_CREATE_RULESET, None, 0, version)))


def enable_all(directory: Path) -> None:
    """Let the children of a cgroup have what systemd lets them have."""
    have = (directory / "cgroup.controllers").read_text().split()
    wanted = [f"+{name}" for name in ("cpu", "memory", "pids") if name in have]
    (directory / "cgroup.subtree_control").write_text(" ".join(wanted))


def make_cgroups() -> dict[str, Path]:
    """Make one cgroup of each kind; return where a process of that kind belongs."""
    enable_all(CGROUPS)
    slices = CGROUPS / "system.slice"
    places = {
        "leaf": slices / "tests.service",
        "foreign": slices / "session-1.scope",
        "delegated": CGROUPS / "user.slice" / "unit.service" / "leaf",
        "busy": slices / "unit.service",
    }
    for place in places.values():
        place.mkdir(parents=True)
    for parent in (slices, CGROUPS / "user.slice"):
        enable_all(parent)
    unit = places["delegated"].parent
    # As systemd does it: the directory and the files that move processes, no limit of its own.
    for given in (unit, places["delegated"], places["busy"]):
        for name in (".", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"):
            os.chown(given / name, UID, UID)
    enable_all(unit)
    return places


def run_in(place: Path, user: str, words: list[str], **options: Any) -> int | None:
    """Run a program as somebody in a cgroup; None when its time was up."""
    become = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "--inh-caps=-all"]
    environment = {
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
        "HOME": "/root" if user == "root" else "/home/user",
        "PYTHONPATH": f"{TREE}:{TREE}/tests:{TREE}/tests/vm",
        "HYPOTHESIS_STORAGE_DIRECTORY": f"/tmp/hypothesis-{user}",
        **options.pop("variables", {}),
    }
    enter = f'echo $$ >{place}/cgroup.procs && exec "$@"'
    command = ["sh", "-c", enter, "sh", *(become if user != "root" else []), *words]
    seconds = options.pop("seconds")
    with subprocess.Popen(command, env=environment, cwd=TREE, **options) as process:
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            return None


def doctor(stage: Stage, place: Path) -> Any:
    """Return what ``0xgenctl doctor`` says in that state."""
    answer = Path("/tmp/doctor.json")
    with open(answer, "w", encoding="utf-8") as stream:
        words = [sys.executable, "-c", "import oxgenctl; oxgenctl.main()", "doctor", "--json"]
        run_in(place, stage.user, words, seconds=DOCTOR_SECONDS, stdout=stream)
    try:
        return json.loads(answer.read_text(encoding="utf-8"))
    except ValueError:
        return None


def run_stage(stage: Stage, places: dict[str, Path]) -> dict[str, Any]:
    """Run one stage; ``tests`` is None where it could not be told how they ended."""
    place = places[stage.cgroup]
    result = Path(f"/tmp/result-{time.monotonic_ns()}.json")
    result.touch()
    result.chmod(0o666)
    # Root's tests leave locks there that the user's have to take.
    subprocess.run(["chown", "-R", f"{UID}:{UID}", f"{TREE}/build"], check=True, timeout=30)
    begun = time.monotonic()
    found = doctor(stage, place)
    words = [sys.executable, "-m", "pytest", "-q", "--no-header", "--tb=short", "--color=no"]
    words += ["-p", "no:cacheprovider", "-p", "recorder", *stage.tests]
    status = run_in(
        place,
        stage.user,
        words,
        seconds=STAGE_SECONDS,
        variables={"OXGEN_VM_RESULT": str(result), "OXGEN_VM_IDS": str(stage.ids)},
    )
    text = result.read_text(encoding="utf-8")
    told = json.loads(text) if text else {}
    return {
        "name": stage.name,
        "exit_status": status,
        "seconds": round(time.monotonic() - begun, 1),
        "doctor": found,
        "tests": told.get("tests"),
        "test_seconds": told.get("seconds"),
    }


def main() -> None:
    system = os.uname()
    print(f"Linux {system.release}", flush=True)
    places = make_cgroups()
    stages = []
    # Pid 1 gets the unknown words of the kernel's command line as its environment.
    numbers = [int(number) for number in os.environ.get("OXGEN_STAGES", "").split(",") if number]
    for stage in [STAGES[number] for number in numbers] or STAGES:
        print(f"== {stage.name}", flush=True)
        switch = Path("/proc/sys", stage.sysctl[0]) if stage.sysctl else None
        lacking = NEWUIDMAP if stage.ids else switch
        if lacking is not None and not lacking.exists():
            stages.append({"name": stage.name, "left_out": f"there is no {lacking}"})
            continue
        for path in ("/etc/subuid", "/etc/subgid"):
            Path(path).write_text(f"user:100000:{stage.ids}\n" if stage.ids else "")
        before = switch.read_text() if switch is not None else ""
        if switch is not None and stage.sysctl is not None:
            switch.write_text(stage.sysctl[1])
        stages.append(run_stage(stage, places))
        if switch is not None:
            switch.write_text(before)
    report = {
        "kernel": system.release,
        "cgroup_controllers": (CGROUPS / "cgroup.controllers").read_text().split(),
        "landlock_abi": landlock_abi(),
        "stages": stages,
    }
    with open(sys.argv[1], "w", encoding="ascii") as stream:
        stream.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    main()
