"""What a cell and the host, or two cells, could share without meaning to: inodes and budgets."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

import oxgen

pytestmark = pytest.mark.root

PYTHON = oxgen.Sandbox(runtime="python")


@pytest.fixture
def ask(tmp_path: Path) -> object:
    """Run Python text in a cell and return the JSON that it prints."""
    tmp_path.chmod(0o755)

    def run(text: str, *, tenant: str = "", launcher: oxgen.Launcher | None = None) -> object:
        script = tmp_path / "ask.py"
        if not script.exists() or script.read_text() != text:
            script.write_text(text)
        done = oxgen.run(
            [str(script)],
            sandbox=PYTHON,
            capture_output=True,
            tenant=tenant,
            launcher=launcher,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout or b"null")

    return run


NODES = (
    "import json, os\n"
    "names = ['null', 'zero', 'full', 'random', 'urandom']\n"
    "stats = [os.stat('/dev/' + n) for n in names]\n"
    "print(json.dumps([[s.st_dev, s.st_ino, s.st_rdev] for s in stats]))\n"
)


def test_device_nodes_are_no_inodes_of_the_host(ask: object) -> None:
    inside = ask(NODES)  # type: ignore[operator]
    names = ["null", "zero", "full", "random", "urandom"]
    host = [os.stat(f"/dev/{name}") for name in names]
    assert [row[2] for row in inside] == [one.st_rdev for one in host]
    assert not {tuple(row[:2]) for row in inside} & {(one.st_dev, one.st_ino) for one in host}


def test_device_nodes_of_two_tenants_are_two_file_systems(ask: object) -> None:
    with oxgen.Launcher(cells=2) as launcher:
        first = ask(NODES, tenant="a", launcher=launcher)  # type: ignore[operator]
        second = ask(NODES, tenant="b", launcher=launcher)  # type: ignore[operator]
    assert first[0][0] != second[0][0]


def test_device_nodes_work(ask: object) -> None:
    text = (
        "import json\n"
        "open('/dev/null', 'w').write('x')\n"
        "print(json.dumps([open('/dev/null').read(), open('/dev/zero', 'rb').read(2).hex(),"
        " len(open('/dev/urandom', 'rb').read(8))]))\n"
    )
    assert ask(text) == ["", "0000", 8]  # type: ignore[operator]


def test_a_plugin_cannot_touch_the_hosts_null_device(ask: object) -> None:
    before = os.stat("/dev/null")
    text = (
        "import json, os\n"
        "def attempt(what):\n"
        "    try:\n"
        "        os.utime(what, (1, 1))\n"
        "        return 'done'\n"
        "    except OSError as exc:\n"
        "        return exc.strerror\n"
        "print(json.dumps([attempt(0), attempt('/dev/null')]))\n"
    )
    ask(text)  # type: ignore[operator]
    after = os.stat("/dev/null")
    assert (after.st_mtime_ns, after.st_atime_ns) == (before.st_mtime_ns, before.st_atime_ns)


CALL = (
    "import ctypes, json, os\n"
    "libc = ctypes.CDLL(None, use_errno=True)\n"
    "r = libc.{call}\n"
    "print(json.dumps([r, os.strerror(ctypes.get_errno()) if r < 0 else '']))\n"
)


@pytest.mark.parametrize("call", ["inotify_init()", "inotify_init1(0)"])
def test_inotify_with_its_budget_of_the_hosts_root_is_refused(ask: object, call: str) -> None:
    answer = ask(CALL.format(call=call))  # type: ignore[operator]
    assert answer == [-1, "Function not implemented"]


def test_syncfs_on_the_hosts_file_system_is_refused(ask: object) -> None:
    answer = ask(CALL.format(call="syncfs(os.open(__file__, 0))"))  # type: ignore[operator]
    assert answer == [-1, "Operation not permitted"]


def test_fsync_of_an_own_file_is_allowed(ask: object) -> None:
    text = CALL.format(call="fsync(os.open('/tmp/f', os.O_CREAT | os.O_WRONLY))")
    assert ask(text) == [0, ""]  # type: ignore[operator]


def test_the_next_run_does_not_see_when_the_last_one_looked(ask: object) -> None:
    look = (
        "import json, os\n"
        "before = os.stat('/workspace').st_atime_ns\n"
        "os.listdir('/workspace')\n"
        "print(json.dumps([before, os.stat('/workspace').st_atime_ns]))\n"
    )
    with oxgen.Launcher(cells=1) as launcher:
        first = ask(look, launcher=launcher)  # type: ignore[operator]
        second = ask(look, launcher=launcher)  # type: ignore[operator]
    assert first[0] == first[1] == second[0]


SPARSE = r"""
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/mman.h>
int main(int n, char **v)
{
    if (n < 2)
        return 0;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    volatile char *at = mmap(0, 1UL << 44, PROT_READ, flags, -1, 0);
    if (at == MAP_FAILED)
        return 9;
    for (unsigned long i = 0; i < 1UL << 44; i += 2UL << 20)
        (void)at[i];
    return 0;
}
"""


def test_memory_that_a_run_leaves_behind_is_not_blamed_on_the_next(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "sparse.c").write_text(SPARSE)
    program = tmp_path / "sparse"
    build = ["gcc", "-static", "-O1", "-o", program, tmp_path / "sparse.c"]
    subprocess.run(build, check=True, timeout=60)
    limits = oxgen.Limits(memory_bytes=64 * oxgen.MIB, wall_seconds=20)
    with oxgen.Launcher(cells=1) as launcher:
        for _ in range(4):
            greedy = oxgen.run([str(program), "all"], limits=limits, launcher=launcher)
            assert greedy.termination.reason == "memory_limit"
            innocent = oxgen.run([str(program)], limits=limits, launcher=launcher)
            assert (innocent.termination.reason, innocent.returncode) == (None, 0)


def test_many_cells_that_die_slowly_do_not_queue_up(tmp_path: Path) -> None:
    """Each returns within a second after its wall limit, however many end at the same moment."""
    tmp_path.chmod(0o755)
    (tmp_path / "wide.c").write_text(
        "#include <sys/mman.h>\n#include <unistd.h>\n#include <string.h>\n"
        "int main(void) { char *p = mmap(0, 64 << 20, 3, MAP_SHARED | MAP_ANONYMOUS, -1, 0);"
        " memset(p, 1, 64 << 20); for (int i = 0; i < 20; i++) if (!fork()) {"
        " for (int k = 0; k < 64 << 20; k += 4096) p[k]++; pause(); } pause(); }\n"
    )
    program = tmp_path / "wide"
    build = ["gcc", "-static", "-O1", "-o", program, tmp_path / "wide.c"]
    subprocess.run(build, check=True, timeout=60)
    code = (
        "import oxgen, sys, threading, time\n"
        "late = []\n"
        "def one(pool):\n"
        "    begun = time.monotonic()\n"
        "    done = oxgen.run([sys.argv[1]], limits=oxgen.Limits(wall_seconds=3), launcher=pool)\n"
        "    assert done.termination.reason == 'timeout', done\n"
        "    late.append(time.monotonic() - begun - 3)\n"
        "with oxgen.Launcher(cells=6) as pool:\n"
        "    threads = [threading.Thread(target=one, args=(pool,)) for _ in range(6)]\n"
        "    [t.start() for t in threads]; [t.join() for t in threads]\n"
        "print(len(late), max(late))\n"
    )
    host = subprocess.run(
        [sys.executable, "-c", code, str(program)], capture_output=True, text=True, timeout=100
    )
    count, latest = host.stdout.split()
    # Cells are made one after another before the clock of each run starts.
    assert int(count) == 6
    assert float(latest) < 1.5, "the teardowns waited for each other"


def read_terminal(command: list[str]) -> bytes:
    """Run a command on a terminal of its own and return what it shows."""
    master, slave = pty.openpty()
    child = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, close_fds=True)
    os.close(slave)
    shown = b""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if select.select([master], [], [], 0.2)[0]:
            try:
                chunk = os.read(master, 65536)
            except OSError:  # EIO: the other side has closed
                break
            shown += chunk
        elif child.poll() is not None:
            break
    child.wait(10)
    os.close(master)
    return shown


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"plain \xc3\xa9\xe2\x82\xac\xf0\x9f\x99\x82", "plain é€🙂".encode()),
        (b"a\x1b[31mb", b"a^[[31mb"),
        (b"a\x9b31m", b"a\\x9b31m"),
        (b"a\xff\x9b31m", b"a\\xff\\x9b31m"),
        (b"a\xe0\x9b\x9b31m", b"a\\xe0\\x9b\\x9b31m"),
        (b"a\xc2\x9b31m", b"a\\x9b31m"),
        ("a\u202eb\u2028c\u200bd".encode(), b"a\\u202eb\\u2028c\\u200bd"),
        (b"a\r\x7f\x08", b"a^M^?^H"),
        (b"cut \xe2\x82", b"cut \\xe2\\x82"),
    ],
)
def test_output_on_a_terminal_is_harmless(tmp_path: Path, raw: bytes, expected: bytes) -> None:
    tmp_path.chmod(0o755)
    script = tmp_path / "say.py"
    script.write_text(f"import os\nos.write(1, {raw!r})\n")
    code = "import oxgen, sys\noxgen.run([sys.argv[1]], sandbox=oxgen.Sandbox(runtime='python'))\n"
    shown = read_terminal([sys.executable, "-c", code, str(script)])
    assert shown.strip(b"\r\n") == expected


MOUNTS = """
import json, sys, oxgen
def mounts():
    with open("/proc/self/mountinfo") as rows:
        return [row.split(" - ")[0].split()[3:5] for row in rows]
