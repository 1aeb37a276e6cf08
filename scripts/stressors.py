"""Run many stress-ng stressors in cells and say how each ended. Needs root and stress-ng.

    build/venv/bin/python scripts/stressors.py [STRESSOR...]

Each runs for a second under the same limits; after each, a run of the same tenancy must work.
Exit status 0: every stressor ended as EXPECTED says, or by itself and well.
"""

from __future__ import annotations

import shutil
import sys

import oxgen
from oxgen import MIB, Limits

LIMITS = Limits(
    wall_seconds=20, memory_bytes=192 * MIB, processes=48, disk_bytes=64 * MIB, open_files=2048
)
PLENTY = {
    "fallocate": "--fallocate-bytes 16M",
    "hdd": "--hdd-bytes 8M",
    "iomix": "--iomix-bytes 8M",
    "malloc": "--malloc-bytes 32M",
    "memfd": "--memfd-bytes 8M",
    "mmap": "--mmap-bytes 16M",
    "mremap": "--mremap-bytes 8M",
    "readahead": "--readahead-bytes 8M",
    "seek": "--seek-size 8M",
    "shm": "--shm-bytes 8M --shm-objs 4",
    "stream": "--stream-l3-size 4M",
    "sync-file": "--sync-file-bytes 8M",
    "vm": "--vm-bytes 32M",
}
ALONE = """
access affinity aio atomic bigheap brk bsearch chdir chmod clock context cpu crypt daemon dentry
dir dup env epoll eventfd exec fcntl fifo file-ioctl filename flock fork fp fstat futex get getdent
getrandom hash heapsort icache inode-flags io itimer kill lease link locka lockf lockofd lsearch
madvise matrix membarrier memcpy mincore mlock mprotect msync munmap nanosleep nice null open pidfd
pipe poll prctl procfs pthread qsort rename resources rseq schedpolicy seccomp sem sendfile set
shellsort sigabrt sigfd sigio sigpending sigq sigsegv sigsuspend skiplist sock sockpair spawn
splice stack str switch symlink sysinfo tee timer timerfd tmpfs tree udp urandom utime vecmath
vfork vforkmany wait wcs yield zero zlib zombie
"""
#: What the filter refuses; docs/compatibility.md says why.
REFUSED = ("io-uring", "mq", "msg", "sem-sysv", "shm-sysv", "inotify", "userfaultfd", "vm-splice")
#: Others than "exit 0". The first three eat what there is; the next want a place where files can be
#: executed, a place that they look up in /proc/mounts, another scheduler; the rest is REFUSED.
EXPECTED: dict[str, object] = {
    "bigheap": "memory_limit",
    "env": "memory_limit",
    "malloc": "memory_limit",
    "access": 2,
    "tmpfs": 3,
    "schedpolicy": 2,
    "io": 2,
    "mq": 2,
    "msg": 2,
    "sem-sysv": 1,
    "inotify": 2,
}


def ended(name: str, tool: str) -> tuple[object, str]:
    """Return how a stressor ended, and the last of what it complained about."""
    words = [tool, "--temp-path", "/tmp", "--timeout", "1", f"--{name}", "1"]
    done = oxgen.run([*words, *PLENTY.get(name, "").split()], limits=LIMITS, capture_output=True)
    after = oxgen.run([tool, "--version"], limits=LIMITS, capture_output=True)
    if after.returncode != 0:
        return "the next run failed", str(after.termination)
    lines = [
        line.partition("] ")[2]
        for line in (done.stderr or b"").decode(errors="replace").splitlines()
        if ("fail:" in line or "error:" in line or "skipp" in line) and "no CPUs found" not in line
    ]
    return done.termination.reason or done.returncode, lines[0] if lines else ""


def main() -> int:
    """Run those that were named, or all."""
    tool = shutil.which("stress-ng")
    if tool is None:
        print("stress-ng is not installed: apt-get install stress-ng", file=sys.stderr)
        return 2
    names = sys.argv[1:] or [*ALONE.split(), *PLENTY, *REFUSED]
    wrong = 0
    for name in names:
        result, complaint = ended(name, tool)
        fits = result in (EXPECTED.get(name, 0), 0)
        wrong += not fits
        print(f"{name:16} {result!s:14} {'' if fits else 'UNEXPECTED '}{complaint}", flush=True)
    print(f"{len(names)} stressors, {wrong} of them not as expected")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
