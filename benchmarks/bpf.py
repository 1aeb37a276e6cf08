"""A system call filter for bubblewrap, about as long as ours: bwrap itself brings none."""

from __future__ import annotations

import platform
import struct

__all__ = ["filter_bytes"]

#: What people deny first: x86_64 and aarch64 numbers of the same calls.
_DENIED = {
    "ptrace": (101, 117),
    "pivot_root": (155, 41),
    "mount": (165, 40),
    "umount2": (166, 39),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "reboot": (169, 142),
    "init_module": (175, 105),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "unshare": (272, 97),
    "move_pages": (279, 239),
    "perf_event_open": (298, 241),
    "open_by_handle_at": (304, 265),
    "setns": (308, 268),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "finit_module": (313, 273),
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsmount": (432, 432),
    "pidfd_getfd": (438, 438),
    "mount_setattr": (442, 442),
}
_ARCHES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}

# linux/bpf_common.h, linux/seccomp.h
_LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_RETURN = 0x06  # BPF_RET | BPF_K
_ALLOW = 0x7FFF0000
_EPERM = 0x00050001
_KILL = 0x80000000


def _instruction(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, value)


def filter_bytes() -> bytes:
    """Return the filter for this machine: a list of denied calls, asked one after the other."""
    arch, column = _ARCHES[platform.machine()]
    denied = [numbers[column] for numbers in _DENIED.values()]
    code = [
        _instruction(_LOAD, 4),  # seccomp_data.arch
        _instruction(_EQUAL, arch, 1, 0),
        _instruction(_RETURN, _KILL),
        _instruction(_LOAD, 0),  # seccomp_data.nr
    ]
    for index, number in enumerate(denied):
        # Over the calls that are left and over ALLOW.
        code.append(_instruction(_EQUAL, number, len(denied) - index, 0))
    code += [_instruction(_RETURN, _ALLOW), _instruction(_RETURN, _EPERM)]
    return b"".join(code)
