"""Programs that people really run do their work in a cell."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from control.installed import build_jar, build_musl, build_rust, in_path, python

import oxgen
from oxgen import MIB, Limits

pytestmark = pytest.mark.root

#: Twenty threads and more are usual for runtimes that collect garbage and compile at run time.
MANY = Limits(wall_seconds=60, processes=128, memory_bytes=512 * MIB)


def run(*args: str, **settings: Any) -> oxgen.Completed:
    """Run a program, and check that it ended by itself and well."""
    settings.setdefault("limits", MANY)
    done = oxgen.run(list(args), capture_output=True, **settings)
    assert (done.returncode, done.termination.reason) == (0, None), done
    return done


def script(directory: Path, name: str, text: str) -> str:
    path = directory / name
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return str(path)


# --- Python ---------------------------------------------------------------------------------------


def test_python_is_a_program_as_well_as_a_runtime() -> None:
    done = run(python(), "-c", "import sys, ssl; print(sys.argv, sys.flags.isolated)", "word")
    assert done.stdout == b"['-c', 'word'] 0\n"


def test_python_reads_its_program_from_standard_input() -> None:
    assert run(python(), "-", input=b"print(6 * 7)").stdout == b"42\n"


def test_python_of_a_virtual_environment_runs_without_its_packages(tmp_path: Path) -> None:
    (tmp_path / "pyvenv.cfg").write_text(f"home = {Path(python()).parent}\n")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").symlink_to(python())
    done = run(str(tmp_path / "bin" / "python3"), "-c", "import sys; print(sys.prefix)")
    assert done.stdout is not None and done.stdout.decode().strip() != str(tmp_path)


def test_python_shares_memory_and_semaphores_between_processes(tmp_path: Path) -> None:
    text = """#!/usr/bin/env python3
import multiprocessing, json
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import shared_memory

def add(name, lock, times):
    block = shared_memory.SharedMemory(name)
    for _ in range(times):
        with lock:
            block.buf[0] += 1
    block.close()

if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    block = shared_memory.SharedMemory(create=True, size=4096)
    lock = context.Lock()
    them = [context.Process(target=add, args=(block.name, lock, 50)) for _ in range(4)]
    for one in them: one.start()
    for one in them: one.join()
    with ThreadPoolExecutor(32) as pool:
        total = sum(pool.map(lambda n: n * n, range(200)))
    queue = context.Queue()
    queue.put("through a queue")
    print(json.dumps([block.buf[0], total, queue.get(timeout=5)]))
    block.close(); block.unlink()
"""
    answer = json.loads(run(script(tmp_path, "share.py", text)).stdout or b"")
    assert answer == [200, sum(n * n for n in range(200)), "through a queue"]


# --- Node -----------------------------------------------------------------------------------------

NODE = """#!/usr/bin/env node
const { Worker, isMainThread, parentPort } = require("worker_threads");
const { spawnSync, fork } = require("child_process");
const crypto = require("crypto"), fs = require("fs"), zlib = require("zlib");
if (!isMainThread) {
  parentPort.postMessage(40 + 2);
} else if (process.argv[2] === "child") {
  process.send("forked");
} else (async () => {
  const answers = {};
  answers.worker = await new Promise((done) => new Worker(__filename).on("message", done));
  answers.child = spawnSync(process.execPath, ["-p", "6 * 7"]).stdout.toString().trim();
  answers.fork = await new Promise((done) => fork(__filename, ["child"]).on("message", done));
  answers.sha = crypto.createHash("sha256").update("").digest("hex").slice(0, 8);
  answers.random = crypto.randomBytes(8).length;
  answers.month = new Intl.DateTimeFormat("de", { month: "long" }).format(0);
  fs.writeFileSync("/workspace/x", zlib.gzipSync("text"));
  answers.file = zlib.gunzipSync(fs.readFileSync("/workspace/x")).toString();
  answers.imported = (await import("path")).basename("/a/b");
  answers.fetch = await fetch("http://127.0.0.1:1").then(() => "answered", () => "refused");
  console.log(JSON.stringify(answers));
})();
"""


def test_node_works_with_threads_children_and_files(tmp_path: Path) -> None:
    in_path("node")
    assert json.loads(run(script(tmp_path, "work.js", NODE)).stdout or b"") == {
        "worker": 42,
        "child": "42",
        "fork": "forked",
        "sha": "e3b0c442",
        "random": 8,
        "month": "Januar",
        "file": "text",
        "imported": "b",
        "fetch": "refused",
    }


def test_node_runs_a_module_and_a_script_without_a_first_line(tmp_path: Path) -> None:
    in_path("node")
    module = script(tmp_path, "m.mjs", "import { sep } from 'path'; console.log(sep);")
    box = oxgen.Sandbox(runtime="node")
    assert run(module, sandbox=box).stdout == b"/\n"
    assert run(in_path("node"), "-p", "process.execPath").stdout is not None


def test_node_sees_no_module_of_the_host(tmp_path: Path) -> None:
    in_path("node")
    (tmp_path / "node_modules" / "near").mkdir(parents=True)
    (tmp_path / "node_modules" / "near" / "index.js").write_text("console.log('ran')")
    done = oxgen.run(
        [script(tmp_path, "near.js", "#!/usr/bin/env node\nrequire('near');")],
        capture_output=True,
        limits=MANY,
    )
    assert done.returncode == 1 and b"Cannot find module" in (done.stderr or b"")


def test_node_that_needs_too_much_memory_is_told_so(tmp_path: Path) -> None:
    in_path("node")
    text = "#!/usr/bin/env node\nconst a = []; for (;;) a.push(Buffer.alloc(1 << 20, 1));"
    done = oxgen.run(
        [script(tmp_path, "eat.js", text)],
        capture_output=True,
        limits=Limits(memory_bytes=128 * MIB, processes=64),
    )
    assert done.termination.reason == "memory_limit"


# --- Go, Rust, C libraries ------------------------------------------------------------------------

GO = """package main

