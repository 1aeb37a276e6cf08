"""Dynamic programs and Python scripts: what they need is there, read-only, and little else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import oxgen
from oxgen import Limits, Sandbox
from oxgen._launch import elf

if TYPE_CHECKING:
    from control.confined import Portrait, Probe

pytestmark = pytest.mark.root

WRITABLE = ("/home/plugin", "/workspace", "/tmp", "/dev/shm")
SYSTEM = {"bin", "dev", "etc", "home", "proc", "tmp", "workspace"}
# fmt: off
MODULES = (
    "asyncio", "bz2", "concurrent.futures", "csv", "ctypes", "datetime", "decimal", "email",
    "hashlib", "json", "lzma", "mmap", "multiprocessing", "pathlib", "random", "select", "socket",
    "sqlite3", "ssl", "struct", "subprocess", "tempfile", "threading", "unicodedata",
    "urllib.request", "uuid", "xml.etree.ElementTree", "zlib", "zoneinfo",
)
# fmt: on


@pytest.fixture(scope="module")
def seen(dynamic_probe: Probe) -> Portrait:
    """What the dynamic probe sees."""
    return dynamic_probe.look()


def python(tmp_path: Path, text: str, **settings: Any) -> Any:
    """Run a Python script in a cell and return the JSON that it printed."""
    script = tmp_path / "script.py"
    script.write_text(text, encoding="utf-8")
    script.chmod(0o755)
    settings.setdefault("sandbox", Sandbox(runtime="python"))
    done = oxgen.run([str(script)], capture_output=True, **settings)
    assert done.returncode == 0, done
    assert done.stdout is not None
    return json.loads(done.stdout)


# --- dynamic --------------------------------------------------------------------------------------


def test_dynamic_cell_has_the_system_directories_and_its_libraries(seen: Portrait) -> None:
    others = set(seen.places["/"]["entries"]) - SYSTEM
    assert others <= {"lib", "lib64", "usr"} and others


def test_dynamic_program_is_nobody_as_well(seen: Portrait) -> None:
    ids = {*seen.uids.values(), *seen.gids.values()}
    assert (ids, seen.groups, set(seen.capabilities.values())) == ({65534}, [], {0})


def test_dynamic_program_has_three_descriptors(seen: Portrait) -> None:
    assert sorted(seen.descriptors) == ["0", "1", "2"]


@pytest.mark.parametrize("place", WRITABLE)
def test_writable_place_is_nosuid_nodev_noexec(seen: Portrait, place: str) -> None:
    mount = seen.places[place]
    assert (mount["read_only"], mount["nosuid"], mount["nodev"], mount["noexec"]) == (
        False,
        True,
        True,
        True,
    )


def test_shared_memory_lies_within_the_disk_limit(seen: Portrait) -> None:
    assert seen.places["/dev/shm"]["device"] == seen.places["/tmp"]["device"]


@pytest.mark.parametrize("place", ("/", "/bin", "/etc", "/dev", "/proc", "/usr", "/lib"))
def test_nothing_can_be_made_elsewhere(dynamic_probe: Probe, place: str) -> None:
    assert dynamic_probe.answer("write", place)[place] in ("EROFS", "ENOENT", "EACCES")


def test_every_file_but_the_writable_places_is_on_a_read_only_mount(seen: Portrait) -> None:
    writable = {path for path, place in seen.places.items() if not place["read_only"]}
    assert writable <= {*WRITABLE, "/proc"}


def test_devices_are_the_five_harmless_ones(seen: Portrait) -> None:
    links = {"fd", "stdin", "stdout", "stderr", "shm"}
    devices = {"null", "zero", "full", "random", "urandom"}
    assert set(seen.places["/dev"]["entries"]) == links | devices


def test_etc_is_made_for_the_cell(seen: Portrait) -> None:
    files = set(seen.places["/etc"]["entries"])
    loaders = {os.path.basename(path) for path in elf.LOADER_FILES}
    assert files <= {"passwd", "group", "hosts", "nsswitch.conf", "localtime"} | loaders


def test_passwd_has_nobody_of_the_host(dynamic_probe: Probe) -> None:
    text = dynamic_probe.answer("read", "/etc/passwd")["/etc/passwd"]["text"]
    assert [line.split(":")[0] for line in text.splitlines()] == ["root", "nobody"]


def test_proc_shows_the_processes_of_the_cell_only(dynamic_probe: Probe) -> None:
    (entries,) = dynamic_probe.answer("list", "/proc").values()
    assert {name for name in entries if not name.isdigit()} <= {"self", "thread-self"}
    assert len([name for name in entries if name.isdigit()]) <= 2


@pytest.mark.parametrize(
    "path", ("/proc/cmdline", "/proc/sys/kernel/hostname", "/proc/1/environ", "/etc/shadow", "/sys")
)
def test_files_of_the_machine_cannot_be_read(dynamic_probe: Probe, path: str) -> None:
    assert dynamic_probe.answer("read", path)[path]["read"] in ("ENOENT", "EACCES")


def test_mounts_that_proc_shows_name_no_path_of_the_host(
    dynamic_probe: Probe, dynamic_probe_path: Path
) -> None:
    answer = dynamic_probe.answer("read", "/proc/self/mountinfo")["/proc/self/mountinfo"]
    # The root of a mounted file within its file system is shown by the kernel; the rest is ours.
    points = [line.split()[4] for line in answer["text"].splitlines()[:-1]]
    tops = {point.split("/")[1] for point in points}
    assert tops <= {*SYSTEM, "", "lib", "lib64", "usr"}


def test_no_set_id_program_is_in_reach(dynamic_probe: Probe) -> None:
    modes = dynamic_probe.answer("walk", "/")
    assert not [path for path, mode in modes.items() if mode & 0o6000 and not mode & 0o40000]


@pytest.mark.parametrize("name", ("/dev/stdin", "/dev/fd/0"))
def test_standard_input_can_be_opened_by_name(dynamic_probe: Probe, name: str) -> None:
    answer = dynamic_probe.answer("read", name, input=b"hello")[name]
    assert answer == {"read": "ok", "text": "hello"}


@pytest.mark.parametrize("name", ("/dev/stdout", "/dev/stderr", "/dev/fd/1"))
def test_standard_output_can_be_opened_by_name(tmp_path: Path, name: str) -> None:
    text = f"import sys\nopen({name!r}, 'w').write('7')"
    script = tmp_path / "script.py"
    script.write_text(text)
    done = oxgen.run([str(script)], sandbox=Sandbox(runtime="python"), capture_output=True)
    assert (done.stdout or b"") + (done.stderr or b"") == b"7"


def test_dynamic_program_is_held_by_its_limits(dynamic_probe: Probe) -> None:
    done = dynamic_probe.run("touch", 64, limits=Limits(memory_bytes=32 * oxgen.MIB))
    assert done.termination.reason == "memory_limit"


# --- python ---------------------------------------------------------------------------------------


def test_python_script_is_nobody(tmp_path: Path) -> None:
    text = "import json, os\nprint(json.dumps([os.getresuid(), os.getresgid(), os.getgroups()]))"
    nobody = [65534] * 3
    assert python(tmp_path, text) == [nobody, nobody, []]


def test_python_script_is_recognised_by_its_first_line(tmp_path: Path) -> None:
    text = "#!/usr/bin/env python3\nprint(1)"
    assert python(tmp_path, text, sandbox=Sandbox()) == 1


def test_python_script_runs_isolated_from_the_environment(tmp_path: Path) -> None:
    text = (
        "import json, sys\n"
        "print(json.dumps([sys.flags.isolated, sys.flags.dont_write_bytecode, sys.argv[0]]))"
    )
    assert python(tmp_path, text) == [1, 1, "/bin/script.py"]


def test_python_script_has_the_documented_environment(tmp_path: Path) -> None:
    text = "import json, os\nprint(json.dumps(dict(os.environ)))"
    environment = python(tmp_path, text)
    environment.pop("LC_CTYPE", None)  # the interpreter's own (PEP 538)
    assert sorted(environment) == sorted(
        ("PATH", "HOME", "TMPDIR", "TMP", "TEMP", "LANG", "OXGEN_WORKSPACE")
    )


@pytest.mark.parametrize("name", MODULES)
def test_module_of_the_standard_library_can_be_imported(
    name: str, importable: dict[str, str]
) -> None:
    assert importable[name] == "ok"


@pytest.fixture(scope="module")
def importable(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What came of importing each module, in one run."""
    text = """
import importlib, json, sys
names = %r
answers = {}
for name in names:
    try:
        importlib.import_module(name)
        answers[name] = "ok"
    except Exception as exc:
        answers[name] = repr(exc)
print(json.dumps(answers))
"""
    answers: dict[str, str] = python(tmp_path_factory.mktemp("imports"), text % (MODULES,))
    return answers


