"""ALLOWLIST: which lines are understood, and that one fault refuses the whole file."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oxgen.errors import IntegrityError
from oxgen.integrity.allowlist import Entry, parse_allowlist, with_entries
from oxgen.manifest import relative_path_fault

#: The machine may be busy; how long an example takes is no promise of this module.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

A, B = "a" * 64, "b1" * 32


def pairs(content: bytes) -> list[tuple[str, str]]:
    return [(entry.digest, entry.path) for entry in parse_allowlist(content).entries]


def fault(content: bytes) -> str:
    with pytest.raises(IntegrityError) as caught:
        parse_allowlist(content)
    assert caught.value.reason == "bad_allowlist"
    return str(caught.value)


@pytest.mark.parametrize(
    "line",
    [f"{A}  x/y", f"{A} x/y", f"{A} *x/y", f"{A.upper()}  x/y", f"{A}  x/y\r", f"\ufeff{A}  x/y"],
)
def test_line_of_every_accepted_form_is_understood(line: str) -> None:
    assert pairs(f"{line}\n".encode()) == [(A, "x/y")]


def test_last_line_needs_no_newline() -> None:
    assert pairs(f"{A}  x\n{B}  y".encode()) == [(A, "x"), (B, "y")]


def test_comments_and_blank_lines_are_passed_over() -> None:
    assert pairs(f"# {B}  no\n\n \t\n\r\n#\n{A}  yes\n".encode()) == [(A, "yes")]


@pytest.mark.parametrize("content", [b"", b"\n", b"# nothing\n", b"\xef\xbb\xbf"])
def test_empty_list_allows_nothing(content: bytes) -> None:
    allowlist = parse_allowlist(content)
    assert (allowlist.entries, allowlist.digest_of("x"), allowlist.digest_of("")) == (
        (),
        None,
        None,
    )


@pytest.mark.parametrize("listed", ["*", "plugins", "plugins/*", "?"])
def test_listed_path_is_neither_pattern_nor_prefix(listed: str) -> None:
    allowlist = parse_allowlist(f"{A}  {listed}\n".encode())
    assert (allowlist.digest_of("plugins/x"), allowlist.digest_of(listed)) == (None, A)


@pytest.mark.parametrize("path", ["a b", " lead", "trail ", "a  b", "ü", "a\u2028b", "a#b", "#a"])
def test_path_is_taken_to_its_last_character(path: str) -> None:
    assert pairs(f"{A}  {path}\n".encode()) == [(A, path)]


@pytest.mark.parametrize("end", ["\u2028", "\u2029"])
def test_only_lf_ends_a_line(end: str) -> None:
    assert [path for _, path in pairs(f"{A}  x{end}{B}  y\n".encode())] == [f"x{end}{B}  y"]


@pytest.mark.parametrize("end", ["\r", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85"])
def test_control_that_others_take_for_a_line_end_refuses_the_file(end: str) -> None:
    assert "line 2" in fault(f"{A}  x\n{B}  y{end}{A}  z\n".encode())


@pytest.mark.parametrize(
    ("line", "word"),
    [
        (f"{A[:-1]}  x", "63 hex digits"),
        (f"{A}0  x", "65 hex digits"),
        (f"{'d' * 40}  x", "40 hex digits"),
        (f"{'d' * 128}  x", "128 hex digits"),
        (f"{A[:-1]}g  x", "hex digest"),
        (f"{A[:-1]}\u0660  x", "hex digest"),
        (f"{A[:-1]}\uff11  x", "hex digest"),
        (f" {A}  x", "hex"),
        (f"\t{A}  x", "hex"),
        (f" # {A}  x", "hex"),
        (f"\ufeff{A}  x", "hex"),
        (A, "no path"),
        (f"{A} ", "is empty"),
        (f"{A}  ", "is empty"),
        (f"{A} *", "is empty"),
        (f"{A}\tx", "space"),
        (f"{A}  a\0b", "NUL"),
        ("# a\0b", "NUL"),
        (f"{A}  /etc/x", "absolute"),
        (f"{A}  ./x", "'.'"),
        (f"{A}  a/../x", "'..'"),
        (f"{A}  ../x", "'..'"),
        (f"{A}  a//x", "empty component"),
        (f"{A}  a/", "empty component"),
        (f"{A}  a\\x", "backslash"),
        (f"\\{A}  a\\nx", "escaped form"),
        (f"SHA256 (x) = {A}", "--tag"),
        (f"{A}  x\r\r", "control"),
        ("x", "hex digest"),
    ],
)
def test_line_of_another_form_refuses_the_file_and_is_named(line: str, word: str) -> None:
    message = fault(f"{B}  good\n{line}\n".encode())
    assert "line 2" in message
    assert word in message


def test_cr_that_no_lf_follows_is_no_line_end() -> None:
    assert "line 1" in fault(f"{A}  x\r".encode())


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-be", "utf-32"])
def test_other_encodings_refuse_the_file(codec: str) -> None:
    fault(f"{A}  x\n".encode(codec))


@pytest.mark.parametrize(
    "line", [b"# \xff\n", A.encode() + b"  \xff\n", A.encode() + b"  \xc0\xae\n"]
)
def test_line_that_is_not_utf8_refuses_the_file(line: bytes) -> None:
    assert "line 1" in fault(line)


def test_two_digests_for_one_path_refuse_the_file() -> None:
    message = fault(f"{A}  x\n{A}  y\n{B}  x\n".encode())
    assert "line 3" in message
    assert "line 1" in message


def test_one_digest_twice_for_one_path_is_accepted() -> None:
    assert pairs(f"{A}  x\n{A.upper()} *x\n".encode()) == [(A, "x")]


def test_larger_file_than_the_bound_is_refused() -> None:
    assert "larger" in fault(b"#" * (4 * 1024 * 1024 + 1))


def test_rewriting_keeps_every_other_byte() -> None:
    before = f"\ufeff# top\r\n{A.upper()} *one\r\n\r\n# mid\n{A}  two".encode()
    after = with_entries(before, [Entry(B, "two"), Entry(B, "new")])
    assert after == f"\ufeff# top\r\n{A.upper()} *one\r\n\r\n# mid\n{B}  two\n{B}  new\n".encode()


def test_rewriting_replaces_every_line_of_a_path() -> None:
    before = f"{A}  x\n{A} *x\r\n".encode()
    assert with_entries(before, [Entry(B, "x")]) == f"{B}  x\n{B} *x\r\n".encode()


def test_rewriting_refuses_a_list_it_does_not_understand() -> None:
    with pytest.raises(IntegrityError):
        with_entries(b"junk\n", [Entry(B, "x")])


@pytest.mark.parametrize("path", ["../x", "a\nb", "", "/x"])
def test_rewriting_refuses_a_path_that_cannot_be_listed(path: str) -> None:
    with pytest.raises(IntegrityError):
        with_entries(b"", [Entry(B, path)])


@PATIENT
@given(st.binary(max_size=200))
def test_any_bytes_are_a_list_or_a_refusal(content: bytes) -> None:
    try:
        entries = parse_allowlist(content).entries
    except IntegrityError as exc:
        assert exc.reason == "bad_allowlist"
        return
    assert entries == ()  # 64 hex digits do not come about by chance


LINES = st.lists(
    st.one_of(
        st.just("# note"),
        st.just(""),
        st.builds(
            lambda digest, gap, path, end: f"{digest}{gap}{path}{end}",
            st.sampled_from([A, B, A.upper(), A[1:]]),
            st.sampled_from(["  ", " ", " *", "\t"]),
            st.text(alphabet="ab/. *\r\u2028é", min_size=0, max_size=6),
            st.sampled_from(["", "\r"]),
        ),
    ),
    max_size=6,
)


@PATIENT
@given(LINES)
def test_understood_list_has_normal_paths_and_survives_rewriting(lines: list[str]) -> None:
    content = "".join(f"{line}\n" for line in lines).encode()
    try:
        allowlist = parse_allowlist(content)
    except IntegrityError:
        return
    assert all(relative_path_fault(entry.path) is None for entry in allowlist.entries)
    again = parse_allowlist(with_entries(content, [Entry(B, "zzz")]))
    kept = {entry.path: entry.digest for entry in again.entries}
    assert kept == {**{entry.path: entry.digest for entry in allowlist.entries}, "zzz": B}
