"""Level ``landlock``: what can be held without any privilege, and that the rest is named."""

from __future__ import annotations

import ctypes
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from control.contained import USER, contained, dweller, place_of_dweller


def landlock_version() -> int:
    return int(ctypes.CDLL(None, use_errno=True).syscall(444, None, 0, 1))


pytestmark = [
    pytest.mark.root,  # to become a user that nobody is
    pytest.mark.skipif(
        landlock_version() < 6, reason="needs-landlock: version 6 keeps signals within a cell"
    ),
]

DROP = f"drop({USER}, os.path.dirname(arguments[0]))\n"


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that everybody may enter, with the program in it."""
    with place_of_dweller() as directory:
        yield directory


def as_user(text: str, *words: object, refused: tuple[str, ...] = ()) -> Any:
    return contained(DROP + text, *words, refused=refused)


LOOK = """
with oxgen.Launcher(cells=1) as launcher:
    done = oxgen.run([arguments[0], "look"], sandbox=box("landlock"), launcher=launcher,
                     capture_output=True)
    say([done.returncode, pairs(done.stdout.decode()), done.confinement.level,
         done.confinement.enforced, done.confinement.missing])
"""


def test_a_program_runs_as_the_user_itself(place: Path) -> None:
    code, seen, level, _, _ = as_user(LOOK, place / "dweller")
    assert (code, level, seen["ruid"], seen["suid"]) == (0, "landlock", USER, USER)
    assert (seen["capabilities"], seen["no_new_privs"], seen["filter"]) == (0, 1, 2)
    assert "descriptor" not in seen


def test_what_is_held_and_what_is_not_is_named(place: Path) -> None:
    *_, enforced, missing = as_user(LOOK, place / "dweller")
    assert set(missing) == {"memory_tree", "cpu_tree", "processes", "disk"}
    assert set(enforced) == {
        "filesystem",
        "network",
        "whole_tree_kill",
        "syscalls",
        "neighbours",
    }


def test_what_is_required_and_missing_stops_the_launch(place: Path) -> None:
    text = """
try:
    oxgen.run([arguments[0], "look"], sandbox=oxgen.Sandbox(level="landlock"))
    say("it ran")
except oxgen.UnsupportedError as refused:
    say(refused.missing)
"""
    assert as_user(text, place / "dweller") == ["memory_tree", "cpu_tree", "processes", "disk"]


def test_it_is_never_chosen_by_itself(place: Path) -> None:
    text = """
try:
    done = oxgen.run([arguments[0], "look"], sandbox=box(None), capture_output=True)
    say(done.confinement.level)
except oxgen.UnsupportedError:
    say("refused")
"""
    assert as_user(text, place / "dweller") in ("namespaces", "refused")


@pytest.mark.parametrize("number", (errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM))
def test_without_landlock_it_is_refused(number: int, place: Path) -> None:
    text = """
try:
    oxgen.run([arguments[0], "look"], sandbox=box("landlock"))
    say("it ran")
except oxgen.UnsupportedError as refused:
    say([refused.stage, refused.missing, refused.remedy != ""])
"""
    rule = f"landlock_create_ruleset={number}"
    found = as_user(text, place / "dweller", refused=(rule,))
    assert found == ["landlock", ["filesystem"], True]


def test_root_is_refused(place: Path) -> None:
    text = """
try:
    oxgen.run([arguments[0], "look"], sandbox=box("landlock"))
    say("it ran")
except oxgen.UnsupportedError as refused:
    say(str(refused))
"""
    assert "for ordinary users" in contained(text, place / "dweller")


REACH = """
import socket
listening = socket.create_server(("127.0.0.1", 0))
with oxgen.Launcher(cells=1) as launcher:
    words = ["reach", arguments[2], arguments[1], str(listening.getsockname()[1])]
    done = oxgen.run([arguments[0], *words], sandbox=box("landlock"), launcher=launcher,
                     capture_output=True)
    say(pairs(done.stdout.decode()))
