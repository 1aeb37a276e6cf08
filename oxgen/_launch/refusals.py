"""Refusals: what a failed stage means to a person, and the narrowest change that helps."""

from __future__ import annotations

import errno
import os

from ..errors import USED_UP, LaunchError, LostError, UnsupportedError
from .native import lib, text_of

__all__ = ["again", "apparmor_profile", "of_cell", "of_launcher"]

#: (stage, property that is not enforced, cause, remedy). Stages that are not listed are faults of a
#: launch, not of the machine.
_CELL = {
    "clone": (
        ("filesystem", "network", "whole_tree_kill", "neighbours"),
        "new user, pid, mount, ipc and uts namespaces are refused (clone)",
        "run as root outside of a container; check user.max_*_namespaces (sysctl) and"
        " kernel.apparmor_restrict_unprivileged_userns",
    ),
    "id_map": (
        ("neighbours",),
        "the uid and gid maps of a cell cannot be written",
        "run with CAP_SETUID and CAP_SETGID over the uid range of cells",
    ),
    "uid_pair": (
        ("neighbours",),
        "every pair of the uid range is in use by running cells",
        "start the launcher with a larger uid range",
    ),
    "cgroup": (
        ("memory_tree", "processes"),
        "a cgroup with memory and pids limits cannot be made",
        "delegate the memory and pids controllers (systemd: Delegate=yes)",
    ),
    "cgroup_rate": (
        ("cpu_tree",),
        "a cgroup that bounds the rate of CPU time cannot be made",
        "ask for no more cpus than the cgroup around us may use (version 1 takes no more),"
        " or delegate the controller cpu (systemd: Delegate=yes)",
    ),
    "cgroup_join": (
        ("memory_tree", "processes"),
        "a cell cannot be moved into its cgroup",
        "make the cgroup hierarchy writable for the launcher",
    ),
    "dev": (
        ("filesystem",),
        "the devices of a cell (null, zero, full, random, urandom) cannot be made",
        "give the container CAP_MKNOD; at level 'chroot' cells need a directory that is not mounted"
        " nodev; runtime 'static' needs no devices",
    ),
    "landlock": (
        ("filesystem",),
        "Landlock cannot be used for a cell",
        "start from a process that is behind fewer than 13 Landlock domains",
    ),
    "proc": (
        ("filesystem",),
        "a private /proc cannot be mounted, as parts of the host's own are covered",
        "run outside a container, or with an unmasked /proc"
        " (docker --security-opt systempaths=unconfined, Kubernetes procMount: Unmasked); a static"
        " program (runtime 'static') needs none",
    ),
    "propagation": (("filesystem",), "mounts cannot be made private", ""),
    "root": (
        ("filesystem",),
        "a tmpfs cannot be mounted in a new user namespace",
        "on Ubuntu 23.10 and later allow it for the launcher's path with an AppArmor profile",
    ),
    "program": (("filesystem",), "the program cannot be mounted (open_tree)", ""),
    "tree": (("filesystem",), "what the runtime needs cannot be mounted (open_tree)", ""),
    "pivot": (
        ("filesystem",),
        "the old root cannot be left (pivot_root)",
        "do not run from an initramfs",
    ),
    "seccomp": (
        ("syscalls",),
        "the kernel refuses the system call filter",
        "use a kernel with CONFIG_SECCOMP_FILTER",
    ),
    "cgroup_namespace": (
        ("filesystem",),
        "the kernel has no cgroup namespaces",
        "use a kernel with CONFIG_CGROUPS and namespaces (Linux 4.6 or later)",
    ),
}

_LAUNCHER = {
    "cgroup_base": ("memory_tree", "cpu_tree", "processes"),
    "uid_range": ("neighbours",),
    "store": ("filesystem",),
    "user_namespace": ("filesystem", "network", "whole_tree_kill", "neighbours"),
    "scheduling": (),
    "capabilities": ("filesystem", "whole_tree_kill", "neighbours"),
    "landlock": ("filesystem",),
}

#: Answers that mean "not on this machine" rather than "not this time".
_MACHINE = frozenset(
    {
        errno.EPERM,
        errno.EACCES,
        errno.ENOSYS,
        errno.EINVAL,
        errno.ENOSPC,
        errno.EUSERS,
        errno.EOPNOTSUPP,
        errno.ENODEV,
        errno.EROFS,
        errno.ENOENT,
        errno.EAGAIN,
        errno.EBUSY,
    }
)


#: Of those, the ones that will be the same the next time.
_LASTING = _MACHINE - {errno.ENOSPC, errno.EUSERS, errno.ENOENT, errno.EAGAIN, errno.EBUSY}
#: Stages of cells with namespaces whose failure says nothing of cells without.
_OF_NAMESPACES = frozenset(
    {
        *("clone", "id_map", "cgroup_namespace", "propagation", "root", "pivot"),
        *("dev", "proc", "program", "tree"),
    }
)
#: Of those, the ones that only programs with a /proc and a /dev meet.
_OF_SYSTEM = frozenset({"dev", "proc"})

