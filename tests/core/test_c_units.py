"""Compile the C tests of ``tests/c`` with sanitizers and run each as a test of its own.

Exit status 77 of a C test means that this machine cannot show it (no right to make cgroups, no
32-bit entry, ...); that is a skip with the program's own words as reason.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from _pytest.mark.structures import ParameterSet

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "tests" / "c"
SKIPPED = 77
LINUX_64 = sys.platform == "linux" and os.uname().machine in {"x86_64", "aarch64"}

pytestmark = pytest.mark.skipif(
    not LINUX_64 or shutil.which("gcc") is None,
    reason="the C tests need gcc on Linux, x86-64 or aarch64",
)


#: Without the rights of root nothing can be shown of these.
ROOT_PROGRAMS = {"test_cgroup", "test_cgroup_base", "test_cgroup_rate"}
ROOT_PROMISES = {
    "test_refusals_are_the_filters",
    "test_their_allowed_twins_work",
    "test_loading_fails_without_no_new_privs",
}


def promise_of(program: str, name: str) -> ParameterSet:
    needs_root = program in ROOT_PROGRAMS or name in ROOT_PROMISES
    return pytest.param(program, name, marks=[pytest.mark.root] if needs_root else [])


def promises() -> list[ParameterSet]:
    """Return (program, test) for every line ``TEST(name)`` of the C files."""
    return [
        promise_of(source.stem, name)
        for source in sorted(SOURCES.glob("test_*.c"))
        for name in re.findall(r"^ +TEST\((\w+)\),", source.read_text(encoding="utf-8"), re.M)
    ]


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("c")
    subprocess.run(
        [SOURCES / "run.sh", "build"], env={**os.environ, "OUT": str(out)}, check=True, timeout=300
    )
    return out


@pytest.mark.parametrize(("program", "promise"), promises())
def test_c(programs: Path, program: str, promise: str) -> None:
    done = subprocess.run(
        [programs / program, promise], capture_output=True, text=True, timeout=120, check=False
    )
    if done.returncode == SKIPPED:
        pytest.skip(done.stderr.strip() or f"{promise} cannot be shown on this machine")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def filtered(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the start of a command that puts a program under the filter."""
    program = tmp_path_factory.mktemp("filtered") / "filtered"
    sources = [SOURCES / "test_seccomp.c", ROOT / "csrc" / "linux" / "seccomp.c"]
    # Without sanitizers: their runtime would be what is tested.
    command = ["gcc", "-std=gnu11", "-O1", "-pthread", "-o", str(program), *map(str, sources)]
    subprocess.run(command, check=True, timeout=120)
    return [str(program), "--exec"]


def run_filtered(filtered: list[str], *command: str) -> str:
    done = subprocess.run(
        [*filtered, *command], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


PYTHON = """
import asyncio, concurrent.futures, socket, subprocess, threading
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    assert list(pool.map(abs, [-1, -2, -3])) == [1, 2, 3]
assert subprocess.run(["/bin/echo", "child"], capture_output=True).stdout == b"child\\n"
assert asyncio.run(asyncio.sleep(0.01, 5)) == 5
left, right = socket.socketpair()
left.send(b"x")
assert right.recv(1) == b"x"
print("all of it")
"""


def test_python_runs_under_the_filter(filtered: list[str]) -> None:
    assert run_filtered(filtered, sys.executable, "-I", "-c", PYTHON) == "all of it\n"


def test_python_cannot_unshare_under_the_filter(filtered: list[str]) -> None:
    code = (
        "import ctypes; libc = ctypes.CDLL(None, use_errno=True); "
        "print(libc.unshare(0x10000000), ctypes.get_errno())"
    )
    assert run_filtered(filtered, sys.executable, "-I", "-c", code) == "-1 1\n"


NODE = """
const { Worker, isMainThread } = require('worker_threads');
if (isMainThread) {
  new Worker(__filename).on('exit', (code) => {
    require('http').createServer((q, r) => r.end('served')).listen(0, '127.0.0.1', function () {
      require('http').get({ port: this.address().port, host: '127.0.0.1' }, (r) => {
        r.on('data', (d) => { console.log(code, String(d)); process.exit(0); });
      });
    });
  });
}
"""


def test_node_runs_under_the_filter(filtered: list[str], tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    script = tmp_path / "script.js"
    script.write_text(NODE, encoding="utf-8")
    assert run_filtered(filtered, node, str(script)) == "0 served\n"


JAVA = """
public class Probe {
    public static void main(String[] args) throws Exception {
        Thread thread = new Thread(() -> System.out.print("thread "));
        thread.start();
        thread.join();
        System.gc();
        System.out.println(new String(
            new ProcessBuilder("/bin/echo", "child").start()
                .getInputStream().readAllBytes()).trim());
    }
}
"""


def test_java_runs_under_the_filter(filtered: list[str], tmp_path: Path) -> None:
    java = shutil.which("java")
    if java is None or shutil.which("javac") is None:
        pytest.skip("java with its compiler is not installed")
    source = tmp_path / "Probe.java"
    source.write_text(JAVA, encoding="utf-8")
    assert run_filtered(filtered, java, str(source)) == "thread child\n"


GO = """
package main

import ("fmt"; "os/exec"; "runtime"; "sync")

func main() {
    var group sync.WaitGroup
    for i := 0; i < 50; i++ {
        group.Add(1)
        go func() { defer group.Done(); runtime.LockOSThread() }()
    }
    group.Wait()
    out, err := exec.Command("/bin/echo", "child").Output()
    fmt.Print(string(out), err)
}
"""


def test_go_runs_under_the_filter(filtered: list[str], tmp_path: Path) -> None:
    go = shutil.which("go")
    if go is None:
        pytest.skip("go is not installed")
    source = tmp_path / "main.go"
    source.write_text(GO, encoding="utf-8")
    program = str(tmp_path / "program")
    subprocess.run([go, "build", "-o", program, str(source)], check=True, timeout=300)
    assert run_filtered(filtered, program) == "child\n<nil>"
