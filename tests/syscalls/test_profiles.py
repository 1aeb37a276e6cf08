"""OCI profiles: what they mean here, and what is refused with its place and remedy."""

from __future__ import annotations

import copy
import errno
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oxgen import Sandbox, UsageError, _launch
from oxgen.syscalls import (
    AARCH64,
    X86_64,
    Action,
    Comparison,
    Policy,
    Profile,
    compile_policy,
    load_profile,
    read_profile,
    write_profile,
)
from oxgen.syscalls.elsewhere import ELSEWHERE

TABLE = _launch.syscall_table()

NOTHING = (0, 0, 0, 0, 0, 0)

#: In the form of the profiles of Docker, Podman and containerd.
DOCKER: dict[str, Any] = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": 1,
    "archMap": [
        {
            "architecture": "SCMP_ARCH_X86_64",
            "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        },
        {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
        {"architecture": "SCMP_ARCH_S390X", "subArchitectures": None},
    ],
    "syscalls": [
        {
            "names": ["read", "write", "a_call_of_the_next_decade", "exit_group"],
            "action": "SCMP_ACT_ALLOW",
        },
        {
            "names": ["personality"],
            "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}],
        },
        {
            "names": ["personality"],
            "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 0, "value": 0, "valueTwo": 0, "op": "SCMP_CMP_EQ"}],
        },
        {
            "names": ["ptrace"],
            "action": "SCMP_ACT_ALLOW",
            "includes": {"minKernel": "4.8"},
        },
        {
            "names": ["clone"],
            "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 0, "value": 2114060288, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}],
            "comment": "",
            "includes": {},
            "excludes": {"caps": ["CAP_SYS_ADMIN"], "arches": ["s390", "s390x"]},
        },
        {
            "names": ["clone3"],
            "action": "SCMP_ACT_ERRNO",
            "errnoRet": 38,
            "excludes": {"caps": ["CAP_SYS_ADMIN"]},
        },
        {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["arch_prctl"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd64"]}},
        {"name": "getpid", "action": "SCMP_ACT_KILL_PROCESS"},
    ],
}


def read(profile: object, **settings: str) -> Profile:
    told = {"machine": "x86_64", "release": "6.1.0-13-amd64", **settings}
    return read_profile(json.dumps(profile).encode(), **told)


def decide(policy: Policy, name: str, *args: int) -> Action:
    return policy.decide(name, (*args, *NOTHING[len(args) :]))


def test_a_profile_of_a_container_runtime_means_what_it_means_there() -> None:
    profile = read(DOCKER)
    policy = profile.policy
    assert policy.default == Action.refuse(errno.EPERM)
    assert decide(policy, "read") == Action.allow()
    assert decide(policy, "open") == Action.refuse(errno.EPERM)
    assert decide(policy, "personality", 8) == decide(policy, "personality", 0) == Action.allow()
    assert decide(policy, "personality", 9) == Action.refuse(errno.EPERM)
    assert decide(policy, "clone", 0x3D0F00) == Action.allow()
    assert decide(policy, "clone", 0x10000000) == Action.refuse(errno.EPERM)
    assert decide(policy, "clone3") == Action.refuse(errno.ENOSYS)
    assert decide(policy, "getpid") == Action.kill()
    assert decide(policy, "ptrace") == decide(policy, "arch_prctl") == Action.allow()


def test_no_program_in_a_cell_has_a_capability() -> None:
    profile = read(DOCKER)
    assert decide(profile.policy, "mount") == Action.refuse(errno.EPERM)
    assert profile.left_out == 1


def test_architecture_and_kernel_decide_what_is_included() -> None:
    policy = read(DOCKER, machine="aarch64", release="4.7.10").policy
    assert decide(policy, "arch_prctl") == decide(policy, "ptrace") == Action.refuse(errno.EPERM)
    excluded = copy.deepcopy(DOCKER)
    excluded["syscalls"][0]["excludes"] = {"minKernel": "6.1"}
    assert decide(read(excluded).policy, "read") == Action.refuse(errno.EPERM)
    assert decide(read(excluded, release="6.0.9").policy, "read") == Action.allow()


def test_one_argument_that_is_compared_twice_makes_alternatives() -> None:
    args = [
        {"index": 0, "value": 1, "op": "SCMP_CMP_EQ"},
        {"index": 0, "value": 2, "op": "SCMP_CMP_EQ"},
        {"index": 1, "value": 7, "op": "SCMP_CMP_EQ"},
    ]
    entry = {"names": ["ioctl"], "action": "SCMP_ACT_ALLOW", "args": args}
    twice = read({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [entry]}).policy
    assert [rule.args for rule in twice.rules] == [
        (Comparison(0, "==", 1),),
        (Comparison(0, "==", 2),),
        (Comparison(1, "==", 7),),
    ]
    entry["args"] = args[1:]
    both = read({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [entry]}).policy
    assert decide(both, "ioctl", 2, 7) == Action.allow()
    assert decide(both, "ioctl", 2, 8) == Action.refuse()


@pytest.mark.parametrize("syscalls", [[], None, [{"names": [], "action": "SCMP_ACT_ALLOW"}]])
def test_an_empty_list_allows_nothing(syscalls: object) -> None:
    policy = read({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": syscalls}).policy
    assert decide(policy, "read") == Action.refuse()
    assert read({"defaultAction": "SCMP_ACT_ERRNO"}).policy == policy


def changed(**fields: object) -> dict[str, Any]:
    return {"defaultAction": "SCMP_ACT_ALLOW", **fields}


def entry(**fields: object) -> dict[str, Any]:
    return changed(syscalls=[{"names": ["read"], "action": "SCMP_ACT_ERRNO", **fields}])


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        ({}, r"profile: defaultAction: is missing; accepted: one of SCMP_ACT_ALLOW"),
        ([], r"must be an object, got list"),
        (changed(defaultAction="SCMP_ACT_TRACE"), r"defaultAction: 'SCMP_ACT_TRACE' is refused"),
        (changed(defaultAction="SCMP_ACT_NOTIFY"), r"'SCMP_ACT_NOTIFY' is refused; accepted"),
        (changed(defaultAction="SCMP_ACT_LOG"), r"'SCMP_ACT_LOG' is refused"),
        (changed(defaultAction="SCMP_ACT_TRAP"), r"'SCMP_ACT_TRAP' is refused"),
        (changed(defaultAction=["SCMP_ACT_ALLOW"]), r"is refused; accepted"),
        (changed(defaultErrnoRet=0), r"defaultErrnoRet: must be a number from 1 to 4095, got 0"),
        (changed(flags=["SECCOMP_FILTER_FLAG_SPEC_ALLOW"]), r"flags\[0\]: .* is refused"),
        (changed(flags=[[]]), r"flags\[0\]: \[\] is refused"),
        (changed(listenerPath="/run/agent.sock"), r"listenerPath: is not known; accepted: archMap"),
        (changed(architectures=["X86"]), r"architectures\[0\]: 'X86' is refused"),
        (changed(archMap=[{"architecture": {}}]), r"archMap\[0\]\.architecture: .* is refused"),
        (changed(syscalls={}), r"syscalls: must be a list, got dict"),
        (changed(syscalls=["read"]), r"syscalls\[0\]: must be an object, got str"),
        (changed(syscalls=[{"names": ["read"]}]), r"syscalls\[0\]\.action: None is refused"),
        (changed(syscalls=[{}] * 4097), r"syscalls: has more than 4096 entries"),
        (entry(names="read"), r"syscalls\[0\]\.names: must be a list, got str"),
        (entry(names=[3]), r"syscalls\[0\]\.names: 3 is no name"),
        (entry(comment=1), r"syscalls\[0\]\.comment: must be text"),
        (entry(errnoRet="EPERM"), r"syscalls\[0\]\.errnoRet: must be a number from 1 to 4095"),
        (entry(arguments=[]), r"syscalls\[0\]\.arguments: is not known"),
        (
            entry(args=[{"index": 0, "value": 1, "op": "SCMP_CMP_GREATER"}]),
            r"syscalls\[0\]\.args\[0\]\.op: 'SCMP_CMP_GREATER' is refused; accepted: SCMP_CMP_EQ",
        ),
        (entry(args=[{"index": 6, "op": "SCMP_CMP_EQ"}]), r"args\[0\]: index .* from 0 to 5"),
        (entry(args=[{"index": 0, "value": -1, "op": "SCMP_CMP_EQ"}]), r"args\[0\]: value"),
        (entry(args=[{"index": 0, "value": 1.5, "op": "SCMP_CMP_EQ"}]), r"args\[0\]\.value"),
        (entry(args=[{"index": 0, "op": "SCMP_CMP_EQ"}] * 33), r"more than 32 comparisons"),
        (entry(includes={"kernel": "4.8"}), r"includes\.kernel: is not known"),
        (entry(excludes={"minKernel": "4"}), r"excludes\.minKernel: must be like"),
        (entry(includes={"caps": [1]}), r"includes\.caps: must be a list of text"),
    ],
)
def test_what_is_not_known_is_refused_with_its_place(profile: object, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        read(profile)


def test_what_is_no_json_is_refused() -> None:
    for text in (b"", b"{", b"\xff", b'{"defaultAction": "SCMP_ACT_ALLOW"} x', b"[" * 100000):
        with pytest.raises(UsageError, match="is not JSON"):
            read_profile(text)
    with pytest.raises(UsageError, match="larger than 1048576 bytes"):
        read_profile(b" " * ((1 << 20) + 1))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda below: (
        st.lists(below, max_size=3)
        | st.dictionaries(
            st.sampled_from(["names", "action", "args", "op", "index", "caps", "syscalls"]), below
        )
    ),
    max_leaves=8,
)


@settings(deadline=None, max_examples=200)
@given(
    st.dictionaries(
        st.sampled_from(sorted({*DOCKER, "flags", "architectures"})), json_values, max_size=5
    )
)
def test_whatever_a_profile_holds_it_is_read_or_refused(profile: dict[str, Any]) -> None:
    try:
        read({"defaultAction": "SCMP_ACT_ERRNO", **profile})
    except UsageError as refused:
        assert str(refused).startswith("syscalls: profile: ")


@pytest.mark.parametrize(("arch", "machine"), [(X86_64, "x86_64"), (AARCH64, "aarch64")])
def test_a_written_profile_reads_back(arch: int, machine: str) -> None:
    text = write_profile(["write", "read"], arch, {errno.EPERM: ["mount"]})
    policy = read_profile(text, machine=machine, release="6.1").policy
    assert decide(policy, "read") == decide(policy, "write") == Action.allow()
    assert decide(policy, "mount") == Action.refuse(errno.EPERM)
    assert decide(policy, "clone3") == Action.refuse(errno.ENOSYS)
    other = "aarch64" if machine == "x86_64" else "x86_64"
    assert decide(read_profile(text, machine=other, release="6.1").policy, "read").kind == "errno"


# --- as part of a sandbox ---------------------------------------------------------------------


def test_a_sandbox_holds_the_policy_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(DOCKER))
    box = Sandbox(syscalls=path)
    assert isinstance(box.syscalls, Policy)
    path.unlink()
    assert box == Sandbox(syscalls=box.syscalls)
    assert hash(box) == hash(Sandbox(syscalls=box.syscalls))
    assert box != Sandbox()


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"syscalls: .*/gone\.json: No such file"):
        Sandbox(syscalls=tmp_path / "gone.json")
    os.mkfifo(tmp_path / "fifo.json")
    with pytest.raises(UsageError, match="is not JSON"):
        Sandbox(syscalls=str(tmp_path / "fifo.json"))
    with pytest.raises(UsageError, match="Is a directory"):
        load_profile(tmp_path)


@pytest.mark.parametrize("value", ["stict", "", "DEFAULT", 3, None, b"strict", "a\0/b.json"])
def test_a_word_that_is_none_is_refused(value: object) -> None:
    with pytest.raises(UsageError, match="syscalls must be 'default', 'strict', a Policy or"):
        Sandbox(syscalls=value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "key"),
    (
        ('{"defaultAction":"SCMP_ACT_ERRNO","defaultAction":"SCMP_ACT_ALLOW"}', "defaultAction"),
        (
            '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],'
            '"action":"SCMP_ACT_KILL","action":"SCMP_ACT_ALLOW"}]}',
            "action",
        ),
        (
            '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],'
            '"action":"SCMP_ACT_KILL","includes":{"arches":[],"arches":["s390"]}}]}',
            "arches",
        ),
        # The same key, written otherwise.
        (r'{"defaultAction":"SCMP_ACT_ERRNO","default\u0041ction":"SCMP_ACT_ALLOW"}', "default"),
    ),
)
def test_a_key_that_stands_twice_is_refused(text: str, key: str) -> None:
    with pytest.raises(UsageError, match=f"the key '{key}.* stands twice"):
        read_profile(text.encode(), machine="x86_64", release="6.1")


