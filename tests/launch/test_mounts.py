"""What a policy opens is there, is no more than it says, and is in the record."""

from __future__ import annotations

import errno
import os
import pickle
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from control import programs

import oxgen
from oxgen import Completed, Launcher, LaunchError, Mount, Sandbox

pytestmark = pytest.mark.root

#: Opens, writes, executes, connects to what its arguments name; prints 0 or an errno for each.
VISITOR = r"""
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int reach(const char *port)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(atoi(port)) };
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return fd < 0 ? -1 : connect(fd, (struct sockaddr *)&address, sizeof(address));
}

/* ENOEXEC: it was read and is no program, so it may be executed. */
static int run(const char *path)
{
    char *words[] = { (char *)path, NULL };
    int status, failed = 0, ends[2];

    if (pipe2(ends, O_CLOEXEC) < 0)
        return -1;
    if (fork() == 0) {
        (void)execv(path, words);
        failed = errno;
        (void)!write(ends[1], &failed, sizeof(failed));
        _exit(1);
    }
    (void)close(ends[1]);
    (void)!read(ends[0], &failed, sizeof(failed));
    (void)wait(&status);
    errno = failed;
    return failed == 0 ? 0 : -1;
}

static int copy_self(const char *path)
{
    static char text[4 << 20];
    int in = open("/proc/self/exe", O_RDONLY), out = open(path, O_WRONLY | O_CREAT, 0755);
    ssize_t size;

    if (in < 0)
        in = open("/bin/visitor", O_RDONLY);
    size = read(in, text, sizeof(text));
    return size > 0 && write(out, text, (size_t)size) == size ? close(out) : -1;
}

int main(int argc, char **argv)
{
    for (int i = 1; i + 1 < argc; i += 2) {
        const char *word = argv[i], *path = argv[i + 1];
        int r = -1;

        errno = ENOSYS;
        if (strcmp(word, "read") == 0)
            r = open(path, O_RDONLY);
        else if (strcmp(word, "write") == 0)
            r = open(path, O_WRONLY);
        else if (strcmp(word, "create") == 0)
            r = open(path, O_WRONLY | O_CREAT, 0644);
        else if (strcmp(word, "run") == 0)
            r = run(path);
        else if (strcmp(word, "copy") == 0)
            r = copy_self(path);
        else if (strcmp(word, "reach") == 0)
            r = reach(path);
        printf("%d\n", r < 0 ? errno : 0);
    }
    return 0;
}
"""


@pytest.fixture(scope="module")
def visitor() -> str:
    return str(programs.build_c("visitor", text=VISITOR))


@pytest.fixture
def shown(tmp_path: Path) -> Path:
    """A directory of the host with a file, a script and a link out of it; open to everybody."""
    (tmp_path / "secret").write_text("secret")
    directory = tmp_path / "shown"
    directory.mkdir()
    (directory / "file").write_text("text")
    (directory / "script").write_text("#!/bin/visitor\n")
    (directory / "script").chmod(0o755)
    (directory / "way-out").symlink_to(tmp_path / "secret")
    # What keeps a plugin from writing is the mount, not a mode.
    directory.chmod(0o777)
    (directory / "file").chmod(0o666)
    return directory


def visit(visitor: str, *words: object, **settings: object) -> tuple[Completed, list[int]]:
    args = [visitor, *map(str, words)]
    done = oxgen.run(args, capture_output=True, **settings)  # type: ignore[arg-type]
    assert done.returncode == 0 and done.stdout is not None, done
    return done, [int(line) for line in done.stdout.split()]


# --- mounts ---------------------------------------------------------------------------------------


def test_a_directory_is_read_only_and_recorded(visitor: str, shown: Path) -> None:
    words = ("read", "/data/file", "write", "/data/file", "create", "/data/new")
    box = Sandbox(mounts=(Mount(shown, "/data"),))
    done, answers = visit(visitor, *words, sandbox=box)
    assert answers == [0, errno.EROFS, errno.EROFS]
    assert done.confinement.exceptions == ("mount=/data",)
    assert sorted(os.listdir(shown)) == ["file", "script", "way-out"]


def test_without_the_mount_nothing_is_there(visitor: str) -> None:
    done, answers = visit(visitor, "read", "/data/file")
    assert (answers, done.confinement.exceptions) == ([errno.ENOENT], ())


def test_a_file_is_there_alone(visitor: str, shown: Path) -> None:
    box = Sandbox(mounts=(Mount(shown / "file", "/data/deep/one"),))
    words = ("read", "/data/deep/one", "read", "/data/deep/file", "write", "/data/deep/one")
    assert visit(visitor, *words, sandbox=box)[1] == [0, errno.ENOENT, errno.EROFS]


