"""A pytest plugin for the virtual machines: writes down how each test ended.

As an ordinary user the tests that are marked ``root`` run all the same: here a user has all that a
cell needs. What is left out is what only root can arrange, with its reason.
"""

from __future__ import annotations

import json
import os

import pytest

__all__: list[str] = []

_CONTROL = "needs-root: controls are made by root"
#: What somebody with one id cannot have; the second halves of names are parameters.
_ONE_ID = {
    "test_on_the_host_it_is_neither_root_nor_nobody": "its cells have its id outside",
    "test_two_plugins_are_two_users_of_the_host": "its cells have its id outside",
    "test_not_even_process_1_of_the_cell_is_root_of_the_host": "its cells have its id outside",
    "test_a_plugin_that_kills_everybody_kills_nobody": "TestOneId has what holds there",
    **dict.fromkeys(
        ("[signal_process_1]", "[stop_process_1]", "[kill_process_1]", "[kill_process_1_by_pidfd]"),
        "process 1 of a cell has the plugin's id: the signal is allowed, and does nothing",
    ),
}
_TEXT_CHARACTERS = 3000

_ended: dict[str, tuple[str, str]] = {}
_seconds: dict[str, float] = {}


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Take back the skip of ``root`` tests, and skip what cannot be had."""
    if os.geteuid() == 0:
        return
    for item in items:
        item.own_markers = [
            mark
            for mark in item.own_markers
            if not (mark.name == "skip" and str(mark.kwargs.get("reason")).startswith("needs-root"))
        ]
        name, bracket, parameter = item.name.partition("[")
        reason = _ONE_ID.get(name) or _ONE_ID.get(bracket + parameter)
        if "unconfined" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.skip(reason=_CONTROL))
        elif reason is not None and os.environ["OXGEN_VM_IDS"] == "0":
            item.add_marker(pytest.mark.skip(reason=f"needs-ids: a user with one: {reason}"))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keep the worst of a test's three phases."""
    _seconds[report.nodeid] = round(_seconds.get(report.nodeid, 0.0) + report.duration, 2)
    rank = {"passed": 0, "skipped": 1, "failed": 2}
    before = _ended.get(report.nodeid, ("passed", ""))
    if report.nodeid in _ended and rank[report.outcome] <= rank[before[0]]:
        return
    text = ""
    if report.skipped and isinstance(report.longrepr, tuple):
        text = report.longrepr[2].removeprefix("Skipped: ")
    elif report.failed:
        text = report.longreprtext[-_TEXT_CHARACTERS:]
    _ended[report.nodeid] = (report.outcome, text)


def pytest_sessionfinish(exitstatus: int) -> None:
    """Write what happened to the file that the environment names."""
    with open(os.environ["OXGEN_VM_RESULT"], "w", encoding="utf-8") as stream:
        json.dump({"exit_status": int(exitstatus), "tests": _ended, "seconds": _seconds}, stream)
