"""What a user gets, and is told, in each state of a machine. Run by ``inside.py`` alone.

The names of the files keep it out of a plain ``pytest``: it expects the state that the plan names.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import oxgen
from oxgen.sandbox import PROPERTIES, Enforce, Sandbox

if TYPE_CHECKING:
    from control.confined import Probe


class TestWhole:
    """All controllers are there and ours to use."""

    def test_the_default_level_holds_everything(self) -> None:
        box = oxgen.probe()
        assert (box.level, box.missing, box.limits) == ("namespaces", (), "cgroup")
        assert set(box.enforced) == set(PROPERTIES)

    def test_a_run_says_the_same(self, probe_path: Path) -> None:
        done = oxgen.run([str(probe_path)], capture_output=True)
        assert done.returncode == 0
        assert done.confinement == oxgen.probe()

    def test_the_rate_of_cpu_time_is_held(self, probe: Probe) -> None:
        slow = probe.run("burn", 0.4, limits=oxgen.Limits(cpus=0.1))
        free = probe.run("burn", 0.4)
        assert (slow.returncode, free.returncode) == (0, 0)
        assert "cpu_tree" in slow.confinement.enforced
        assert slow.usage.wall_seconds > 2.4  # a tenth of a processor for 0.4 s takes 4 s
        assert slow.usage.wall_seconds > 1.5 * free.usage.wall_seconds


class TestOneId:
    """The user has no id but his own: a plugin and process 1 of its cell share it."""

    def test_the_record_says_so(self) -> None:
        assert "uid" in oxgen.probe().weaker

    def test_process_1_takes_no_signal_of_its_plugin(self, probe: Probe) -> None:
        # The kernel lets no process end or stop process 1 of its own pid namespace; see
        # pid_namespaces(7). All signals are sent; the cell has to end the run all the same.
        done = probe.run("attack")
        assert (done.returncode, done.termination.reason) == (0, None)
        assert b'"kill_process_1":{"outcome":"escaped"}' in (done.stdout or b"")
        assert probe.look().uids is not None

    def test_nobody_but_process_1_can_be_reached(self, probe: Probe, tag: str) -> None:
        words = [str(probe.path), "announce", "20", tag]
        with oxgen.spawn(words, tenant="bystander") as bystander:
            bystander.stdout.readline()
            assert probe.answer("kill-everyone", 9, tenant="killer") == {"kill": "ESRCH"}
            assert probe.answer("kill-each", 400, tenant="killer") == {"hit": 1}
            assert bystander.poll() is None


class TestOwnIds:
    """The user has a range in /etc/subuid, and newuidmap to use it."""

    def test_the_record_says_nothing_of_shared_ids(self) -> None:
        assert not {"uid", "groups"} & set(oxgen.probe().weaker)


class TestWithoutCgroup:
    """The user may make namespaces, and no cgroup."""

    def test_a_run_is_refused_with_cause_and_remedy(self, probe_path: Path) -> None:
        with pytest.raises(oxgen.UnsupportedError) as caught:
            oxgen.run([str(probe_path)], capture_output=True)
        assert "memory_tree" in caught.value.missing
        assert "no right to make cgroups" in caught.value.cause
        assert "Delegate=yes" in caught.value.remedy

    def test_best_effort_runs_and_lists_what_is_missing(self, probe_path: Path) -> None:
        box = Sandbox(enforce=Enforce.BEST_EFFORT)
        done = oxgen.run([str(probe_path)], sandbox=box, capture_output=True)
        assert done.returncode == 0
        assert "memory_tree" in done.confinement.missing

    def test_what_is_missing_can_be_waived_by_name(self, probe_path: Path) -> None:
        missing = oxgen.probe(Sandbox(enforce=Enforce.BEST_EFFORT)).missing
        assert missing[0] == "memory_tree"
        box = Sandbox(enforce_except=missing)
        done = oxgen.run([str(probe_path)], sandbox=box, capture_output=True)
        assert (done.returncode, done.confinement.missing) == (0, missing)

    def test_each_of_them_has_to_be_waived(self, probe_path: Path) -> None:
        missing = oxgen.probe(Sandbox(enforce=Enforce.BEST_EFFORT)).missing
        for one in missing:
            box = Sandbox(enforce_except=tuple(name for name in missing if name != one))
            with pytest.raises(oxgen.UnsupportedError) as caught:
                oxgen.run([str(probe_path)], sandbox=box, capture_output=True)
            assert caught.value.missing == (one,)


class TestBusyCgroup:
    """The user's own cgroup is his, and he is in it."""

    def test_a_run_is_refused_with_cause_and_remedy(self, probe_path: Path) -> None:
        with pytest.raises(oxgen.UnsupportedError) as caught:
            oxgen.run([str(probe_path)], capture_output=True)
        assert "memory_tree" in caught.value.missing
        assert "hold processes" in caught.value.cause
        assert "DelegateSubgroup=" in caught.value.remedy

    def test_best_effort_leaves_nothing_behind(self, probe_path: Path) -> None:
        box = Sandbox(enforce=Enforce.BEST_EFFORT)
        done = oxgen.run([str(probe_path)], sandbox=box, capture_output=True)
        assert done.returncode == 0
        assert not list(Path("/sys/fs/cgroup/system.slice/unit.service").glob("oxgen-*"))


class TestWithoutUserNamespaces:
    """The administrator has switched them off for users."""

    def test_a_run_is_refused_and_the_switch_is_named(self, probe_path: Path) -> None:
        with pytest.raises(oxgen.UnsupportedError) as caught:
            oxgen.run([str(probe_path)], capture_output=True)
        assert "filesystem" in caught.value.missing
        assert _switch() in f"{caught.value.cause} {caught.value.remedy}"

    def test_best_effort_is_refused_as_well(self, probe_path: Path) -> None:
        # Without a mount namespace nothing at all keeps the program from the machine's files.
        box = Sandbox(level="namespaces", enforce=Enforce.BEST_EFFORT)
        with pytest.raises(oxgen.UnsupportedError):
            oxgen.run([str(probe_path)], sandbox=box, capture_output=True)


def _switch() -> str:
    clone = Path("/proc/sys/kernel/unprivileged_userns_clone")
    if clone.exists() and clone.read_text().strip() == "0":
        return "kernel.unprivileged_userns_clone"
    return "user.max_user_namespaces"