def test_a_mount_without_a_destination_is_where_it_is_outside(visitor: str) -> None:
    box = Sandbox(mounts=(Mount("/usr/share/zoneinfo"),))
    assert visit(visitor, "read", "/usr/share/zoneinfo/UTC", sandbox=box)[1] == [0]


def test_nothing_in_it_is_executed_unless_it_is_said(visitor: str, shown: Path) -> None:
    words = ("run", "/data/script")
    closed = Sandbox(mounts=(Mount(shown, "/data"),))
    opened = Sandbox(mounts=(Mount(shown, "/data", executable=True),))
    assert visit(visitor, *words, sandbox=closed)[1] == [errno.EACCES]
    done, answers = visit(visitor, *words, sandbox=opened)
    assert answers == [0]
    assert done.confinement.exceptions == ("mount=/data,exec",)


def test_a_link_in_it_does_not_lead_out(visitor: str, shown: Path) -> None:
    box = Sandbox(mounts=(Mount(shown, "/data"),))
    assert visit(visitor, "read", "/data/way-out", sandbox=box)[1] == [errno.ENOENT]
    assert (shown / "way-out").read_text() == "secret"


def test_set_id_bits_and_devices_in_it_mean_nothing(tmp_path: Path) -> None:
    hardened = {"ro", "nosuid", "nodev"}
    closed = flags_of(Sandbox(mounts=(Mount(tmp_path, "/data"),)))
    opened = flags_of(Sandbox(mounts=(Mount(tmp_path, "/data", executable=True),)))
    assert {*hardened, "noexec"} <= closed
    assert hardened <= opened and "noexec" not in opened


def flags_of(box: Sandbox, place: str = "/data") -> set[str]:
    """The options of a mount, as the kernel tells the confined process."""
    script = "while read a b c d at flags rest; do echo $at $flags; done </proc/self/mountinfo"
    done = oxgen.run(["/bin/sh", "-c", script], sandbox=box, capture_output=True)
    assert done.returncode == 0 and done.stdout is not None
    lines = [line.split() for line in done.stdout.decode().splitlines()]
    (found,) = [flags for at, flags in lines if at == place]
    return set(found.split(","))


@pytest.mark.parametrize("source", ["/proc", "/proc/version", "/sys", "/sys/kernel"])
def test_what_shows_the_machine_and_its_processes_is_refused(visitor: str, source: str) -> None:
    box = Sandbox(mounts=(Mount(source, "/host"),))
    with pytest.raises(LaunchError, match=r"on a file system of type (proc|sysfs)") as caught:
        visit(visitor, "read", "/host/version", sandbox=box)
    assert caught.value.stage == "tree" and caught.value.remedy


def test_a_directory_with_mount_points_below_it_is_refused(visitor: str, tmp_path: Path) -> None:
    """In a mount namespace of its own, so that the machine keeps its mounts."""
    (tmp_path / "above" / "below").mkdir(parents=True)
    text = (
        "import sys, oxgen\n"
        "above, visitor = sys.argv[1:]\n"
        "box = oxgen.Sandbox(mounts=(oxgen.Mount(above, '/data'),))\n"
        "try:\n    oxgen.run([visitor], sandbox=box)\n"
        "except oxgen.LaunchError as refused:\n    print(refused.stage, refused.errno)\n"
        "else:\n    print('ran')\n"
    )

    def answer(setup: str) -> str:
        command = f'{setup} exec "$0" -c "$@"'
        words = ["unshare", "--mount", "/bin/sh", "-c", command, sys.executable, text]
        done = subprocess.run(
            [*words, str(tmp_path / "above"), visitor], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    mount = f"mount -t tmpfs -o size=64k none {tmp_path}/above/below &&"
    assert answer(mount) == f"tree {errno.EXDEV}"
    assert answer("") == "ran"


@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "missing"])
def test_only_files_and_directories_are_mounted(visitor: str, tmp_path: Path, kind: str) -> None:
    source = tmp_path / kind
    listener = socket.socket(socket.AF_UNIX)
    if kind == "pipe":
        os.mkfifo(source)
    elif kind == "socket":
        listener.bind(str(source))
    elif kind == "device":
        source = Path("/dev/null")
    with listener, pytest.raises(LaunchError) as refused:
        visit(visitor, sandbox=Sandbox(mounts=(Mount(source, "/data"),)))
    assert refused.value.stage == "tree" and refused.value.filename == str(source)


