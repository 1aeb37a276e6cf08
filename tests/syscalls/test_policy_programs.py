"""Compiled policies, simulated for both architectures, answer what the policy says."""

from __future__ import annotations

import errno
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oxgen import UsageError, _launch
from oxgen._launch.native import ffi, lib
from oxgen.syscalls import (
    AARCH64,
    ALLOW,
    ARCHES,
    ERRNO,
    KILL,
    STRICT,
    X86_64,
    Action,
    Comparison,
    Policy,
    Rule,
    Table,
    answers,
    compile_policy,
    evaluate,
)

TABLE = _launch.syscall_table()
TIOCSTI = Comparison(1, "==", 0x5412)
NOTHING = (0, 0, 0, 0, 0, 0)
#: Few, so that rules meet; fork is on one architecture only.
NAMES = ("read", "write", "clone", "ioctl", "fork", "openat", "close_range", "getppid")
WORDS = st.one_of(
    st.integers(0, (1 << 64) - 1),
    st.sampled_from([0, 1, 2, 0xFFFFFFFF, 1 << 32, (1 << 32) + 1, 0x5412, (1 << 64) - 1]),
)

actions = st.one_of(
    st.just(Action.allow()),
    st.just(Action.kill()),
    st.builds(Action.refuse, st.sampled_from([1, 13, 38, 4095])),
)
comparisons = st.one_of(
    st.builds(
        Comparison,
        st.integers(0, 5),
        st.sampled_from(["==", "!=", "<", "<=", ">", ">="]),
        WORDS,
    ),
    st.builds(Comparison, st.integers(0, 5), st.just("masked"), WORDS, WORDS),
)
rules = st.builds(
    Rule,
    st.lists(st.sampled_from(NAMES), max_size=4).map(tuple),
    actions,
    st.lists(comparisons, max_size=3).map(tuple),
)
policies = st.builds(Policy, actions, st.lists(rules, max_size=8).map(tuple))


def value_of(action: Action) -> int:
    return {"allow": ALLOW, "errno": ERRNO | action.errnum, "kill": KILL}[action.kind]


def said(policy: Policy, name: str | None, args: tuple[int, ...]) -> int:
    """What the policy's own words mean, worked out another way than it is compiled."""

    def is_true(test: Comparison) -> bool:
        got = args[test.index]
        if test.op == "masked":
            return (got ^ test.value) & test.mask == 0
        order = (got > test.value) - (got < test.value)
        return {
            "==": order == 0,
            "!=": order != 0,
            "<": order < 0,
            "<=": order <= 0,
            ">": order > 0,
            ">=": order >= 0,
        }[test.op]

    found = [r.action for r in policy.rules if name in r.names and all(map(is_true, r.args))]
    for kind in ("kill", "errno", "allow"):
        for action in found:
            if action.kind == kind:
                return value_of(action)
    return value_of(policy.default)


@pytest.mark.parametrize("arch", ARCHES)
@settings(deadline=None, max_examples=150)
@given(policy=policies, name=st.sampled_from(NAMES), args=st.tuples(*[WORDS] * 6))
def test_a_program_answers_what_its_policy_says(
    arch: int, policy: Policy, name: str, args: tuple[int, ...]
) -> None:
    number = TABLE.numbers(arch).get(name)
    if number is None:
        return
    program = compile_policy(policy, TABLE, arch)
    assert evaluate(program, number, arch, args) == said(policy, name, args)
    assert value_of(policy.decide(name, args)) == said(policy, name, args)
    assert is_accepted(program)


@pytest.mark.parametrize("arch", ARCHES)
@settings(deadline=None, max_examples=60)
@given(policy=policies, number=st.integers(0, 0x3FFFFFFF) | st.integers(480, 520))
def test_numbers_without_a_name_get_the_default(arch: int, policy: Policy, number: int) -> None:
    if TABLE.name(arch, number) is None:
        program = compile_policy(policy, TABLE, arch)
        assert evaluate(program, number, arch, NOTHING) == value_of(policy.default)


@settings(deadline=None, max_examples=60)
@given(policy=policies, number=st.integers(0x40000000, 0x7FFFFFFF))
def test_x32_calls_end_the_process(policy: Policy, number: int) -> None:
    assert evaluate(compile_policy(policy, TABLE, X86_64), number, X86_64, NOTHING) == KILL


@settings(deadline=None, max_examples=60)
@given(policy=policies, number=st.integers(0, 500), arch=st.sampled_from([0x40000003, AARCH64, 0]))
def test_calls_of_another_architecture_end_the_process(
    policy: Policy, number: int, arch: int
) -> None:
    assert evaluate(compile_policy(policy, TABLE, X86_64), number, arch, NOTHING) == KILL


