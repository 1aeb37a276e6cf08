"""Manifest: what is accepted, and that every refusal names the field."""

from __future__ import annotations

import json
import os.path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oxgen.errors import ManifestError
from oxgen.limits import Limits
from oxgen.manifest import (
    CAPABILITY_NAMES,
    MAX_CONFIG_BYTES,
    Manifest,
    parse_manifest,
    relative_path_fault,
)

#: The machine may be busy; how long an example takes is no promise of this module.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

BASE: dict[str, Any] = {
    "name": "hello",
    "version": "0.1.0",
    "entry": "hello",
    "artifact": "bin/hello",
    "capabilities": ["CAP_EMIT_FINDINGS"],
}


def read(**changes: Any) -> Manifest:
    return parse_manifest(json.dumps({**BASE, **changes}).encode())


def fault(**changes: Any) -> str:
    with pytest.raises(ManifestError) as caught:
        read(**changes)
    return caught.value.field


def raw_fault(data: bytes) -> ManifestError:
    with pytest.raises(ManifestError) as caught:
        parse_manifest(data)
    return caught.value


def test_smallest_manifest_has_the_documented_defaults() -> None:
    manifest = read()
    assert (manifest.runtime, manifest.limits, manifest.trusted) == ("static", None, False)
    assert manifest.signature_path == "bin/hello.sig"


def test_every_key_is_read() -> None:
    manifest = read(
        trusted=True,
        config={"deep": [1, {"x": None}]},
        signature={"signature": "s/h.sig", "publicKey": "../keys/a.pub"},
        limits={"wall_seconds": 2.5, "memory_bytes": None},
        runtime="python",
        description="says hello",
        proxy=None,
    )
    assert manifest.trusted is True
    assert manifest.config == {"deep": [1, {"x": None}]}
    assert manifest.signature_path == "s/h.sig"
    assert manifest.signature.public_key == "../keys/a.pub"
    assert manifest.limits == Limits(wall_seconds=2.5, memory_bytes=None)
    assert (manifest.runtime, manifest.description) == ("python", "says hello")


@pytest.mark.parametrize("key", sorted(BASE))
def test_missing_required_key_is_named(key: str) -> None:
    members = {name: value for name, value in BASE.items() if name != key}
    assert raw_fault(json.dumps(members).encode()).field == key


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"naem": 1}, "naem"),
        ({"Name": "x"}, "Name"),
        ({"signature": {"sig": "a"}}, "signature.sig"),
        ({"limits": {"wall": 1}}, "limits.wall"),
    ],
)
def test_unknown_key_is_named(changes: dict[str, Any], field: str) -> None:
    assert fault(**changes) == field


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('{"name":"a","name":"a"}', "name"),
        ('{"signature":{"publicKey":"a","publicKey":"a"}}', "signature.publicKey"),
        ('{"config":{"a":[0,{"b":1,"b":1}]}}', "config.a[1].b"),
        ('{"n\\u0061me":"a","name":"b"}', "name"),
    ],
)
def test_duplicate_key_is_named_at_any_depth(text: str, field: str) -> None:
    error = raw_fault(text.encode())
    assert (error.field, "twice" in str(error)) == (field, True)


def test_hostile_key_cannot_act_on_a_terminal() -> None:
    assert "\x1b" not in str(raw_fault(b'{"\\u001b[2J": 1}'))
    assert "\x1b" not in str(raw_fault(b'{"config": {"\\u001b": 1, "\\u001b": 1}}'))


@pytest.mark.parametrize("name", ["a", "0x", "a.b-c_d", "a" * 64])
def test_name_within_the_pattern_is_accepted(name: str) -> None:
    assert read(name=name).name == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a..b", "A", "-a", "_a", "a/b", "a\n", "a\0", "ä", "a" * 65, 3, None]
)
def test_name_outside_the_pattern_is_refused(name: object) -> None:
    assert fault(name=name) == "name"


@pytest.mark.parametrize("entry", ["plugin", "plugin.py", "a b", "ü"])
def test_entry_of_one_component_is_accepted(entry: str) -> None:
    assert read(entry=entry).entry == entry


