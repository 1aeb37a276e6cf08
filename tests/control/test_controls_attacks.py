"""Each attack of the probe gets what it wants where nobody refuses it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from control.attacks import ATTACKS, IDS

if TYPE_CHECKING:
    from control.unconfined import Unconfined

pytestmark = pytest.mark.root


def test_every_attack_of_the_probe_has_a_control_and_every_control_an_attack(
    unconfined: Unconfined,
) -> None:
    assert sorted(unconfined.answer("attack-names")) == IDS


@pytest.mark.parametrize("name", [name for name in IDS if not ATTACKS[name].not_tried])
def test_without_a_sandbox_the_attack_succeeds(unconfined: Unconfined, name: str) -> None:
    control = ATTACKS[name]
    answer = unconfined.answer("attack", name, **control.options)[name]
    if answer["outcome"] == "refused" and answer["errno"] in control.elsewhere:
        return
    assert answer == {"outcome": "escaped"}
