"""Strict: one program, its threads, and what it was given."""

from __future__ import annotations

from typing import Final

from .policy import Action, Comparison, Policy, Rule

__all__ = ["STRICT"]

_CLONE_THREAD: Final = 0x10000

#: No exec after the first, no other process, no socket but a pair of its own, no change of ids.
#: Threads, pipes, files in the writable places and what it was given go on.
STRICT: Final = Policy(
    Action.allow(),
    (
        Rule(("execve", "execveat"), Action.refuse()),
        Rule(("fork", "vfork"), Action.refuse()),
        Rule(
            ("clone",),
            Action.refuse(),
            (Comparison(0, "masked", 0, _CLONE_THREAD),),
        ),
        Rule(("socket", "connect", "bind", "listen", "accept", "accept4"), Action.refuse()),
        # What only the warden needs. Without a capability these do nothing, so nobody misses them.
        Rule(
            (
                "chroot",
                "setuid",
                "setgid",
                "setreuid",
                "setregid",
                "setresuid",
                "setresgid",
                "setfsuid",
                "setfsgid",
                "setgroups",
                "capset",
            ),
            Action.refuse(),
        ),
    ),
)
