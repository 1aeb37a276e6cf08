"""Machines that lack something: a launch works or says what stands in its way, and is never weaker.

A filter around the host refuses a system call, as an old kernel (ENOSYS) or a container (EPERM)
does.
"""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import oxgen
from oxgen._launch import refusals
from oxgen.sandbox import PROPERTIES

REFUSING = Path(__file__).resolve().parent.parent / "core" / "refusing.c"

#: What a user cannot have is waived, nothing else is.
HOST = """
import json, os, sys
import oxgen
waived = [] if os.geteuid() == 0 else ["memory_tree", "cpu_tree"]
try:
    done = oxgen.run([sys.argv[1]], capture_output=True,
                     sandbox=oxgen.Sandbox(level="namespaces", enforce_except=waived))
except oxgen.OxgenError as refused:
    print(json.dumps({"kind": type(refused).__name__, "stage": refused.stage,
                      "errno": refused.errno, "remedy": refused.remedy, "text": str(refused)}))
else:
    print(json.dumps({"kind": "ran", "seen": json.loads(done.stdout),
                      "enforced": done.confinement.enforced, "waived": waived}))
"""


@pytest.fixture(scope="module")
def attempt(build_c: Callable[..., Path], probe_path: Path) -> Callable[..., Any]:
    """Run the probe from a host that lacks these calls; returns what became of it."""
    refusing = build_c("refusing", sources=[REFUSING])

    def start(*rules: str) -> Any:
        words = [str(refusing), *rules, "--", sys.executable, "-c", HOST, str(probe_path)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60)
        assert done.stderr == ""
        return json.loads(done.stdout)

    return start


def is_confined(answer: Any) -> bool:
    """Whether the probe itself saw that it was held, by everything that was not waived."""
    seen = answer["seen"]
    return (
        seen["seccomp"] == 2
        and seen["no_new_privs"] == 1
        and seen["interfaces"] == {"lo": "down"}
        and seen["uids"]["real"] == 65534
        and {*answer["enforced"], *answer["waived"]} == set(PROPERTIES)
    )


@pytest.mark.parametrize(
    "call", ("none", "clone3", "openat2", "execveat", "landlock_create_ruleset")
)
def test_without_a_call_that_is_not_needed_it_runs_confined(
    attempt: Callable[..., Any], call: str
) -> None:
    answer = attempt(*([] if call == "none" else [f"{call}={errno.ENOSYS}"]))
    assert answer["kind"] == "ran", answer
    assert is_confined(answer)


@pytest.mark.parametrize("call", ("pidfd_open", "close_range", "fsopen", "open_tree", "seccomp"))
def test_without_a_call_that_is_needed_it_is_refused_with_a_remedy(
    attempt: Callable[..., Any], call: str
) -> None:
    answer = attempt(f"{call}={errno.ENOSYS}")
    assert (answer["kind"], answer["errno"]) == ("UnsupportedError", errno.ENOSYS), answer
    assert "Linux 5.10" in answer["remedy"] or "CONFIG_" in answer["remedy"]


@pytest.mark.parametrize("call", ("unshare", "clone_new", "mount", "pivot_root"))
def test_namespaces_that_are_refused_are_named(attempt: Callable[..., Any], call: str) -> None:
    answer = attempt(f"{call}={errno.EPERM}")
    assert (answer["kind"], answer["errno"]) == ("UnsupportedError", errno.EPERM), answer
    assert answer["stage"] in ("user_namespace", "store", "clone")
    assert answer["remedy"]


@pytest.mark.user
def test_unshare_that_is_refused_to_a_user_is_named(attempt: Callable[..., Any]) -> None:
    answer = attempt(f"unshare={errno.EPERM}")
    assert answer["stage"] == "user_namespace"
    assert "a system call filter around this process" in answer["text"]
    assert "seccomp" in answer["remedy"]


@pytest.mark.user
def test_namespaces_that_are_used_up_are_named(attempt: Callable[..., Any]) -> None:
    answer = attempt(f"unshare={errno.ENOSPC}")
    assert (answer["stage"], answer["errno"]) == ("user_namespace", errno.ENOSPC)
    assert "user.max_user_namespaces" in answer["remedy"]


@pytest.mark.user
def test_what_apparmor_does_is_named(attempt: Callable[..., Any]) -> None:
    """As on Ubuntu 23.10 and later: unshare succeeds, and what follows is refused."""
    answer = attempt(f"mount={errno.EPERM}")
    assert (answer["kind"], answer["stage"]) == ("UnsupportedError", "user_namespace")


def test_the_remedy_for_apparmor_is_a_profile_for_the_launcher_alone() -> None:
    cause = "AppArmor lets programs without a profile do nothing in user namespaces"
    refused = refusals.of_launcher(
        "user_namespace", errno.EPERM, cause, "", "/opt/some where/oxgen/_launcher"
    )
    assert isinstance(refused, oxgen.UnsupportedError)
    assert 'profile oxgen "/opt/some where/oxgen/_launcher"' in refused.remedy
    assert "userns," in refused.remedy and "sysctl" not in refused.remedy
