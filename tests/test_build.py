"""Building: what ends up in the wheel, how it is hardened, and what is said if it cannot."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "csrc"))

import build_native  # noqa: E402

CC = shutil.which("gcc") or shutil.which("cc") or "cc"
LAUNCHER = "oxgen/_launcher"


def copy_tree(target: Path) -> Path:
    """Copy what a build reads, without what an earlier one left."""
    target.mkdir()
    ignore = shutil.ignore_patterns("__pycache__", "*.so", "_launcher")
    for name in ("csrc", "oxgen"):
        shutil.copytree(ROOT / name, target / name, ignore=ignore)
    for name in (
        "setup.py",
        "oxgenctl.py",
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "MANIFEST.in",
    ):
        shutil.copy(ROOT / name, target)
    return target


def build(
    tree: Path, *args: str, environment: dict[str, str] | None = None, before: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run setup.py; ``before`` is Python that runs in the same process before it."""
    code = f"import runpy, sys\n{before}\nsys.argv[1:] = {list(args)!r}\nrunpy.run_path('setup.py')"
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=tree,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=110,
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = copy_tree(tmp_path_factory.mktemp("wheel") / "tree")
    # A file of an earlier build that no longer belongs to the package.
    stale = tree / "build" / "lib" / "oxgen" / "stale.py"
    stale.parent.mkdir(parents=True)
    stale.write_text("")
    done = build(tree, "-q", "build", "-b", "build", "--build-lib", "build/lib", "bdist_wheel")
    assert done.returncode == 0, done.stderr
    (found,) = (tree / "dist").glob("*.whl")
    return found


@pytest.fixture(scope="module")
def unpacked(wheel: Path) -> Path:
    target = wheel.parent / "unpacked"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


def native(unpacked: Path) -> Path:
    (found,) = unpacked.glob("oxgen/_native*.so")
    return found


def dynamic_flags(path: Path) -> dict[str, int]:
    with path.open("rb") as stream:
        dynamic = ELFFile(stream).get_section_by_name(".dynamic")
        return {tag.entry.d_tag: tag.entry.d_val for tag in dynamic.iter_tags()}


def segments(path: Path) -> dict[str, int]:
    with path.open("rb") as stream:
        return {part.header.p_type: part.header.p_flags for part in ELFFile(stream).iter_segments()}


def dynamic_symbols(path: Path, *, defined: bool) -> set[str]:
    with path.open("rb") as stream:
        table = ELFFile(stream).get_section_by_name(".dynsym")
        return {
            symbol.name
            for symbol in table.iter_symbols()
            if symbol.name and (symbol.entry.st_shndx != "SHN_UNDEF") == defined
        }


@pytest.mark.build
@pytest.mark.skipif(not build_native.limited_api(), reason="free-threaded CPython: no stable ABI")
def test_wheel_serves_every_cpython_from_3_10(wheel: Path) -> None:
    assert "-cp310-abi3-linux_" in wheel.name


