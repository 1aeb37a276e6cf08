"""Level ``chroot``: what an ordinary container's root can hold a program to, and that it does."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from control.contained import contained, place_of_dweller

pytestmark = pytest.mark.root

LOOK = """
with oxgen.Launcher(cells=1) as launcher:
    done = oxgen.run([arguments[0], "look"], sandbox=box("chroot"), launcher=launcher,
                     capture_output=True)
    say([done.returncode, pairs(done.stdout.decode()), done.confinement.level,
         done.confinement.enforced, done.confinement.missing])
"""

#: What cannot be held without cgroups and mounts.
OF_CGROUPS = {"memory_tree", "cpu_tree"}


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A directory that everybody may enter, with the program in it."""
    with place_of_dweller() as directory:
        yield directory


@pytest.fixture(scope="module")
def looked(place: Path) -> Any:
    return contained(LOOK, place / "dweller")


def test_a_program_runs_with_a_containers_capabilities(looked: Any) -> None:
    assert (looked[0], looked[2]) == (0, "chroot")


def test_it_has_ids_that_are_its_own_alone(looked: Any) -> None:
    seen = looked[1]
    ids = {seen[name] for name in ("ruid", "euid", "suid", "rgid", "egid", "sgid")}
    assert len(ids) == 1
    assert ids.pop() >= 1_880_096_768
    assert seen["groups"] == 0


def test_it_has_no_capability_and_a_filter(looked: Any) -> None:
    seen = looked[1]
    assert (seen["capabilities"], seen["no_new_privs"], seen["filter"]) == (0, 1, 2)


def test_it_has_no_descriptor_beside_the_three(looked: Any) -> None:
    assert "descriptor" not in looked[1]


def test_what_is_not_held_is_named(looked: Any) -> None:
    enforced, missing = set(looked[3]), set(looked[4])
    assert {"filesystem", "network", "processes", "whole_tree_kill", "syscalls"} <= enforced
    assert "neighbours" in enforced
    assert "disk" in missing


def test_without_cgroups_memory_and_time_of_the_tree_are_missing(place: Path) -> None:
    found = contained(LOOK, place / "dweller", cgroups=False)
    assert (found[0], set(found[4])) == (0, OF_CGROUPS | {"disk"})


def test_what_is_required_and_missing_stops_the_launch(place: Path) -> None:
    text = """
try:
    oxgen.run([arguments[0], "look"], sandbox=oxgen.Sandbox(level="chroot"))
    say("it ran")
except oxgen.UnsupportedError as refused:
    say([refused.missing, str(refused)])
"""
    missing, message = contained(text, place / "dweller")
    assert missing == ["disk"]
    assert 'enforce_except=("disk",)' in message


def test_without_a_needed_capability_the_refusal_names_it(place: Path) -> None:
    text = """
try:
    oxgen.run([arguments[0], "look"], sandbox=box("chroot"))
    say("it ran")
except (oxgen.UnsupportedError, oxgen.LaunchError) as refused:
    say(str(refused))
"""
    message = contained(
        text, place / "dweller", capabilities=["setuid", "setgid", "kill", "setpcap", "chown"]
    )
    assert "CAP_SYS_CHROOT" in message


def test_a_uid_range_that_the_container_does_not_map_is_named(place: Path) -> None:
    text = """
inner = '''
import sys, oxgen
box = oxgen.Sandbox(level="chroot", enforce=oxgen.Enforce.BEST_EFFORT)
try:
    oxgen.run([sys.argv[1], "look"], sandbox=box)
    print("it ran")
except oxgen.UnsupportedError as refused:
    print(refused.stage, "/proc/self/uid_map" in refused.remedy or str(refused))
'''
done = subprocess.run(["unshare", "--user", "--map-root-user", "--mount", "sh", "-c",
                       'mount -t tmpfs -o mode=755 tmpfs /run/oxgen && exec "$@"', "sh",
                       sys.executable, "-c", inner, arguments[0]], capture_output=True, text=True)
say([done.stdout, done.stderr])
"""
    assert contained(text, place / "dweller") == ["uid_range True\n", ""]


CHOOSE = """
done = oxgen.run([arguments[0], "look"], sandbox=box(None), capture_output=True)
say([done.confinement.level, pairs(done.stdout.decode())["capabilities"]])
"""


def test_where_namespaces_are_refused_it_is_chosen_by_itself(place: Path) -> None:
    rules = tuple(f"{call}={errno.EPERM}" for call in ("unshare", "clone_new", "mount", "setns"))
    assert contained(CHOOSE, place / "dweller", refused=rules) == ["chroot", 0]