@pytest.mark.parametrize("arch", ARCHES)
def test_all_calls_of_the_table_can_have_rules(arch: int) -> None:
    # Alternating, so that no two neighbours share a range; and too far apart for short jumps.
    many = tuple(
        Rule((name,), Action.refuse(1 + i % 7), (Comparison(0, "==", i),))
        for i, name in enumerate(sorted(TABLE.names))
    )
    program = compile_policy(Policy(Action.allow(), many), TABLE, arch)
    assert is_accepted(program)
    for i, name in enumerate(sorted(TABLE.names)):
        number = TABLE.numbers(arch).get(name)
        if number is not None:
            assert evaluate(program, number, arch, (i, *NOTHING[1:])) == ERRNO | (1 + i % 7)
            assert evaluate(program, number, arch, (i + 1, *NOTHING[1:])) == ALLOW


@pytest.mark.parametrize("arch", ARCHES)
@pytest.mark.parametrize("rules", [(), (Rule((), Action.allow()),)], ids=["none", "no-names"])
def test_an_empty_list_of_allowed_calls_allows_none(arch: int, rules: tuple[Rule, ...]) -> None:
    program = compile_policy(Policy(Action.refuse(), rules), TABLE, arch)
    got = {evaluate(program, number, arch, NOTHING) for number in TABLE.numbers(arch).values()}
    assert got == {ERRNO | errno.EPERM}


def test_the_high_half_of_an_argument_counts() -> None:
    policy = Policy(Action.allow(), (Rule(("ioctl",), Action.refuse(), (TIOCSTI,)),))
    program = compile_policy(policy, TABLE, X86_64)
    number = TABLE.numbers(X86_64)["ioctl"]
    assert evaluate(program, number, X86_64, (0, 0x5412, 0, 0, 0, 0)) == ERRNO | 1
    assert evaluate(program, number, X86_64, (0, (1 << 32) | 0x5412, 0, 0, 0, 0)) == ALLOW


@pytest.mark.parametrize("arch", ARCHES)
def test_default_refuses_terminal_input_whatever_the_high_half_says(arch: int) -> None:
    program, number = _launch.floor(arch), TABLE.numbers(arch)["ioctl"]
    for high in (0, 1, 0xFFFFFFFF):
        for request in (0x5412, 0x541C):
            args = (0, (high << 32) | request, 0, 0, 0, 0)
            assert evaluate(program, number, arch, args) == ERRNO | errno.EPERM
        assert evaluate(program, number, arch, (0, (high << 32) | 0x5413, 0, 0, 0, 0)) == ALLOW


@pytest.mark.parametrize("arch", ARCHES)
def test_strict_leaves_threads_and_refuses_processes(arch: int) -> None:
    program, numbers = compile_policy(STRICT, TABLE, arch), TABLE.numbers(arch)
    thread, process = (0x3D0F00, *NOTHING[1:]), (0x1200011, *NOTHING[1:])
    assert evaluate(program, numbers["clone"], arch, thread) == ALLOW
    assert evaluate(program, numbers["clone"], arch, process) == ERRNO | errno.EPERM
    for name in ("execve", "execveat", "socket", "connect", "setgroups"):
        assert answers(program, numbers[name], arch) == {ERRNO | errno.EPERM}
    assert answers(program, numbers["socketpair"], arch) == {ALLOW}


@pytest.mark.parametrize("arch", ARCHES)
def test_all_answers_are_those_that_some_arguments_get(arch: int) -> None:
    program, numbers = _launch.floor(arch), TABLE.numbers(arch)
    assert answers(program, numbers["read"], arch) == {ALLOW}
    assert answers(program, numbers["mount"], arch) == {ERRNO | errno.EPERM}
    assert answers(program, numbers["clone3"], arch) == {ERRNO | errno.ENOSYS}
    assert answers(program, numbers["clone"], arch) == {ALLOW, ERRNO | errno.EPERM}


def test_what_a_policy_allows_beyond_default_is_named() -> None:
    policy = Policy(Action.refuse(), (Rule(("mount", "read", "clone", "bpf"), Action.allow()),))
    assert _launch.beyond_default(policy) == ("bpf", "mount")
    assert _launch.beyond_default("default") == _launch.beyond_default("strict") == ()


def test_a_name_that_no_table_knows_is_refused() -> None:
    policy = Policy(Action.allow(), (Rule(("opne",), Action.refuse()),))
    with pytest.raises(UsageError, match="no system call has the name 'opne'"):
        compile_policy(policy, TABLE, X86_64)


