"""Every stage of a launch can fail; a failure names it, keeps errno and leaves nothing behind.

A copy of the launcher is linked with a wrapper around each system call (faults.c); its file name
says which call fails. The product itself has no way to make a stage fail.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from control.contained import USER, contained, dweller

import oxgen
from oxgen import _launch
from oxgen._launch import channel as channel_module

pytestmark = pytest.mark.root

ROOT = Path(__file__).resolve().parents[2]
WRAPPED = [
    "syscall",
    "mount",
    "umount2",
    "unshare",
    "setns",
    "sethostname",
    "chroot",
    "chdir",
    "setsid",
    "dup2",
    "dup3",
    "setrlimit",
    "sigprocmask",
    "symlink",
    "mkdir",
    "socketpair",
    "send",
    "sched_setscheduler",
    "pwrite",
    "execve",
    "poll",
    "prctl",
    "open",
    "openat",
    "clone",
    "ox_cgroup_create",
    "ox_cgroup_attach",
    "ox_cgroup_base_open",
    "ox_cgroup_rate_open",
]

#: stage, call that fails, how many of its calls go well first, runtime
CASES = [
    ("scheduling", "sched_setscheduler", 0, "static"),
    ("scheduling", "ioprio_set", 0, "static"),
    ("uid_range", "open_run", 0, "static"),
    ("store", "fsopen", 0, "static"),
    ("store", "fsmount", 0, "static"),
    ("store", "clone", 0, "static"),
    ("store", "clone", 1, "static"),
    ("store", "open_proc", 0, "static"),
    ("store", "open_net", 0, "static"),
    ("store", "unshare", 0, "static"),
    ("store", "mount", 0, "static"),
    ("store", "mount", 2, "static"),
    ("store", "open_mnt", 0, "static"),
    ("store", "move_mount", 0, "static"),
    ("store", "pivot_root", 0, "static"),
    ("store", "umount2", 0, "static"),
    ("store", "open_tree", 0, "static"),
    ("store", "setns", 0, "static"),
    ("store", "setns", 1, "static"),
    ("store", "chroot", 0, "static"),
    ("program", "open_tree", 1, "private"),
    ("cgroup_base", "cgroup_base_open", 0, "static"),
    ("program", "open_tree", 1, "static"),
    ("tree", "open_tree", 2, "dynamic"),
    ("cgroup", "cgroup_create", 0, "static"),
    ("cgroup_rate", "cgroup_rate_open", 0, "cpus"),
    ("cgroup_rate", "cgroup_create", 0, "cpus"),
    ("clone", "socketpair", 0, "static"),
    ("clone", "raw_clone", 0, "static"),
    ("cgroup_join", "cgroup_attach", 0, "static"),
    ("id_map", "open_uid_map", 0, "static"),
    ("warden", "send", 0, "static"),
    ("cell_ids", "setgroups", 0, "static"),
    ("cell_ids", "setresgid", 0, "static"),
    ("cell_ids", "setresuid", 0, "static"),
    ("clone", "unshare", 2, "static"),
    ("cgroup_namespace", "unshare", 3, "static"),
    ("hostname", "sethostname", 0, "static"),
    ("propagation", "mount", 3, "static"),
    ("root", "mount", 4, "static"),
    ("root", "mount", 4, "dynamic"),
    ("root", "mount", 5, "dynamic"),
    ("writable", "mount", 5, "static"),
    ("mount", "move_mount", 2, "static"),
    ("dev", "fsmount", 2, "dynamic"),
    ("etc", "open_etc", 0, "dynamic"),
    ("pivot", "pivot_root", 2, "dynamic"),
    ("pivot", "umount2", 2, "dynamic"),
    ("landlock", "landlock_restrict_self", 0, "static"),
    ("warden_descriptors", "dup3", 0, "static"),
    ("capabilities", "capbset_drop", 0, "static"),
    ("capabilities", "capset", 0, "static"),
    ("parent_death", "pdeathsig", 0, "static"),
    ("no_new_privs", "no_new_privs", 0, "static"),
    ("seccomp", "seccomp", 0, "static"),
    ("oom_score", "open_oom_score", 0, "static"),
    ("oom_score", "pwrite", 0, "static"),
    ("fork", "clone", 2, "static"),
    ("session", "setsid", 0, "static"),
    ("chroot", "chroot", 1, "dynamic"),
    ("gid", "setresgid", 1, "static"),
    ("uid", "setresuid", 1, "static"),
    ("policy", "sched_setscheduler", 1, "static"),
    ("exec", "execve", 0, "static"),
    ("filter", "seccomp", 1, "strict"),
]

#: The same for stages whose calls are too many to count by hand: the number is found by trying.
SEARCHED = [
    ("program", "setns", "private"),
    ("clone", "setns", "static"),
    ("proc", "mount", "dynamic"),
    ("seal", "mount", "static"),
    ("streams", "dup2", "static"),
    ("workdir", "chdir", "static"),
    ("descriptors", "close_range", "static"),
    ("signals", "sigprocmask", "static"),
    ("warden_rlimits", "setrlimit", "static"),
    ("rlimits", "setrlimit", "static"),
]

#: The stage "files": call that fails, how many go well before it, the same for a run that only
#: collects.
FILES = [
    ("clone", 2, 3),
    ("chroot", 1, 2),
    ("setresgid", 1, 2),
    ("setresuid", 1, 2),
]

#: Stages that fail by themselves in tests elsewhere, and where.
ELSEWHERE = {
    "launcher": "test_a_missing_launcher_is_named",
    "handshake": "test_a_launcher_that_does_not_answer_is_named",
    "request": "test_too_many_arguments_are_refused_before_anything_runs",
    "user_namespace": "test_unshare_that_is_refused_to_a_user_is_named",
    "queue": "test_a_run_waits_for_a_cell_no_longer_than_it_was_told",
    "uid_pair": "test_a_used_up_uid_range_is_named",
}


@pytest.fixture(scope="session")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The launcher of this tree with every call of its stages wrapped."""
    target = tmp_path_factory.mktemp("faults") / "launcher"
    sources = [ROOT / "csrc/stage.c", ROOT / "csrc/launcher_main.c"]
    sources += sorted((ROOT / "csrc/posix").glob("*.c")) + sorted((ROOT / "csrc/linux").glob("*.c"))
    command = ["gcc", "-std=gnu11", "-O1", "-g", "-iquote", str(ROOT / "csrc"), "-o", str(target)]
    command += [str(path) for path in (*sources, ROOT / "tests/core/faults.c")]
    command += [f"-Wl,--wrap={name}" for name in WRAPPED]
    subprocess.run(command, check=True, timeout=120)
    return target


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    directory = tmp_path_factory.mktemp("programs")
    source = directory / "exit.c"
    source.write_text("int main(void) { return 0; }\n")
    made = {}
    # "private": closed to others, so it is copied into the launcher's store.
    for runtime, flags in (("static", ["-static"]), ("private", ["-static"]), ("dynamic", [])):
        target = directory / runtime
        subprocess.run(["gcc", *flags, "-o", target, source], check=True, timeout=60)
        target.chmod(0o700 if runtime == "private" else 0o755)
        made[runtime] = str(target)
    directory.chmod(0o755)
    return made