def test_the_standard_library_does_its_work(tmp_path: Path) -> None:
    text = """
import asyncio, hashlib, json, os, sqlite3, ssl, tempfile, threading
answers = {"tls": ssl.create_default_context().verify_mode.name}
with sqlite3.connect("/workspace/x.db") as base:
    base.execute("create table t (a)")
    base.execute("insert into t values (42)")
    answers["sqlite"] = base.execute("select a from t").fetchone()[0]
seen = []
threads = [threading.Thread(target=seen.append, args=(n,)) for n in range(8)]
for one in threads: one.start()
for one in threads: one.join()
answers["threads"] = sorted(seen)
answers["sha256"] = hashlib.sha256(b"").hexdigest()[:8]
async def later():
    await asyncio.sleep(0.01)
    return 7
answers["asyncio"] = asyncio.run(later())
with tempfile.TemporaryFile() as file:
    answers["temporary"] = file.write(b"abc")
print(json.dumps(answers))
"""
    assert python(tmp_path, text) == {
        "tls": "CERT_REQUIRED",
        "sqlite": 42,
        "threads": list(range(8)),
        "sha256": "e3b0c442",
        "asyncio": 7,
        "temporary": 3,
    }


@pytest.mark.parametrize("method", ("fork", "spawn", "forkserver"))
def test_python_script_can_use_several_processes(tmp_path: Path, method: str) -> None:
    text = f"""
import json, multiprocessing
def square(n):
    return n * n
if __name__ == "__main__":
    with multiprocessing.get_context({method!r}).Pool(2) as pool:
        print(json.dumps(pool.map(square, range(4))))
"""
    assert python(tmp_path, text) == [0, 1, 4, 9]


