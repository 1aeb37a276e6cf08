"""Programs are looked at before they are launched, and what is wrong with one is named."""

from __future__ import annotations

import errno
import os
import platform
import socket
import struct
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oxgen import LaunchError, ProgramNotFoundError
from oxgen._launch import installed, shebang
from oxgen._launch.program import Program, open_program, verified_program


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


@pytest.mark.parametrize("runtime", ["python", "node"])
def test_a_script_of_another_language_than_the_runtime_is_refused_by_name(
    tmp_path: Path, runtime: str
) -> None:
    with pytest.raises(LaunchError, match=f"its interpreter is sh, and runtime '{runtime}' runs"):
        look(script(tmp_path, b"#!/bin/sh\necho\n"), runtime)


def test_a_script_of_another_language_gets_its_interpreter(tmp_path: Path) -> None:
    needed = look(script(tmp_path, b"#!/bin/sh -e\necho\n")).needed
    assert needed.prefix == ("/usr/bin/sh", "-e")
    assert ("/usr/bin/sh", os.path.realpath("/bin/sh")) in needed.mounts


def test_an_interpreter_that_env_names_is_looked_up_in_path(tmp_path: Path) -> None:
    assert look(script(tmp_path, b"#!/usr/bin/env sh\n")).needed.prefix == ("/usr/bin/sh",)
    with pytest.raises(LaunchError, match="its interpreter no-such-lisp is not in PATH"):
        look(script(tmp_path, b"#!/usr/bin/env no-such-lisp\n"))


def test_an_interpreter_that_is_a_script_itself_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    with pytest.raises(LaunchError, match="is itself no ELF program"):
        look(script(tmp_path, b"#!%s\n" % os.fsencode(other)))


@pytest.mark.parametrize("name", ["python3", "node"])
def test_a_script_that_starts_an_interpreter_is_not_taken_for_one(
    tmp_path: Path, name: str
) -> None:
    shim = script(tmp_path, b"#!/bin/sh\nexec /somewhere/else\n").rename(tmp_path / name)
    with pytest.raises(LaunchError, match="name the interpreter itself"):
        look(shim)


EVIL = "#!/bin/sh\ntouch {ran}\n"


def test_an_interpreter_that_only_a_script_names_is_not_run(tmp_path: Path) -> None:
    ran, evil = tmp_path / "ran", tmp_path / "python3"
    evil.write_text(EVIL.format(ran=ran))
    evil.chmod(0o755)
    with pytest.raises(LaunchError, match="neither the one that runs oxgen nor in PATH"):
        look(script(tmp_path, b"#!%s\n" % os.fsencode(evil)))
    assert not ran.exists()


def test_an_interpreter_in_path_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The twin of the test above: the same file counts as the caller's own once it is in PATH.
    ran, evil = tmp_path / "ran", tmp_path / "python3"
    evil.write_text(EVIL.format(ran=ran))
    evil.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(LaunchError, match="does not answer as a Python interpreter"):
        look(script(tmp_path, b"#!%s\n" % os.fsencode(evil)))
    assert ran.exists()


def test_a_program_that_only_has_the_name_of_an_interpreter_is_not_run(tmp_path: Path) -> None:
    program = build(tmp_path, "-static").rename(tmp_path / "python3")
    with pytest.raises(LaunchError, match="neither the one that runs oxgen nor in PATH"):
        look(program)
    assert look(program, "static").needed == look(program, "dynamic").needed


def test_an_installed_interpreter_as_the_program_runs_from_its_own_place() -> None:
    executable = installed.base_python()
    needed = look(executable).needed
    assert (needed.prefix, needed.is_script) == ((executable,), False)
    assert (executable, executable) in needed.mounts


def test_an_interpreter_whose_bytes_were_verified_is_a_program_like_others() -> None:
    executable = installed.base_python()
    with open(executable, "rb") as file:
        program = verified_program(
            file.fileno(), "0" * 64, entry="it", runtime="auto", path=executable
        )
    assert program.needed.prefix == ()


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
    with pytest.raises(LaunchError, match="is for riscv, this machine is"):
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


# --- the #! line ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "interpreter", "arguments", "by_name"),
    [
        (b"#!/bin/sh\n", "/bin/sh", (), False),
        (b"#! \t/bin/sh  -e x \n", "/bin/sh", ("-e x",), False),
        (b"#!/bin/sh", "/bin/sh", (), False),
        (b"#!/usr/bin/env node\n", "node", (), True),
        (
            b"#!/usr/bin/env -S node --no-warnings -r x\n",
            "node",
            ("--no-warnings", "-r", "x"),
            True,
        ),
        (b"#!/usr/bin/env -S /bin/sh -e\n", "/bin/sh", ("-e",), False),
    ],
)
def test_interpreter_line_is_read_as_the_kernel_reads_it(
    line: bytes, interpreter: str, arguments: tuple[str, ...], by_name: bool
) -> None:
    assert shebang.read(line, "it") == shebang.Shebang(interpreter, arguments, by_name)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"#!\n", "names no interpreter"),
        (b"#! \t\n", "names no interpreter"),
        (b"#!bin/sh\n", "no absolute path"),
        (b"#!/bin/sh\0x\n", "NUL"),
        (b"#!/" + b"x" * 300 + b"\n", "longer than"),
        (b"#!/" + b"x" * 400, "longer than"),
        (b"#!/usr/bin/env\n", "not just a name"),
        (b"#!/usr/bin/env -i sh\n", "not just a name"),
        (b"#!/usr/bin/env A=1 sh\n", "not just a name"),
        (b"#!/usr/bin/env sh -e\n", "not just a name"),
        (b"#!/usr/bin/env -S sh 'a b'\n", "unquote"),
        (b"#!/bin/sh\r\n", "carriage return"),
    ],
)
def test_interpreter_line_that_starts_nothing_is_refused(line: bytes, fault: str) -> None:
    with pytest.raises(LaunchError, match=fault):
        shebang.read(line, "it")


