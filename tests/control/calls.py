"""A program that makes the system calls that it is told to, and says what it got."""

from __future__ import annotations

import errno
from pathlib import Path

import oxgen
from oxgen import Sandbox, _launch
from oxgen.syscalls import Action, Policy, Rule

__all__ = ["CALLER", "TABLE", "errnos", "refusing"]

TABLE = _launch.syscall_table().numbers(_launch.native_arch())

#: Makes calls that it is told as numbers, and prints the errno of each, 0 for success.
CALLER = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(int argc, char **argv)
{
    for (int i = 1; i + 6 < argc; i += 7) {
        long a[7];
        for (int j = 0; j < 7; j++)
            a[j] = (long)strtoull(argv[i + j], NULL, 0);
        long r = syscall(a[0], a[1], a[2], a[3], a[4], a[5], a[6]);
        printf("%d\n", r < 0 ? errno : 0);
    }
    return 0;
}
"""


def errnos(caller: Path, box: Sandbox, *calls: tuple[int, ...]) -> list[int]:
    words = [str(word) for call in calls for word in (*call, *[0] * (7 - len(call)))]
    done = oxgen.run([caller, *words], sandbox=box, capture_output=True)
    assert done.returncode == 0 and done.stdout is not None, done
    return [int(line) for line in done.stdout.split()]


def refusing(*names: str, errnum: int = errno.EPERM) -> Sandbox:
    policy = Policy(Action.allow(), (Rule(names, Action.refuse(errnum)),))
    return Sandbox(syscalls=policy)
