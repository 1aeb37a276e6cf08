"""Limits: every value has a documented meaning or is refused."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oxgen import MIB, Limits, UsageError

SECONDS = ["wall_seconds", "cpu_seconds"]
COUNTS = ["memory_bytes", "processes", "open_files", "file_bytes", "disk_bytes", "output_bytes"]


@pytest.mark.parametrize("name", SECONDS)
@pytest.mark.parametrize("bad", [0, 0.0, -1, math.nan, math.inf, -math.inf, 1e12, "5", True, [1]])
def test_seconds_that_mean_nothing_are_refused(name: str, bad: object) -> None:
    with pytest.raises(UsageError, match=name):
        Limits(**{name: bad})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [*SECONDS, *COUNTS])
@pytest.mark.parametrize(
    "bad", [10**400, 10**5000, -(10**5000), "9" * 9999], ids=["1e400", "1e5000", "-1e5000", "text"]
)
def test_numbers_of_any_length_are_refused_in_a_short_message(name: str, bad: object) -> None:
    with pytest.raises(UsageError, match=name) as refused:
        Limits(**{name: bad})  # type: ignore[arg-type]
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize("name", SECONDS)
@pytest.mark.parametrize("good", [0.001, 0.5, 1, 2.75, 3600, None])
def test_seconds_may_be_fractions_or_unbounded(name: str, good: float | None) -> None:
    assert getattr(Limits(**{name: good}), name) == good  # type: ignore[arg-type]


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("bad", [-1, 1.5, math.nan, "512M", 1 << 60, True, 2**64, -(2**63)])
def test_counts_that_mean_nothing_are_refused(name: str, bad: object) -> None:
    with pytest.raises(UsageError, match=name):
        Limits(**{name: bad})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("good", [1 << 40, 256 * MIB, None])
def test_counts_may_be_large_or_unbounded(name: str, good: int | None) -> None:
    assert getattr(Limits(**{name: good}), name) == good  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["file_bytes", "output_bytes"])
def test_a_limit_of_nothing_at_all_is_a_limit(name: str) -> None:
    assert getattr(Limits(**{name: 0}), name) == 0  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["memory_bytes", "processes", "open_files", "disk_bytes"])
def test_a_limit_under_which_nothing_can_start_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} must be between"):
        Limits(**{name: 0})  # type: ignore[arg-type]


@given(st.integers(4 * MIB, 1 << 45), st.one_of(st.none(), st.integers(1 << 16, 1 << 45)))
def test_files_never_take_all_of_the_memory(memory: int, disk: int | None) -> None:
    effective = Limits(memory_bytes=memory, disk_bytes=disk).effective_disk_bytes
    assert effective is not None
    assert effective <= memory - memory // 4
    assert disk is None or effective <= disk


def test_without_a_memory_limit_the_disk_limit_stands() -> None:
    assert Limits(memory_bytes=None, disk_bytes=MIB).effective_disk_bytes == MIB
    assert Limits(memory_bytes=None, disk_bytes=None).effective_disk_bytes is None


def test_limits_are_a_value() -> None:
    assert Limits() == Limits(wall_seconds=300.0)
    assert len({Limits(), Limits(cpu_seconds=1), Limits()}) == 2
    with pytest.raises(AttributeError):
        Limits().wall_seconds = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    "bad", [0, 0.0, -1, 0.009, 1024.5, math.nan, math.inf, "2", True, [1], 10**400]
)
def test_numbers_of_processors_that_mean_nothing_are_refused(bad: object) -> None:
    with pytest.raises(UsageError, match="cpus must be") as refused:
        Limits(cpus=bad)  # type: ignore[arg-type]
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize("good", [0.01, 0.5, 1, 2.75, 1024, None])
def test_processors_may_be_fractions_or_unbounded(good: float | None) -> None:
    assert Limits(cpus=good).cpus == good