def test_python_script_reaches_no_network(tmp_path: Path) -> None:
    text = """
import json, socket
answers = []
for family in (socket.AF_INET, socket.AF_INET6):
    try:
        socket.create_connection(("127.0.0.1" if family == socket.AF_INET else "::1", 80), 2)
        answers.append("connected")
    except OSError as exc:
        answers.append("refused")
try:
    socket.getaddrinfo("example.org", 80)
    answers.append("resolved")
except OSError:
    answers.append("refused")
print(json.dumps(answers))
"""
    assert python(tmp_path, text) == ["refused"] * 3


def test_python_script_cannot_start_programs_of_the_host(tmp_path: Path) -> None:
    text = """
import json, subprocess
answers = []
for name in ("sh", "/bin/sh", "/usr/bin/env", "ls"):
    try:
        subprocess.run([name], check=False)
        answers.append("ran")
    except OSError:
        answers.append("refused")
print(json.dumps(answers))
"""
    assert python(tmp_path, text) == ["refused"] * 4


def test_python_script_sees_nothing_of_other_packages(tmp_path: Path) -> None:
    text = """
import importlib.util, json
print(json.dumps([importlib.util.find_spec(n) is not None for n in ("oxgen", "pytest", "cffi")]))
"""
    assert python(tmp_path, text) == [False] * 3


def test_python_script_can_import_the_plugin_kit(tmp_path: Path) -> None:
    text = "import oxgen_plugin\nprint(1)"
    assert python(tmp_path, text) == 1


def test_python_script_runs_with_the_interpreter_of_the_host(tmp_path: Path) -> None:
    text = "import json, sys\nprint(json.dumps(list(sys.version_info[:3])))"
    assert python(tmp_path, text) == list(sys.version_info[:3])


def test_traceback_of_a_python_script_is_its_own_output(tmp_path: Path) -> None:
    script = tmp_path / "fails.py"
    script.write_text("#!/usr/bin/env python3\nraise ValueError('on purpose')\n")
    done = oxgen.run([str(script)], capture_output=True)
    assert done.returncode == 1 and done.termination.reason is None
    assert b"ValueError: on purpose" in (done.stderr or b"")


def test_python_script_needs_no_permission_to_be_executed(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("print(3)\n")
    os.chmod(script, 0o644)
    done = oxgen.run([str(script)], sandbox=Sandbox(runtime="python"), capture_output=True)
    assert done.stdout == b"3\n"


# --- locale, libraries ----------------------------------------------------------------------------


LOCALE = """
#include <locale.h>
#include <stdlib.h>
int main(void)
{
    return setlocale(LC_ALL, "") == NULL ? 1 : MB_CUR_MAX > 1 ? 0 : 2;
}
"""


def test_the_locale_that_programs_are_told_to_use_is_there(build_c: Callable[..., Path]) -> None:
    program = build_c("locale", text=LOCALE, flags=("-pie", "-fPIE"))
    assert oxgen.run([str(program)]).returncode == 0


def test_a_library_beside_the_program_is_found(tmp_path: Path) -> None:
    def compile_c(target: Path, text: str, *flags: str) -> None:
        source = tmp_path / "source.c"
        source.write_text(text)
        command = ["cc", "-o", str(target), str(source), *flags]
        subprocess.run(command, check=True, timeout=60)

    for place in ("lib", "bin"):
        (tmp_path / place).mkdir()
    compile_c(tmp_path / "lib" / "libnear.so", "int near(void) { return 42; }", "-shared", "-fPIC")
    text = "extern int near(void); int main(void) { return near(); }"
    link = (f"-L{tmp_path / 'lib'}", "-lnear", "-Wl,-rpath,$ORIGIN/../lib")
    compile_c(tmp_path / "bin" / "program", text, *link)
    done = oxgen.run([str(tmp_path / "bin" / "program")])
    assert done.returncode == 42
