"""Runs whose calls are watched: what is refused is named, what is needed is learnt."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from control.calls import TABLE, refusing

import oxgen
from oxgen import Limits, Sandbox
from oxgen.syscalls import Action, Policy, Rule

pytestmark = pytest.mark.root

Build = Callable[..., Path]

CALLS = ("unshare", "mount", "clone3", "getppid", "getpid")


def wishes() -> list[str]:
    return [str(word) for name in CALLS for word in (TABLE[name], *[0] * 6)]


@pytest.mark.parametrize(
    "box",
    [
        Sandbox(),
        Sandbox(syscalls="strict"),
        Sandbox(syscalls=Policy(Action.allow(), (Rule(("getppid",), Action.refuse(99)),))),
    ],
    ids=["default", "strict", "policy"],
)
def test_an_explained_run_gets_the_answers_that_it_gets_without(caller: Path, box: Sandbox) -> None:
    plain = oxgen.run([caller, *wishes()], sandbox=box, capture_output=True)
    seen = oxgen.explain([caller, *wishes()], sandbox=box, capture_output=True)
    assert seen.completed.stdout == plain.stdout
    assert seen.completed.returncode == plain.returncode == 0
    refused = {(each.name, each.errnum, each.count) for each in seen.refusals}
    wanted = {("unshare", 1, 1), ("mount", 1, 1), ("clone3", 38, 1)}
    assert wanted <= refused
    assert (("getppid", 99, 1) in refused) == isinstance(box.syscalls, Policy)
    assert not any(each.name == "getpid" for each in seen.refusals)
    assert seen.dropped == 0


def test_an_explanation_says_who_refused_what_and_with_which_arguments(caller: Path) -> None:
    calls = [TABLE["getppid"], 7, 8, 9, 10, 11, 12] * 2 + [TABLE["unshare"], 1, 0, 0, 0, 0, 0]
    box = refusing("getppid", errnum=errno.EXDEV)
    seen = oxgen.explain([caller, *map(str, calls)], sandbox=box, capture_output=True)
    by_name = {each.name: each for each in seen.refusals}
    got = by_name["getppid"]
    assert (got.number, got.count, got.by) == (TABLE["getppid"], 2, "policy")
    assert got.arguments == ((7, 8, 9, 10, 11, 12),)
    assert by_name["unshare"].by == "default"
    assert by_name["unshare"].arguments[0][0] == 1
    assert "EXDEV, 2 times, by policy; arguments 0x7, 0x8" in str(got)


def test_a_call_that_kills_is_named_for_certain(caller: Path) -> None:
    box = Sandbox(syscalls=Policy(Action.allow(), (Rule(("getppid",), Action.kill()),)))
    words = [str(TABLE["getppid"]), *"000000"]
    plain = oxgen.run([caller, *words], sandbox=box, capture_output=True)
    assert (plain.termination.reason, plain.termination.certain) == ("syscall_denied", False)
    assert "--explain" in plain.termination.detail
    seen = oxgen.explain([caller, *words], sandbox=box, capture_output=True)
    end = seen.completed.termination
    assert (end.reason, end.certain, end.signal) == ("syscall_denied", True, 31)
    assert f"getppid (number {TABLE['getppid']}, {os.uname().machine})" in end.detail
    assert seen.completed.returncode == plain.returncode == -31
    assert [(each.name, each.errnum) for each in seen.refusals] == [("getppid", None)]


def test_a_call_of_another_architecture_is_named(build_c: Build) -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("needs-x86: calls of i386 and x32 are made on x86-64")
    text = r"""
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(int argc, char **argv)
{
    long r = 20;
    (void)argc;
    if (atoi(argv[1]))
        return syscall(0x40000000 + SYS_getpid) > 0;
    __asm__ volatile("int $0x80" : "+a"(r) : : "memory", "r8", "r9", "r10", "r11");
    return 0;
}
"""
    program = build_c("foreign", text=text)
    for way, where in (("0", "number 20, i386"), ("1", "number 1073741863, x86_64")):
        plain = oxgen.run([program, way], capture_output=True)
        end = oxgen.explain([program, way], capture_output=True).completed.termination
        assert (end.reason, end.certain) == ("syscall_denied", True)
        assert where in end.detail
        assert (plain.returncode, plain.termination.certain) == (-31, False)


def test_where_somebody_else_listens_nothing_can_be_watched_and_all_else_runs(
    caller: Path,
) -> None:
    script = f"""
