"""``__all__`` of every public module is exactly its public names, and each says what it is."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "oxgen"
#: Names for the type checker alone; nobody imports them.
TYPE_VARIABLES = ("TypeVar", "ParamSpec")
#: A program, not a library: what its ``__init__`` imports, it uses and does not hand on.
PROGRAMS = ("oxgen.cli",)


def public_modules() -> list[str]:
    """Return the dotted names of the modules without an underscore in their path."""
    names = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        # The SDK is importable inside a cell only, where it has the name oxgen_plugin.
        if parts[1] == "sdk" or any(
            part.startswith("_") for part in parts if part not in ("__init__", "__main__")
        ):
            continue
        if parts[-1] != "__main__":
            names.append(".".join(part for part in parts if part != "__init__"))
    return names


def source_of(module: str) -> tuple[str, bool]:
    """Return a module's text and whether it is a package's ``__init__``."""
    path = PACKAGE.parent.joinpath(*module.split("."))
    if path.is_dir():
        return (path / "__init__.py").read_text(encoding="utf-8"), module not in PROGRAMS
    return path.with_suffix(".py").read_text(encoding="utf-8"), False


def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield what runs on import, through ``if`` and ``try``, not for type checkers."""
    for node in body:
        yield node
        if isinstance(node, ast.If):
            if not ast.unparse(node.test).endswith("TYPE_CHECKING"):
                yield from statements(node.body)
            yield from statements(node.orelse)
        elif isinstance(node, ast.Try):
            for part in (node.body, node.orelse, node.finalbody):
                yield from statements(part)
            for handler in node.handlers:
                yield from statements(handler.body)


def defined_names(source: str, is_package: bool) -> set[str]:
    """Return the public names that a module defines; for a package also those it re-exports."""
    names: set[str] = set()
    for node in statements(ast.parse(source).body):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            # A command is reached through the group that it belongs to, not by import.
            words = [ast.unparse(decorator).partition("(")[0] for decorator in node.decorator_list]
            if not any(word.endswith((".command", ".group")) for word in words):
                names.add(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            if isinstance(node.value, ast.Call) and ast.unparse(node.value.func) in TYPE_VARIABLES:
                continue
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names.update(
                leaf.id
                for target in targets
                for leaf in ast.walk(target)
                if isinstance(leaf, ast.Name) and isinstance(leaf.ctx, ast.Store)
            )
        elif isinstance(node, ast.ImportFrom) and is_package and node.level and node.module:
            # `from . import name`, without a module, binds a submodule: no export by itself.
            names.update(alias.asname or alias.name for alias in node.names)
    return {name for name in names if not name.startswith("_")}


def listed_names(source: str) -> list[str] | None:
    """Return the module's ``__all__``, or None where it has none that can be read."""
    for node in ast.parse(source).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(target, ast.Name) and target.id == "__all__":
            value = getattr(node, "value", None)
            return list(ast.literal_eval(value)) if value is not None else None
    return None


def complaints(source: str, is_package: bool = False) -> list[str]:
    """Return what is wrong with a module's exports, one sentence each."""
    found = []
    if not ast.get_docstring(ast.parse(source)):
        found.append("no docstring")
    listed = listed_names(source)
    if listed is None:
        return [*found, "no __all__"]
    # A dunder (`__version__`) may be listed and need not be.
    plain = [name for name in listed if not name.startswith("__")]
    if len(set(plain)) != len(plain):
        found.append("__all__ names something twice")
    names = defined_names(source, is_package)
    found += [f"{name} is public and not in __all__" for name in sorted(names - set(plain))]
    commands = {node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}
    missing = set(plain) - names - commands
    found += [f"{name} is in __all__ and not defined" for name in sorted(missing)]
    return found


@pytest.mark.parametrize("module", public_modules())
def test_all_is_the_public_names(module: str) -> None:
    assert complaints(*source_of(module)) == []


@pytest.mark.parametrize("module", public_modules())
def test_all_can_be_imported(module: str) -> None:
    imported = importlib.import_module(module)
    assert [name for name in imported.__all__ if not hasattr(imported, name)] == []


def test_there_are_public_modules() -> None:
    assert {"oxgen", "oxgen.errors", "oxgen.limits"} <= set(public_modules())


def test_public_name_that_is_not_listed_is_caught() -> None:
    source = '"""Doc."""\n__all__ = ["a"]\ndef a(): ...\ndef b(): ...\n'
    assert complaints(source) == ["b is public and not in __all__"]


def test_listed_name_that_does_not_exist_is_caught() -> None:
    assert complaints('"""Doc."""\n__all__ = ["a"]\n') == ["a is in __all__ and not defined"]


def test_module_without_all_is_caught() -> None:
    assert complaints('"""Doc."""\nimport os\n') == ["no __all__"]


def test_module_without_docstring_is_caught() -> None:
    assert complaints("__all__ = []\n") == ["no docstring"]


def test_private_names_and_imports_need_no_listing() -> None:
    source = '"""Doc."""\nimport os\nfrom .x import y\n__all__ = ["A"]\nA = 1\n_b = 2\n'
    assert complaints(source) == []


def test_command_needs_no_listing_and_may_have_one() -> None:
    source = (
        '"""Doc."""\n__all__ = ["a"]\n@x.command("a")\ndef a(): ...\n@x.group()\ndef b(): ...\n'
    )
    assert complaints(source) == []


def test_reexport_of_a_package_must_be_listed() -> None:
    source = '"""Doc."""\nfrom .x import y\n__all__ = []\n'
    assert complaints(source, is_package=True) == ["y is public and not in __all__"]
