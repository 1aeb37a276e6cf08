"""Programs are looked at before they are launched, and what is wrong with one is named."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oxgen import LaunchError, ProgramNotFoundError
from oxgen._launch.program import Program, open_program


def look(path: Path | str, runtime: str = "auto") -> Program:
    return open_program(str(path), runtime)  # type: ignore[arg-type]


def script(directory: Path, text: bytes, mode: int = 0o755) -> Path:
    path = directory / "script"
    path.write_bytes(text)
    path.chmod(mode)
    return path


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProgramNotFoundError, match="nothing-here"):
        look(tmp_path / "nothing-here")


def test_a_name_without_a_slash_is_looked_up_in_path(tmp_path: Path, monkeypatch: object) -> None:
    with pytest.raises(ProgramNotFoundError, match=r"write \./surely-not-there"):
        look("surely-not-there")
    assert look("ls").entry == "ls"


@pytest.mark.parametrize("kind", ["fifo", "directory", "device", "socket"])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "it"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "device":
        path = Path("/dev/zero")
    else:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
    begun = time.monotonic()
    with pytest.raises(LaunchError) as refused:
        look(path)
    assert refused.value.stage == "program"
    assert time.monotonic() - begun < 1


def test_a_carriage_return_in_the_interpreter_line_is_named(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="carriage return"):
        look(script(tmp_path, b"#!/usr/bin/env python3\r\nprint()\r\n"))


def test_the_same_script_with_unix_line_ends_is_accepted(tmp_path: Path) -> None:
    found = look(script(tmp_path, b"#!/usr/bin/env python3\nprint()\n"))
    assert os.path.basename(found.needed.prefix[0]).startswith("python")


def test_a_missing_interpreter_is_named(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="/opt/none/python3 does not exist"):
        look(script(tmp_path, b"#!/opt/none/python3\n"))


def test_a_script_of_another_language_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="its interpreter is sh"):
        look(script(tmp_path, b"#!/bin/sh\necho\n"))


def test_text_without_an_interpreter_line_needs_a_runtime(tmp_path: Path) -> None:
    path = script(tmp_path, b"print('hello')\n")
    with pytest.raises(LaunchError, match="runtime 'python'"):
        look(path)
    assert look(path, "python").needed.prefix


def build(directory: Path, *flags: str) -> Path:
    source, target = directory / "p.c", directory / "program"
    source.write_text("int main(void) { return 0; }\n")
    subprocess.run(["gcc", *flags, "-o", target, source], check=True, timeout=60)
    return target


def test_a_static_program_needs_nothing(tmp_path: Path) -> None:
    needed = look(build(tmp_path, "-static")).needed
    assert (needed.mounts, needed.system, needed.prefix) == ((), False, ())


def test_a_dynamic_program_needs_its_loader_and_libraries(tmp_path: Path) -> None:
    inside = [pair[0] for pair in look(build(tmp_path)).needed.mounts]
    assert any(os.path.basename(path).startswith("ld-") for path in inside)
    assert any(os.path.basename(path).startswith("libc.so") for path in inside)


def test_a_dynamic_program_under_runtime_static_names_its_loader(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match=r"needs the loader /lib.*runtime 'dynamic'"):
        look(build(tmp_path), "static")


def test_a_loader_that_the_machine_lacks_is_named(tmp_path: Path) -> None:
    program = build(tmp_path, "-Wl,--dynamic-linker=/lib/ld-none.so.9")
    with pytest.raises(LaunchError, match=r"/lib/ld-none\.so\.9, which this machine does not have"):
        look(program)


def test_a_library_that_the_machine_lacks_is_named(tmp_path: Path) -> None:
    library = tmp_path / "libgone.so"
    subprocess.run(
        ["gcc", "-shared", "-o", library, "-x", "c", "/dev/null"], check=True, timeout=60
    )
    program = build(tmp_path, "-Wl,--no-as-needed", str(library))
    library.unlink()
    subprocess.run(["true"], check=True, timeout=5)
    with pytest.raises(LaunchError, match=r"libgone\.so"):
        look(program)


def test_a_program_for_another_machine_is_named(tmp_path: Path) -> None:
    program = build(tmp_path, "-static")
    raw = bytearray(program.read_bytes())
    raw[18:20] = (243).to_bytes(2, "little")  # EM_RISCV
    program.write_bytes(raw)
    with pytest.raises(LaunchError, match="EM_RISCV"):
        look(program)


def test_a_program_that_others_may_not_run_is_copied_with_its_digest(tmp_path: Path) -> None:
    program = build(tmp_path, "-static")
    program.chmod(0o755)
    assert look(program).digest is None
    program.chmod(0o700)
    assert len(look(program).digest or "") == 64


def test_a_program_without_any_execute_bit_is_refused(tmp_path: Path) -> None:
    program = build(tmp_path, "-static")
    program.chmod(0o644)
    with pytest.raises(LaunchError, match=r"not executable.*chmod"):
        look(program)


def test_a_script_needs_no_execute_bit(tmp_path: Path) -> None:
    assert look(script(tmp_path, b"#!/usr/bin/env python3\n", 0o644)).needed.prefix


@pytest.mark.root
def test_a_program_that_nobody_may_run_is_refused(tmp_path: Path) -> None:
    program = build(tmp_path, "-static")
    program.chmod(0o200)
    with pytest.raises(LaunchError) as refused:
        look(program)
    assert (refused.value.stage, refused.value.errno) == ("exec", errno.EACCES)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=600), st.sampled_from(["auto", "static", "dynamic"]))
def test_foreign_bytes_are_refused_and_never_crash(
    tmp_path_factory: pytest.TempPathFactory, text: bytes, runtime: str
) -> None:
    path = script(tmp_path_factory.getbasetemp(), text)
    try:
        look(path, runtime)
    except LaunchError as refused:
        assert refused.stage in ("exec", "program")


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_broken_elf_headers_are_refused_and_never_crash(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    base = tmp_path_factory.getbasetemp() / "elf"
    if not base.exists():
        base.mkdir()
        build(base)
    raw = bytearray((base / "program").read_bytes()[: data.draw(st.integers(4, 20000))])
    for _ in range(data.draw(st.integers(0, 12))):
        at = data.draw(st.integers(4, min(len(raw), 1200) - 1)) if len(raw) > 4 else 0
        if at:
            raw[at] = data.draw(st.integers(0, 255))
    try:
        look(script(tmp_path_factory.getbasetemp(), bytes(raw)))
    except LaunchError as refused:
        assert refused.stage in ("exec", "program")