"""

REACH_UNCONFINED = """
import socket
listening = socket.create_server(("127.0.0.1", 0))
words = ["reach", arguments[0], arguments[1], str(listening.getsockname()[1])]
done = subprocess.run([arguments[0], *words], capture_output=True, cwd=arguments[2],
                      env={"OXGEN_WORKSPACE": arguments[2]}, start_new_session=True)
say(pairs(done.stdout.decode()))
"""

REFUSED = {
    "read_outside": {errno.EACCES},
    "write_outside": {errno.EACCES},
    "chmod_outside": {errno.EPERM},
    "times_outside": {errno.EPERM},
    "truncate_outside": {errno.EACCES, errno.EPERM},
    "exec_workspace": {errno.EACCES, errno.ENOENT},
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
    "userns": {errno.EPERM},
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
WITHOUT_CONTROL = {"parent"}


def user_file(place: Path, name: str) -> Path:
    """A file outside of the cell, which is the user's own."""
    directory = place / "files"
    directory.mkdir(exist_ok=True)
    os.chown(directory, USER, USER)
    path = directory / name
    path.write_text("secret", encoding="utf-8")
    os.chown(path, USER, USER)
    path.chmod(0o600)
    return path


@pytest.fixture(scope="module")
def reached() -> Iterator[tuple[dict[str, int], dict[str, int]]]:
    """What a confined program reached, and what it did with the protection off."""
    with tempfile.TemporaryDirectory(prefix="oxgen-tests-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        program = dweller(directory)
        outside = user_file(directory, "outside")
        confined = as_user(REACH, program, outside, program)
        assert outside.read_text(encoding="utf-8") == "secret"
        assert outside.stat().st_mode & 0o777 == 0o600
    with tempfile.TemporaryDirectory(prefix="oxgen-tests-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        program = dweller(directory)
        outside = user_file(directory, "outside")
        free = as_user(REACH_UNCONFINED, program, outside, directory / "files")
    yield confined, free


@pytest.mark.parametrize("name", REFUSED)
def test_it_cannot(name: str, reached: tuple[dict[str, int], dict[str, int]]) -> None:
    assert reached[0][name] in REFUSED[name]


@pytest.mark.parametrize("name", sorted(set(REFUSED) - WITHOUT_CONTROL))
def test_control_outside_it_can(name: str, reached: tuple[dict[str, int], dict[str, int]]) -> None:
    assert reached[1][name] == 0


@pytest.mark.parametrize("name", OWN)
def test_it_may(name: str, reached: tuple[dict[str, int], dict[str, int]]) -> None:
    assert reached[0][name] == 0


def test_the_whole_tree_is_killed_and_nobody_else(place: Path) -> None:
    text = """
bystander = subprocess.Popen([arguments[0], "sleep", "60"], stdout=subprocess.DEVNULL)
with oxgen.Launcher(cells=1) as launcher:
    done = oxgen.run([arguments[0], "daemons", "a-tag"], sandbox=box("landlock"),
                     launcher=launcher, capture_output=True)
    left = []
    for _ in range(20):
        left += with_tag("a-tag")
        time.sleep(0.02)
    say([done.returncode, done.termination.reason, left, bystander.poll()])
"""
    assert as_user(text, place / "dweller") == [0, None, [], None]


def test_control_unconfined_daemons_stay(place: Path) -> None:
    text = """
subprocess.run([arguments[0], "daemons", "a-tag"])
time.sleep(0.1)
say(len(with_tag("a-tag")))
"""
    assert as_user(text, place / "dweller") >= 3


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
    oxgen.run([arguments[0], "daemons", "another"], sandbox=box("landlock"), launcher=launcher)
    process = oxgen.spawn([arguments[0], "sleep", "60", "a-tag"], sandbox=box("landlock"),
                          launcher=launcher)
    until(lambda: with_tag("a-tag"))
    before = with_tag("a-tag")
    warden, keeper, parent = [one.pid for one in psutil.Process(before[0]).parents()[:3]]
    {ENDINGS[how]}
    until(lambda: not with_tag("a-tag"))
    say([len(before), with_tag("a-tag")])
"""
    assert as_user(text, place / "dweller") == [1, []]


def test_kill_9_of_the_host_leaves_no_process_and_the_next_start_no_directory(place: Path) -> None:
    text = """
place = os.environ["XDG_RUNTIME_DIR"]
pid = os.fork()
if pid == 0:
    process = oxgen.spawn([arguments[0], "sleep", "60", "a-tag"], sandbox=box("landlock"))
    time.sleep(60)
    os._exit(0)
until(lambda: len(with_tag("a-tag")) == 1)
during = len(directories(place))
os.kill(pid, 9)
os.waitpid(pid, 0)
until(lambda: not with_tag("a-tag"))
left = with_tag("a-tag")
oxgen.run([arguments[0], "look"], sandbox=box("landlock"), capture_output=True)
until(lambda: len(directories(place)) == 1)
say([during, left, len(directories(place))])
"""
    assert as_user(text, place / "dweller") == [1, [], 1]


def test_a_hostile_tree_is_removed_with_its_cell(place: Path) -> None:
    text = """
place = os.environ["XDG_RUNTIME_DIR"]
with oxgen.Launcher(cells=1) as launcher:
    first = oxgen.run([arguments[0], "spread", "1500"], sandbox=box("landlock"),
                      launcher=launcher)
    (base,) = directories(place)
    second = oxgen.run([arguments[0], "look"], sandbox=box("landlock"), launcher=launcher)
    until(lambda: len(os.listdir(place + "/" + base)) == 1, 20)
    say([first.returncode, second.returncode, len(os.listdir(place + "/" + base))])
until(lambda: not directories(place))
"""
    assert as_user(text, place / "dweller") == [0, 0, 1]


def test_two_plugins_cannot_signal_or_trace_each_other(place: Path) -> None:
    text = """
with oxgen.Launcher(cells=2) as launcher:
    sleeper = oxgen.spawn([arguments[0], "sleep", "2"], sandbox=box("landlock"),
                          launcher=launcher, tenant="one")
    until(lambda: with_tag("sleep"))
    attack = oxgen.run([arguments[0], "attack", *map(str, with_tag("sleep"))],
                       sandbox=box("landlock"), launcher=launcher, tenant="two",
                       capture_output=True)
    ended = sleeper.wait()
    say([pairs(attack.stdout.decode()), ended.returncode])
"""
    attacked, code = as_user(text, place / "dweller")
    assert code == 7
    assert set(attacked.values()) == {errno.EPERM}


def test_control_processes_of_one_uid_can_signal_each_other(place: Path) -> None:
    text = """
victim = subprocess.Popen([arguments[0], "sleep", "20"], stdout=subprocess.DEVNULL)
subprocess.run([arguments[0], "attack", str(victim.pid)], stdout=subprocess.DEVNULL)
say(victim.wait())
"""
    # It also kills whatever else it can, but not process 1, which is the host.
    assert as_user(text, place / "dweller") == -9


@pytest.mark.skipif(not os.path.exists("/usr/bin/python3"), reason="needs-python: /usr/bin/python3")
def test_python_runs_in_it(place: Path) -> None:
    script = place / "script.py"
    script.write_text(
        "#!/usr/bin/python3\n"
        "import json, os, subprocess, sys, tempfile\n"
        "open('a', 'w').write('b')\n"
        "subprocess.run([sys.executable, '-c', 'pass'], check=True)\n"
        "with tempfile.TemporaryFile() as file:\n"
        "    file.write(b'c')\n"
        "print(json.dumps([os.listdir(), os.getcwd() == os.environ['OXGEN_WORKSPACE']]))\n"
    )
    text = """
done = oxgen.run([arguments[0]], sandbox=box("landlock"), capture_output=True)
say([done.returncode, json.loads(done.stdout), done.stderr.decode()])
"""
    script.chmod(0o755)
    assert as_user(text, script) == [0, [["a"], True], ""]
