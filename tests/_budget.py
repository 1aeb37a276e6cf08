"""pytest plugin: skipped tests are a number that CI checks, and each has a name on a list.

``--skip-budget RUN`` compares what was skipped with the section ``[RUN]`` of
``tests/skip_budget.txt``: more skips than its ``limit``, or one that it does not list, fail the
run. Without the option nothing changes. A run of which no test was executed fails as well.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

__all__ = ["Budget", "excess", "parse_budget"]

BUDGET_FILE = Path(__file__).with_name("skip_budget.txt")


@dataclass
class Budget:
    """One section: at most ``limit`` skips, each of a test whose name is in ``names``."""

    limit: int
    names: set[str] = field(default_factory=set)


def parse_budget(text: str) -> dict[str, Budget]:
    """Read the file's sections; a line that fits no rule is a ValueError that names it."""
    sections: dict[str, Budget] = {}
    current: Budget | None = None
    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.partition("#")[0].strip()
        if not line:
            continue
        if line.startswith("[") and line.endswith("]"):
            if line[1:-1] in sections:
                raise ValueError(f"line {number}: section {line} is there twice")
            current = sections[line[1:-1]] = Budget(limit=0)
            continue
        if current is None:
            raise ValueError(f"line {number}: {line!r} stands before the first [section]")
        word, _, rest = line.partition(" ")
        if word == "limit" and rest.strip().isdigit():
            current.limit = int(rest)
        elif not rest and ".py" in line:
            current.names.add(line)
        else:
            raise ValueError(f"line {number}: {line!r} is neither `limit N` nor the id of a test")
    return sections


def excess(skipped: list[str], budget: Budget) -> list[str]:
    """Return what is wrong with these skips, one sentence each; an empty list if nothing is.

    An entry without parameters stands for the test with all of them.
    """
    problems = [
        f"{name} was skipped and is not listed"
        for name in skipped
        if name not in budget.names and name.partition("[")[0] not in budget.names
    ]
    if len(skipped) > budget.limit:
        problems.append(f"{len(skipped)} skips, the budget allows {budget.limit}")
    return problems


class _Counter:
    def __init__(self, run: str, budget: Budget) -> None:
        self.run = run
        self.budget = budget
        self.skipped: list[str] = []
        self.executed = 0
        self.problems: list[str] = []

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self.skipped.append(report.nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # An expected failure is reported as skipped too; xfail_strict watches over those.
        if report.skipped and not hasattr(report, "wasxfail"):
            self.skipped.append(report.nodeid)
        elif report.when == "call":
            self.executed += 1

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        self.problems = excess(self.skipped, self.budget)
        if self.executed == 0:
            self.problems.append("no test was executed")
        if self.problems and session.exitstatus in (
            pytest.ExitCode.OK,
            pytest.ExitCode.NO_TESTS_COLLECTED,
        ):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section(f"skip budget of the run as {self.run}")
        terminalreporter.line(f"{len(self.skipped)} skipped, {self.budget.limit} allowed")
        for problem in self.problems:
            terminalreporter.line(f"FAILED {problem}", red=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--skip-budget``."""
    parser.addoption(
        "--skip-budget",
        metavar="RUN",
        help="fail if more tests were skipped than tests/skip_budget.txt allows for RUN",
    )
    parser.addoption(
        "--skip-budget-file", metavar="FILE", default=str(BUDGET_FILE), help="instead of that file"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Start counting if ``--skip-budget`` was given."""
    run = config.getoption("--skip-budget")
    if run is None:
        return
    path = Path(config.getoption("--skip-budget-file"))
    try:
        sections = parse_budget(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise pytest.UsageError(f"{path}: {exc}") from exc
    if run not in sections:
        raise pytest.UsageError(f"{path}: no section [{run}]; there are {', '.join(sections)}")
    config.pluginmanager.register(_Counter(run, sections[run]), "oxgen-skip-budget")
