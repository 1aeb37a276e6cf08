"""What never ran is an exception that says why, and not a result; the next run works."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import oxgen
from oxgen import LaunchError, ProgramNotFoundError, Sandbox

if TYPE_CHECKING:
    from control.confined import Probe
    from control.hosts import Host

pytestmark = pytest.mark.root


def refused(args: list[Any], **settings: Any) -> LaunchError:
    """Run it and return the exception that must come; it comes soon."""
    begin = time.monotonic()
    with pytest.raises(LaunchError) as caught:
        oxgen.run(args, capture_output=True, **settings)
    assert time.monotonic() - begin < 2
    return caught.value


def written(path: Path, content: bytes, mode: int = 0o755) -> str:
    path.write_bytes(content)
    path.chmod(mode)
    return str(path)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A path for a program, in a directory that the plugin may enter."""
    return tmp_path / "program"


@pytest.fixture(autouse=True)
def the_next_run_works(probe: Probe) -> Any:
    """Whatever was refused, the launcher is as good as before."""
    yield
    assert probe.run("exit", 6).returncode == 6


# --- not there ------------------------------------------------------------------------------------


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    error = refused([str(tmp_path / "no-such-program")])
    assert isinstance(error, ProgramNotFoundError) and error.errno == errno.ENOENT
    assert "no-such-program" in str(error)


def test_a_name_that_is_not_in_path() -> None:
    error = refused(["no-such-program-anywhere"])
    assert isinstance(error, ProgramNotFoundError) and "PATH" in str(error)


def test_a_name_that_is_in_path_is_found(probe: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(probe.path.parent))
    assert oxgen.run(["probe", "exit", "9"]).returncode == 9


def test_not_found_is_the_builtin_exception_too(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        oxgen.run([str(tmp_path / "nothing")])


def test_a_link_that_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    assert isinstance(refused([str(tmp_path / "dangling")]), ProgramNotFoundError)


# --- not a program --------------------------------------------------------------------------------


def test_a_directory(tmp_path: Path) -> None:
    assert "directory" in str(refused([str(tmp_path)]))


def test_a_fifo_without_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o755)
    assert "regular file" in str(refused([str(tmp_path / "fifo")]))


@pytest.mark.parametrize("path", ("/dev/zero", "/dev/null"))
def test_a_device(path: str) -> None:
    assert "regular file" in str(refused([path]))


def test_a_file_that_is_not_executable(program: Path, probe: Probe) -> None:
    error = refused([written(program, probe.path.read_bytes(), 0o644)])
    assert error.errno == errno.EACCES


def test_a_program_that_only_its_owner_may_execute_runs(program: Path, probe: Probe) -> None:
    path = written(program, probe.path.read_bytes(), 0o700)
    assert oxgen.run([path, "exit", "8"]).returncode == 8


def test_an_empty_file(program: Path) -> None:
    assert refused([written(program, b"")]).errno == errno.ENOEXEC


def test_text_without_an_interpreter_line(program: Path) -> None:
    error = refused([written(program, b"echo hello\n")])
    assert error.errno == errno.ENOEXEC and "#!" in str(error)


@pytest.mark.parametrize("size", (4, 40, 64, 200))
def test_an_elf_file_that_was_cut_off(program: Path, probe: Probe, size: int) -> None:
    error = refused([written(program, probe.path.read_bytes()[:size])])
    assert error.errno == errno.ENOEXEC and "program" in str(error)


def test_an_elf_file_full_of_noise(program: Path) -> None:
    head = b"\x7fELF\x02\x01\x01" + bytes(9)
    error = refused([written(program, head + bytes(range(7, 255)) * 20)])
    assert error.errno == errno.ENOEXEC


@pytest.mark.parametrize(
    ("machine", "name"), ((b"\xb7\x00", "aarch64"), (b"\xf3\x00", "riscv"), (b"\x03\x00", "386"))
)
def test_a_program_for_another_machine_is_called_that(
    program: Path, probe: Probe, machine: bytes, name: str
) -> None:
    content = bytearray(probe.path.read_bytes())
    content[18:20] = machine
    error = refused([written(program, bytes(content))])
    assert error.errno == errno.ENOEXEC and name in str(error).lower()


@pytest.mark.parametrize(
    "name", ("a b", "-rf", "\u00fcml\u00e4ut", "a\nb", "x" * 127, "...", "$HOME")
)
def test_a_program_with_an_odd_name_runs(tmp_path: Path, probe: Probe, name: str) -> None:
    path = written(tmp_path / name, probe.path.read_bytes())
    done = oxgen.run([path, "exit", "7"])
    assert done.returncode == 7


def test_a_name_that_is_too_long_for_a_cell_is_refused(tmp_path: Path, probe: Probe) -> None:
    error = refused([written(tmp_path / ("x" * 128), probe.path.read_bytes())])
    assert error.errno == errno.ENAMETOOLONG


def test_a_program_that_changed_is_the_one_that_runs(
    program: Path, build_c: Callable[..., Path]
) -> None:
    one = build_c("one", text="int main(void) { return 1; }\n")
    two = build_c("two", text="int main(void) { return 2; }\n")
    assert oxgen.run([written(program, one.read_bytes())]).returncode == 1
    assert oxgen.run([written(program, two.read_bytes())]).returncode == 2


