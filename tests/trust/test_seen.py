"""Seen before: nothing is read again, and yet every change is seen at the next approval."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from _trust_root import PROGRAM, Root

from oxgen.errors import IntegrityError
from oxgen.integrity import approve, keygen, seen, sign_file, state

SETTLED_SECONDS = 0.05


@pytest.fixture(autouse=True)
def nothing_seen() -> Iterator[None]:
    seen._verdicts.clear()
    yield
    seen._verdicts.clear()


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list of artifacts that were copied and hashed."""
    found: list[str] = []
    module = sys.modules["oxgen.integrity.approve"]
    real = module.seal_copy

    def counting(source: int, *, path: str, max_bytes: int) -> tuple[int, int]:
        found.append(path)
        return real(source, path=path, max_bytes=max_bytes)  # type: ignore[no-any-return]

    monkeypatch.setattr(module, "seal_copy", counting)
    return found


def settle() -> None:
    time.sleep(SETTLED_SECONDS)


def known(trust: Root, name: str = "hello") -> Path:
    """Add a plugin and approve it, so that its verdict is kept."""
    folder = trust.add(name)
    settle()
    assert trust.approves(folder) and trust.approves(name)
    assert len(seen._verdicts) == 2
    return folder


def test_second_approval_reads_nothing_again(trust: Root, copies: list[str]) -> None:
    trust.add()
    settle()
    copies.clear()
    with approve("hello", trust.root) as first, approve("hello", trust.root) as second:
        assert len(copies) == 1
        assert (first.digest, first.signer, first.manifest) == (
            second.digest,
            second.signer,
            second.manifest,
        )
        assert os.pread(second.descriptor, second.size + 1, 0) == PROGRAM