def test_control_where_they_are_not_refused_it_is_not(place: Path) -> None:
    assert contained(CHOOSE, place / "dweller") == ["namespaces", 0]


def test_without_landlock_the_missing_second_wall_is_named(place: Path) -> None:
    text = """
done = oxgen.run([arguments[0], "look"], sandbox=box("chroot"), capture_output=True)
say([done.returncode, done.confinement.weaker])
"""
    rule = f"landlock_create_ruleset={errno.ENOSYS}"
    assert contained(text, place / "dweller", refused=(rule,)) == [0, ["second_wall"]]


REACH = """
import socket
listening = socket.create_server(("127.0.0.1", 0))
words = ["reach", "/bin/dweller", arguments[1], str(listening.getsockname()[1])]
with oxgen.Launcher(cells=1) as launcher:
    done = oxgen.run([arguments[0], *words], sandbox=box("chroot"), launcher=launcher,
                     capture_output=True)
    say(pairs(done.stdout.decode()))
"""

#: The same program with the protection off: as root of the throw-away namespace, outside of a cell.
REACH_UNCONFINED = """
import socket
listening = socket.create_server(("127.0.0.1", 0))
words = ["reach", arguments[0], arguments[1], str(listening.getsockname()[1])]
done = subprocess.run([arguments[0], *words], capture_output=True, cwd=arguments[2])
say(pairs(done.stdout.decode()))
"""

REFUSED = {
    "read_outside": {errno.ENOENT},
    "read_shadow": {errno.ENOENT},
    "list_root": {errno.ENOENT},
    "write_outside": {errno.ENOENT, errno.EACCES},
    "chmod_outside": {errno.ENOENT},
    "times_outside": {errno.ENOENT},
    "truncate_outside": {errno.ENOENT},
    "write_self": {errno.EACCES, errno.ETXTBSY},
    "chmod_self": {errno.EPERM},
    "exec_workspace": {errno.EACCES},
    "tcp": {errno.EAFNOSUPPORT},
    "udp": {errno.EAFNOSUPPORT},
    "unix": {errno.EAFNOSUPPORT},
    "netlink": {errno.EAFNOSUPPORT},
    "datagram_pair": {errno.ESOCKTNOSUPPORT},
    "raw_pair": {errno.ESOCKTNOSUPPORT},
    "disconnect": {errno.EPERM},
    "bind": {errno.EPERM},
    "sendto_name": {errno.EPERM},
    "set_flags": {errno.EPERM},
    "set_attributes": {errno.EPERM},
    "lease": {errno.EPERM},
    "chroot": {errno.EPERM},
    "userns": {errno.EPERM},
    "mount": {errno.EPERM},
    "setuid": {errno.EPERM},
    "setgroups": {errno.EPERM},
    "device": {errno.EPERM},
    "parent": {errno.EPERM},
}
OWN = (
    "own_file",
    "own_pair",
    "own_packets",
    "own_send",
    "own_receive",
    "own_get_flags",
    "own_signal",
)
#: Of these the control has none: a container's root may not do it, or it would end the host.
WITHOUT_CONTROL = {"userns", "mount", "parent", "write_self"}


@pytest.fixture(scope="module")
def reached(place: Path) -> dict[str, int]:
    outside = place / "outside"
    outside.write_text("secret", encoding="utf-8")
    outside.chmod(0o666)
    found: dict[str, int] = contained(REACH, place / "dweller", outside)
    assert outside.read_text(encoding="utf-8") == "secret"
    return found


@pytest.mark.parametrize("name", REFUSED)
def test_it_cannot(name: str, reached: dict[str, int]) -> None:
    assert reached[name] in REFUSED[name]


@pytest.mark.parametrize("name", sorted(set(REFUSED) - WITHOUT_CONTROL))
def test_control_outside_it_can(name: str, place: Path) -> None:
    assert unconfined(place)[name] == 0


_unconfined: dict[str, int] = {}


def unconfined(place: Path) -> dict[str, int]:
    if not _unconfined:
        outside, where = place / "control", place / "where"
        outside.write_text("secret", encoding="utf-8")
        where.mkdir(exist_ok=True)
        # "parent" would end the host of the control: it is process 1 there, which is protected.
        _unconfined.update(contained(REACH_UNCONFINED, place / "dweller", outside, where))
    return _unconfined


@pytest.mark.parametrize("name", (*OWN, "own_exec"))
def test_it_may(name: str, reached: dict[str, int]) -> None:
    assert reached[name] == 0