def test_a_policy_that_is_too_large_is_refused() -> None:
    tests = tuple(Comparison(i % 6, "masked", 1, 1) for i in range(30))
    policy = Policy(Action.allow(), (Rule(("read",), Action.refuse(), tests),) * 30)
    with pytest.raises(UsageError, match=r"needs \d+ instructions, and a filter has at most 4064"):
        compile_policy(policy, TABLE, X86_64)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Action("errno", 0), "errnum must be from 1 to 4095, got 0"),
        (lambda: Action("errno", 4096), "errnum must be from 1 to 4095"),
        (lambda: Action("allow", 1), "only action 'errno'"),
        (lambda: Action("log"), "action must be one of allow, errno, kill"),  # type: ignore[arg-type]
        (lambda: Comparison(6, "==", 0), "from 0 to 5"),
        (lambda: Comparison(0, "=", 0), "op must be one of"),  # type: ignore[arg-type]
        (lambda: Comparison(0, "==", 1 << 64), "64 bits"),
        (lambda: Comparison(0, "==", -1), "64 bits"),
        (lambda: Comparison(0, "==", True), "64 bits"),
        (lambda: Comparison(0, "==", 1, 1), "only op 'masked'"),
        (lambda: Rule("read", Action.allow()), "tuple of names"),  # type: ignore[arg-type]
        (lambda: Rule(("",), Action.allow()), "must be text"),
        (lambda: Policy(Action.allow(), (1,)), "type Rule"),  # type: ignore[arg-type]
        (lambda: Policy("allow"), "type Action"),  # type: ignore[arg-type]
    ],
)
def test_a_bad_value_is_refused(make: object, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make()  # type: ignore[operator]


# --- what a launcher accepts ------------------------------------------------------------------


def is_accepted(program: bytes) -> bool:
    code = ffi.from_buffer("struct ox_instruction[]", program)
    return bool(lib.ox_filter_check(code, len(code)) == 0)


def steps(*instructions: tuple[int, int, int, int]) -> bytes:
    return b"".join(struct.pack("=HBBI", *each) for each in instructions)


RET = 0x06


@pytest.mark.parametrize("value", [ALLOW, ERRNO | 1, ERRNO | 4095, KILL])
def test_answers_that_default_could_give_are_accepted(value: int) -> None:
    assert is_accepted(steps((RET, 0, 0, value)))


@pytest.mark.parametrize(
    "value",
    [
        0x7FC00000,  # USER_NOTIF
        0x7FF00000,  # TRACE
        0x7FFC0000,  # LOG
        0x00030000,  # TRAP
        0x00000000,  # KILL_THREAD
        ERRNO,  # a call that seems to succeed
        ERRNO | 4096,
        ALLOW | 1,
        0x12340000,
    ],
)
def test_other_answers_are_refused(value: int) -> None:
    assert not is_accepted(steps((RET, 0, 0, value)))


@pytest.mark.parametrize(
    "program",
    [
        steps((0x20, 0, 0, 0)),  # no answer
        steps((0x20, 0, 0, 2), (RET, 0, 0, ALLOW)),  # not aligned
        steps((0x20, 0, 0, 64), (RET, 0, 0, ALLOW)),  # beyond the call
        steps((0x15, 1, 0, 0), (RET, 0, 0, ALLOW)),  # a jump out of the program
        steps((0x15, 0, 1, 0), (RET, 0, 0, ALLOW)),
        steps((0x05, 0, 0, 1), (RET, 0, 0, ALLOW)),
        steps((0x05, 0, 0, 0xFFFFFFFF), (RET, 0, 0, ALLOW)),
        steps((0x16, 0, 0, 0), (RET, 0, 0, ALLOW)),  # RET A
        steps((0x02, 0, 0, 0), (RET, 0, 0, ALLOW)),  # store
        steps(*[(RET, 0, 0, ALLOW)] * 4065),
    ],
)
def test_other_programs_are_refused(program: bytes) -> None:
    assert not is_accepted(program)


def test_a_program_of_the_greatest_length_is_accepted() -> None:
    assert is_accepted(steps(*[(RET, 0, 0, ALLOW)] * 4064))


def test_a_machine_takes_no_program_that_the_kernel_would_not() -> None:
    with pytest.raises(ValueError, match="not a program"):
        evaluate(steps((0x02, 0, 0, 0)), 0, X86_64, NOTHING)
    with pytest.raises(ValueError, match="not a program"):
        evaluate(steps((0x20, 0, 0, 0)), 0, X86_64, NOTHING)


def test_the_table_has_each_number_once() -> None:
    for arch in ARCHES:
        numbers = TABLE.numbers(arch)
        assert len(set(numbers.values())) == len(numbers) > 250
        assert all(TABLE.name(arch, number) == name for name, number in numbers.items())
    assert Table([("read", 0, 63)]).name(X86_64, 1) is None
