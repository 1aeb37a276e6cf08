"""Imports point down the layers only, and only ``oxgen._launch`` reaches the C core."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "oxgen"
CSRC = ROOT / "csrc"

#: The table. A module may import those of a lower number, and itself; a package is one entry.
#: A name that is missing here is an error: whoever adds a module says where it belongs.
LAYERS = {
    "closing": 0,
    "errors": 0,
    "timestamps": 0,
    "limits": 1,
    "machine": 1,
    "sandbox": 1,
    "request": 2,
    "result": 2,
    "manifest": 3,
    "findings": 3,
    "capabilities": 3,
    "integrity": 4,
    "_launch": 5,
    "process": 6,
    "many": 7,
    "aio": 8,
    "": 9,  # oxgen/__init__.py, the public names
    "plugin": 10,
    "broker": 11,
    "cli": 12,
    "__main__": 13,
}
#: They know of files and records only; what starts processes is above them.
NO_PROCESS = {"manifest", "findings", "capabilities", "integrity"}
#: Runs inside a cell, in whatever Python is there: nothing of oxgen, nothing from an index.
OUTSIDE = "sdk"
NATIVE = "_native"


def module_of(path: Path, package: Path = PACKAGE) -> str:
    """Return the entry of the table for a file: ``cli`` for ``oxgen/cli/run.py``."""
    parts = path.relative_to(package).with_suffix("").parts
    return "" if parts == ("__init__",) else parts[0]


def imports(source: str, dotted: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """Yield line and absolute name of what is imported, at any depth, except for type checkers.

    ``dotted`` is the package that the file lies in: ``("oxgen", "cli")``.
    """
    tree = ast.parse(source)
    for_types: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for_types.update(id(below) for child in node.body for below in ast.walk(child))
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = dotted[: len(dotted) - node.level + 1] if node.level else ()
            prefix = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, f"{prefix}.{alias.name}"
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
            ("import_module", "__import__")
        ):
            for argument in node.args[:1]:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield node.lineno, argument.value.replace("..", "oxgen.").lstrip(".")


def target_of(name: str) -> str | None:
    """Return the entry of the table that an imported name belongs to, or None if not oxgen's."""
    first, _, rest = name.partition(".")
    if first != "oxgen":
        return None
    entry = rest.partition(".")[0]
    if entry in LAYERS or entry in (NATIVE, OUTSIDE):
        return entry
    # `from oxgen import run`: a public name of the package itself, unless a module of that name
    # exists that the table does not know.
    known = (PACKAGE / f"{entry}.py").exists() or (PACKAGE / entry).is_dir()
    return entry if known else ""


def violations(source: str, module: str, dotted: tuple[str, ...]) -> list[str]:
    """Return one sentence for each import that the table forbids."""
    if module not in LAYERS:
        return [f"{module}: not in the table of tests/test_layers.py"]
    found = []
    for line, name in imports(source, dotted):
        target = target_of(name)
        if target is None or target == module:
            continue
        where = f"{module}:{line}: imports {name}"
        if target == NATIVE:
            if module != "_launch":
                found.append(f"{where}, which is for oxgen._launch alone")
        elif target not in LAYERS:
            found.append(f"{where}, which is not in the table")
        elif LAYERS[target] >= LAYERS[module]:
            found.append(f"{where}, which is not below it")
    return found


def test_every_import_points_down() -> None:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        if module_of(path) == OUTSIDE:
            continue
        dotted = ("oxgen", *path.relative_to(PACKAGE).parts[:-1])
        found += violations(path.read_text(encoding="utf-8"), module_of(path), dotted)
    assert found == []


def test_upward_import_is_caught() -> None:
    assert violations("from .process import run\n", "integrity", ("oxgen",)) == [
        "integrity:1: imports oxgen.process.run, which is not below it"
    ]


def test_downward_import_is_allowed() -> None:
    assert violations("from .limits import Limits\n", "integrity", ("oxgen",)) == []


def test_upward_import_inside_a_function_is_caught() -> None:
    source = "def late():\n    from ..cli import main\n    return main\n"
    assert violations(source, "broker", ("oxgen", "broker")) != []


def test_upward_import_by_name_is_caught() -> None:
    source = "import importlib\nimportlib.import_module('oxgen.cli')\n"
    assert violations(source, "broker", ("oxgen", "broker")) != []


def test_upward_import_of_the_package_itself_is_caught() -> None:
    assert violations("from . import run\n", "process", ("oxgen",)) != []


def test_import_for_type_checkers_is_allowed() -> None:
    source = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .cli import main\n"
    assert violations(source, "errors", ("oxgen",)) == []


def test_native_outside_of_launch_is_caught() -> None:
    for source in ("from . import _native\n", "from oxgen._native import ffi\n"):
        assert violations(source, "process", ("oxgen",)) != []


def test_native_in_launch_is_allowed() -> None:
    assert violations("from .._native import ffi, lib\n", "_launch", ("oxgen", "_launch")) == []


def test_module_without_a_layer_is_caught() -> None:
    assert violations("", "surprise", ("oxgen",)) != []


def test_records_and_trust_are_below_what_starts_processes() -> None:
    assert all(LAYERS[name] < LAYERS["_launch"] for name in NO_PROCESS)


def foreign_imports(source: str) -> list[str]:
    """Return what a file of the plugin SDK imports beyond the standard library."""
    names = (name.partition(".")[0] for _, name in imports(source, ("sdk",)))
    return [name for name in names if name not in sys.stdlib_module_names]


def test_plugin_sdk_needs_nothing_but_the_standard_library() -> None:
    files = sorted((PACKAGE / OUTSIDE).glob("*.py"))
    assert files
    assert [found for path in files for found in foreign_imports(path.read_text("utf-8"))] == []


def test_foreign_import_of_the_plugin_sdk_is_caught() -> None:
    assert foreign_imports("import json, msgspec\nfrom oxgen import run\n") == ["msgspec", "oxgen"]


def upward_includes(source: str) -> list[str]:
    """Return the includes of a file in csrc/posix that reach into a system's own directory."""
    pattern = r'^\s*#\s*include\s+"((?:[^"]*/)?(?:linux|macos|windows)/[^"]*)"'
    return re.findall(pattern, source, re.M)


def test_portable_c_includes_nothing_of_one_system() -> None:
    files = sorted(CSRC.glob("posix/*.[ch]"))
    assert files
    assert [found for path in files for found in upward_includes(path.read_text("utf-8"))] == []


def test_include_of_one_system_in_portable_c_is_caught() -> None:
    source = '#include "../linux/warden.h"\n#include <linux/seccomp.h>\n#include "fd.h"\n'
    assert upward_includes(source) == ["../linux/warden.h"]
