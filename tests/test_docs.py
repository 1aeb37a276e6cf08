"""What the documents say is what the code does: examples run, links lead somewhere."""

from __future__ import annotations

import dataclasses
import inspect
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import test_layers

import oxgen
from oxgen import _launch
from oxgen._launch import launcher
from oxgen.plugin import run_plugin

ROOT = Path(__file__).resolve().parent.parent
#: What building, testing and version control leave in the tree.
NOT_OURS = {"build", "dist", "wheelhouse"}
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
API = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
TUTORIAL = (ROOT / "docs" / "writing-a-plugin.md").read_text(encoding="utf-8")


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
        plain = re.sub(r"[`*]", "", heading).strip().lower()
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
        "cpus": "--cpus",
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


def control(*args: str | Path, cwd: Path) -> None:
    """Run 0xgenctl, which must end with 0."""
    done = shell(shlex.join(["0xgenctl", *map(str, args)]), cwd)
    assert done.returncode == 0, done.stderr


def shell(script: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a script of a document, with the programs of this environment in PATH."""
    return subprocess.run(
        ["sh", "-e", "-c", script],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=100,
        cwd=cwd,
        umask=0o022,
        env={**os.environ, "PATH": f"{programs()}:{os.environ['PATH']}", **env},
    )


def programs() -> Path:
    """Return the directory that holds 0xgenctl."""
    places = [Path(sys.executable).parent, Path(sys.prefix, "bin")]
    return next(place for place in places if (place / "0xgenctl").exists())


def said(code: str) -> list[str]:
    """Return what the comments behind the prints of an example promise."""
    return [line.rpartition("  # ")[2] for line in code.splitlines() if "print(" in line]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """What the examples need of a tree after `make demo`, owned by the caller whoever owns ours."""
    found = tmp_path / "tree"
    trust = found / "build" / "demo" / "trust"
    (trust / "keys").mkdir(parents=True)
    (found / "captures").mkdir()
    shutil.copyfile(ROOT / "captures" / "traffic.har", found / "captures" / "traffic.har")
    copied = trust / "passive-header-scan"
    copied.mkdir()
    for name in ("manifest.json", "passive_header_scan.py"):
        shutil.copyfile(ROOT / "plugins" / "passive-header-scan" / name, copied / name)
    for path in [tmp_path, *tmp_path.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    control("plugin", "keygen", "demo.key", trust / "keys" / "demo.pub", cwd=tmp_path)
    control("plugin", "sign", "--key", "demo.key", copied, cwd=tmp_path)
    control("plugin", "approve", "--trust-root", trust, copied, cwd=tmp_path)
    return found


def python_blocks(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)


@pytest.mark.root
@pytest.mark.parametrize("code", [*python_blocks(README), *python_blocks(API)])
def test_python_example_prints_what_it_says(tree: Path, code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=tree
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == said(code) != []


@pytest.mark.root
def test_commands_of_the_readme_all_end_with_0(tree: Path) -> None:
    done = shell(block(README, "sh"), tree)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\nhello\n" in done.stdout
    assert (tree / "build" / "found.jsonl").stat().st_size > 0


@pytest.mark.root
def test_trust_root_of_the_demonstration_serves_root_in_the_clone_of_another_user(
    tree: Path,
) -> None:
    for path in (tree, tree / "build", tree / "captures", tree / "captures" / "traffic.har"):
        os.chown(path, 47001, 47001)
    done = shell(block(README, "sh"), tree)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.root
def test_trust_root_that_belongs_to_another_user_is_refused_to_root(tree: Path) -> None:
    trust = tree / "build" / "demo" / "trust"
    for path in [trust, *trust.rglob("*")]:
        os.chown(path, 47001, 47001)
    done = shell("0xgenctl plugin list --trust-root build/demo/trust", tree)
    assert (done.returncode, "[untrusted_root]" in done.stderr) == (1, True)


def test_every_public_name_is_in_the_api_document() -> None:
    missing = [name for name in oxgen.__all__ if not re.search(rf"\b{name}\b", API)]
    assert missing == ["__version__"]


@pytest.mark.parametrize(
    "function",
    [oxgen.run, oxgen.spawn, oxgen.probe, oxgen.Launcher, oxgen.Limits, oxgen.Sandbox, run_plugin],
    ids=lambda function: function.__name__,
)
def test_parameters_are_those_of_the_api_document(function: Callable[..., object]) -> None:
    signature = rf"`{function.__name__}\(([^`]*)\)(?: -> \w+)?`"
    (documented,) = re.findall(signature, API)
    names = [part.partition("=")[0].strip() for part in documented.split(",")]
    parameters = list(inspect.signature(function).parameters.values())
    assert [name for name in names if name != "*"] == [each.name for each in parameters]
    where = names.index("*") if "*" in names else len(names)
    keywords = inspect.Parameter.KEYWORD_ONLY
    assert [each.kind == keywords for each in parameters] == [
        index >= where for index in range(len(parameters))
    ]


@dataclasses.dataclass(frozen=True)
class Step:
    """A block of the tutorial: what is to be done with it, its argument, its text."""

    what: str
    argument: str
    text: str


def steps() -> list[Step]:
    """Return the marked blocks of the tutorial."""
    marked = r"^<!-- (file|run|said)(?:: (\S+))? -->\n```\w+\n(.*?)^```$"
    return [Step(*found) for found in re.findall(marked, TUTORIAL, re.M | re.S)]


def test_every_block_of_the_tutorial_is_tried() -> None:
    assert len(steps()) == len(re.findall(r"^```\w+$", TUTORIAL, re.M)) > 0
    assert len(re.findall("^```$", TUTORIAL, re.M)) == len(steps())


def pattern(line: str) -> str:
    return "^" + re.escape(line.rstrip()).replace(re.escape("..."), ".*") + r"\s*$"


@pytest.mark.root
def test_tutorial_leads_from_an_empty_folder_to_findings(tree: Path, tmp_path: Path) -> None:
    (tree / "build" / "venv").mkdir()
    (tree / "build" / "venv" / "bin").symlink_to(programs())
    folder, state = tmp_path / "empty", tmp_path / "state"
    folder.mkdir()
    folder.chmod(0o755)
    # One shell for each block, which begins where the last one ended.
    keep = f"trap 'export -p >{state}' EXIT\n"
    output = ""
    for step in steps():
        if step.what == "file":
            (folder / step.argument).write_text(step.text, encoding="utf-8")
        elif step.what == "run":
            before = f". {state}\n" if state.exists() else ""
            done = shell(
                before + keep + step.text.replace("/path/to/oxgen", str(tree)),
                folder,
            )
            output = done.stdout + done.stderr
            assert done.returncode == int(step.argument or 0), f"{step.text}\n{output}"
        else:
            for line in step.text.splitlines():
                assert re.search(pattern(line), output, re.M), f"{line}\n{output}"
