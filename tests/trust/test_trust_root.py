"""Trust root: where it is looked for, and that nobody else may be able to change it."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from _trust_root import Root

from oxgen.errors import IntegrityError
from oxgen.integrity import TrustRoot, approve, approve_files, keygen, listed, sign_file

OTHER_UID = 65533


def denial(root: Root) -> IntegrityError:
    with pytest.raises(IntegrityError) as caught:
        approve("hello", root.root)
    return caught.value


def located(explicit: str | None = None) -> IntegrityError:
    with pytest.raises(IntegrityError) as caught:
        TrustRoot.locate(explicit)
    return caught.value


def test_explicit_root_is_taken(trust: Root) -> None:
    assert TrustRoot.locate(str(trust.path)).directory == str(trust.path)


def test_explicit_root_that_is_missing_is_not_replaced_by_another(
    trust: Root, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plugins").mkdir()
    monkeypatch.chdir(tmp_path)
    assert located("nowhere").reason == "not_found"


@pytest.mark.parametrize("name", ["", "a\0b", "\ud800"])
def test_explicit_root_that_is_no_name_is_refused(name: str) -> None:
    assert located(name).reason == "bad_path"


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where /etc/oxgen would be; the current directory is an empty one."""
    monkeypatch.setattr("oxgen.integrity.trust._SYSTEM_DIRECTORY", str(tmp_path / "etc"))
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    return tmp_path / "etc"


def test_system_root_comes_before_the_local_one(system: Path) -> None:
    system.mkdir()
    Path("plugins").mkdir()
    assert TrustRoot.locate().directory == str(system)


def test_local_root_is_taken_where_there_is_no_system_root(system: Path) -> None:
    Path("plugins").mkdir()
    assert TrustRoot.locate().directory == os.path.abspath("plugins")


def test_system_root_that_is_not_trusted_is_not_replaced_by_the_local_one(system: Path) -> None:
    system.mkdir()
    system.chmod(0o777)
    Path("plugins").mkdir()
    assert located().reason == "untrusted_root"


def test_no_root_anywhere_says_where_it_was_looked_for(system: Path) -> None:
    assert (located().reason, "plugins" in str(located())) == ("not_found", True)


def test_root_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert located(str(tmp_path / "file")).reason == "untrusted_root"


def test_link_to_a_root_is_accepted(trust: Root, tmp_path: Path) -> None:
    folder = trust.add()
    (tmp_path / "link").symlink_to(trust.path)
    with approve(folder, TrustRoot.locate(str(tmp_path / "link"))) as approved:
        assert approved.name == "hello"


PARTS = [".", "ALLOWLIST", "keys", "keys/operator.pub"]


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("bits", [0o020, 0o002])
def test_part_that_others_can_write_is_refused_with_the_remedy(
    trust: Root, part: str, bits: int
) -> None:
    trust.add()
    root, path = trust.root, trust.path / part
    path.chmod(stat.S_IMODE(path.stat().st_mode) | bits)
    with pytest.raises(IntegrityError) as caught:
        approve("hello", root)
    error = caught.value
    assert error.reason == "untrusted_root"
    assert error.path == os.path.normpath(path)
    assert f"mode {stat.S_IMODE(path.stat().st_mode):04o}" in str(error)
    assert f"chmod go-w {os.path.normpath(path)}" in str(error)


@pytest.mark.parametrize("part", PARTS)
def test_part_that_only_its_owner_can_write_is_accepted(trust: Root, part: str) -> None:
    trust.add()
    (trust.path / part).chmod(0o755)
    assert trust.approves("hello")


@pytest.mark.root
@pytest.mark.parametrize("part", PARTS)
def test_part_of_another_owner_is_refused_with_the_remedy(trust: Root, part: str) -> None:
    trust.add()
    root = trust.root
    os.chown(trust.path / part, OTHER_UID, -1)
    with pytest.raises(IntegrityError) as caught:
        approve("hello", root)
    error = caught.value
    assert (error.reason, f"uid {OTHER_UID}" in str(error)) == ("untrusted_root", True)
    assert f"chown 0 {os.path.normpath(trust.path / part)}" in str(error)


@pytest.mark.parametrize("part", PARTS[1:])
def test_part_that_is_a_link_is_refused(trust: Root, tmp_path: Path, part: str) -> None:
    trust.add()
    (trust.path / part).rename(tmp_path / "moved")
    (trust.path / part).symlink_to(tmp_path / "moved")
    error = denial(trust)
    assert (error.reason, "symbolic link" in str(error)) == ("not_regular", True)


def test_missing_allowlist_denies_with_its_own_reason(trust: Root) -> None:
    trust.add()
    trust.allowlist.unlink()
    assert denial(trust).reason == "no_allowlist"


def test_empty_allowlist_allows_nothing(trust: Root) -> None:
    trust.add()
    trust.allowlist.write_bytes(b"")
    assert denial(trust).reason == "not_listed"


def test_broken_allowlist_denies_with_its_own_reason(trust: Root) -> None:
    trust.add()
    with trust.allowlist.open("ab") as stream:
        stream.write(b"junk\n")
    error = denial(trust)
    assert (error.reason, "line 3" in str(error)) == ("bad_allowlist", True)


