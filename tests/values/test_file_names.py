"""Names of files for and from a run are checked before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from oxgen import Request, UsageError

GOOD = [
    "a",
    "a/b",
    ".hidden",
    "a..b",
    "...",
    "a\nb",
    "\udcff",
    "x" * 255,
    "/".join(["y" * 200] * 5),
]
BAD = [
    "", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/./b", "a\0b", "x" * 256,
    "/".join(["y" * 200] * 6), "\ud800", b"a", 3, None, Path("a"),
]  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_names_below_the_workspace_are_accepted(name: str) -> None:
    request = Request(["x"], files={name: b""}, collect=[name])
    assert request.files == {name: b""} and request.collect == (name,)


@pytest.mark.parametrize("name", BAD)
def test_other_names_are_refused_for_both(name: Any) -> None:
    with pytest.raises(UsageError, match=r"^files: "):
        Request(["x"], files={name: b""})
    with pytest.raises(UsageError, match=r"^collect: "):
        Request(["x"], collect=[name])


@pytest.mark.parametrize(
    "files", [{"a": "text"}, {"a": None}, {"a": 3}, ["a"], "a", 3, {"a": [b""]}]
)
def test_contents_are_bytes_or_paths(files: Any) -> None:
    with pytest.raises(UsageError, match="bytes"):
        Request(["x"], files=files)


@pytest.mark.parametrize("names", ["a", b"a", 3, None])
def test_names_are_a_sequence(names: Any) -> None:
    with pytest.raises(UsageError, match="sequence"):
        Request(["x"], collect=names)


@pytest.mark.parametrize("inner", ["a/b", "a/b/c"])
def test_a_file_cannot_lie_in_a_file(inner: str) -> None:
    with pytest.raises(UsageError, match="would lie in it"):
        Request(["x"], files={"a": b"", inner: b""})


def test_there_is_a_bound_on_how_many() -> None:
    names = [str(number) for number in range(10_001)]
    with pytest.raises(UsageError, match="10000"):
        Request(["x"], files=dict.fromkeys(names, b""))
    with pytest.raises(UsageError, match="10000"):
        Request(["x"], collect=names)
    Request(["x"], files=dict.fromkeys(names[1:], b""), collect=names[1:])


def test_names_that_are_asked_for_twice_are_read_once() -> None:
    assert Request(["x"], collect=["b", "a", "b"]).collect == ("b", "a")


def test_the_request_has_a_copy() -> None:
    files = {"a": b"1"}
    request = Request(["x"], files=files)
    files["a"] = b"2"
    assert request.files == {"a": b"1"}
    assert hash(request) == hash(Request(["x"], files={"a": b"1"}))