#: Somebody ended the launcher process, or kept it from running.
_ENDED = frozenset({errno.EPIPE, errno.ECONNRESET, errno.ETIMEDOUT})


def again(refused: UnsupportedError) -> UnsupportedError:
    """A new exception that says the same: one that is raised twice would carry both tracebacks."""
    return UnsupportedError(
        refused.missing,
        refused.cause,
        refused.remedy,
        errno=refused.errno or errno.ENOTSUP,
        stage=refused.stage,
    )


def apparmor_profile(path: str) -> str:
    """Return the command that gives the launcher at ``path`` a profile which allows it namespaces.

    Ubuntu since 23.10 lets only programs that have one use the user namespaces that they make.
    """
    name = "/etc/apparmor.d/oxgen"
    text = f'abi <abi/4.0>,\\nprofile oxgen "{path}" flags=(unconfined) {{\\n  userns,\\n}}\\n'
    return f"as root: printf '{text}' > {name} && apparmor_parser -r {name}"


def of_launcher(
    stage: str, number: int, cause: str, remedy: str, path: str
) -> LaunchError | UnsupportedError:
    """The launcher process at ``path`` could not start or could not get what cells need."""
    if stage == "user_namespace" and cause.startswith("AppArmor"):
        remedy = apparmor_profile(path)
    if number in USED_UP:  # no fault of the machine: the error knows the remedy
        return LaunchError(stage, number, cause)
    if number in (errno.ENOTSUP, errno.ENOSYS) and stage not in _LAUNCHER:
        return UnsupportedError((), cause, remedy, errno=number, stage=stage)
    if stage == "handshake" and number in _ENDED:
        return LostError(stage, number, cause, remedy="try again")
    if stage in _LAUNCHER:
        return UnsupportedError(_LAUNCHER[stage], cause, remedy, errno=number, stage=stage)
    return LaunchError(stage, number, cause, remedy=remedy)


def is_lasting(failure: UnsupportedError) -> bool:
    """Whether this machine refuses cells with namespaces, today and tomorrow."""
    return failure.stage in _OF_NAMESPACES and failure.errno in _LASTING


def is_of_system(failure: UnsupportedError) -> bool:
    """Whether it refuses them to programs alone that need /proc and /dev."""
    return failure.stage in _OF_SYSTEM


def _of_filter(stage: str, number: int) -> bool:
    return (
        number == errno.EPERM
        and stage in _OF_NAMESPACES - _OF_SYSTEM
        and bool(lib.ox_is_filtered())
    )


def of_cell(stage: str, number: int, level: str = "namespaces") -> LaunchError | UnsupportedError:
    """A cell of this level could not be made."""
    if stage == "seccomp" and number == errno.EBUSY:
        # A process has one listener, and only a watched cell insists on its own.
        return UnsupportedError(
            ("syscalls",),
            "calls cannot be watched: a filter around this process has a listener already",
            "explain or learn outside of that container, or run without",
            errno=number,
            stage=stage,
        )
    if stage in ("program", "tree"):
        of_machine = level == "namespaces" and number == errno.EPERM  # else a fault of that file
    else:
        of_machine = stage in _CELL and number in _MACHINE
    if of_machine:
        missing, cause, remedy = _CELL[stage]
        if level == "namespaces" and _of_filter(stage, number):
            cause = f"a system call filter around this process refuses a step: {cause}"
            remedy = text_of(lib.ox_filter_remedy())
        return UnsupportedError(
            missing, f"{cause} ({os.strerror(number)})", remedy, errno=number, stage=stage
        )
    if number == errno.ENOSYS:
        return UnsupportedError(
            (),
            f"this kernel, or a filter around this process, lacks a system call of stage {stage}",
            "use Linux 5.10 or later; in a container, a seccomp profile that allows"
            " open_tree, move_mount, fsopen, fsmount and close_range",
            errno=number,
            stage=stage,
        )
    if stage in ("launcher", "warden"):
        if number == errno.ETIMEDOUT:
            text = "the launcher did not answer in time: it was stopped, or had no processor"
        elif number in USED_UP or number == errno.EMSGSIZE:
            # A message whose descriptors did not fit arrives cut off (unix(7), MSG_CTRUNC).
            number = errno.EMFILE
            text = "descriptors are used up: those of a new cell could not be taken over"
        else:
            text = "the launcher or the cell ended before it was ready"
        return LostError(stage, number, text)
    remedy = "shorten argv and env" if number == errno.E2BIG else ""
    return LaunchError(stage, number, remedy=remedy)
