"""Policies on system calls at work: the kernel's answers to a confined program.

Every refusal has its twin under ``default``, where the same call takes place.
"""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import random
import re
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from control.calls import TABLE, errnos, refusing

import oxgen
from oxgen import Limits, Sandbox, _launch
from oxgen.syscalls import STRICT, Action, Comparison, Policy, Rule

pytestmark = pytest.mark.root

#: What a program that lives under `strict` tries. Each line: name, errno.
ESCAPES = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
static char *const argv0[] = { "/bin/escapes", "again", NULL };
static char *const none[] = { NULL };
static void say(const char *name, long r) { printf("%s %d\n", name, r < 0 ? errno : 0); }
static void *thread(void *arg) { (void)arg; return "ok"; }
static long try_fork(long number)
{
    long r = number == SYS_clone ? syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) : syscall(number);
    if (r == 0)
        _exit(0);
    if (r > 0)
        (void)waitpid(r, NULL, 0);
    return r;
}
static long try_exec(int at, const unsigned long *rest)
{
    /* In a child where that is possible: a successful exec would end the list. */
    int status = 0, pair[2], code = 0;
    if (pipe2(pair, O_CLOEXEC) < 0)
        return -1;
    pid_t pid = fork();
    if (pid <= 0) {
        if (at)
            syscall(SYS_execveat, AT_FDCWD, argv0[0], argv0, none, 0);
        else
            syscall(SYS_execve, argv0[0], argv0, none, rest[0], rest[1], rest[2]);
        code = errno;
        if (pid < 0) {
            errno = code;
            return -1;
        }
        (void)!write(pair[1], &code, sizeof(code));
        _exit(1);
    }
    close(pair[1]);
    (void)!read(pair[0], &code, sizeof(code));
    waitpid(pid, &status, 0);
    errno = code;
    return code != 0 ? -1 : 0;
}
int main(int argc, char **argv)
{
    unsigned long rest[3] = { 0 };
    int pair[2];
    pthread_t other;
    if (argc > 1 && strcmp(argv[1], "again") == 0)
        return 0;
    say("execve", try_exec(0, rest));
    for (int i = 0; i < 64; i++) {
        if (getrandom(rest, sizeof(rest), 0) < 0)
            return 1;
        long r = try_exec(0, rest);
        if (i == 63 || r == 0) {
            say("execve_guess", r);
            break;
        }
    }
    say("execveat", try_exec(1, rest));
#ifdef SYS_fork
    say("fork", try_fork(SYS_fork));
#endif
    say("clone", try_fork(SYS_clone));
    say("socket", socket(AF_UNIX, SOCK_STREAM, 0));
    say("socket_inet", socket(AF_INET, SOCK_STREAM, 0));
    say("socketpair", socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    errno = pthread_create(&other, NULL, thread, NULL);
    say("thread", errno != 0 ? -1 : 0);
    if (errno == 0)
        pthread_join(other, NULL);
    return 0;
}
"""

#: Prints the argument registers that execve does not use, as exec left them.
REGISTERS = r"""
#if defined(__x86_64__)
__asm__(".globl _start\n_start:\n push %r9\n push %r8\n push %r10\n mov %rsp, %rsi\n"
        " mov $1, %edi\n mov $24, %edx\n mov $1, %eax\n syscall\n"
        " xor %edi, %edi\n mov $231, %eax\n syscall\n");
#else
__asm__(".globl _start\n_start:\n sub sp, sp, #32\n str x3, [sp]\n str x4, [sp, #8]\n"
        " str x5, [sp, #16]\n mov x1, sp\n mov x0, #1\n mov x2, #24\n mov x8, #64\n svc #0\n"
        " mov x0, #0\n mov x8, #94\n svc #0\n");
#endif
"""

Build = Callable[..., Path]


def test_a_refused_call_gets_the_errno_of_the_policy(caller: Path) -> None:
    call = (TABLE["getppid"],)
    assert errnos(caller, Sandbox(), call) == [0]
    assert errnos(caller, refusing("getppid", errnum=errno.EXDEV), call) == [errno.EXDEV]


def test_arguments_are_compared_as_the_policy_says(caller: Path) -> None:
    """getppid takes no arguments, so any do no harm."""
    rng = random.Random(7)
    words = [0, 1, 2, 1 << 32, (1 << 32) | 1, (1 << 64) - 1, 0xFFFFFFFF]
    name, number = "getppid", TABLE["getppid"]
    for _ in range(6):
        rules = tuple(
            Rule(
                (name,),
                rng.choice([Action.allow(), Action.refuse(errno.EXDEV), Action.refuse(99)]),
                tuple(
                    Comparison(
                        rng.randrange(6), rng.choice(["==", "!=", "<", "<=", ">", ">="]), value
                    )
                    for value in rng.sample(words, rng.randrange(1, 3))
                ),
            )
            for _ in range(4)
        )
        policy = Policy(Action.allow(), (*rules, Rule((name,), Action.refuse(errno.EDOM))))
        calls = [tuple(rng.choice(words) for _ in range(6)) for _ in range(40)]
        got = errnos(caller, Sandbox(syscalls=policy), *[(number, *call) for call in calls])
        assert got == [policy.decide(name, call).errnum for call in calls]


def test_a_policy_cannot_widen_default(caller: Path) -> None:
    everything = Sandbox(syscalls=Policy(Action.allow()))
    calls = [(TABLE["unshare"], 0x10000000), (TABLE["mount"],), (TABLE["clone3"],)]
    wanted = [errno.EPERM, errno.EPERM, errno.ENOSYS]
    assert errnos(caller, everything, *calls) == errnos(caller, Sandbox(), *calls) == wanted


def test_an_empty_policy_lets_a_program_start_and_nothing_else(caller: Path) -> None:
    done = oxgen.run(
        [caller], sandbox=Sandbox(syscalls=Policy(Action.refuse())), capture_output=True
    )
    assert (done.returncode, done.stdout) == (-11, b"")  # it cannot even exit
    killed = oxgen.run(
        [caller], sandbox=Sandbox(syscalls=Policy(Action.kill())), capture_output=True
    )
    assert killed.termination.reason == "syscall_denied"
    assert oxgen.run([caller], capture_output=True).returncode == 0


def test_a_policy_is_one_more_filter() -> None:
    assert filters_of(Sandbox(syscalls="strict")) == filters_of(Sandbox()) + 1


def filters_of(box: Sandbox) -> int:
    done = oxgen.run(
        [
            "sh",
            "-c",
            "while read name value; do case $name in Seccomp_filters:) echo $value;; esac;"
            " done < /proc/self/status",
        ],
        sandbox=box,
        capture_output=True,
    )
    assert done.stdout, done
    return int(done.stdout)


def test_a_policy_of_nearly_the_greatest_size_runs(caller: Path) -> None:
    tests = tuple(Comparison(i % 6, "==", 1 << i) for i in range(32))
    names = ("getppid", "getpid", "getuid", "getgid")
    rules = tuple(Rule((name,), Action.refuse(7), tests) for name in names for _ in range(7))
    box = Sandbox(syscalls=Policy(Action.allow(), rules))
    assert 3500 < len(_launch.filter_of(box.syscalls)) // 8 <= 4064
    assert errnos(caller, box, (TABLE["getppid"],), (TABLE["unshare"],)) == [0, errno.EPERM]


def test_a_tenancy_is_of_one_policy(caller: Path) -> None:
    with oxgen.Launcher(cells=2) as pool:
        for _ in range(3):
            for box, wanted in ((Sandbox(), 0), (refusing("getppid"), errno.EPERM)):
                done = oxgen.run(
                    [caller, str(TABLE["getppid"]), *"000000"],
                    sandbox=box,
                    capture_output=True,
                    launcher=pool,
                )
                assert done.stdout == b"%d\n" % wanted


def test_a_bad_name_is_refused_before_anything_runs(caller: Path) -> None:
    with pytest.raises(oxgen.UsageError, match="no system call has the name 'opne'"):
        oxgen.run([caller], sandbox=refusing("opne"), capture_output=True)


@pytest.mark.parametrize("way", ["run", "spawn", "map", "aio"])
def test_every_way_to_run_a_program_applies_it(caller: Path, way: str) -> None:
    words = [str(caller), str(TABLE["getppid"]), *"000000"]
    for box, wanted in ((Sandbox(), b"0\n"), (refusing("getppid"), b"1\n")):
        if way == "run":
            got = oxgen.run(words, sandbox=box, capture_output=True).stdout
        elif way == "spawn":
            with oxgen.spawn(words, sandbox=box) as process:
                got = process.stdout.read()
        elif way == "map":
            (done,) = oxgen.map([oxgen.Request(words, sandbox=box)])
            assert isinstance(done, oxgen.Completed)
            got = done.stdout
        else:
            got = asyncio.run(oxgen.aio.run(words, sandbox=box, capture_output=True)).stdout
        assert got == wanted


def test_a_launcher_refuses_a_program_that_would_not_only_narrow(caller: Path) -> None:
    program = _launch.open_program(str(caller), "auto")
    plan = _launch.plan_of(program, (str(caller),), Sandbox(), Limits(), "")
    with oxgen.Launcher(cells=2) as pool:
        for value, accepted in ((0x7FFF0000, True), (0x7FC00000, False), (0x7FFC0000, False)):
            code = struct.pack("=HBBI", 0x06, 0, 0, value)
            tenancy = dataclasses.replace(plan.tenancy, filter=code)
            if accepted:
                with pool.lease(program, tenancy):
                    continue
            with pytest.raises(oxgen.LaunchError) as refused, pool.lease(program, tenancy):
                pass
            assert (refused.value.stage, refused.value.errno) == ("request", errno.EINVAL)


# --- strict -----------------------------------------------------------------------------------


def escapes(build_c: Build, box: Sandbox) -> dict[str, int]:
    program = build_c("escapes", text=ESCAPES)
    done = oxgen.run([program], sandbox=box, capture_output=True)
    assert done.returncode == 0 and done.stdout is not None, done
    lines = [line.split() for line in done.stdout.decode().splitlines()]
    return {name: int(number) for name, number in lines}


def test_strict_leaves_no_way_to_another_program(build_c: Build) -> None:
    got = escapes(build_c, Sandbox(syscalls="strict"))
    allowed = {"socketpair", "thread"}
    assert {name for name, number in got.items() if number == 0} == allowed
    assert {number for name, number in got.items() if name not in allowed} == {errno.EPERM}


def test_without_strict_all_of_these_ways_are_open(build_c: Build) -> None:
    assert set(escapes(build_c, Sandbox()).values()) == {0}


def test_exec_leaves_nothing_of_the_pass_in_the_registers(build_c: Build) -> None:
    flags = ("-static", "-nostdlib", "-fno-stack-protector")
    program = build_c("registers", text=REGISTERS, flags=flags)
    for box in (Sandbox(syscalls="strict"), Sandbox()):
        done = oxgen.run([program], sandbox=box, capture_output=True)
        assert (done.returncode, done.stdout) == (0, bytes(24))


def test_a_filter_cannot_be_read_back(build_c: Build) -> None:
    text = r"""
#include <errno.h>
#include <stdio.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(void)
{
    errno = 0;
    long r = syscall(SYS_ptrace, 0x420c /* PTRACE_SECCOMP_GET_FILTER */, getpid(), 0, 0);
    printf("%ld %d\n", r, errno);
    return 0;
}
"""
    done = oxgen.run(
        [build_c("readback", text=text)], sandbox=Sandbox(syscalls="strict"), capture_output=True
    )
    assert done.stdout == b"-1 1\n"


def test_a_python_plugin_runs_under_strict(tmp_path: Path) -> None:
    script = tmp_path / "plugin.py"
    script.write_text(
        "import asyncio, json, os, subprocess, tempfile, threading\n"
        "seen = []\n"
        "thread = threading.Thread(target=seen.append, args=(1,)); thread.start(); thread.join()\n"
        "asyncio.run(asyncio.sleep(0))\n"
        "with tempfile.TemporaryFile() as file: file.write(b'x')\n"
        "try: subprocess.run(['/bin/true']); seen.append('ran')\n"
        "except OSError as refused: seen.append(refused.errno)\n"
        "print(json.dumps(seen))\n"
    )
    box = Sandbox(syscalls="strict", runtime="python")
    done = oxgen.run([script], sandbox=box, capture_output=True)
    assert done.stdout == b"[1, 1]\n", done


# --- what only the warden needs ---------------------------------------------------------------

WARDEN_CALLS = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <linux/capability.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>
static void say(const char *name, long r) { printf("%s %d\n", name, r < 0 ? errno : 0); }
int main(void)
{
    struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
    struct __user_cap_data_struct all[2] = { { 0 } };
    unsigned group = 0;
    all[0].effective = all[0].permitted = 1u << CAP_CHOWN;
    say("setgroups", syscall(SYS_setgroups, 1, &group));
    /* These two return the old id, whatever becomes of the new one. */
    syscall(SYS_setfsgid, 5);
    errno = EPERM;
    say("setfsgid", syscall(SYS_setfsgid, -1) == 5 ? 0 : -1);
    syscall(SYS_setfsuid, 5);
    errno = EPERM;
    say("setfsuid", syscall(SYS_setfsuid, -1) == 5 ? 0 : -1);
    say("chroot", syscall(SYS_chroot, "/"));
    say("setgid", syscall(SYS_setgid, 0));
    say("setregid", syscall(SYS_setregid, 0, 0));
    say("setresgid", syscall(SYS_setresgid, 0, 0, 0));
    say("setuid", syscall(SYS_setuid, 0));
    say("setreuid", syscall(SYS_setreuid, 0, 0));
    say("setresuid", syscall(SYS_setresuid, 0, 0, 0));
    say("capset", syscall(SYS_capset, &header, all));
    return 0;
}
"""


def warden_calls() -> set[str]:
    """The calls that the table lists as only the warden's."""
    text = (Path(__file__).parents[2] / "csrc/linux/syscalls.h").read_text()
    part = text.partition("/* What only the warden needs.")[2].partition("\n\n")[0]
    return set(re.findall(r"OX_SYSCALL\((\w+),", part))


def outcome(stdout: bytes) -> dict[str, int]:
    lines = [line.split() for line in stdout.decode().splitlines()]
    return {name: int(number) for name, number in lines}


def test_what_only_the_warden_needs_fails_for_a_program(build_c: Build) -> None:
    done = oxgen.run([build_c("warden_calls", text=WARDEN_CALLS)], capture_output=True)
    got = outcome(done.stdout or b"")
    assert got.keys() == warden_calls()
    assert set(got.values()) == {errno.EPERM}


def test_the_same_calls_succeed_for_root(build_c: Build) -> None:
    # The control, in namespaces that are thrown away: it changes nothing but itself.
    command = ["unshare", "--mount", "--pid", "--fork", build_c("warden_calls", text=WARDEN_CALLS)]
    done = subprocess.run(command, capture_output=True, timeout=60, check=True)
    assert set(outcome(done.stdout).values()) == {0}


def test_strict_is_a_policy_as_any_other(caller: Path) -> None:
    calls = [(TABLE["socket"], 1, 1, 0), (TABLE["getppid"],)]
    for box in (Sandbox(syscalls="strict"), Sandbox(syscalls=STRICT)):
        assert errnos(caller, box, *calls) == [errno.EPERM, 0]