def test_missing_keys_deny_with_their_own_reason(trust: Root) -> None:
    trust.add()
    (trust.path / "keys" / "operator.pub").unlink()
    assert denial(trust).reason == "no_keys"


def test_missing_folder_of_keys_denies_with_its_own_reason(trust: Root) -> None:
    trust.add()
    (trust.path / "keys" / "operator.pub").unlink()
    (trust.path / "keys").rmdir()
    assert denial(trust).reason == "no_keys"


def test_key_without_the_suffix_does_not_count(trust: Root) -> None:
    trust.add()
    (trust.path / "keys" / "operator.pub").rename(trust.path / "keys" / "operator.pem")
    assert denial(trust).reason == "no_keys"


def test_other_files_beside_the_keys_do_not_matter(trust: Root) -> None:
    trust.add()
    (trust.path / "keys" / "README.md").write_text("keys")
    (trust.path / "keys" / ".operator.pub.swp").write_text("junk")
    assert trust.approves("hello")


def test_one_broken_key_refuses_all(trust: Root) -> None:
    trust.add()
    (trust.path / "keys" / "z.pub").write_text("junk")
    assert denial(trust).reason == "bad_key"


def test_private_key_among_the_keys_is_refused(trust: Root) -> None:
    trust.add()
    (trust.path / "keys" / "z.pub").write_bytes(trust.secret.read_bytes())
    error = denial(trust)
    assert (error.reason, "private key" in str(error)) == ("bad_key", True)


def test_key_that_is_a_fifo_is_refused(trust: Root) -> None:
    trust.add()
    os.mkfifo(trust.path / "keys" / "z.pub")
    assert denial(trust).reason == "not_regular"


def test_removed_key_no_longer_counts(trust: Root, tmp_path: Path) -> None:
    keygen(tmp_path / "second", trust.path / "keys" / "second.pub")
    trust.add()
    (trust.path / "keys" / "operator.pub").unlink()
    assert denial(trust).reason == "bad_signature"


def test_second_key_counts_too(trust: Root, tmp_path: Path) -> None:
    keygen(tmp_path / "second", trust.path / "keys" / "second.pub")
    folder = trust.add()
    sign_file(folder / "prog", tmp_path / "second")
    assert trust.approves("hello")


def test_listed_returns_the_entries_in_order(trust: Root) -> None:
    trust.add()
    assert [entry.path for entry in listed(trust.root)] == ["hello/prog", "hello/manifest.json"]


def test_approving_makes_the_list_with_mode_0644(trust: Root) -> None:
    trust.add()
    assert stat.S_IMODE(trust.allowlist.stat().st_mode) == 0o644


def test_approving_keeps_comments_and_mode(trust: Root) -> None:
    trust.allowlist.write_text("# ours\n")
    trust.allowlist.chmod(0o600)
    trust.add()
    lines = trust.allowlist.read_text().split("\n")
    assert (lines[0], len(lines), lines[3]) == ("# ours", 4, "")
    assert stat.S_IMODE(trust.allowlist.stat().st_mode) == 0o600


def test_approving_twice_changes_nothing(trust: Root) -> None:
    folder = trust.add()
    before = (trust.allowlist.read_bytes(), trust.allowlist.stat().st_ino)
    approve_files(trust.root, folder)
    assert (trust.allowlist.read_bytes(), trust.allowlist.stat().st_ino) == before


def test_approving_leaves_no_temporary_file(trust: Root) -> None:
    trust.add()
    assert sorted(os.listdir(trust.path)) == ["ALLOWLIST", "hello", "keys"]


def test_failed_rewrite_leaves_the_old_list_and_no_temporary_file(
    trust: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust.add()
    before = trust.allowlist.read_bytes()
    folder = trust.write("other")
    sign_file(folder / "prog", trust.secret)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(IntegrityError) as caught:
        approve_files(trust.root, folder)
    assert caught.value.reason == "not_writable"
    assert trust.allowlist.read_bytes() == before
    assert sorted(os.listdir(trust.path)) == ["ALLOWLIST", "hello", "keys", "other"]


def test_list_that_somebody_else_is_changing_is_busy(
    trust: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = trust.add()
    monkeypatch.setattr("oxgen.integrity.trust._LOCK_SECONDS", 0.05)
    with trust.root.open() as other, other.locked():
        with pytest.raises(IntegrityError) as caught:
            approve_files(trust.root, folder)
        assert caught.value.reason == "busy"
        assert trust.approves("hello")
    approve_files(trust.root, folder)


def test_lists_changed_at_once_keep_every_line(trust: Root) -> None:
    names = [f"p{number}" for number in range(8)]
    for name in names:
        sign_file(trust.write(name) / "prog", trust.secret)
    threads = [
        threading.Thread(target=approve_files, args=(trust.root, trust.path / name))
        for name in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert {entry.path.split("/")[0] for entry in listed(trust.root)} == set(names)


def test_roots_do_not_share_their_decisions(make_root: Callable[[str], Root]) -> None:
    one, two = make_root("one"), make_root("two")
    one.add()
    two.add("other")
    assert one.refusal(two.path / "other") == "not_listed"
    assert two.approves("other")
