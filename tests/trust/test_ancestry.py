"""Parents of a trust root: who could put another directory in its place is asked about."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from _trust_root import Root

from oxgen.errors import IntegrityError
from oxgen.integrity import TrustRoot

OTHER_UID, THIRD_UID = 65533, 65532


def located(explicit: str | None = None) -> IntegrityError:
    with pytest.raises(IntegrityError) as caught:
        TrustRoot.locate(explicit)
    return caught.value


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ./plugins in a current directory of its own, and no /etc/oxgen."""
    monkeypatch.setattr("oxgen.integrity.trust._SYSTEM_DIRECTORY", str(tmp_path / "none"))
    plugins = tmp_path / "home" / "project" / "plugins"
    plugins.mkdir(parents=True)
    monkeypatch.chdir(plugins.parent)
    return plugins


def test_local_root_is_accepted_below_directories_of_root_and_the_caller(local: Path) -> None:
    assert TrustRoot.locate() == TrustRoot(str(local), implicit=True)


@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize("mode", [0o775, 0o757, 0o777])
def test_local_root_below_a_directory_that_others_write_is_refused(
    local: Path, level: int, mode: int
) -> None:
    parent = local.parents[level]
    parent.chmod(mode)
    error = located()
    assert (error.reason, error.path) == ("untrusted_root", str(parent))
    assert f"chmod go-w {parent}" in str(error)


@pytest.mark.root
@pytest.mark.parametrize("level", [0, 1])
def test_local_root_in_another_users_directory_is_refused(local: Path, level: int) -> None:
    parent = local.parents[level]
    os.chown(parent, OTHER_UID, -1)
    error = located()
    assert (error.reason, error.path) == ("untrusted_root", str(parent))
    assert f"uid {OTHER_UID}" in str(error)
    assert f"chown 0 {parent}" in str(error)


def test_local_root_in_a_sticky_directory_is_accepted_where_it_is_the_callers(local: Path) -> None:
    local.parent.chmod(0o1777)
    assert TrustRoot.locate().directory == str(local)


@pytest.mark.root
def test_local_root_of_another_user_in_a_sticky_directory_is_refused(local: Path) -> None:
    local.parent.chmod(0o1777)
    os.chown(local, OTHER_UID, -1)
    assert located().reason == "untrusted_root"


def test_local_root_that_is_a_link_is_refused(local: Path, tmp_path: Path) -> None:
    local.rename(tmp_path / "moved")
    local.symlink_to(tmp_path / "moved")
    error = located()
    assert (error.reason, "symbolic link" in str(error)) == ("untrusted_root", True)


def test_system_root_below_a_directory_that_others_write_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "etc" / "oxgen").mkdir(parents=True)
    monkeypatch.setattr("oxgen.integrity.trust._SYSTEM_DIRECTORY", str(tmp_path / "etc/oxgen"))
    assert TrustRoot.locate().directory == str(tmp_path / "etc/oxgen")
    (tmp_path / "etc").chmod(0o777)
    assert located().path == str(tmp_path / "etc")


@pytest.fixture
def named(make_root, tmp_path: Path) -> Root:  # type: ignore[no-untyped-def]
    (tmp_path / "a").mkdir()
    root: Root = make_root("a/b")
    root.add()
    return root


def test_named_root_below_a_directory_that_others_write_is_refused(named: Root) -> None:
    located_before = named.root
    named.path.parent.chmod(0o777)
    assert located(str(named.path)).path == str(named.path.parent)
    with pytest.raises(IntegrityError, match="on the way"), located_before.open():
        pass


def test_named_root_in_a_sticky_directory_is_accepted(named: Root) -> None:
    named.path.parent.chmod(0o1777)
    assert named.approves("hello")


@pytest.mark.root
def test_named_root_in_the_directory_of_one_other_user_is_accepted(named: Root) -> None:
    os.chown(named.path.parent, OTHER_UID, -1)
    assert named.approves("hello")


@pytest.mark.root
def test_named_root_in_a_directory_of_another_user_that_others_write_is_refused(
    named: Root,
) -> None:
    os.chown(named.path.parent, OTHER_UID, -1)
    named.path.parent.chmod(0o775)
    assert located(str(named.path)).reason == "untrusted_root"


@pytest.mark.root
def test_named_root_below_directories_of_two_other_users_is_refused(named: Root) -> None:
    os.chown(named.path.parent, OTHER_UID, -1)
    os.chown(named.path.parent.parent, THIRD_UID, -1)
    error = located(str(named.path))
    assert (error.reason, error.path) == ("untrusted_root", str(named.path.parent))


def test_link_to_a_named_root_is_refused_where_others_could_change_it(
    named: Root, tmp_path: Path
) -> None:
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "root").symlink_to(named.path)
    link = str(tmp_path / "links" / "root")
    assert TrustRoot.locate(link).directory == link
    (tmp_path / "links").chmod(0o777)
    assert located(link).path == str(tmp_path / "links")


def test_links_in_a_circle_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x").symlink_to("y")
    (tmp_path / "y").symlink_to("x")
    assert located(str(tmp_path / "x")).reason == "untrusted_root"


def test_relative_links_are_followed(named: Root, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("./a/../a/b/")
    with TrustRoot.locate(str(tmp_path / "link")).open() as opened:
        assert opened.directory == str(named.path)


def test_root_of_the_file_system_is_no_trust_root() -> None:
    assert located("/").reason == "untrusted_root"


def test_no_descriptor_is_left_open(named: Root, tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with named.root.open():
            pass
        located(str(tmp_path / "missing" / "x"))
        located(str(named.allowlist))
    assert len(os.listdir("/proc/self/fd")) == before