def test_the_whole_tree_is_killed(place: Path) -> None:
    text = """
with oxgen.Launcher(cells=1) as launcher:
    done = oxgen.run([arguments[0], "daemons", "a-tag"], sandbox=box("chroot"), launcher=launcher,
                     capture_output=True)
    left = []
    for _ in range(20):
        left += with_tag("a-tag")
        time.sleep(0.02)
    say([done.returncode, done.termination.reason, left])
"""
    assert contained(text, place / "dweller") == [0, None, []]


def test_control_unconfined_daemons_stay(place: Path) -> None:
    text = """
subprocess.run([arguments[0], "daemons", "a-tag"])
time.sleep(0.1)
say(len(with_tag("a-tag")))
"""
    assert contained(text, place / "dweller") >= 3


ENDINGS = {
    "the warden is killed": "os.kill(warden, 9)",
    "the keeper is killed": "os.kill(keeper, 9)",
    "the launcher is killed": "os.kill(parent, 9)",
}


@pytest.mark.parametrize("how", ENDINGS)
def test_the_tree_ends_when(how: str, place: Path) -> None:
    text = f"""
import psutil
with oxgen.Launcher(cells=1) as launcher:
    # A kill clears the parent-death signal of who does it: it must be there again afterwards.
    oxgen.run([arguments[0], "daemons", "another"], sandbox=box("chroot"), launcher=launcher)
    process = oxgen.spawn([arguments[0], "sleep", "60", "a-tag"], sandbox=box("chroot"),
                          launcher=launcher)
    until(lambda: with_tag("a-tag"))
    before = with_tag("a-tag")
    warden, keeper, parent = [one.pid for one in psutil.Process(before[0]).parents()[:3]]
    {ENDINGS[how]}
    until(lambda: not with_tag("a-tag"))
    say([len(before), with_tag("a-tag")])
"""
    assert contained(text, place / "dweller") == [1, []]


def test_kill_9_of_the_host_leaves_no_process_and_the_next_start_no_directory(place: Path) -> None:
    text = """
host = '''
import sys, oxgen
box = oxgen.Sandbox(level="chroot", enforce=oxgen.Enforce.BEST_EFFORT)
process = oxgen.spawn([sys.argv[1], "sleep", "60", "a-tag"], sandbox=box)
print("started", flush=True)
sys.stdin.read()
'''
child = subprocess.Popen([sys.executable, "-c", host, arguments[0]], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE)
child.stdout.readline()
until(lambda: len(with_tag("a-tag")) == 1)
during = [len(directories()), len(with_tag("a-tag"))]
child.kill()
child.wait()
until(lambda: not with_tag("a-tag"))
left = with_tag("a-tag")
oxgen.run([arguments[0], "look"], sandbox=box("chroot"), capture_output=True)
until(lambda: len(directories()) == 1)
say([during, left, len(directories())])
"""
    # One directory is that of the launcher that runs.
    assert contained(text, place / "dweller") == [[1, 1], [], 1]


def test_what_a_dead_launcher_left_is_removed_and_nothing_else(place: Path) -> None:
    text = """
canary = arguments[1]
with oxgen.Launcher(cells=1) as launcher:
    oxgen.run([arguments[0], "spread", "1500"], sandbox=box("chroot"), launcher=launcher)
    mine = directories()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if b"oxgen-launcher" in open(f"/proc/{pid}/cmdline", "rb").read():
                os.kill(int(pid), 9)
        except (FileNotFoundError, ProcessLookupError):
            pass  # it has ended meanwhile
with oxgen.Launcher(cells=1) as launcher:
    done = oxgen.run([arguments[0], "look"], sandbox=box("chroot"), launcher=launcher)
    until(lambda: not set(mine) & set(directories()), 20)
    say([len(mine), sorted(set(mine) & set(directories())), os.stat(canary).st_mode & 0o777])
"""
    canary = place / "canary"
    canary.write_text("", encoding="utf-8")
    canary.chmod(0o640)
    assert contained(text, place / "dweller", canary) == [1, [], 0o640]


def test_a_hostile_tree_is_removed_with_its_cell(place: Path) -> None:
    text = """
with oxgen.Launcher(cells=1) as launcher:
    first = oxgen.run([arguments[0], "spread", "1500"], sandbox=box("chroot"), launcher=launcher)
    (base,) = directories()
    second = oxgen.run([arguments[0], "look"], sandbox=box("chroot"), launcher=launcher)
    until(lambda: len(os.listdir("/run/oxgen/" + base)) == 1, 20)
    say([first.returncode, second.returncode, len(os.listdir("/run/oxgen/" + base))])
"""
    assert contained(text, place / "dweller") == [0, 0, 1]