@pytest.mark.parametrize(
    "entry", ["", ".", "..", "a/b", "/a", "a\\b", "a\0b", "a\n", "C:a", "a" * 256]
)
def test_entry_that_is_no_file_name_is_refused(entry: str) -> None:
    assert fault(entry=entry) == "entry"


BAD_PATHS = [
    "",
    "/etc/passwd",
    "..",
    "../x",
    "a/../x",
    "a/..",
    "./a",
    "a/./b",
    "a//b",
    "a/",
    "a\\b",
    "..\\x",
    "C:/x",
    "c:x",
    "a\0b",
    "a\nb",
    "a\x7f",
    "a" * 256,
    "/".join(["a" * 200] * 6),
]


@pytest.mark.parametrize("path", BAD_PATHS)
def test_artifact_outside_the_folder_is_refused(path: str) -> None:
    assert fault(artifact=path) == "artifact"


@pytest.mark.parametrize("path", BAD_PATHS)
def test_signature_outside_the_folder_is_refused(path: str) -> None:
    assert fault(signature={"signature": path}) == "signature.signature"


@pytest.mark.parametrize("path", ["a", "a/b/c", "..a", "a..", "ü/é", "a b", "...", "ab:c/d"])
def test_path_inside_the_folder_is_accepted(path: str) -> None:
    assert read(artifact=path, signature={"signature": path}).signature_path == path


@pytest.mark.parametrize("key", ["publicKey", "certificate"])
@pytest.mark.parametrize("path", ["/etc/key.pub", "a//b", "C:/k", "a\\b", "", "./k", "a\0"])
def test_key_reference_that_is_no_relative_path_is_refused(key: str, path: str) -> None:
    assert fault(signature={key: path}) == f"signature.{key}"


@pytest.mark.parametrize("key", ["publicKey", "certificate"])
def test_key_reference_may_climb(key: str) -> None:
    assert read(signature={key: "../keys/k.pub"}).signature != read().signature


def test_public_key_beside_certificate_is_refused() -> None:
    assert fault(signature={"publicKey": "a", "certificate": "b"}) == "signature.certificate"


def test_all_ten_capabilities_are_known() -> None:
    assert read(capabilities=list(CAPABILITY_NAMES)).capabilities == CAPABILITY_NAMES
    assert len(set(CAPABILITY_NAMES)) == 10


def test_no_capability_is_accepted() -> None:
    assert read(capabilities=[]).capabilities == ()


@pytest.mark.parametrize(
    "value", ["cap_ws", "CAP_WS ", "CAP_ALL", "*", "", "CAP_W", 1, None, ["CAP_WS"]]
)
def test_capability_that_is_not_exactly_known_is_refused(value: object) -> None:
    assert fault(capabilities=["CAP_REPORT", value]) == "capabilities[1]"


def test_capability_that_stands_twice_is_refused() -> None:
    assert fault(capabilities=["CAP_WS", "CAP_WS"]) == "capabilities[1]"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("trusted", "true"),
        ("trusted", 1),
        ("config", []),
        ("config", None),
        ("signature", "a.sig"),
        ("limits", 5),
        ("limits", None),
        ("runtime", "perl"),
        ("runtime", 1),
        ("description", 1),
        ("description", "x" * 4097),
        ("capabilities", "CAP_WS"),
        ("version", ""),
        ("version", "1 2"),
        ("version", 1.0),
    ],
)
def test_member_of_another_type_is_refused(key: str, value: object) -> None:
    assert fault(**{key: value}) == key


@pytest.mark.parametrize("runtime", ["auto", "static", "dynamic", "python"])
def test_runtime_of_the_sandbox_is_accepted(runtime: str) -> None:
    assert read(runtime=runtime).runtime == runtime


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("wall_seconds", 0),
        ("wall_seconds", -1),
        ("wall_seconds", "5"),
        ("wall_seconds", True),
        ("processes", 1.5),
        ("processes", 0),
        ("memory_bytes", 10**30),
    ],
)
def test_limit_that_no_machine_accepts_is_named(key: str, value: object) -> None:
    assert fault(limits={"cpu_seconds": 1, key: value}) == f"limits.{key}"