@pytest.mark.build
def test_wheel_has_everything_that_runs_need(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {LAUNCHER, "oxgen/py.typed", "oxgen/sdk/oxgen_plugin.py", "oxgenctl.py"} <= names
    assert any(name.startswith("oxgen/_native.") for name in names)


@pytest.mark.build
def test_wheel_keeps_the_launcher_executable(wheel: Path) -> None:
    mode = zipfile.ZipFile(wheel).getinfo(LAUNCHER).external_attr >> 16
    assert mode & 0o777 == 0o755


@pytest.mark.build
def test_wheel_has_nothing_of_an_earlier_build(wheel: Path) -> None:
    assert "oxgen/stale.py" not in zipfile.ZipFile(wheel).namelist()


@pytest.mark.build
def test_launcher_is_position_independent(unpacked: Path) -> None:
    with (unpacked / LAUNCHER).open("rb") as stream:
        assert ELFFile(stream).header.e_type == "ET_DYN"


@pytest.fixture(params=["launcher", "extension"])
def program(request: pytest.FixtureRequest, unpacked: Path) -> Iterator[Path]:
    yield unpacked / LAUNCHER if request.param == "launcher" else native(unpacked)


@pytest.mark.build
def test_addresses_of_functions_are_bound_at_start_and_read_only(program: Path) -> None:
    assert dynamic_flags(program).get("DT_FLAGS", 0) & 0x8  # DF_BIND_NOW
    assert "PT_GNU_RELRO" in segments(program)


@pytest.mark.build
def test_stack_is_not_executable(program: Path) -> None:
    assert segments(program)["PT_GNU_STACK"] & 1 == 0


@pytest.mark.build
def test_stack_protector_is_on(program: Path) -> None:
    assert "__stack_chk_fail" in dynamic_symbols(program, defined=False)


@pytest.mark.build
def test_extension_exports_its_entry_point_alone(unpacked: Path) -> None:
    names = dynamic_symbols(native(unpacked), defined=True)
    assert {name for name in names if not name.startswith("_")} == {"PyInit__native"}


@pytest.mark.build
def test_changed_header_reaches_both_programs(tmp_path: Path) -> None:
    tree = copy_tree(tmp_path / "tree")
    assert build(tree, "-q", "build_ext", "--inplace").returncode == 0
    (extension,) = tree.glob("oxgen/_native*.so")
    before = [(tree / LAUNCHER).stat().st_mtime_ns, extension.stat().st_mtime_ns]
    header = tree / "csrc" / "core.h"
    header.write_text(header.read_text(encoding="utf-8") + "#error changed\n", encoding="utf-8")
    # As old as it was: a time stamp proves nothing.
    os.utime(header, (1, 1))
    done = build(tree, "-q", "build_ext", "--inplace")
    assert done.returncode != 0
    assert "changed" in done.stderr
    header.write_text(
        header.read_text(encoding="utf-8").replace("#error changed\n", ""), encoding="utf-8"
    )
    assert build(tree, "-q", "build_ext", "--inplace").returncode == 0
    after = [(tree / LAUNCHER).stat().st_mtime_ns, extension.stat().st_mtime_ns]
    assert all(new > old for new, old in zip(after, before, strict=True))


@pytest.mark.build
def test_missing_compiler_is_one_sentence_that_names_the_package(tmp_path: Path) -> None:
    done = build(
        copy_tree(tmp_path / "tree"), "-q", "build_ext", environment={"CC": "/nonexistent"}
    )
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    (sentence,) = [line for line in done.stderr.splitlines() if "error:" in line]
    assert "/nonexistent was not found" in sentence
    assert "apt-get install build-essential" in sentence


@pytest.mark.build
def test_missing_compiler_on_an_empty_path_is_one_sentence(tmp_path: Path) -> None:
    done = build(copy_tree(tmp_path / "tree"), "-q", "build_ext", environment={"PATH": "/nowhere"})
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "no C compiler" in done.stderr


@pytest.mark.build
def test_missing_python_headers_are_one_sentence_that_names_the_package(tmp_path: Path) -> None:
    # A compiler to which no include directory is handed on finds only what the system has.
    compiler = tmp_path / "cc"
    compiler.write_text(
        "#!/bin/sh\n"
        'for word in "$@"; do shift; case $word in -I*) ;; *) set -- "$@" "$word" ;; esac; done\n'
        f'exec {CC} "$@"\n'
    )
    compiler.chmod(0o755)
    tree = copy_tree(tmp_path / "tree")
    done = build(tree, "-q", "build_ext", environment={"CC": str(compiler)})
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    (sentence,) = [line for line in done.stderr.splitlines() if "error:" in line]
    assert "apt-get install python3-dev" in sentence


@pytest.mark.build
def test_other_systems_are_told_that_only_linux_is_built(tmp_path: Path) -> None:
    done = build(copy_tree(tmp_path / "tree"), "--version", before="sys.platform = 'darwin'")
    assert done.returncode != 0
    assert "builds on Linux only, not on darwin" in done.stderr
    assert "Traceback" not in done.stderr


def test_compiler_without_the_c_library_is_named(tmp_path: Path) -> None:
    with pytest.raises(build_native.BuildError, match="apt-get install libc6-dev"):
        build_native.check_compiler([CC, "-nostdinc"], [])


def test_python_headers_that_are_there_are_found() -> None:
    import sysconfig

    paths = sysconfig.get_paths()
    build_native.check_compiler([CC], [paths["include"], paths["platinclude"]])


def test_unknown_sanitizer_is_refused() -> None:
    with pytest.raises(build_native.BuildError, match="accepted are address, undefined"):
        build_native.sanitizers("adress")


def test_named_sanitizers_are_accepted() -> None:
    assert build_native.sanitizers("address, undefined") == ["address", "undefined"]


def test_declarations_are_the_text_of_api_h() -> None:
    text = (ROOT / "csrc" / "api.h").read_text(encoding="utf-8")
    assert not [line for line in text.splitlines() if line.lstrip().startswith("#")]
    assert '#include "api.h"' in build_native.PREAMBLE
