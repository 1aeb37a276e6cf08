"""A plugin is nobody: inside its cell, and on the host."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from control import watch

import oxgen

if TYPE_CHECKING:
    from control.confined import Portrait, Probe
    from control.unconfined import Unconfined

pytestmark = pytest.mark.root

NOBODY = 65534
KINDS = ("real", "effective", "saved", "filesystem")
SETS = ("inheritable", "permitted", "effective", "bounding", "ambient")


@pytest.mark.parametrize("kind", KINDS)
def test_uid_is_nobodys(portrait: Portrait, kind: str) -> None:
    assert portrait.uids[kind] == NOBODY


@pytest.mark.parametrize("kind", KINDS)
def test_gid_is_nobodys(portrait: Portrait, kind: str) -> None:
    assert portrait.gids[kind] == NOBODY


def test_there_are_no_supplementary_groups(portrait: Portrait) -> None:
    assert portrait.groups == []


@pytest.mark.parametrize("name", SETS)
def test_capability_set_is_empty(portrait: Portrait, name: str) -> None:
    assert portrait.capabilities[name] == 0


@pytest.mark.parametrize("name", ("permitted", "effective", "bounding"))
def test_control_root_of_a_namespace_has_capabilities(unconfined: Unconfined, name: str) -> None:
    assert unconfined.answer(rights="root")["capabilities"][name] != 0


def test_no_new_privileges_is_set(portrait: Portrait) -> None:
    assert portrait.no_new_privs == 1


def test_system_calls_are_filtered(portrait: Portrait) -> None:
    assert portrait.seccomp == 2  # SECCOMP_MODE_FILTER, prctl(2)


def test_control_neither_holds_outside(unconfined: Unconfined) -> None:
    seen = unconfined.answer()
    assert (seen["no_new_privs"], seen["seccomp"]) == (0, 0)


def test_plugin_is_not_process_1(portrait: Portrait) -> None:
    assert portrait.pid != 1 and portrait.ppid == 1


def test_plugin_leads_a_session_of_its_own_without_a_terminal(portrait: Portrait) -> None:
    assert portrait.sid == portrait.pid == portrait.pgid and portrait.terminal is False


def test_host_name_is_not_the_machines(portrait: Portrait) -> None:
    assert (portrait.hostname, portrait.domainname) == ("oxgen", "")


def test_on_the_host_it_is_neither_root_nor_nobody(probe: Probe, tag: str) -> None:
    with oxgen.spawn([str(probe.path), "announce", "20", tag]) as process:
        process.stdout.readline()
        (pid,) = watch.processes(tag)
        ids = set(watch.status_of(pid)["Uid"].split()) | set(watch.status_of(pid)["Gid"].split())
    assert not ids & {"0", str(NOBODY)}


def test_two_plugins_are_two_users_of_the_host(probe: Probe, tag: str) -> None:
    argv = [str(probe.path), "announce", "20", tag]
    with oxgen.spawn(argv, tenant="one") as first, oxgen.spawn(argv, tenant="two") as second:
        first.stdout.readline()
        second.stdout.readline()
        uids = [watch.status_of(pid)["Uid"].split()[0] for pid in watch.processes(tag)]
    assert len(uids) == 2 and len(set(uids)) == 2


def test_on_the_host_it_has_no_capability_in_any_set(probe: Probe, tag: str) -> None:
    with oxgen.spawn([str(probe.path), "announce", "20", tag]) as process:
        process.stdout.readline()
        (pid,) = watch.processes(tag)
        status = watch.status_of(pid)
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {
        "0000000000000000"
    }


def test_not_even_process_1_of_the_cell_is_root_of_the_host(probe: Probe, tag: str) -> None:
    with oxgen.spawn([str(probe.path), "announce", "20", tag]) as process:
        process.stdout.readline()
        (pid,) = watch.processes(tag)
        warden = int(watch.status_of(pid)["PPid"])
        status = watch.status_of(warden)
    assert status["NSpid"].split()[-1] == "1"
    assert "0" not in status["Uid"].split() and status["Seccomp"] == "2"


@pytest.mark.parametrize("kind", ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts"))
def test_namespace_is_not_the_hosts(probe: Probe, tag: str, kind: str) -> None:
    with oxgen.spawn([str(probe.path), "announce", "20", tag]) as process:
        process.stdout.readline()
        (pid,) = watch.processes(tag)
        assert watch.namespace(pid, kind) != watch.namespace("self", kind)
