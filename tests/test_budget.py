"""The skip budget: what it lets pass and what it stops."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from _budget import BUDGET_FILE, Budget, excess, parse_budget

TESTS = Path(__file__).parent
ONE_SKIP = "import pytest\n\ndef test_a():\n    pass\n\ndef test_b():\n    pytest.skip('why')\n"


def run_pytest(
    directory: Path, source: str, budget: str, *args: str
) -> subprocess.CompletedProcess[str]:
    (directory / "test_it.py").write_text(source, encoding="utf-8")
    (directory / "budget.txt").write_text(budget, encoding="utf-8")
    return subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "_budget"),
            *("--skip-budget", "x", "--skip-budget-file", "budget.txt"),
            *args,
        ],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_listed_skip_within_the_limit_passes(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, ONE_SKIP, "[x]\nlimit 1\ntest_it.py::test_b  # why\n")
    assert done.returncode == 0, done.stdout
    assert "1 skipped, 1 allowed" in done.stdout


def test_skip_that_is_not_listed_fails(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, ONE_SKIP, "[x]\nlimit 1\ntest_it.py::test_a\n")
    assert done.returncode == 1
    assert "test_it.py::test_b was skipped and is not listed" in done.stdout


def test_more_skips_than_allowed_fail(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, ONE_SKIP, "[x]\nlimit 0\ntest_it.py::test_b\n")
    assert done.returncode == 1
    assert "1 skips, the budget allows 0" in done.stdout


def test_module_that_skips_itself_is_counted(tmp_path: Path) -> None:
    source = "import pytest\npytest.skip('all of it', allow_module_level=True)\n"
    done = run_pytest(tmp_path, source, "[x]\nlimit 0\n")
    assert done.returncode == 1
    assert "test_it.py was skipped and is not listed" in done.stdout


def test_run_that_executes_nothing_fails(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, ONE_SKIP, "[x]\nlimit 9\n", "-k", "no_such_test")
    assert done.returncode == 1
    assert "no test was executed" in done.stdout


def test_name_without_parameters_covers_all_of_them() -> None:
    assert excess(["a.py::t[1]", "a.py::t[2]"], Budget(2, {"a.py::t"})) == []


def test_name_with_a_parameter_covers_only_that_one() -> None:
    assert excess(["a.py::t[2]"], Budget(1, {"a.py::t[1]"})) != []


@pytest.mark.parametrize("text", ["limit 1\n", "[a]\nlimit many\n", "[a]\nwords\n", "[a]\n[a]\n"])
def test_broken_budget_file_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="line "):
        parse_budget(text)


def test_committed_budget_has_both_runs() -> None:
    assert set(parse_budget(BUDGET_FILE.read_text(encoding="utf-8"))) == {"root", "user"}
