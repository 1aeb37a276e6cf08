"""What the documents say is what the code does: examples run, links lead somewhere."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import test_layers

import oxgen
from oxgen import _launch
from oxgen._launch import launcher

ROOT = Path(__file__).resolve().parent.parent
#: What building, testing and version control leave in the tree.
NOT_OURS = {"build", "dist", "wheelhouse"}
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")


def documents() -> list[Path]:
    """Return every Markdown file of the tree."""
    found = list(ROOT.glob("*.md"))
    for directory in ROOT.iterdir():
        name = directory.name
        if name not in NOT_OURS and (not name.startswith(".") or name == ".github"):
            found += directory.rglob("*.md")
    return sorted(found)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


every_document = pytest.mark.parametrize("path", documents(), ids=name_of)


def prose(text: str) -> str:
    """Return a document without its fenced blocks, where `[x](y)` is code."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)


def anchors(text: str) -> set[str]:
    """Return the fragments of a document's headings, as GitHub makes them."""
    found = set()
    for heading in re.findall(r"^#+ +(.*)$", prose(text), re.M):
        plain = re.sub(r"[`*_]", "", heading).strip().lower()
        found.add(re.sub(r"[^\w\- ]", "", plain).replace(" ", "-"))
    return found


def broken_links(path: Path) -> list[str]:
    """Return the relative links that lead to no file, or to no heading of it."""
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(path.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, fragment = target.partition("#")
        there = path if not file else path.parent / file
        found = there.exists()
        if found and fragment:
            found = fragment in anchors(there.read_text(encoding="utf-8"))
        if not found:
            broken.append(target)
    return broken


def first_columns(text: str, marker: str) -> list[list[str]]:
    """Return the cells of the table below a comment, without its head."""
    begin = text.index(marker)
    table = re.search(r"(?:^\|.*\n)+", text[begin:], re.M)
    assert table is not None, marker
    rows = [line.strip("|\n").split("|") for line in table[0].splitlines()[2:]]
    return [[cell.strip() for cell in row] for row in rows]


def block(text: str, language: str) -> str:
    """Return the one fenced block of a language."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)
    return str(found)


def names(cell: str) -> list[str]:
    """Return what stands in backquotes."""
    return re.findall(r"`([^`]+)`", cell)


# --- links ----------------------------------------------------------------------------------------


@every_document
def test_relative_links_lead_somewhere(path: Path) -> None:
    assert broken_links(path) == []


def test_link_to_nothing_is_caught(tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    path.write_text("# Here\n[x](gone.md) [y](#there) [z](#here) [w](https://example.org/x)\n")
    assert broken_links(path) == ["gone.md", "#there"]


@every_document
def test_files_that_are_named_exist(path: Path) -> None:
    pattern = r"`((?:csrc|docs|oxgen|scripts|tests)/[\w./-]+)`|\b(tests/[\w/]+\.(?:py|c|sh|txt))\b"
    named = [a or b for a, b in re.findall(pattern, path.read_text(encoding="utf-8"))]
    # The launcher is there once it is built.
    assert [
        name for name in named if name != "oxgen/_launcher" and not (ROOT / name).exists()
    ] == []


@every_document
def test_tests_that_are_named_exist(path: Path) -> None:
    wanted = set(re.findall(r"`(test_\w+)`", path.read_text(encoding="utf-8")))
    sources = [*(ROOT / "tests").rglob("*.py"), *(ROOT / "tests").rglob("*.c")]
    text = "\n".join(source.read_text(encoding="utf-8") for source in sources) if wanted else ""
    assert {name for name in wanted if not re.search(rf"\b{name}\(", text)} == set()


def test_every_document_is_in_the_index() -> None:
    index = ROOT / "docs" / "index.md"
    text = index.read_text(encoding="utf-8")
    linked = {
        (index.parent / link.partition("#")[0]).resolve()
        for link in re.findall(r"\]\(([^)\s:]+)\)", text)
    }
    inside = {path for path in documents() if name_of(path).startswith("docs/")}
    assert inside - linked - {index} == set()


# --- tables ---------------------------------------------------------------------------------------


def test_stages_are_those_of_the_code_in_their_order() -> None:
    rows = first_columns(ARCHITECTURE, "compares this table with oxgen._launch.stages()")
    assert [name for row in rows for name in names(row[0])] == list(_launch.stages())


def test_every_limit_is_documented_with_its_default() -> None:
    rows = first_columns(ARCHITECTURE, "compares names and defaults with oxgen.Limits")
    documented = {names(row[0])[0]: row[1] for row in rows}
    defaults = {field.name: str(field.default) for field in dataclasses.fields(oxgen.Limits)}
    assert documented == defaults


@pytest.mark.parametrize("name", ["docs/cli.md", "docs/exit-status.md"])
def test_every_limit_is_in_the_document_for_users(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    options = {
        "cpu_seconds": "--cpu-limit",
        "memory_bytes": "--memory-limit",
        "wall_seconds": "--wall-limit",
        "processes": "--process-limit",
        "open_files": "--open-files-limit",
        "file_bytes": "--file-limit",
        "disk_bytes": "--disk-limit",
        "output_bytes": "--output-limit",
    }
    fields = [field.name for field in dataclasses.fields(oxgen.Limits)]
    assert [one for one in fields if one not in text and options[one] not in text] == []


def test_layers_are_those_of_the_test_of_layers() -> None:
    rows = first_columns(ARCHITECTURE, "compares this table with tests/test_layers.py")
    documented = {
        "" if name == "oxgen" else name: int(row[0]) for row in rows for name in names(row[1])
    }
    assert documented == test_layers.LAYERS


def test_uid_range_is_that_of_the_code() -> None:
    assert f"range {launcher.UID_BASE} + {launcher.UID_COUNT}" in ARCHITECTURE


def test_changelog_has_this_version_and_security_first() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    latest = text[text.index("\n## [") :]
    assert latest.startswith(f"\n## [{oxgen.__version__}]")
    assert re.findall(r"^### (.*)$", latest, re.M)[0] == "Security"


# --- examples -------------------------------------------------------------------------------------


@pytest.mark.root
def test_python_example_of_the_readme_prints_what_it_says() -> None:
    code = block(README, "python")
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT
    )
    assert (done.returncode, done.stderr) == (0, "")
    said = [line.partition("#")[2].strip() for line in code.splitlines() if "  # " in line]
    assert done.stdout.splitlines() == said


@pytest.mark.root
def test_commands_of_the_readme_all_end_with_0(tmp_path: Path) -> None:
    script = block(README, "sh")
    assert script.count("build/found.jsonl") == 2
    programs = [Path(sys.executable).parent, Path(sys.prefix, "bin")]
    done = subprocess.run(
        ["sh", "-e", "-c", script.replace("build/found.jsonl", str(tmp_path / "found.jsonl"))],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=100,
        cwd=ROOT,
        env={**os.environ, "PATH": ":".join([*map(str, programs), os.environ["PATH"]])},
    )
    assert done.returncode == 0, done.stderr
    assert "\nhello\n" in done.stdout
    assert (tmp_path / "found.jsonl").stat().st_size > 0
