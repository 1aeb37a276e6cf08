"""``0xgenctl doctor``: yes and no, with a remedy for each no."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


@pytest.mark.root
def test_machine_that_enforces_everything_is_yes(ctl) -> None:
    result = ctl("doctor", "--json")
    report = json.loads(result.stdout)
    assert result.returncode == 0
    assert report["healthy"] is True
    states = {check["name"]: check["state"] for check in report["checks"]}
    assert (states["level"], states["network"], states["syscalls"]) == ("yes", "yes", "yes")


def test_each_level_is_tried_and_says_what_it_holds(ctl) -> None:
    report = json.loads(ctl("doctor", "--json").stdout)
    assert list(report["levels"]) == ["namespaces", "chroot", "landlock"]
    states = {check["name"]: check for check in report["checks"]}
    for name, level in report["levels"].items():
        check = states[f"level {name}"]
        whole = level["available"] and not level["missing"]
        assert check["state"] == ("yes" if whole else "note")
        assert whole or level["cause"]
        assert set(level["enforced"]).isdisjoint(level["missing"])
        assert all(missing in check["detail"] for missing in level["missing"] if level["available"])


def test_what_is_weaker_is_shown(ctl) -> None:
    report = json.loads(ctl("doctor", "--json").stdout)
    checks = {check["name"]: check["detail"] for check in report["checks"]}
    for name, level in report["levels"].items():
        assert isinstance(level["weaker"], list)
        if level["available"]:
            shown = f"weaker: {', '.join(level['weaker'])}" if level["weaker"] else ""
            assert shown in checks[f"level {name}"]
            assert ("weaker" in checks[f"level {name}"]) == bool(shown)


def test_a_level_that_lacks_something_is_no_fault_where_the_default_is_whole(ctl) -> None:
    report = json.loads(ctl("doctor", "--json").stdout)
    default = any(
        level["available"] and not level["missing"]
        for name, level in report["levels"].items()
        if name in ("namespaces", "chroot")
    )
    (check,) = [check for check in report["checks"] if check["name"] == "level"]
    assert check["state"] == ("yes" if default else "no")


def test_every_part_of_the_build_is_named(ctl) -> None:
    report = json.loads(ctl("doctor", "--json").stdout)
    names = [check["name"] for check in report["checks"]]
    assert names[:4] == ["version", "extension", "launcher", "kernel"]


def test_trust_root_that_others_can_write_is_no_with_a_remedy(ctl, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    root.chmod(0o777)
    result = ctl("doctor", "--json", "--trust-root", str(root))
    (check,) = [c for c in json.loads(result.stdout)["checks"] if c["name"] == "trust root"]
    assert result.returncode == 1
    assert check["state"] == "no"
    assert "chmod go-w" in check["detail"]


def test_no_is_exit_status_1_and_yes_is_0(ctl) -> None:
    result = ctl("doctor", "--json")
    assert result.returncode == (0 if json.loads(result.stdout)["healthy"] else 1)


def test_report_for_people_is_one_line_a_check(ctl) -> None:
    result = ctl("doctor")
    assert all(line.count("\t") == 3 for line in result.stdout.splitlines())
    assert "kernel\tnote\t" in result.stdout