@pytest.fixture
def with_launcher(
    faulty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[object]:
    def use(call: str, skip: int, number: int) -> None:
        name = tmp_path / f"fault-{call}-{skip}-{number}"
        if not name.exists():
            os.link(faulty, name)
        monkeypatch.setattr(channel_module, "EXECUTABLE", str(name))

    yield use


started: list[int] = []

#: By name: without one, what fails here would make another level serve.
BOX = oxgen.Sandbox(level="namespaces")


def attempt(program: str, box: oxgen.Sandbox = BOX, **settings: Any) -> OSError | None:
    """Run it in a launcher of its own; the exception, or None if it ran."""
    with oxgen.Launcher(cells=1) as launcher:
        try:
            oxgen.run([program], sandbox=box, launcher=launcher, capture_output=True, **settings)
        except (oxgen.LaunchError, oxgen.UnsupportedError) as failed:
            return failed
        finally:
            started.extend(one.native.pid for one in launcher.pool._channels.running())
    return None


def leftovers() -> list[str]:
    """Processes and cgroups of the launchers that these tests started."""
    mine = [child.exe() for child in psutil.Process().children(recursive=True)]
    prefixes = tuple(f"oxgen-{pid}-" for pid in started)
    groups = [
        name
        for _, names, _ in os.walk("/sys/fs/cgroup")
        for name in names
        if prefixes and name.startswith(prefixes)
    ]
    return [path for path in mine if "fault-" in path] + groups


@pytest.mark.parametrize(("stage", "call", "skip", "runtime"), CASES)
def test_a_stage_that_fails_is_named(
    stage: str,
    call: str,
    skip: int,
    runtime: str,
    with_launcher: object,
    programs: dict[str, str],
) -> None:
    with_launcher(call, skip, errno.EXDEV)  # type: ignore[operator]
    if runtime == "strict":
        failed = attempt(programs["static"], oxgen.Sandbox(level="namespaces", syscalls="strict"))
    elif runtime == "cpus":
        failed = attempt(programs["static"], limits=oxgen.Limits(cpus=0.5))
    else:
        failed = attempt(programs[runtime])
    assert failed is not None, "the program ran although a stage failed"
    assert (getattr(failed, "stage", None), failed.errno) == (stage, errno.EXDEV)
    assert leftovers() == []


@pytest.mark.parametrize(("stage", "call", "runtime"), SEARCHED)
def test_a_stage_that_fails_late_is_named(
    stage: str, call: str, runtime: str, with_launcher: object, programs: dict[str, str]
) -> None:
    seen = []
    for skip in range(40):
        with_launcher(call, skip, errno.EXDEV)  # type: ignore[operator]
        failed = attempt(programs[runtime])
        seen.append(None if failed is None else getattr(failed, "stage", None))
        if failed is not None:
            assert leftovers() == []
        if seen[-1] == stage and failed is not None and failed.errno == errno.EXDEV:
            return
    pytest.fail(f"{call} never failed in stage {stage}, only in {seen}")


@pytest.mark.parametrize(("call", "skip"), [(call, skip) for call, skip, _ in FILES])
def test_files_that_cannot_be_put_in_stop_the_launch(
    call: str, skip: int, with_launcher: object, programs: dict[str, str]
) -> None:
    with_launcher(call, skip, errno.EXDEV)  # type: ignore[operator]
    failed = attempt(programs["dynamic"], files={"file": b"text"})
    assert failed is not None, "the program ran without its files"
    assert (getattr(failed, "stage", None), failed.errno) == ("files", errno.EXDEV)
    assert leftovers() == []


@pytest.mark.parametrize(("call", "skip"), [(call, skip) for call, _, skip in FILES])
def test_files_that_cannot_be_collected_are_reported_by_name(
    call: str, skip: int, with_launcher: object, programs: dict[str, str]
) -> None:
    with_launcher(call, skip, errno.EXDEV)  # type: ignore[operator]
    with oxgen.Launcher(cells=1) as launcher:
        words = [programs["dynamic"]]
        done = oxgen.run(words, sandbox=BOX, launcher=launcher, collect=["one", "two"])
        again = oxgen.run(words, sandbox=BOX, launcher=launcher, collect=["one"])
    assert done.termination.reason is None
    assert {name: found.skipped for name, found in done.collected.items()} == {
        "one": "failed",
        "two": "failed",
    }
    assert again.collected["one"].skipped == "missing"
    assert leftovers() == []


def test_a_launcher_that_cannot_come_home_ends(
    with_launcher: object, programs: dict[str, str]
) -> None:
    seen = []
    for skip in range(40):  # the first ones are those of its own start
        with_launcher("setns", skip, errno.EXDEV)  # type: ignore[operator]
        failed = attempt(programs["static"])
        seen.append((getattr(failed, "stage", None), getattr(failed, "errno", None)))
        assert leftovers() == []
        if failed is None:
            break
    assert ("clone", errno.ENOTRECOVERABLE) in seen, seen


def test_a_warden_that_cannot_go_on_is_a_lost_run_and_no_failed_launch(
    with_launcher: object, programs: dict[str, str]
) -> None:
    with_launcher("pwrite", 1, errno.EXDEV)  # type: ignore[operator]
    with oxgen.Launcher(cells=1) as launcher:
        done = oxgen.run([programs["static"]], sandbox=BOX, launcher=launcher, capture_output=True)
    assert (done.termination.reason, done.termination.certain) == ("lost", False)


def test_without_a_fault_the_same_launcher_runs_programs(
    with_launcher: object, programs: dict[str, str]
) -> None:
    with_launcher("nothing", 0, errno.EXDEV)  # type: ignore[operator]
    assert attempt(programs["static"]) is None
    assert attempt(programs["dynamic"]) is None
    assert attempt(programs["private"]) is None


#: What a cell on disk does on its way to confinement.
ON_DISK = (
    "setgroups",
    "setresgid",
    "setresuid",
    "capset",
    "capbset_drop",
    "chroot",
    "no_new_privs",
    "pdeathsig",
    "prctl",
    "landlock_restrict_self",
    "seccomp",
    "close_range",
    "dup3",
    "setrlimit",
    "setsid",
)

#: Run the program once for each of the first calls that may fail; say what it saw, or why it never
#: ran.
EACH = """
found = []
for skip in range(8):
    channel.EXECUTABLE = f"{arguments[2]}/fault-{arguments[1]}-{skip}-18"
    try:
        with oxgen.Launcher(cells=1) as launcher:
            done = oxgen.run([arguments[0], "look"], sandbox=box(arguments[3]), launcher=launcher,
                             capture_output=True)
    except (oxgen.LaunchError, oxgen.UnsupportedError) as failed:
        found.append(failed.stage)
    else:
        lines = done.stdout.decode().split()
        if not lines and done.termination.reason is not None:
            found.append(done.termination.reason)  # what failed was the end: it saw nothing at all
            continue
        found.append({name: int(number) for name, number in (line.split("=") for line in lines)})
say(found)
"""


@pytest.fixture
def shared_place() -> Iterator[Path]:
    """A directory that everybody may use, with the program in it."""
    with tempfile.TemporaryDirectory(prefix="oxgen-tests-") as name:
        Path(name).chmod(0o777)
        dweller(Path(name))
        yield Path(name)


@pytest.mark.parametrize("level", ("chroot", "landlock"))
@pytest.mark.parametrize("call", ON_DISK)
def test_whatever_fails_on_disk_no_program_runs_with_less(
    call: str, level: str, faulty: Path, shared_place: Path
) -> None:
    copy = shared_place / "launcher-copy"
    shutil.copy(faulty, copy)
    for skip in range(8):
        os.link(copy, shared_place / f"fault-{call}-{skip}-{errno.EXDEV}")
    words = (shared_place / "dweller", call, shared_place, level)
    drop = f"drop({USER}, arguments[2])\n" if level == "landlock" else ""
    found = contained(drop + EACH, *words)
    ran = [seen for seen in found if isinstance(seen, dict)]
    for seen in ran:
        assert (seen["capabilities"], seen["no_new_privs"], seen["filter"]) == (0, 1, 2)
        assert "descriptor" not in seen
        ids = {seen[name] for name in ("ruid", "euid", "suid", "rgid", "egid", "sgid")}
        assert len(ids) == 1
        assert ids.pop() == USER if level == "landlock" else min(ids, default=1) != 0
    # Some calls one level has no use for.
    of_root = {"setgroups", "setresgid", "setresuid", "chroot", "capbset_drop"}
    needless = of_root if level == "landlock" else set()
    assert (len(ran) < len(found)) is (call not in needless)


OLDER = """
channel.EXECUTABLE = arguments[1]
with oxgen.Launcher(cells=1) as launcher:
    look = oxgen.run([arguments[0], "look"], sandbox=box("landlock"), launcher=launcher,
                     capture_output=True)
    outside = oxgen.run([arguments[0], "reach", "x", arguments[0], "1"], launcher=launcher,
                        sandbox=box("landlock"), capture_output=True)
    oxgen.run([arguments[0], "daemons", "a-tag"], sandbox=box("landlock"), launcher=launcher)
    say([look.returncode, look.confinement.missing, with_tag("a-tag"),
         pairs(outside.stdout.decode())["read_outside"]])
"""


@pytest.mark.parametrize("version", range(1, 6))
def test_an_older_landlock_holds_less_and_says_so(
    version: int, faulty: Path, shared_place: Path
) -> None:
    launcher = shared_place / f"fault-landlock_version-0-{version}"
    shutil.copy(faulty, launcher)
    code, missing, left, read = contained(
        f"drop({USER}, os.path.dirname(arguments[1]))\n{OLDER}",
        *(shared_place / "dweller", launcher),
    )
    assert (code, left, read) == (0, [], errno.EACCES)
    assert {"whole_tree_kill", "neighbours"} <= set(missing)


def test_a_landlock_that_lets_no_file_move_is_no_second_wall(
    with_launcher: object, programs: dict[str, str]
) -> None:
    with_launcher("landlock_version", 0, 1)  # type: ignore[operator]
    with oxgen.Launcher(cells=1) as launcher:
        done = oxgen.run([programs["static"]], sandbox=BOX, launcher=launcher)
    assert "second_wall" in done.confinement.weaker


def test_every_stage_has_a_test_that_makes_it_fail() -> None:
    covered = {case[0] for case in CASES} | {case[0] for case in SEARCHED} | set(ELSEWHERE)
    covered |= {"files"}
    assert covered == set(_launch.stages())
    known = "".join(
        (Path(__file__).parent / name).read_text(encoding="utf-8")
        for name in ("test_refusals.py", "../levels/test_refused_calls.py")
    )
    assert [name for name in ELSEWHERE.values() if f"def {name}(" not in known] == []