import ("fmt"; "os"; "runtime"; "sync"; "time")

func main() {
    var group sync.WaitGroup
    var lock sync.Mutex
    total := 0
    for i := 0; i < 10000; i++ {
        group.Add(1)
        go func(n int) {
            defer group.Done()
            time.Sleep(time.Millisecond)
            lock.Lock(); total += n; lock.Unlock()
        }(i)
    }
    group.Wait()
    runtime.GC()
    if len(os.Args) > 1 {
        for i := 0; i < 100; i++ {
            go func() { runtime.LockOSThread(); time.Sleep(5 * time.Second) }()
        }
        time.Sleep(5 * time.Second)
    }
    fmt.Println(total)
}
"""


def test_go_runs_ten_thousand_goroutines(build_go: Callable[[str, str], Path]) -> None:
    assert run(str(build_go("many", GO)), limits=Limits()).stdout == b"49995000\n"


def test_go_that_wants_more_threads_than_allowed_fails_by_itself(
    build_go: Callable[[str, str], Path],
) -> None:
    done = oxgen.run(
        [str(build_go("many", GO)), "threads"], limits=Limits(processes=20), capture_output=True
    )
    assert (done.returncode, done.termination.reason) == (2, None)
    assert b"errno=11" in (done.stderr or b""), "EAGAIN"


RUST = """
use std::{fs, process::Command, sync::mpsc, thread};
fn main() {
    let (send, receive) = mpsc::channel();
    let them: Vec<_> = (0..16u64).map(|n| { let send = send.clone();
        thread::spawn(move || send.send(n * n).unwrap()) }).collect();
    for one in them { one.join().unwrap(); }
    drop(send);
    let sum: u64 = receive.iter().sum();
    let caught = std::panic::catch_unwind(|| panic!("on purpose")).is_err();
    fs::write("/workspace/x", "text").unwrap();
    let child = Command::new("/bin/none").spawn().is_err();
    println!("{} {} {} {}", sum, caught, fs::read_to_string("/workspace/x").unwrap(), child);
}
"""


def test_rust_works_with_threads_and_panics(tmp_path: Path) -> None:
    assert run(build_rust(tmp_path, RUST)).stdout == b"1240 true text true\n"


MUSL = """
#include <locale.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
static void *work(void *n) { *(int *)n *= 2; return n; }
int main(void) {
    pthread_t thread; int n = 21, status; pid_t pid;
    if (pthread_create(&thread, NULL, work, &n) != 0) return 1;
    pthread_join(thread, NULL);
    pid = fork();
    if (pid == 0) _exit(7);
    waitpid(pid, &status, 0);
    FILE *file = tmpfile();
    printf("%d %d %d\\n", n, WEXITSTATUS(status), file != NULL);
    return 0;
}
"""


@pytest.mark.parametrize("flags", (("-static",), ("-dynamic",)), ids="-".join)
def test_a_program_with_musl_runs(tmp_path: Path, flags: tuple[str, ...]) -> None:
    flags = tuple(flag for flag in flags if flag != "-dynamic")
    assert run(build_musl(tmp_path, MUSL, *flags), limits=Limits()).stdout == b"42 7 1\n"


# --- Java -----------------------------------------------------------------------------------------


def test_a_jar_runs_in_the_virtual_machine_of_the_host() -> None:
    assert run(build_jar(), "one", "two").stdout == b"328350 text one,two\n"


def test_java_is_a_program_as_well() -> None:
    done = run(in_path("java"), "-XshowSettings:properties", "-version")
    assert b"java.home" in (done.stderr or b"")


def test_java_that_needs_too_much_memory_is_told_so() -> None:
    done = oxgen.run([build_jar(), "eat"], limits=Limits(memory_bytes=128 * MIB, processes=128))
    assert done.termination.reason == "memory_limit"


def test_java_within_a_heap_that_fits_says_it_itself() -> None:
    box = oxgen.Sandbox(env={"JAVA_TOOL_OPTIONS": "-Xmx64m"})
    done = oxgen.run([build_jar(), "eat"], sandbox=box, limits=MANY, capture_output=True)
    assert (done.returncode, done.termination.reason) == (1, None)
    assert b"OutOfMemoryError" in (done.stderr or b"")


def test_java_that_wants_more_threads_than_allowed_is_refused_them() -> None:
    limits = Limits(processes=64, memory_bytes=512 * MIB)
    done = oxgen.run([build_jar(), "threads"], limits=limits, capture_output=True)
    assert b"unable to create native thread" in (done.stderr or b"")


# --- programs of the system -----------------------------------------------------------------------


def test_busybox_finds_its_applets() -> None:
    box = in_path("busybox")
    text = "echo b a | tr ' ' '\\n' | sort | busybox md5sum && busybox ls / | busybox wc -l"
    assert run(box, "sh", "-c", text).stdout is not None


def test_busybox_runs_a_script(tmp_path: Path) -> None:
    text = f"#!{in_path('busybox')} sh\nseq 3 | awk '{{ n += $1 }} END {{ print n }}'\n"
    assert run(script(tmp_path, "sum.sh", text)).stdout == b"6\n"


def test_a_shell_script_works_with_what_the_shell_has(tmp_path: Path) -> None:
    text = """#!/bin/sh -e
