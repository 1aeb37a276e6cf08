"""The harness for positive controls starts no probe outside namespaces of its own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from control import unconfined as harness

if TYPE_CHECKING:
    from control.unconfined import Unconfined

pytestmark = pytest.mark.root


def test_refuses_a_probe_in_the_machines_own_namespaces(
    unconfined: Unconfined, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if unshare had not done its work: the namespaces of the machine are those inside.
    real = os.readlink
    fake = {f"/proc/self/ns/{kind}": "4026531840" for kind in harness.NAMESPACES}
    monkeypatch.setattr(os, "readlink", lambda path: fake.get(path) or real(path))
    monkeypatch.setattr(
        harness, "GUARD", harness.GUARD.replace('"/proc/self/ns/$kind"', "-q 0 || echo 4026531840")
    )
    with pytest.raises(harness.Refused, match="not in a new mnt namespace"):
        unconfined.run("exit", 0)


def test_refuses_a_control_without_a_deadline(unconfined: Unconfined) -> None:
    with pytest.raises(harness.Refused, match="deadline"):
        unconfined.run("exit", 0, seconds=0)


def test_refuses_rights_that_reach_beyond_the_process(unconfined: Unconfined) -> None:
    with pytest.raises(harness.Refused, match="sys_admin"):
        unconfined.run("exit", 0, rights=("sys_admin",))


def test_ends_a_control_at_its_deadline(unconfined: Unconfined, tag: str) -> None:
    with pytest.raises(harness.Refused, match="did not end"):
        unconfined.run("sleep", 30, tag, seconds=0.5)


def test_probe_runs_as_somebody_that_nobody_is(unconfined: Unconfined) -> None:
    assert unconfined.answer()["uids"]["real"] == harness.NOBODY


def test_files_of_the_machine_are_not_writable(unconfined: Unconfined) -> None:
    places = ["/", "/etc", "/usr", "/root", str(Path(harness.__file__).parent)]
    assert "ok" not in unconfined.answer("write", *places).values()


def test_what_it_writes_to_tmp_is_gone_with_it(unconfined: Unconfined) -> None:
    assert unconfined.answer("leave", "file-in-tmp") == {"file-in-tmp": "ok"}
    assert not os.path.exists("/tmp/left")
