"""Positive controls: the probe with the protection off, where that can harm nobody.

A test that something is refused proves nothing until the same probe was seen to get it where nobody
refuses. Such a run never happens on the machine itself: it needs new mount, pid, network, IPC and
UTS namespaces (checked from inside before the probe starts), a tmpfs over every place that anybody
may write to, a user id that nobody has, limits, and a deadline. Where root's rights are the point,
they are those of a user namespace, or single ambient capabilities of that user id.
"""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

__all__ = ["NOBODY", "Refused", "Unconfined"]

#: A uid that neither a user, nor /etc/subuid, nor the range of oxgen's cells has.
NOBODY = 2_000_000_001
DEADLINE_MAX = 60.0
#: What a control may be given in the machine's own user namespace: none of them changes more than
#: the process itself, or files in the tmpfs.
CAPABILITIES = frozenset(
    {"bpf", "dac_read_search", "mknod", "perfmon", "setgid", "sys_nice", "syslog"}
)
NAMESPACES = ("mnt", "pid", "net", "ipc", "uts")

#: $1: the namespaces of the machine; descriptor 9: the probe. Ends with 99 where it must not go on.
GUARD = r"""
set -eu
for place in /tmp /var/tmp /dev/shm /run; do
    [ ! -d "$place" ] || mount -t tmpfs -o mode=1777,size=64m,nosuid,nodev tmpfs "$place"
done
for line in $1; do
    kind=${line%%=*}
    now=$(readlink "/proc/self/ns/$kind") || exit 99
    [ "$now" != "${line#*=}" ] || { echo "not in a new $kind namespace" >&2; exit 99; }
done
[ "$(stat -f -c %T /tmp)" = tmpfs ] || { echo "/tmp is not a tmpfs" >&2; exit 99; }
mkdir /tmp/box
cat <&9 >/tmp/box/probe
exec 9<&-
chmod 755 /tmp/box/probe
shift
"""

PLAIN = r"""
chown -R "$1:$1" /tmp/box
uid=$1 caps=$2; shift 2
cd /tmp/box
prlimit --nproc=400 --cpu=30 --fsize=268435456 --core=0 -- \
    setpriv --reuid "$uid" --regid "$uid" --clear-groups \
    --inh-caps="-all$caps" --ambient-caps="-all$caps" --bounding-set="-all$caps" -- "$@"
exit $?
"""

#: The same behind a chroot.
ROOTED = r"""
uid=$1 root=$2; shift 2
exec prlimit --nproc=400 --cpu=30 --fsize=268435456 --core=0 -- \
    chroot --userspec="$uid:$uid" --groups= "$root" "$@"
"""

#: Root of a user namespace in which there is nobody but NOBODY.
NESTED = r"""
chmod 777 /tmp/box
uid=$1; shift 2
cd /
exec prlimit --nproc=400 --cpu=30 --fsize=268435456 --core=0 -- \
    setpriv --reuid "$uid" --regid "$uid" --clear-groups --inh-caps=-all --bounding-set=-all -- \
    unshare --user --map-root-user --mount --propagation private --pid --fork --mount-proc \
    --net --ipc --uts sh -euc '
        exec 9</tmp/box/probe
        mount -t tmpfs -o mode=1777,size=64m tmpfs /tmp
        mkdir /tmp/box
        cat <&9 >/tmp/box/probe
        exec 9<&-
        chmod 755 /tmp/box/probe
        cd /tmp/box
        "$@"
        exit $?' sh "$@"
"""


class Refused(RuntimeError):
    """The namespaces could not be made, so the probe was not started."""


class Unconfined:
    """Starts the probe in namespaces that are thrown away."""

    def __init__(self, probe: Path) -> None:
        self.probe = probe

    def run(
        self,
        *words: object,
        rights: Literal["none", "root"] | Sequence[str] = "none",
        seconds: float = 20.0,
        terminal: bool = False,
        before: str = "",
        prefix: Sequence[str] = (),
        inside: str = "",
    ) -> subprocess.CompletedProcess[bytes]:
        """Run the probe; ``rights`` is "none", "root" of a user namespace, or capabilities.

        ``before`` is shell text that runs as root in the namespaces before the probe does (to put
        up what it is to find there), ``prefix`` a command line before the probe's, ``inside`` a
        directory that holds the probe and becomes its root.
        """
        if os.geteuid() != 0:
            raise Refused("only root can make the namespaces that a control needs")
        if not 0 < seconds <= DEADLINE_MAX:
            raise Refused(f"a control needs a deadline of at most {DEADLINE_MAX} s, got {seconds}")
        nested = rights == "root"
        capabilities = [] if isinstance(rights, str) else list(rights)
        if not CAPABILITIES.issuperset(capabilities):
            raise Refused(f"controls get none of {sorted(set(capabilities) - CAPABILITIES)}")
        script = GUARD + before + (NESTED if nested else ROOTED if inside else PLAIN)
        machine = " ".join(f"{kind}={os.readlink(f'/proc/self/ns/{kind}')}" for kind in NAMESPACES)
        command = [
            *("unshare", "--mount", "--propagation", "private", "--pid", "--fork"),
            *("--kill-child=KILL", "--mount-proc", "--net", "--ipc", "--uts"),
            *("sh", "-c", script, "sh", machine, str(NOBODY)),
            inside or "".join(f",+{name}" for name in capabilities),
            *prefix,
            "/probe" if inside else "/tmp/box/probe",
            *map(str, words),
        ]
        done = _run(command, self.probe, seconds, terminal=terminal)
        if done.returncode == 99:
            raise Refused(done.stderr.decode("utf-8", "replace"))
        return done

    def answer(self, *words: object, **options: Any) -> Any:
        """Run the probe, expect it to end well, and return the JSON that it printed."""
        done = self.run(*words, **options)
        if done.returncode != 0:
            raise Refused(f"{words} ended with {done.returncode}: {done.stderr!r}")
        return json.loads(done.stdout)


def _run(
    command: list[str], probe: Path, seconds: float, *, terminal: bool
) -> subprocess.CompletedProcess[bytes]:
    # The shell reads the probe as descriptor 9: its path may lie below what gets covered.
    opening = ["sh", "-c", 'exec 9<"$0"; exec "$@"', str(probe)]
    main, inner = pty.openpty() if terminal else (-1, -1)
    try:
        with subprocess.Popen(
            [*opening, *(["setsid", "--ctty", "--wait"] if terminal else []), *command],
            stdin=inner if terminal else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=not terminal,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"},
        ) as process:
            try:
                out, err = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired as exc:
                # unshare --kill-child ends the pid namespace with it; when the pipes have no
                # writer any more, nobody of it is left.
                process.send_signal(signal.SIGKILL)
                process.communicate(timeout=10)
                raise Refused(f"the control did not end within {seconds} s") from exc
    finally:
        for fd in (main, inner):
            if fd >= 0:
                os.close(fd)
    return subprocess.CompletedProcess(command, process.returncode, out, err)