@given(st.binary(max_size=510))
def test_any_interpreter_line_is_read_or_refused(rest: bytes) -> None:
    try:
        assert shebang.read(b"#!" + rest, "it").interpreter
    except LaunchError as refused:
        assert refused.remedy


# --- what no kernel starts ------------------------------------------------------------------------


def test_an_empty_file_is_called_empty(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="is empty"):
        look(script(tmp_path, b""))


@pytest.mark.parametrize(
    ("name", "content", "what", "remedy"),
    [
        ("it", b"", "is empty", "written to its end"),
        ("it", b"echo a\n", "neither an ELF program nor a script", "such as #!/bin/sh"),
        ("it", b"\xef\xbb\xbf#!/bin/sh\n", "byte order mark", "without a byte order mark"),
        ("it", b"\xff\xfe#\0!\0", "is text in UTF-16", "in UTF-8"),
        ("it.jar", b"no zip", "is not a jar", "is it whole"),
        ("it", b"PK\3\4", "is a zip file", ".jar"),
        ("it.exe", b"MZ\x90\0", "is a Windows program", "build it for Linux"),
        ("it", b"\xcf\xfa\xed\xfe", "is a macOS program", "build it for Linux"),
    ],
)
def test_what_is_no_program_is_called_what_it_is(
    tmp_path: Path, name: str, content: bytes, what: str, remedy: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    path.chmod(0o755)
    with pytest.raises(LaunchError, match=what) as caught:
        look(path)
    assert remedy in caught.value.remedy


def test_a_script_may_begin_as_other_formats_do(tmp_path: Path) -> None:
    path = script(tmp_path, b"MZ = 1\n")
    assert look(path, "python").needed.prefix


def test_a_loader_with_a_path_that_no_kernel_takes_is_named(tmp_path: Path) -> None:
    program = build(tmp_path)
    content = bytearray(program.read_bytes())
    begin, size, count = (int.from_bytes(content[at : at + n], "little") for at, n in HEADER)
    for at in range(begin, begin + size * count, size):
        if int.from_bytes(content[at : at + 4], "little") == 3:  # PT_INTERP
            content[at + 32 : at + 40] = (5000).to_bytes(8, "little")
    program.write_bytes(content)
    with pytest.raises(LaunchError, match="a loader with a path of 5000 bytes; accepted: 4096"):
        look(program)


#: Where an ELF header of 64 bits says where its program headers are, how long and how many.
HEADER = ((32, 8), (54, 2), (56, 2))


def test_an_empty_script_runs(tmp_path: Path) -> None:
    assert look(script(tmp_path, b""), "python").needed.prefix


def test_a_program_that_was_cut_off_is_told_so(tmp_path: Path) -> None:
    program = build(tmp_path, "-static")
    program.write_bytes(program.read_bytes()[: program.stat().st_size // 2])
    with pytest.raises(LaunchError, match="is cut off: its ELF headers tell of"):
        look(program)


def test_an_object_file_is_called_that(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="is an object file, not a program"):
        look(build(tmp_path, "-c"))


def test_a_library_is_called_that(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="is a library, not a program"):
        look(build(tmp_path, "-shared", "-fPIC", "-nostartfiles"))


@pytest.mark.parametrize(
    ("at", "value", "words"),
    [
        (18, (183).to_bytes(2, "little"), "for aarch64"),
        (18, (3).to_bytes(2, "little"), "for i386"),
        (5, b"\2", "big-endian"),
    ],
)
def test_another_kind_of_machine_is_named(
    tmp_path: Path, at: int, value: bytes, words: str
) -> None:
    if platform.machine() != "x86_64":
        pytest.skip("needs-x86-64: the headers are those of x86-64")
    program = build(tmp_path, "-static")
    raw = bytearray(program.read_bytes())
    raw[at : at + len(value)] = value
    if at == 5:
        raw[18:20] = (62).to_bytes(2, "big")
    program.write_bytes(raw)
    with pytest.raises(LaunchError, match=f"{words}.*, this machine is x86-64"):
        look(program)


def test_a_program_of_32_bits_is_named(tmp_path: Path) -> None:
    # The head of an i386 program; no compiler for it has to be there.
    head = b"\x7fELF\1\1\1" + bytes(9) + struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, 0x8048000, *[0] * 9)
    with pytest.raises(LaunchError, match="is for 32-bit i386, this machine is"):
        look(script(tmp_path, head))


def test_a_library_beside_the_program_is_mounted_where_the_cell_looks_for_it(
    tmp_path: Path,
) -> None:
    library = tmp_path / "libnear.so"
    subprocess.run(
        ["gcc", "-shared", "-o", library, "-x", "c", "/dev/null"], check=True, timeout=60
    )
    program = build(
        tmp_path,
        "-Wl,--no-as-needed",
        f"-L{tmp_path}",
        "-lnear",
        "-Wl,-rpath,$ORIGIN/../lib:$ORIGIN",
    )
    assert ("/bin/libnear.so", str(library)) in look(program).needed.mounts
