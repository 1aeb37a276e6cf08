"""Static ELF: programs of a few instructions, written without a compiler.

What a launch costs is best seen with a program that costs nothing itself, and a machine that has
oxgen may have no compiler.
"""

from __future__ import annotations

import contextlib
import os
import platform
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ..errors import UnsupportedError, UsageError

__all__ = [
    "CONFINED",
    "OF_USER_NAMESPACE",
    "TinyPrograms",
    "image",
    "is_supported",
    "tiny_programs",
]

#: What the probe exits with where it is confined: 0x10 it ran to its end, 0x40 its uid is 65534,
#: 0x08 no_new_privs is set, 0x02 seccomp is in filter mode. An error of a system call sets 0x80.
CONFINED: Final = 0x10 | 0x40 | 0x08 | 0x02
#: Of these, what only a user namespace makes so: without one a cell has another uid.
OF_USER_NAMESPACE: Final = 0x40

_X86_64_EXIT: Final = (
    "31 ff"  # xor edi, edi
    "b8 e7 00 00 00"  # mov eax, 231 (exit_group)
    "0f 05"  # syscall
)
_X86_64_PROBE: Final = (
    "bf 15 00 00 00"  # mov edi, 21 (PR_GET_SECCOMP)
    "b8 9d 00 00 00"  # mov eax, 157 (prctl)
    "0f 05"  # syscall
    "89 c3"  # mov ebx, eax
    "bf 27 00 00 00"  # mov edi, 39 (PR_GET_NO_NEW_PRIVS); the other arguments have to be 0
    "31 f6 31 d2 45 31 d2 45 31 c0"  # xor esi, esi; xor edx, edx; xor r10d, r10d; xor r8d, r8d
    "b8 9d 00 00 00"  # mov eax, 157
    "0f 05"  # syscall
    "c1 e0 03"  # shl eax, 3
    "09 c3"  # or ebx, eax
    "b8 66 00 00 00"  # mov eax, 102 (getuid)
    "0f 05"  # syscall
    "3d fe ff 00 00"  # cmp eax, 65534
    "0f 94 c0"  # sete al
    "0f b6 c0"  # movzx eax, al
    "c1 e0 06"  # shl eax, 6
    "09 c3"  # or ebx, eax
    "83 cb 10"  # or ebx, 0x10
    "89 df"  # mov edi, ebx
    "b8 e7 00 00 00"  # mov eax, 231
    "0f 05"  # syscall
)
#: Instructions of aarch64 are words, least significant byte first.
_AARCH64_EXIT: Final = (
    0xD2800000,  # mov x0, #0
    0xD2800BC8,  # mov x8, #94 (exit_group)
    0xD4000001,  # svc #0
)
_AARCH64_PROBE: Final = (
    0xD28002A0,  # mov x0, #21 (PR_GET_SECCOMP)
    0xD28014E8,  # mov x8, #167 (prctl)
    0xD4000001,  # svc #0
    0x2A0003E9,  # mov w9, w0
    0xD28004E0,  # mov x0, #39 (PR_GET_NO_NEW_PRIVS); the other arguments have to be 0
    0xD2800001,  # mov x1, #0
    0xD2800002,  # mov x2, #0
    0xD2800003,  # mov x3, #0
    0xD2800004,  # mov x4, #0
    0xD28014E8,  # mov x8, #167
    0xD4000001,  # svc #0
    0x2A000D29,  # orr w9, w9, w0, lsl #3
    0xD28015C8,  # mov x8, #174 (getuid)
    0xD4000001,  # svc #0
    0x529FFFCA,  # mov w10, #65534
    0x6B0A001F,  # cmp w0, w10
    0x1A9F17E0,  # cset w0, eq
    0x2A001929,  # orr w9, w9, w0, lsl #6
    0x321C0120,  # orr w0, w9, #0x10
    0xD2800BC8,  # mov x8, #94
    0xD4000001,  # svc #0
)

#: By the machine's name in uname(2): the number in the ELF header, and the code of each program.
_MACHINES: Final = {
    "x86_64": (62, bytes.fromhex(_X86_64_EXIT), bytes.fromhex(_X86_64_PROBE)),
    "aarch64": (
        183,
        struct.pack(f"<{len(_AARCH64_EXIT)}I", *_AARCH64_EXIT),
        struct.pack(f"<{len(_AARCH64_PROBE)}I", *_AARCH64_PROBE),
    ),
}
_ADDRESS: Final = 0x400000
#: The largest pages of aarch64; the file's offset and the address agree modulo this.
_ALIGNMENT: Final = 0x10000
_HEADER: Final = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT: Final = struct.Struct("<IIQQQQQQ")


@dataclass(frozen=True, slots=True)
class TinyPrograms:
    """The paths of a program that exits at once, and of one whose status is ``CONFINED`` inside."""

    exits: str
    probe: str


def is_supported(machine: str | None = None) -> bool:
    """Return whether there is code for ``machine``, by default this one."""
    return (machine or platform.machine()) in _MACHINES


def image(name: str, machine: str | None = None) -> bytes:
    """Return the file of the program ``exit`` or ``probe`` (elf(5)): under 1 KiB, no sections."""
    machine = machine or platform.machine()
    if machine not in _MACHINES:
        raise UsageError(
            f"the built-in program exists for {' and '.join(_MACHINES)}, not for {machine};"
            " name a command of your own after --"
        )
    number, exits, probe = _MACHINES[machine]
    code = {"exit": exits, "probe": probe}[name]
    segments = 2
    begin = _HEADER.size + segments * _SEGMENT.size
    size = begin + len(code)
    header = _HEADER.pack(
        b"\x7fELF\x02\x01\x01".ljust(16, b"\0"),  # 64 bits, little endian, version 1
        2,  # ET_EXEC
        number,
        1,
        _ADDRESS + begin,
        _HEADER.size,
        0,
        0,
        _HEADER.size,
        _SEGMENT.size,
        segments,
        64,
        0,
        0,
    )
    # PT_LOAD, readable and executable; PT_GNU_STACK, so that the stack is not executable.
    load = _SEGMENT.pack(1, 5, 0, _ADDRESS, _ADDRESS, size, size, _ALIGNMENT)
    stack = _SEGMENT.pack(0x6474E551, 6, 0, 0, 0, 0, 0, 16)
    return header + load + stack + code


@contextlib.contextmanager
def tiny_programs() -> Iterator[TinyPrograms]:
    """Write both programs to a temporary directory, which is removed on leaving.

    Raises ``UsageError`` on another type of machine, ``UnsupportedError`` where no program can be
    started from the temporary directory.
    """
    images = {name: image(name) for name in ("exit", "probe")}
    with tempfile.TemporaryDirectory(prefix="oxgen-bench-") as directory:
        if os.statvfs(directory).f_flag & os.ST_NOEXEC:
            raise UnsupportedError(
                (),
                f"{os.path.dirname(directory)} is mounted noexec: no program can be started there",
                "set TMPDIR to a directory of another file system",
            )
        os.chmod(directory, 0o755)
        for name, content in images.items():
            path = os.path.join(directory, name)
            with open(path, "xb") as stream:
                stream.write(content)
                os.fchmod(stream.fileno(), 0o755)
        yield TinyPrograms(os.path.join(directory, "exit"), os.path.join(directory, "probe"))