def test_a_program_on_a_noexec_mount_is_told_so(
    host: Callable[..., Host], probe_path: Path
) -> None:
    mounted = (
        *("unshare", "--mount", "--propagation", "private", "sh", "-euc"),
        'mount -t tmpfs -o noexec,mode=755 tmpfs /mnt; cp "$0" /mnt/probe; exec "$@"',
        str(probe_path),
    )
    text = """
try:
    oxgen.run(["/mnt/probe", "exit", "0"])
    say("ran")
except oxgen.LaunchError as exc:
    say([exc.errno, str(exc)])
"""
    ((number, message),) = host(text, prefix=mounted).end()
    assert number == errno.EACCES and "noexec" in message


# --- loaders and interpreters ---------------------------------------------------------------------


def test_a_missing_loader_is_named(build_c: Callable[..., Path]) -> None:
    loader = "-Wl,--dynamic-linker=/no/such/loader.so.2"
    path = build_c("loaderless", text="int main(void) { return 0; }\n", flags=(loader,))
    error = refused([str(path)])
    assert error.stage == "exec" and "/no/such/loader.so.2" in str(error)


def test_a_dynamic_program_as_a_static_one_is_told_its_loader(dynamic_probe: Probe) -> None:
    error = refused([str(dynamic_probe.path)], sandbox=Sandbox(runtime="static"))
    assert error.stage == "exec" and "/ld-" in str(error) and "dynamic" in error.remedy


def test_a_missing_library_is_named(build_c: Callable[..., Path], tmp_path: Path) -> None:
    library = build_c(
        "libgone.so", text="int gone(void) { return 0; }\n", flags=("-shared", "-fPIC")
    )
    path = build_c(
        "libraryless",
        text="extern int gone(void);\nint main(void) { return gone(); }\n",
        flags=(f"-L{library.parent}", "-Wl,--no-as-needed", f"-l:{library.name}"),
    )
    # Found at link time by its directory, which no loader searches.
    error = refused([str(path)])
    assert error.stage == "exec" and "libgone.so" in str(error)


def test_a_missing_interpreter_is_named(program: Path) -> None:
    error = refused([written(program, b"#!/no/such/python3\nprint(1)\n")])
    assert error.stage == "exec" and "/no/such/python3" in str(error)


def test_an_interpreter_line_with_a_carriage_return_is_called_that(program: Path) -> None:
    error = refused([written(program, b"#!/usr/bin/env python3\r\nprint(1)\r\n")])
    assert error.stage == "exec" and "carriage return" in str(error)


def test_an_interpreter_of_another_language_than_the_runtime_is_named(program: Path) -> None:
    path = written(program, b"#!/bin/sh\necho hello\n")
    error = refused([path], sandbox=Sandbox(runtime="python"))
    assert error.stage == "exec" and "its interpreter is sh" in str(error)


# --- where and with what --------------------------------------------------------------------------


def test_a_working_directory_that_is_not_there(probe: Probe) -> None:
    error = refused([str(probe.path)], sandbox=Sandbox(cwd="/no/such/place"))
    assert (error.stage, error.errno) == ("workdir", errno.ENOENT)
    assert "/no/such/place" in str(error)


def test_a_working_directory_that_is_a_file(probe: Probe) -> None:
    error = refused([str(probe.path)], sandbox=Sandbox(cwd="/bin/probe"))
    assert (error.stage, error.errno) == ("workdir", errno.ENOTDIR)


def test_a_working_directory_of_the_host_is_not_one_of_the_cell(
    probe: Probe, tmp_path: Path
) -> None:
    error = refused([str(probe.path)], sandbox=Sandbox(cwd=str(tmp_path)))
    assert (error.stage, error.errno) == ("workdir", errno.ENOENT)


def test_more_arguments_than_fit(probe: Probe) -> None:
    error = refused([str(probe.path), "print", *["x" * 1000] * 1000])
    assert error.errno == errno.E2BIG


def test_many_arguments_arrive(probe: Probe) -> None:
    done = probe.run("print", *["word"] * 200)
    assert done.stdout == b"word\n" * 200


@pytest.mark.parametrize(
    "args", ([], "probe", b"probe", ["a\0b"], [b"/bin/true"], [3], None), ids=repr
)
def test_what_is_no_command_line_is_a_usage_error(args: Any) -> None:
    with pytest.raises((oxgen.UsageError, TypeError)) as caught:
        oxgen.run(args)
    assert isinstance(caught.value, oxgen.UsageError), "a TypeError does not say what is accepted"


@pytest.mark.parametrize(
    "settings",
    ({"limits": 5}, {"sandbox": "static"}, {"input": "text"}, {"tenant": None}, {"task_id": 3}),
    ids=lambda settings: next(iter(settings)),
)
def test_a_setting_of_the_wrong_type_is_a_usage_error(probe: Probe, settings: Any) -> None:
    with pytest.raises(oxgen.UsageError, match=next(iter(settings))):
        oxgen.run([str(probe.path)], **settings)


def test_spawn_raises_the_same(tmp_path: Path) -> None:
    with pytest.raises(ProgramNotFoundError):
        oxgen.spawn([str(tmp_path / "nothing")])


def test_spawn_says_that_the_working_directory_is_not_there(probe: Probe) -> None:
    with pytest.raises(LaunchError) as caught:
        oxgen.spawn([str(probe.path)], sandbox=Sandbox(cwd="/no/such/place"))
    assert caught.value.stage == "workdir"


def test_an_exit_status_of_126_or_127_is_the_programs_own(probe: Probe) -> None:
    ends = [probe.run("exit", code).termination for code in (125, 126, 127)]
    assert [(end.reason, end.exit_code) for end in ends] == [(None, 125), (None, 126), (None, 127)]
