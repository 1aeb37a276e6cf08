"""Fixtures that every layer's tests share: programs to confine, and ways to look at them.

The probe (tests/probe.c) is the confined program that says what it sees; ``unconfined`` runs the
same program with the protection off, in namespaces that are thrown away.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

TESTS = Path(__file__).resolve().parent
# `control` holds what tests share; it is found whatever import mode pytest was given.
if str(TESTS) not in sys.path:
    sys.path.insert(0, str(TESTS))

from control import hosts, programs, watch  # noqa: E402

if TYPE_CHECKING:
    from control.confined import Portrait, Probe
    from control.unconfined import Unconfined

pytest_plugins = ["_budget"]

#: What a skip's reason begins with; the rest says what would have to be there.
NEEDS_ROOT = "needs-root:"
NEEDS_USER = "needs-user:"
NEEDS_GO = "needs-go:"
NEEDS_PYTHON = "needs-python:"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what is marked ``root`` for an ordinary user and ``user`` for root, by their reasons."""
    if os.geteuid() == 0:
        other, reason = "user", f"{NEEDS_USER} it is about a launcher without privilege"
    else:
        other, reason = "root", f"{NEEDS_ROOT} cells are made by root"
    for item in items:
        if item.get_closest_marker(other) is not None:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def probe_path() -> Path:
    """The static probe."""
    return programs.build_probe()


@pytest.fixture(scope="session")
def dynamic_probe_path() -> Path:
    """The same program, linked to the machine's C library."""
    return programs.build_probe("-pie", "-fPIE")


@pytest.fixture(scope="session")
def probe(probe_path: Path) -> Probe:
    """The static probe in a cell of the default launcher."""
    from control.confined import Probe

    return Probe(probe_path)


@pytest.fixture(scope="session")
def dynamic_probe(dynamic_probe_path: Path) -> Probe:
    """The dynamic probe in a cell of the default launcher."""
    from control.confined import Probe

    return Probe(dynamic_probe_path)


@pytest.fixture(scope="session")
def portrait(probe: Probe) -> Portrait:
    """What the static probe sees without any settings; for tests that only read it."""
    return probe.look()


@pytest.fixture(scope="session")
def unconfined(probe_path: Path) -> Unconfined:
    """The static probe with the protection off, in namespaces that are thrown away."""
    from control.unconfined import Unconfined

    return Unconfined(probe_path)


@pytest.fixture(scope="session")
def build_c() -> Callable[..., Path]:
    """Compile a C program; see ``control.programs.build_c``."""
    return programs.build_c


@pytest.fixture(scope="session")
def build_go() -> Callable[[str, str], Path]:
    """Build a Go program, or skip the test where there is no Go."""

    def build(name: str, text: str) -> Path:
        path = programs.build_go(name, text)
        if path is None:
            pytest.skip(f"{NEEDS_GO} the go command is not installed")
        return path

    return build


@pytest.fixture
def tag() -> Iterator[str]:
    """A word that marks the processes of one test; afterwards none of them may be left."""
    word = watch.new_tag()
    yield word
    left = watch.processes(word)
    for pid in left:
        os.kill(pid, 9)
    assert not left, "the test left processes behind"


@pytest.fixture
def host(tag: str) -> Iterator[Callable[..., hosts.Host]]:
    """Start Python hosts of their own (``control.hosts.Host``), and end them with the test.

    They are ended before ``tag`` looks for what is left.
    """
    started: list[hosts.Host] = []

    def start(text: str, *words: object, **options: Any) -> hosts.Host:
        started.append(hosts.Host(text, *words, **options))
        return started[-1]

    yield start
    for one in started:
        one.close()