import ctypes, struct, oxgen
libc = ctypes.CDLL(None, use_errno=True)
code = ctypes.create_string_buffer(struct.pack("=HBBI", 6, 0, 0, 0x7FFF0000))
given = struct.pack("@HP", 1, ctypes.addressof(code))
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.syscall({TABLE["seccomp"]}, 1, 8, given) > 0, ctypes.get_errno()
print(oxgen.run(["{caller}"], capture_output=True).returncode)
try:
    oxgen.explain(["{caller}"], capture_output=True)
except oxgen.UnsupportedError as refused:
    print(refused.missing, refused)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.startswith(
        "0\n('syscalls',) cannot enforce syscalls here: calls cannot be"
    ), done


FLOOD = r"""
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(int argc, char **argv)
{
    (void)argc;
    for (long i = 0; i < atol(argv[1]); i++)
        syscall(SYS_unshare, i, i, i, i, i, i);
    for (long i = 0; i < atol(argv[2]); i++)
        syscall(10000 + i);
    return 0;
}
"""


def test_a_flood_of_refused_calls_is_counted_and_does_not_grow(build_c: Build) -> None:
    program = build_c("flood", text=FLOOD)
    seen = oxgen.explain([program, "20000", "5000"], capture_output=True)
    assert seen.completed.returncode == 0
    unshare = next(each for each in seen.refusals if each.name == "unshare")
    assert unshare.count == 20000
    assert len(unshare.arguments) <= 16
    assert len(seen.refusals) <= 4096 and seen.dropped >= 900


@pytest.mark.parametrize("way", [oxgen.explain, oxgen.learn], ids=["explain", "learn"])
def test_a_watched_run_keeps_its_wall_limit(
    build_c: Build, way: Callable[..., oxgen.Explanation | oxgen.Learned]
) -> None:
    program = build_c("flood", text=FLOOD)
    begun = time.monotonic()
    seen = way([program, "1000000000", "0"], limits=Limits(wall_seconds=0.5), capture_output=True)
    assert seen.completed.termination.reason == "timeout"
    assert time.monotonic() - begun < 10


def test_a_learnt_profile_runs_what_it_was_learnt_from(caller: Path, tmp_path: Path) -> None:
    learned = oxgen.learn([caller, *wishes()], capture_output=True)
    assert learned.completed.returncode == 0
    assert {"getppid", "getpid", "write", "exit_group"} <= set(learned.names)
    # What is refused is not learnt, and neither is what the warden does before exec.
    assert not {"unshare", "mount", "clone3", "execve", "chroot", "setresuid"} & set(learned.names)
    path = tmp_path / "learnt.json"
    path.write_bytes(learned.profile)
    box = Sandbox(syscalls=path)
    again = oxgen.run([caller, *wishes()], sandbox=box, capture_output=True)
    assert (again.returncode, again.stdout) == (0, learned.completed.stdout)
    # The control: it holds for no more than that.
    other = [str(TABLE["getuid"]), *"000000"]
    refused = oxgen.run([caller, *other], sandbox=box, capture_output=True)
    assert refused.stdout == b"%d\n" % errno.ENOSYS
    assert json.loads(learned.profile)["defaultErrnoRet"] == errno.ENOSYS


def test_learning_lets_nothing_through_that_default_refuses(caller: Path) -> None:
    plain = oxgen.run([caller, *wishes()], capture_output=True)
    learned = oxgen.learn([caller, *wishes()], capture_output=True)
    assert learned.completed.stdout == plain.stdout
    assert plain.stdout is not None and plain.stdout.split()[:3] == [b"1", b"1", b"38"]