before = mounts()
with oxgen.spawn([sys.argv[1]], sandbox=oxgen.Sandbox(runtime=sys.argv[2])) as process:
    print(json.dumps([row for row in mounts() if row not in before]))
    process.stdin.close()
    process.wait(20)
print(json.dumps([row for row in mounts() if row not in before]))
"""


@pytest.mark.parametrize("runtime", ["python", "dynamic"])
def test_mounts_of_a_cell_do_not_reach_a_host_with_shared_mounts(
    tmp_path: Path, runtime: str
) -> None:
    """As under systemd, which makes every mount of the machine shared."""
    tmp_path.chmod(0o755)
    script = tmp_path / "wait.py"
    script.write_text("import sys\nsys.stdin.read()\n")
    target = str(script) if runtime == "python" else "/bin/cat"
    host = subprocess.run(
        [
            *("unshare", "--mount", "--propagation", "private", "sh", "-ec"),
            'mount --make-rshared /; exec "$@"',
            *("x", sys.executable, "-c", MOUNTS, target, runtime),
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert host.returncode == 0, host.stderr
    assert [json.loads(line) for line in host.stdout.splitlines()] == [[], []]


def test_a_terminal_that_takes_nothing_does_not_hold_the_wall_limit_up(tmp_path: Path) -> None:
    """Nobody reads the master side: the line is full after a few KiB, as with Ctrl-S."""
    tmp_path.chmod(0o755)
    (tmp_path / "flood.c").write_text(
        "#include <unistd.h>\n"
        "int main(void) { static char b[65536]; for (;;) write(1, b, sizeof(b)); }\n"
    )
    program = tmp_path / "flood"
    build = ["gcc", "-static", "-O1", "-o", program, tmp_path / "flood.c"]
    subprocess.run(build, check=True, timeout=60)
    code = (
        "import oxgen, sys, time\n"
        "begun = time.monotonic()\n"
        "done = oxgen.run([sys.argv[1]], limits=oxgen.Limits(wall_seconds=1))\n"
        "print(done.termination.reason, time.monotonic() - begun < 6, file=sys.stderr)\n"
    )
    master, slave = pty.openpty()
    try:
        host = subprocess.run(
            [sys.executable, "-c", code, str(program)],
            stdin=subprocess.DEVNULL,
            stdout=slave,
            stderr=subprocess.PIPE,
            text=True,
            timeout=30,
        )
    finally:
        os.close(slave)
        os.close(master)
    assert host.stderr.split() == ["timeout", "True"]