def test_two_plugins_cannot_signal_or_trace_each_other(place: Path) -> None:
    text = """
with oxgen.Launcher(cells=2) as launcher:
    sleeper = oxgen.spawn([arguments[0], "sleep", "2"], sandbox=box("chroot"), launcher=launcher,
                          tenant="one")
    until(lambda: with_tag("sleep"))
    victim = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc")))
              if b"sleep" in open(f"/proc/{pid}/cmdline", "rb").read().split(b"\\0")]
    attack = oxgen.run([arguments[0], "attack", *map(str, victim)], sandbox=box("chroot"),
                       launcher=launcher, tenant="two", capture_output=True)
    ended = sleeper.wait()
    say([len(victim), pairs(attack.stdout.decode()), ended.returncode])
"""
    count, attacked, code = contained(text, place / "dweller")
    assert (count, code) == (1, 7)
    assert set(attacked.values()) == {errno.EPERM}


def test_control_processes_of_one_uid_can_signal_each_other(place: Path) -> None:
    text = """
def user():
    os.setgroups([]); os.setresgid(54321, 54321, 54321); os.setresuid(54321, 54321, 54321)
victim = subprocess.Popen([arguments[0], "sleep", "20"], preexec_fn=user,
                          stdout=subprocess.DEVNULL)
time.sleep(0.2)
subprocess.run([arguments[0], "attack", str(victim.pid)], preexec_fn=user,
               stdout=subprocess.DEVNULL)
say(victim.wait())
"""
    assert contained(text, place / "dweller") == -9


def test_processes_are_bounded(place: Path) -> None:
    text = """
limits = oxgen.Limits(processes=20)
# The kernel counts a uid on the whole machine, where other launchers may have that of the range.
with oxgen.Launcher(cells=1, uid_base=1_950_000_000 + 4 * int(arguments[1])) as launcher:
    done = oxgen.run([arguments[0], "many"], sandbox=box("chroot"), limits=limits,
                     launcher=launcher, capture_output=True)
say(pairs(done.stdout.decode())["children"])
"""
    assert contained(text, place / "dweller", os.getpid(), cgroups=False) == 19


def test_memory_of_the_tree_is_bounded_where_there_are_cgroups(place: Path) -> None:
    text = """
limits = oxgen.Limits(memory_bytes=64 << 20, disk_bytes=1 << 20)
done = oxgen.run([arguments[0], "hoard"], sandbox=box("chroot"), limits=limits)
say([done.termination.reason, done.confinement.limits])
"""
    assert contained(text, place / "dweller") == ["memory_limit", "cgroup"]


def test_a_deadline_ends_the_tree(place: Path) -> None:
    text = """
limits = oxgen.Limits(wall_seconds=0.3)
begun = time.monotonic()
done = oxgen.run([arguments[0], "sleep", "30", "a-tag"], sandbox=box("chroot"), limits=limits)
say([done.termination.reason, time.monotonic() - begun < 3, with_tag("a-tag")])
"""
    assert contained(text, place / "dweller") == ["timeout", True, []]


def test_a_cell_serves_again_when_it_is_empty_and_only_then(place: Path) -> None:
    text = """
def cells(launcher):
    return {id(cell) for cell in launcher.pool.stock.all}
with oxgen.Launcher(cells=1) as launcher:
    def run(*words):
        oxgen.run([arguments[0], *words], sandbox=box("chroot"), launcher=launcher)
        return list(launcher.pool.stock.all)
    first, second, third = run("look"), run("look"), run("spread", "1")
    say([first[:1] == second[:1] != [], first[:1] == third[:1]])
"""
    assert contained(text, place / "dweller") == [True, False]


@pytest.mark.skipif(not os.path.exists("/usr/bin/python3"), reason="needs-python: /usr/bin/python3")
def test_python_runs_in_it(place: Path) -> None:
    script = place / "script.py"
    script.write_text(
        "#!/usr/bin/python3\n"
        "import json, os\n"
        "print(json.dumps([os.getcwd(), os.environ['HOME']]))\n"
    )
    text = """
done = oxgen.run([arguments[0]], sandbox=box("chroot"), capture_output=True)
say([done.returncode, json.loads(done.stdout), done.stderr.decode()])
"""
    script.chmod(0o755)
    assert contained(text, script) == [0, ["/workspace", "/home/plugin"], ""]