def test_a_directory_that_was_replaced_is_another_tenancy(
    visitor: str, shown: Path, tmp_path: Path
) -> None:
    box = Sandbox(mounts=(Mount(shown, "/data"),))
    with Launcher(cells=2) as launcher:
        words = ("read", "/data/file", "read", "/data/other")
        for _ in range(2):
            assert visit(visitor, *words, sandbox=box, launcher=launcher)[1] == [0, errno.ENOENT]
        shown.rename(tmp_path / "old")
        shown.mkdir()
        (shown / "other").write_text("new")
        assert visit(visitor, *words, sandbox=box, launcher=launcher)[1] == [errno.ENOENT, 0]


def test_a_run_without_the_mount_gets_no_cell_that_has_it(visitor: str, shown: Path) -> None:
    box = Sandbox(mounts=(Mount(shown, "/data"),))
    with Launcher(cells=1) as launcher:
        for _ in range(2):
            assert visit(visitor, "read", "/data/file", sandbox=box, launcher=launcher)[1] == [0]
            done, answers = visit(visitor, "read", "/data/file", launcher=launcher)
            assert (answers, done.confinement.exceptions) == ([errno.ENOENT], ())


# --- execution of what was written ----------------------------------------------------------------


@pytest.mark.parametrize("place", ["/tmp", "/workspace", "/home/plugin"])
def test_what_was_written_is_executed_only_with_exec_tmp(visitor: str, place: str) -> None:
    words = ("copy", f"{place}/copy", "run", f"{place}/copy")
    assert visit(visitor, *words)[1] == [0, errno.EACCES]
    done, answers = visit(visitor, *words, sandbox=Sandbox(exec_tmp=True))
    assert answers == [0, 0]
    assert done.confinement.exceptions == ("exec_tmp",)


# --- the host's network ---------------------------------------------------------------------------


#: Without a network; Landlock as a second wall answers first.
UNREACHABLE = (errno.ENETUNREACH, errno.EACCES)


@pytest.fixture
def listener() -> Iterator[int]:
    """The port of a service of the host, on its loopback."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=lambda: server.accept()[0].close(), daemon=True)
        thread.start()
        yield server.getsockname()[1]


def test_the_hosts_network_is_there_only_if_asked_for(visitor: str, listener: int) -> None:
    done, answers = visit(visitor, "reach", listener)
    assert answers[0] in UNREACHABLE and "network" in done.confinement.enforced
    done, answers = visit(visitor, "reach", listener, sandbox=Sandbox(network="host"))
    assert answers == [0]
    assert done.confinement.exceptions == ("network=host",)
    assert "network" not in done.confinement.enforced + done.confinement.missing


def test_names_are_looked_up_as_the_host_does(visitor: str) -> None:
    box = Sandbox(network="host")
    words = ("read", "/etc/hosts", "read", "/etc/resolv.conf")
    there = 0 if os.path.isfile("/etc/resolv.conf") else errno.ENOENT
    assert visit(visitor, *words, sandbox=box)[1] == [0, there]
    assert visit(visitor, *words)[1] == [errno.ENOENT, errno.ENOENT]
    for path in ("/etc/hosts", *(["/etc/resolv.conf"] if there == 0 else [])):
        assert {"ro", "nosuid", "nodev", "noexec"} <= flags_of(box, path)


def test_with_the_hosts_network_everything_else_still_holds(dynamic_probe) -> None:
    inside = dynamic_probe.look(sandbox=Sandbox(network="host"))
    usual = dynamic_probe.look()
    for name in ("uids", "gids", "capabilities", "seccomp", "no_new_privs", "limits"):
        if hasattr(usual, name):
            assert getattr(inside, name) == getattr(usual, name)


def test_cells_with_and_without_the_hosts_network_are_made_in_turn(
    visitor: str, listener: int
) -> None:
    with Launcher(cells=1) as launcher:
        for _ in range(3):
            words = ("reach", listener)
            assert visit(visitor, *words, launcher=launcher)[1][0] in UNREACHABLE
            visit(visitor, launcher=launcher, sandbox=Sandbox(network="host"))


def test_a_policy_that_opens_something_can_be_pickled(shown: Path) -> None:
    box = Sandbox(mounts=[Mount(shown, "/data")], network="host", exec_tmp=True)  # type: ignore[arg-type]
    assert pickle.loads(pickle.dumps(box)) == box
    assert hash(box) == hash(pickle.loads(pickle.dumps(box)))
