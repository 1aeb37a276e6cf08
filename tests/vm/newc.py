"""Write a directory to stdout as a cpio archive ("newc"), which Linux takes as its first root.

Format: Documentation/driver-api/early-userspace/buffer-format.rst of the kernel.
"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path


def record(name: str, mode: int, content: bytes, inode: int, mtime: int = 0) -> bytes:
    fields = [inode, mode, 0, 0, 1, mtime, len(content), 0, 0, 0, 0, len(name) + 1, 0]
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
    return pad(head) + pad(content)


def pad(part: bytes) -> bytes:
    return part + b"\0" * (-len(part) % 4)


def main() -> None:
    root = Path(sys.argv[1])
    inode = 1
    for path in sorted(root.rglob("*")):
        status = os.lstat(path)
        content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        sys.stdout.buffer.write(record(str(path.relative_to(root)), status.st_mode, content, inode))
        inode += 1
    sys.stdout.buffer.write(record("TRAILER!!!", 0, b"", 0))


if __name__ == "__main__":
    main()
