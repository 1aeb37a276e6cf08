"""The environment of a plugin is the documented one, complete, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import oxgen

if TYPE_CHECKING:
    from control.confined import Portrait, Probe
    from control.unconfined import Unconfined

pytestmark = pytest.mark.root

DOCUMENTED = {
    "PATH": "/bin",
    "HOME": "/home/plugin",
    "TMPDIR": "/tmp",
    "TMP": "/tmp",
    "TEMP": "/tmp",
    "LANG": "C.UTF-8",
    "OXGEN_WORKSPACE": "/workspace",
}


def test_environment_is_the_documented_one(portrait: Portrait) -> None:
    assert portrait.variables == DOCUMENTED


def test_no_variable_is_there_twice(portrait: Portrait) -> None:
    assert len(portrait.environment) == len(portrait.variables)


@pytest.mark.parametrize("name", ("LD_PRELOAD", "PYTHONPATH", "AWS_SECRET_ACCESS_KEY", "HOME"))
def test_variables_of_the_host_do_not_reach_it(
    probe: Probe, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "/of/the/host")
    assert probe.look().variables == DOCUMENTED


def test_a_launcher_hands_down_nothing_of_its_own_environment(
    probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of the host")
    with oxgen.Launcher(cells=1) as launcher:
        assert probe.look(launcher=launcher).variables == DOCUMENTED


def test_control_a_variable_is_inherited_outside(unconfined: Unconfined) -> None:
    seen = unconfined.answer(prefix=("env", "AWS_SECRET_ACCESS_KEY=of the host"))
    assert "AWS_SECRET_ACCESS_KEY=of the host" in seen["environment"]


def test_variables_of_the_policy_are_added(probe: Probe) -> None:
    box = oxgen.Sandbox(env={"SCAN_DEPTH": "3", "EMPTY": "", "TEXT": "a=b\nc \u2603"})
    assert probe.look(sandbox=box).variables == {
        **DOCUMENTED,
        "SCAN_DEPTH": "3",
        "EMPTY": "",
        # The probe escapes byte by byte.
        "TEXT": "a=b\nc " + "\u2603".encode().decode("latin-1"),
    }


def test_the_policy_may_choose_another_path(probe: Probe) -> None:
    assert probe.look(sandbox=oxgen.Sandbox(env={"PATH": "/"})).variables["PATH"] == "/"


def test_one_run_sees_nothing_of_the_environment_of_another(probe: Probe) -> None:
    with oxgen.Launcher(cells=1) as launcher:
        probe.look(sandbox=oxgen.Sandbox(env={"SECRET": "1"}), launcher=launcher)
        assert probe.look(launcher=launcher).variables == DOCUMENTED


@pytest.mark.parametrize("name", ("HOME", "TMPDIR", "OXGEN_BROKER", "OXGEN_CAPABILITY_TOKEN"))
def test_the_policy_cannot_replace_what_oxgen_sets(name: str) -> None:
    with pytest.raises(oxgen.UsageError, match=name):
        oxgen.Sandbox(env={name: "/elsewhere"})


def test_arguments_arrive_as_they_are(probe: Probe) -> None:
    words = ["--help", "", "a b", "$HOME", "*", "\u2603", "-", "--", "x\ny"]
    done = probe.run("print", *words)
    assert done.stdout == "".join(f"{word}\n" for word in words).encode()
