"""No attack of the probe gets what it wants in a cell (tests/control has the same without one)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from control.attacks import IDS

import oxgen

if TYPE_CHECKING:
    from control.confined import Probe
    from control.unconfined import Unconfined

pytestmark = pytest.mark.root

SIGSYS = 31
#: Calls of another architecture end the program: no errno would be understood there.
OTHER_ARCHITECTURE = ("call_of_i386", "unshare_of_i386", "call_of_x32")
#: With any other errno newer C libraries do not fall back to clone() (moby PR#42681).
NOT_IMPLEMENTED = ("clone3_user", "ring")


@pytest.fixture(scope="module")
def static(probe: Probe) -> Any:
    """What came of the attacks in a static cell."""
    return probe.answer("attack")


@pytest.fixture(scope="module")
def dynamic(dynamic_probe: Probe) -> Any:
    """What came of the attacks where there are /proc, /dev, /etc and libraries."""
    return dynamic_probe.answer("attack")


@pytest.mark.parametrize("name", IDS)
def test_in_a_static_cell_the_attack_fails(static: Any, name: str) -> None:
    assert static[name]["outcome"] in ("refused", "killed"), static[name]


@pytest.mark.parametrize("name", IDS)
def test_in_a_dynamic_cell_the_attack_fails(dynamic: Any, name: str) -> None:
    assert dynamic[name]["outcome"] in ("refused", "killed"), dynamic[name]


@pytest.mark.parametrize("name", OTHER_ARCHITECTURE)
def test_a_call_of_another_architecture_ends_the_program(static: Any, name: str) -> None:
    assert static[name] == {"outcome": "killed", "signal": SIGSYS}


@pytest.mark.parametrize("name", NOT_IMPLEMENTED)
def test_what_programs_can_do_without_looks_absent(static: Any, name: str) -> None:
    assert static[name] == {"outcome": "refused", "errno": "ENOSYS"}


@pytest.mark.parametrize("name", sorted(set(IDS) - set(OTHER_ARCHITECTURE)))
def test_a_refused_call_does_not_end_the_program(static: Any, name: str) -> None:
    assert static[name]["outcome"] == "refused", static[name]


def test_threads_work_though_clone3_is_refused(probe: Probe) -> None:
    assert probe.answer("threads", 16) == {"made": 16, "joined": 16, "error": "ok"}


def test_threads_work_in_a_dynamic_program(dynamic_probe: Probe) -> None:
    assert dynamic_probe.answer("threads", 16) == {"made": 16, "joined": 16, "error": "ok"}


def test_an_end_by_the_filter_is_told_apart(probe: Probe) -> None:
    done = probe.run("raise", SIGSYS)
    assert (done.termination.reason, done.termination.certain) == ("syscall_denied", False)


def test_a_plugin_that_kills_everybody_kills_nobody(probe: Probe, tag: str) -> None:
    with oxgen.spawn([str(probe.path), "announce", "20", tag], tenant="bystander") as bystander:
        bystander.stdout.readline()
        assert probe.answer("kill-everyone", 9, tenant="killer") == {"kill": "ESRCH"}
        assert probe.answer("kill-each", 400, tenant="killer") == {"hit": 0}
        assert bystander.poll() is None


def test_control_outside_it_kills_its_neighbours(unconfined: Unconfined) -> None:
    neighbour = ("sh", "-c", '/tmp/box/probe sleep 20 & exec "$@"', "sh")
    assert unconfined.answer("kill-everyone", 9, prefix=neighbour) == {"kill": "ok"}