@pytest.mark.parametrize("how", ["name", "folder", "manifest", "relative", "link"])
def test_every_way_to_name_a_plugin_is_known_again(
    trust: Root, tmp_path: Path, copies: list[str], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    folder = trust.add()
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    names: dict[str, str | Path] = {
        "name": "hello",
        "folder": folder,
        "manifest": folder / "manifest.json",
        "relative": os.path.relpath(folder),
        "link": "link",
    }
    settle()
    copies.clear()
    assert trust.approves(names[how]) and trust.approves(names[how])
    assert len(copies) == 1


def test_closing_one_proof_leaves_the_other(trust: Root) -> None:
    known(trust)
    first, second = approve("hello", trust.root), approve("hello", trust.root)
    first.close()
    with second, pytest.raises(ValueError, match="closed"):
        assert os.pread(second.descriptor, 100, 0) == PROGRAM
        _ = first.descriptor


def without_the_line(trust: Root, folder: Path) -> None:
    """Blank it in place: same inode, same size."""
    content = trust.allowlist.read_bytes()
    line = next(line for line in content.splitlines() if b"hello/prog" in line)
    blanked = content.replace(line, b"#" * len(line))
    with open(trust.allowlist, "r+b") as stream:
        stream.write(blanked)


def without_the_list(trust: Root, folder: Path) -> None:
    trust.allowlist.unlink()


def with_another_key(trust: Root, folder: Path) -> None:
    key = trust.path / "keys" / "operator.pub"
    key.unlink()
    keygen(folder.parent.parent / "other.key", key)


def with_a_key_overwritten(trust: Root, folder: Path) -> None:
    """In place, with a key of the same length, and with the old times put back."""
    key = trust.path / "keys" / "operator.pub"
    before = key.stat()
    other = folder.parent.parent / "other.pub"
    keygen(folder.parent.parent / "other.key", other)
    with open(key, "r+b") as stream:
        stream.write(other.read_bytes())
    os.utime(key, ns=(before.st_atime_ns, before.st_mtime_ns))


def without_a_key(trust: Root, folder: Path) -> None:
    (trust.path / "keys" / "operator.pub").unlink()


def with_a_broken_key(trust: Root, folder: Path) -> None:
    (trust.path / "keys" / "new.pub").write_text("no key\n")


def with_an_artifact_changed_in_place(trust: Root, folder: Path) -> None:
    before = (folder / "prog").stat()
    with open(folder / "prog", "r+b") as stream:
        stream.write(PROGRAM.upper())
    os.utime(folder / "prog", ns=(before.st_atime_ns, before.st_mtime_ns))


def with_another_artifact(trust: Root, folder: Path) -> None:
    before = (folder / "prog").stat()
    (folder / "new").write_bytes(PROGRAM.upper())
    os.utime(folder / "new", ns=(before.st_atime_ns, before.st_mtime_ns))
    (folder / "new").rename(folder / "prog")


def without_the_artifact(trust: Root, folder: Path) -> None:
    (folder / "prog").unlink()


def with_a_link_for_the_artifact(trust: Root, folder: Path) -> None:
    (folder / "prog").rename(folder / "moved")
    (folder / "prog").symlink_to("moved")


def with_a_fifo_for_the_artifact(trust: Root, folder: Path) -> None:
    (folder / "prog").unlink()
    os.mkfifo(folder / "prog")


def with_a_manifest_changed(trust: Root, folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace("1.0", "1.1"))


def with_another_signature(trust: Root, folder: Path) -> None:
    secret = folder.parent.parent / "stranger.key"
    keygen(secret, folder.parent.parent / "stranger.pub")
    sign_file(folder / "prog", secret)


def without_the_signature(trust: Root, folder: Path) -> None:
    (folder / "prog.sig").unlink()


def with_a_list_that_others_write(trust: Root, folder: Path) -> None:
    trust.allowlist.chmod(0o666)


def with_keys_that_others_write(trust: Root, folder: Path) -> None:
    (trust.path / "keys").chmod(0o777)


def with_a_root_that_others_write(trust: Root, folder: Path) -> None:
    trust.path.chmod(0o777)


def with_a_parent_that_others_write(trust: Root, folder: Path) -> None:
    trust.path.parent.chmod(0o777)


def with_a_link_for_the_folder(trust: Root, folder: Path) -> None:
    folder.rename(trust.path / "aside")
    folder.symlink_to("aside")


CHANGES: list[tuple[Callable[[Root, Path], None], str]] = [
    (without_the_line, "not_listed"),
    (without_the_list, "no_allowlist"),
    (with_another_key, "bad_signature"),
    (with_a_key_overwritten, "bad_signature"),
    (without_a_key, "no_keys"),
    (with_a_broken_key, "bad_key"),
    (with_an_artifact_changed_in_place, "digest_mismatch"),
    (with_another_artifact, "digest_mismatch"),
    (without_the_artifact, "not_found"),
    (with_a_link_for_the_artifact, "not_regular"),
    (with_a_fifo_for_the_artifact, "not_regular"),
    (with_a_manifest_changed, "digest_mismatch"),
    (with_another_signature, "bad_signature"),
    (without_the_signature, "missing_signature"),
    (with_a_list_that_others_write, "untrusted_root"),
    (with_keys_that_others_write, "untrusted_root"),
    (with_a_root_that_others_write, "untrusted_root"),
    (with_a_parent_that_others_write, "untrusted_root"),
    (with_a_link_for_the_folder, "not_regular"),
]


@pytest.mark.parametrize(
    ("change", "reason"), CHANGES, ids=[change.__name__ for change, _ in CHANGES]
)
def test_change_is_seen_at_the_next_approval(
    trust: Root, change: Callable[[Root, Path], None], reason: str
) -> None:
    folder = known(trust)
    root = trust.root
    change(trust, folder)
    with pytest.raises(IntegrityError) as caught:
        approve("hello", root)
    assert caught.value.reason == reason


def test_root_of_which_another_one_took_the_place_is_seen(
    trust: Root, make_root: Callable[[str], Root]
) -> None:
    known(trust)
    root = trust.root
    other = make_root("other")
    trust.path.rename(trust.path.with_name("aside"))
    other.path.rename(trust.path)
    with pytest.raises(IntegrityError) as caught:
        approve("hello", root)
    assert caught.value.reason == "no_allowlist"


def test_revocation_by_another_process_is_seen(trust: Root) -> None:
    known(trust)
    subprocess.run(
        [sys.executable, "-c", "import os, sys; os.truncate(sys.argv[1], 0)", trust.allowlist],
        check=True,
        timeout=30,
    )
    assert trust.refusal("hello") == "not_listed"


def test_revocation_is_seen_in_a_forked_child(trust: Root) -> None:
    """The child has its parent's verdicts, and asks for itself."""
    known(trust)
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.read(ours, 1)
            os._exit(0 if trust.refusal("hello") == "no_keys" else 1)
        finally:
            os._exit(2)
    without_a_key(trust, trust.path / "hello")
    os.write(theirs, b"x")
    _, status = os.waitpid(child, 0)
    os.close(ours)
    os.close(theirs)
    assert os.waitstatus_to_exitcode(status) == 0


def test_key_that_comes_back_counts_again(trust: Root) -> None:
    folder = known(trust)
    key = trust.path / "keys" / "operator.pub"
    content = key.read_bytes()
    without_a_key(trust, folder)
    assert trust.refusal("hello") == "no_keys"
    key.write_bytes(content)
    assert trust.approves("hello")


def test_name_that_comes_to_mean_a_folder_of_ones_own_is_seen(
    trust: Root, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = known(trust)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copytree(folder, elsewhere / "hello")
    monkeypatch.chdir(elsewhere)
    assert trust.refusal("hello") == "not_listed"


def test_link_that_comes_to_lead_elsewhere_is_seen(trust: Root, tmp_path: Path) -> None:
    trust.add("first")
    trust.add("second")
    link = tmp_path / "link"
    link.symlink_to(trust.path / "first")
    settle()
    for name in ("first", "second", "first"):
        link.unlink()
        link.symlink_to(trust.path / name)
        with approve(link, trust.root) as approved:
            assert approved.name == name


def test_roots_do_not_share_their_verdicts(make_root: Callable[[str], Root]) -> None:
    one, other = make_root("one"), make_root("other")
    known(one)
    other.write()
    assert other.refusal("hello") == "no_allowlist"


# --- what is not kept -----------------------------------------------------------------------------


def test_file_that_was_just_changed_is_read_again(
    trust: Root, copies: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as a second change could leave its times as they are."""
    monkeypatch.setattr(state, "_TICK_NS", 600_000_000)
    trust.add()
    copies.clear()
    assert trust.approves("hello") and trust.approves("hello")
    assert len(copies) == 2
    time.sleep(0.7)
    assert trust.approves("hello") and trust.approves("hello")
    assert len(copies) == 3


@pytest.mark.parametrize(
    ("age_ns", "fraction_ns", "settled"),
    [
        (30_000_000, 123_000_000, True),
        (10_000_000, 123_000_000, False),
        (0, 123_000_000, False),
        (-60_000_000_000, 123_000_000, False),  # the clock was set back
        (1_000_000_000, 0, False),  # whole seconds only
        (4_000_000_000, 0, True),
    ],
)
def test_identity_counts_only_if_its_ctime_is_past(
    age_ns: int, fraction_ns: int, settled: bool
) -> None:
    changed_ns = 1_700_000_000 * 10**9 + fraction_ns
    assert state._is_settled(changed_ns, changed_ns + age_ns) is settled


@pytest.mark.parametrize("kind", ["nfs4", "fuse.sshfs", "9p", "cifs"])
def test_nothing_is_kept_of_a_file_system_that_is_not_local(
    trust: Root, tmp_path: Path, copies: list[str], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    trust.add()
    settle()
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "22 1 0:21 / / rw shared:1 - ext4 /dev/root rw\n"
        f"33 22 0:40 / {trust.path} rw shared:9 - {kind} server:/export rw\n"
    )
    monkeypatch.setattr(state, "_MOUNTS", str(mounts))
    copies.clear()
    assert trust.approves("hello") and trust.approves("hello")
    assert len(copies) == 2


def test_nothing_is_kept_where_the_mounts_cannot_be_read(
    trust: Root, copies: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    trust.add()
    settle()
    monkeypatch.setattr(state, "_MOUNTS", "/nowhere/mountinfo")
    copies.clear()
    assert trust.approves("hello") and trust.approves("hello")
    assert len(copies) == 2


def test_a_bounded_number_of_plugins_is_kept(
    trust: Root, copies: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seen, "_PLUGINS_MOST", 2)
    for name in ("a", "b", "c"):
        trust.add(name)
    settle()
    copies.clear()
    for name in ("a", "b", "a", "c"):  # c takes the place of b
        assert trust.approves(name)
    assert [Path(path).parent.name for path in copies] == ["a", "b", "c"]
    assert trust.approves("a") and trust.approves("b")
    assert [Path(path).parent.name for path in copies] == ["a", "b", "c", "b"]


def test_a_bounded_number_of_bytes_is_kept(
    trust: Root, copies: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seen, "_BYTES_MOST", 250)
    trust.add("a", b"a" * 200)
    trust.add("b", b"b" * 200)
    trust.add("c", b"c" * 300)
    settle()
    before = len(os.listdir("/proc/self/fd"))
    for name in ("a", "b", "c"):
        assert trust.approves(name)
    assert [key[3] for key in seen._verdicts] == ["b"]
    assert len(os.listdir("/proc/self/fd")) == before + 1
    seen._verdicts.clear()
    assert len(os.listdir("/proc/self/fd")) == before


def test_many_threads_share_one_verdict(trust: Root, copies: list[str]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    known(trust)
    copies.clear()
    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(lambda _: trust.approves("hello"), range(400)))
    assert copies == []