@pytest.mark.parametrize("name", ("wrtie", " write", "write ", "WRITE", "sys_write", "write\u200b"))
@pytest.mark.parametrize("action", ("SCMP_ACT_ERRNO", "SCMP_ACT_KILL"))
def test_a_rule_that_would_refuse_and_names_nothing_is_refused(name: str, action: str) -> None:
    entry = {"names": ["read", name], "action": action}
    policy = read({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [entry]}).policy
    with pytest.raises(UsageError, match=re.escape(f"has the name {name!r}")):
        compile_policy(policy, TABLE, X86_64)


def test_control_names_that_change_nothing_are_passed_over() -> None:
    # Of another architecture; newer than the table, and refused anyway or to be allowed.
    for default, action, name in (
        ("SCMP_ACT_ALLOW", "SCMP_ACT_KILL", "s390_pci_mmio_read"),
        ("SCMP_ACT_ERRNO", "SCMP_ACT_ERRNO", "wrtie"),
        ("SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW", "wrtie"),
        ("SCMP_ACT_KILL", "SCMP_ACT_ERRNO", "wrtie"),
    ):
        entry = {"names": [name], "action": action}
        policy = read({"defaultAction": default, "syscalls": [entry]}).policy
        assert compile_policy(policy, TABLE, X86_64)


def test_no_name_of_elsewhere_is_in_the_table() -> None:
    assert not ELSEWHERE & TABLE.names
