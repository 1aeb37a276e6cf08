"""Build the extension and the launcher; everything else is in pyproject.toml."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

if not sys.platform.startswith("linux"):
    raise SystemExit(
        f"oxgen: this version builds on Linux only, not on {sys.platform}; "
        "on Windows it can be used inside WSL2"
    )

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.errors import SetupError

ROOT = Path(__file__).resolve().parent
# A build backend runs this file with neither the source tree nor csrc/ on the path (PEP 517).
sys.path.insert(0, str(ROOT / "csrc"))

import build_native  # noqa: E402

LAUNCHER = "oxgen._launcher"


class Launcher(Extension):
    """An executable that is built and installed like an extension module."""


class BuildNative(build_ext):
    """Compile the extension and the launcher, always afresh.

    Object files of an earlier build are never taken over: they could be older than a header, or
    of other flags, and a stale security core is worse than a few seconds of compiling.
    """

    def finalize_options(self) -> None:
        super().finalize_options()
        self.force = True

    def get_ext_filename(self, fullname: str) -> str:
        if fullname in (LAUNCHER, LAUNCHER.rpartition(".")[2]):
            return os.path.join(*fullname.split("."))
        return str(super().get_ext_filename(fullname))

    def get_export_symbols(self, ext: Extension) -> list[str]:
        return [] if isinstance(ext, Launcher) else list(super().get_export_symbols(ext))

    def build_extensions(self) -> None:
        includes = [path for path in self.compiler.include_dirs if path]
        try:
            build_native.check_compiler(self.compiler.compiler_so, includes)
        except build_native.BuildError as exc:
            raise SetupError(str(exc)) from exc
        super().build_extensions()

    def build_extension(self, ext: Extension) -> None:
        temporary = Path(self.build_temp, ext.name)
        if temporary.exists():
            shutil.rmtree(temporary)
        temporary.mkdir(parents=True)
        if isinstance(ext, Launcher):
            self._build_launcher(ext, temporary)
            return
        module = temporary / f"{ext.name.rpartition('.')[2]}.c"
        build_native.make_ffi(ROOT).emit_c_code(str(module))
        written = ext.sources
        ext.sources = [str(module), *written]
        try:
            super().build_extension(ext)
        finally:
            ext.sources = written

    def _build_launcher(self, ext: Extension, temporary: Path) -> None:
        """Compile and link the executable where an extension of its name would go."""
        target = Path(self.get_ext_fullpath(ext.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        objects = self.compiler.compile(
            ext.sources,
            output_dir=str(temporary),
            include_dirs=ext.include_dirs,
            extra_postargs=ext.extra_compile_args,
            depends=ext.depends,
        )
        self.compiler.link_executable(
            objects, target.name, output_dir=str(target.parent), extra_postargs=ext.extra_link_args
        )
        target.chmod(0o755)


class BuildPython(build_py):
    """Copy the Python files into an empty directory, so that no deleted module is packed."""

    def run(self) -> None:
        if not self.editable_mode:
            shutil.rmtree(os.path.join(self.build_lib, "oxgen"), ignore_errors=True)
        super().run()


def extensions() -> list[Extension]:
    """Describe the two programs; sources are relative, as setuptools wants them."""
    chosen = build_native.sanitizers()
    depends = [_relative(path) for path in build_native.headers(ROOT)]
    common: dict[str, Any] = {"depends": depends}
    stable = build_native.limited_api()
    macro = ("Py_LIMITED_API", build_native.LIMITED_API)
    core = build_native.core_sources(ROOT)
    main = build_native.launcher_sources(ROOT)
    if "address" in chosen:
        main.append(ROOT / "scripts" / "asan_options.c")
    return [
        Extension(
            build_native.MODULE,
            [_relative(path) for path in core],
            define_macros=[macro] if stable else [("_CFFI_NO_LIMITED_API", None)],
            py_limited_api=stable,
            extra_compile_args=build_native.c_flags(executable=False, sanitize=chosen),
            extra_link_args=build_native.link_flags(executable=False, sanitize=chosen),
            **common,
        ),
        Launcher(
            LAUNCHER,
            [_relative(path) for path in main],
            extra_compile_args=build_native.c_flags(executable=True, sanitize=chosen),
            extra_link_args=build_native.link_flags(executable=True, sanitize=chosen),
            **common,
        ),
    ]


def _relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


try:
    EXTENSIONS = extensions()
except build_native.BuildError as problem:
    raise SystemExit(f"oxgen: {problem}") from None

setup(
    ext_modules=EXTENSIONS,
    cmdclass={"build_ext": BuildNative, "build_py": BuildPython},
    options=({"bdist_wheel": {"py_limited_api": "cp310"}} if build_native.limited_api() else {}),
)
