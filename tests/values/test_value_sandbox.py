"""Sandbox: what cannot be honoured is refused when it is written down."""

from __future__ import annotations

import pickle

import pytest

from oxgen import Enforce, Sandbox, UnsupportedError, UsageError


@pytest.mark.parametrize("bad", ["node", "", "STATIC", None, 3])
def test_an_unknown_runtime_is_refused(bad: object) -> None:
    with pytest.raises(UsageError, match="auto, static, dynamic, python"):
        Sandbox(runtime=bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("good", ["auto", "static", "dynamic", "python"])
def test_a_known_runtime_is_accepted(good: str) -> None:
    assert Sandbox(runtime=good).runtime == good  # type: ignore[arg-type]


@pytest.mark.parametrize("level", ["seatbelt", "job"])
def test_a_level_of_another_system_is_unsupported(level: str) -> None:
    with pytest.raises(UnsupportedError, match="another operating system"):
        Sandbox(level=level)


def test_an_unknown_level_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="namespaces, chroot, landlock or None"):
        Sandbox(level="strong")


@pytest.mark.parametrize("level", ["namespaces", "chroot", "landlock", None])
def test_a_level_of_this_system_is_accepted(level: str | None) -> None:
    assert Sandbox(level=level).level == level


@pytest.mark.parametrize("bad", ["", "workspace", "../x", "/a\0b", "/" + "x" * 2000, None, 5])
def test_a_working_directory_that_is_not_absolute_is_refused(bad: object) -> None:
    with pytest.raises(UsageError, match="cwd"):
        Sandbox(cwd=bad)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "bad", [{"": "x"}, {"A=B": "x"}, {"A\0": "x"}, {"A": "x\0"}, {"A": 1}, {1: "x"}]
)
def test_an_environment_that_exec_cannot_carry_is_refused(bad: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="env"):
        Sandbox(env=bad)


@pytest.mark.parametrize(
    "name", ["OXGEN_BROKER", "OXGEN_CAPABILITY_TOKEN", "OXGEN_WORKSPACE", "HOME", "TMPDIR"]
)
def test_what_oxgen_sets_cannot_be_replaced(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be replaced"):
        Sandbox(env={name: "x"})


def test_a_sandbox_can_be_handed_to_another_process() -> None:
    box = Sandbox(runtime="static", env={"A": "1"}, cwd="/tmp")
    assert pickle.loads(pickle.dumps(box)) == box


def test_a_sandbox_is_a_value_that_its_maker_cannot_change_later() -> None:
    mine = {"A": "1"}
    box = Sandbox(env=mine)
    mine["A"] = "2"
    assert box.env["A"] == "1"
    assert box == Sandbox(env={"A": "1"})
    assert hash(box) == hash(Sandbox(env={"A": "1"}))
    with pytest.raises(TypeError):
        box.env["A"] = "3"  # type: ignore[index]


@pytest.mark.parametrize("bad", ["require", None, True])
def test_enforcement_is_one_of_two_values(bad: object) -> None:
    with pytest.raises(UsageError, match="must be Enforce"):
        Sandbox(enforce=bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", ["memory_tree", ("memory",), ("groups",), (None,), 5])
def test_only_properties_can_be_waived(bad: object) -> None:
    with pytest.raises(UsageError, match="enforce_except"):
        Sandbox(enforce_except=bad)  # type: ignore[arg-type]


def test_waivers_are_a_set_whatever_their_order() -> None:
    one = Sandbox(enforce_except=("disk", "network"))
    assert one == Sandbox(enforce_except=("network", "disk", "disk"))
    assert one.enforce_except == ("network", "disk")


def test_enforcement_survives_the_way_to_another_process() -> None:
    box = Sandbox(level="landlock", enforce=Enforce.BEST_EFFORT, enforce_except=("disk",))
    assert pickle.loads(pickle.dumps(box)) == box
    assert box != Sandbox(level="landlock", enforce_except=("disk",))