trap 'echo left' EXIT
count() { for word; do echo "$word"; done; }
set -- $(count a b c) & wait
(exit 3) || echo "status $?"
while read -r line; do echo "<$line>"; done <<END
here
END
echo "$0 $1" >/workspace/x; read -r line </workspace/x; echo "$line"
"""
    done = run(script(tmp_path, "work.sh", text), "word", limits=Limits())
    assert done.stdout == b"status 3\n<here>\n/bin/work.sh word\nleft\n"


def test_bash_works_with_its_own_devices(tmp_path: Path) -> None:
    text = f"#!{in_path('bash')}\nwhile read -r n; do echo $((n * 2)); done < <(echo 4; echo 5)\n"
    assert run(script(tmp_path, "work.bash", text), limits=Limits()).stdout == b"8\n10\n"


def test_perl_forks_and_talks_through_pipes() -> None:
    text = (
        "pipe(R, W); if (!fork) { close R; print W 6 * 7; exit 3 } close W; $_ = <R>; wait;"
        " print $_, ' ', $? >> 8"
    )
    done = run(in_path("perl"), "-e", text, limits=Limits())
    assert (done.stdout, done.stderr) == (b"42 3", b""), "and no complaint about the locale"


def test_sqlite_keeps_a_database_with_a_shared_log() -> None:
    text = (
        "pragma journal_mode = wal; create table t (a integer primary key, b text);"
        " with recursive n(i) as (select 1 union all select i + 1 from n where i < 10000)"
        " insert into t select i, hex(randomblob(8)) from n;"
        " create index by_b on t (b); vacuum; pragma integrity_check; select count(*) from t;"
    )
    done = run(in_path("sqlite3"), "/workspace/x.db", text, limits=Limits())
    assert done.stdout == b"wal\nok\n10000\n"


def test_openssl_measures_and_makes_keys() -> None:
    tool = in_path("openssl")
    done = run(tool, "speed", "-seconds", "1", "-bytes", "64", "sha256", limits=Limits())
    assert b"sha256" in (done.stdout or b"")
    done = run(tool, "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
    assert (done.stdout or b"").startswith(b"-----BEGIN PRIVATE KEY")