@pytest.mark.parametrize("proxy", [True, {}, {"listen": 8080}, "127.0.0.1:8080", 0, []])
def test_wish_for_a_proxy_is_refused(proxy: object) -> None:
    assert fault(proxy=proxy) == "proxy"


@pytest.mark.parametrize("proxy", [None, False])
def test_no_proxy_is_accepted(proxy: object) -> None:
    assert read(proxy=proxy) == read()


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"\xef\xbb\xbf{}", "byte order mark"),
        ('{"name": "a"}'.encode("utf-16"), "UTF-16"),
        (b'{"name": "\xff"}', "UTF-8"),
        (b"", "JSON"),
        (b"[]", "object"),
        (b"{} {}", "JSON"),
        (b"{'name': 1}", "JSON"),
        (b'{"name": "a",}', "JSON"),
        (b'{"config": {"a": NaN}}', "NaN"),
        (b'{"config": {"a": -Infinity}}', "Infinity"),
        (b'{"config": {"a": 1e999}}', "too large"),
        (b'{"config": {"a": ' + b"9" * 5000 + b"}}", "digits"),
        (b'{"config": {"a": "\\ud800"}}', "surrogate"),
        (b'{"\\ud800": 1}', "surrogate"),
        (b'{"config": ' + b"[" * 65 + b"]" * 65 + b"}", "nested"),
        (b'{"config": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", "nested"),
        (b'"' + b"x" * (1 << 20) + b'"', "larger"),
    ],
)
def test_bytes_that_are_no_strict_json_are_refused_by_name(data: bytes, word: str) -> None:
    assert word in str(raw_fault(data))


def test_largest_manifest_is_accepted() -> None:
    padded = json.dumps(BASE).ljust(1 << 20)
    assert parse_manifest(padded.encode()).name == "hello"


def nested(levels: int) -> Any:
    """Return an object with so many levels, itself included."""
    deep: Any = 1
    for _ in range(levels - 1):
        deep = [deep]
    return {"a": deep}


def test_config_nested_to_the_bound_is_accepted() -> None:
    assert read(config=nested(16)).config == nested(16)


def test_config_nested_deeper_is_refused() -> None:
    assert fault(config=nested(17)) == "config"


@pytest.mark.parametrize("letter", ["x", "\u20ac"])
def test_config_of_the_largest_size_is_accepted(letter: str) -> None:
    width = len(json.dumps(letter)) - 2
    room = (MAX_CONFIG_BYTES - len('{"a":""}')) // width
    assert read(config={"a": letter * room}).config == {"a": letter * room}
    assert fault(config={"a": letter * (room + 1)}) == "config"


def test_fault_names_the_file_when_it_is_known() -> None:
    with pytest.raises(ManifestError) as caught:
        parse_manifest(b"{}", path="hello/manifest.json")
    assert str(caught.value).startswith("hello/manifest.json: name: is missing")


def test_fault_of_bare_bytes_names_no_file() -> None:
    with pytest.raises(ManifestError, match=r"^manifest: name: is missing") as caught:
        parse_manifest(b"{}")
    assert caught.value.path is None


@PATIENT
@given(st.binary(max_size=300))
def test_any_bytes_are_a_manifest_or_a_manifest_error(data: bytes) -> None:
    with pytest.raises(ManifestError):
        parse_manifest(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


@PATIENT
@given(st.dictionaries(st.sampled_from([*BASE, "signature", "limits", "runtime", "config"]), JSON))
def test_any_members_are_a_manifest_or_a_manifest_error(changes: dict[str, Any]) -> None:
    try:
        manifest = read(**changes)
    except ManifestError:
        return
    assert "/" not in manifest.entry
    assert relative_path_fault(manifest.artifact) is None


@PATIENT
@given(st.text(alphabet="ab./\\:\0\n é", max_size=12))
def test_path_without_a_fault_stays_below_its_folder(path: str) -> None:
    if relative_path_fault(path) is None:
        assert os.path.normpath(path) == path
        assert os.path.normpath(f"/base/{path}").startswith("/base/")
