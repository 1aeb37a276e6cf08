"""What a mount may be is checked before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from oxgen import Mount, Sandbox, UsageError


@pytest.mark.parametrize(
    ("given", "inside"),
    [("/data", "/data"), ("/data/", "/data"), ("/a//b/./c", "/a/b/c"), ("//data", "/data"),
     ("/opt/x", "/opt/x"), ("/home/other", "/home/other"), ("/binary", "/binary")],
)  # fmt: skip
def test_destinations_are_normalised(given: str, inside: str) -> None:
    assert Mount("/x", given).inside == inside


@pytest.mark.parametrize(
    "destination",
    ["", "data", "/", "//", "/.", "/..", "/data/../bin", "/bin", "/bin/x", "/proc", "/proc/sys",
     "/dev", "/dev/shm/x", "/etc", "/etc/passwd", "/tmp", "/tmp/x", "/workspace", "/workspace/in",
     "/home", "/home/plugin", "/home/plugin/.config", "/a\0b", "/" + "x" * 256, "/x" * 600,
     3, b"/a"],
)  # fmt: skip
def test_destinations_that_are_the_cells_own_are_refused(destination: Any) -> None:
    with pytest.raises(UsageError, match="mounts: "):
        Mount("/x", destination)


@pytest.mark.parametrize("source", ["", "relative", "/a\0b", 3, None, b"/a", Path("relative")])
def test_sources_are_absolute_paths(source: Any) -> None:
    with pytest.raises(UsageError, match="source"):
        Mount(source, "/data")


@pytest.mark.parametrize("writable", [True, 1, None, "yes"])
def test_writable_mounts_are_refused(writable: Any) -> None:
    with pytest.raises(UsageError, match="writable"):
        Mount("/x", "/data", writable=writable)
    assert Mount("/x", "/data", writable=False).writable is False


@pytest.mark.parametrize("executable", [1, None, "yes"])
def test_executable_is_yes_or_no(executable: Any) -> None:
    with pytest.raises(UsageError, match="executable"):
        Mount("/x", "/data", executable=executable)


@pytest.mark.parametrize("mounts", [3, None, "/x", ["/x"], Mount("/x", "/data"), [None]])
def test_mounts_are_a_sequence_of_them(mounts: Any) -> None:
    with pytest.raises(UsageError, match="mounts"):
        Sandbox(mounts=mounts)


def test_no_two_mounts_have_one_destination() -> None:
    with pytest.raises(UsageError, match="two of them"):
        Sandbox(mounts=(Mount("/x", "/data"), Mount("/y", "/data/")))
    assert len(Sandbox(mounts=(Mount("/x", "/data"), Mount("/y", "/data2"))).mounts) == 2


def test_there_is_a_bound_on_how_many() -> None:
    mounts = tuple(Mount("/x", f"/data{number}") for number in range(65))
    with pytest.raises(UsageError, match="64"):
        Sandbox(mounts=mounts)
    Sandbox(mounts=mounts[1:])


@pytest.mark.parametrize("network", ["", "all", None, True, 3])
def test_networks_are_none_and_host(network: Any) -> None:
    with pytest.raises(UsageError, match="network"):
        Sandbox(network=network)


@pytest.mark.parametrize("exec_tmp", [1, None, "yes"])
def test_exec_tmp_is_yes_or_no(exec_tmp: Any) -> None:
    with pytest.raises(UsageError, match="exec_tmp"):
        Sandbox(exec_tmp=exec_tmp)


def test_policies_that_differ_in_what_they_open_differ() -> None:
    boxes = [
        Sandbox(), Sandbox(network="host"), Sandbox(exec_tmp=True),
        Sandbox(mounts=(Mount("/x", "/a"),)), Sandbox(mounts=(Mount("/x", "/a", executable=True),)),
    ]  # fmt: skip
    assert len(set(boxes)) == len(boxes)
    assert [box.opens for box in boxes] == [False, True, True, True, True]
