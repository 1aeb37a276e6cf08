"""Approve: what starts is what was listed, signed and hashed; everything else says why not."""

from __future__ import annotations

import datetime
import fcntl
import hashlib
import json
import os
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from _trust_root import PROGRAM, Root
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from oxgen.errors import IntegrityError, ManifestError
from oxgen.integrity import Approved, approve, approve_files, keygen, listed, sign_file, verify_file


def content(approved: Approved) -> bytes:
    return os.pread(approved.descriptor, approved.size + 1, 0)


def test_approved_plugin_has_everything_that_was_checked(trust: Root) -> None:
    folder = trust.add()
    signer = verify_file(folder / "prog", trust.root)
    with approve(folder, trust.root) as approved:
        assert (approved.name, approved.version, approved.entry) == ("hello", "1.0", "prog")
        assert approved.digest == hashlib.sha256(PROGRAM).hexdigest()
        manifest = (folder / "manifest.json").read_bytes()
        assert approved.manifest_digest == hashlib.sha256(manifest).hexdigest()
        assert (approved.signer, approved.size) == (signer.key_id, len(PROGRAM))
        assert approved.path == str(folder / "prog")
        assert content(approved) == PROGRAM


@pytest.mark.parametrize("form", ["folder", "manifest", "name", "relative", "slash"])
def test_plugin_is_found_in_every_form(
    trust: Root, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = trust.add()
    monkeypatch.chdir(trust.path)
    forms: dict[str, str | Path] = {
        "folder": folder,
        "manifest": folder / "manifest.json",
        "name": "hello",
        "relative": "../root/./hello",
        "slash": f"{folder}/",
    }
    assert trust.approves(forms[form])


def test_descriptor_is_sealed_against_every_change(trust: Root) -> None:
    with approve(trust.add(), trust.root) as approved:
        seals = fcntl.fcntl(approved.descriptor, fcntl.F_GET_SEALS)
        wanted = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
        assert seals & wanted == wanted


def test_sealed_bytes_cannot_be_written(trust: Root) -> None:
    with approve(trust.add(), trust.root) as approved, pytest.raises(PermissionError):
        os.pwrite(approved.descriptor, b"evil", 0)


def test_sealed_bytes_cannot_be_written_through_proc(trust: Root) -> None:
    with approve(trust.add(), trust.root) as approved:
        again = os.open(f"/proc/self/fd/{approved.descriptor}", os.O_RDWR)
        try:
            with pytest.raises(PermissionError):
                os.write(again, b"evil")
        finally:
            os.close(again)


def test_descriptor_is_not_inherited(trust: Root) -> None:
    with approve(trust.add(), trust.root) as approved:
        assert not os.get_inheritable(approved.descriptor)


def test_leaving_the_block_closes_the_descriptor(trust: Root) -> None:
    with approve(trust.add(), trust.root) as approved:
        number = approved.descriptor
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(number)
    with pytest.raises(ValueError, match="closed"):
        _ = approved.descriptor


def test_closing_twice_closes_no_stranger(trust: Root) -> None:
    approved = approve(trust.add(), trust.root)
    approved.close()
    with open(os.devnull) as stranger:
        approved.close()
        os.fstat(stranger.fileno())


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_refusals_leak_no_descriptor(trust: Root) -> None:
    trust.add()
    (trust.path / "hello" / "prog.sig").unlink()
    trust.refusal("hello")
    before = open_descriptors()
    for _ in range(20):
        trust.refusal("hello")
    assert open_descriptors() == before


def test_empty_artifact_is_approved_as_such(trust: Root) -> None:
    with approve(trust.add(program=b""), trust.root) as approved:
        assert (approved.size, approved.digest) == (0, hashlib.sha256(b"").hexdigest())


def test_large_artifact_is_copied_whole(trust: Root) -> None:
    program = os.urandom(3 * 1024 * 1024 + 17)
    with approve(trust.add(program=program), trust.root) as approved:
        assert content(approved) == program


def test_artifact_and_signature_in_folders_of_their_own(trust: Root) -> None:
    folder = trust.write(artifact="bin/prog", signature={"signature": "sigs/prog.sig"})
    (folder / "bin").mkdir()
    (folder / "sigs").mkdir()
    (folder / "prog").rename(folder / "bin" / "prog")
    sign_file(folder / "bin" / "prog", trust.secret, folder / "sigs" / "prog.sig")
    approve_files(trust.root, folder)
    assert trust.approves("hello")


@pytest.mark.parametrize("place", ["", "nested/hello", "two words", "Upper", "a..b"])
def test_folder_that_is_not_a_plugins_place_is_not_approved(trust: Root, place: str) -> None:
    folder = trust.path / place
    folder.parent.mkdir(exist_ok=True)
    shutil.copytree(trust.write(), folder, dirs_exist_ok=True)
    sign_file(folder / "prog", trust.secret)
    with pytest.raises(IntegrityError) as caught:
        approve_files(trust.root, folder)
    assert (caught.value.reason, trust.allowlist.exists()) == ("bad_path", False)


@pytest.mark.parametrize("place", ["", "nested/hello", "two words"])
def test_folder_that_is_not_a_plugins_place_does_not_start_though_it_is_listed(
    trust: Root, place: str
) -> None:
    folder = trust.add()
    lines = trust.allowlist.read_text().replace("  hello/", f"  {place}/" if place else "  ")
    (trust.path / place).parent.mkdir(exist_ok=True)
    shutil.copytree(folder, trust.path / place, dirs_exist_ok=True)
    trust.allowlist.write_text(lines)
    assert trust.refusal(trust.path / place) == "bad_path"


def test_manifest_of_another_file_name_is_not_approved(trust: Root) -> None:
    folder = trust.write()
    sign_file(folder / "prog", trust.secret)
    (folder / "manifest.json").rename(folder / "second.json")
    with pytest.raises(IntegrityError) as caught:
        approve_files(trust.root, folder / "second.json")
    assert caught.value.reason == "bad_path"


# What changed since it was approved


def test_changed_artifact_is_refused(trust: Root) -> None:
    folder = trust.add()
    (folder / "prog").write_bytes(PROGRAM + b" ")
    assert trust.refusal("hello") == "digest_mismatch"


def test_changed_artifact_is_refused_though_it_is_signed(trust: Root) -> None:
    folder = trust.add()
    (folder / "prog").write_bytes(PROGRAM + b" ")
    sign_file(folder / "prog", trust.secret)
    assert trust.refusal("hello") == "digest_mismatch"


def test_changed_manifest_is_refused(trust: Root) -> None:
    folder = trust.add()
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace("CAP_EMIT_FINDINGS", "CAP_HTTP_ACTIVE"))
    assert trust.refusal("hello") == "digest_mismatch"


def test_manifest_that_is_not_on_the_list_is_refused(trust: Root) -> None:
    trust.add()
    lines = trust.allowlist.read_text().splitlines(keepends=True)
    trust.allowlist.write_text("".join(line for line in lines if "manifest" not in line))
    assert trust.refusal("hello") == "not_listed"


def test_artifact_that_is_not_on_the_list_is_refused(trust: Root) -> None:
    trust.add()
    lines = trust.allowlist.read_text().splitlines(keepends=True)
    trust.allowlist.write_text("".join(line for line in lines if "manifest" in line))
    assert trust.refusal("hello") == "not_listed"


def test_digest_listed_for_another_path_does_not_count(trust: Root) -> None:
    folder = trust.add()
    shutil.copytree(folder, trust.path / "copy")
    assert trust.refusal(trust.path / "copy") == "not_listed"


def test_swapped_digests_of_two_plugins_are_refused(trust: Root) -> None:
    one, two = trust.add("one", b"one"), trust.add("two", b"two")
    for name in ("prog", "prog.sig"):
        first = (one / name).read_bytes()
        (one / name).write_bytes((two / name).read_bytes())
        (two / name).write_bytes(first)
    assert trust.refusal("one") == "digest_mismatch"


def test_changed_plugin_is_accepted_after_it_was_approved_again(trust: Root) -> None:
    trust.add()
    trust.add(program=b"version 2")
    assert trust.approves("hello")
    assert len(listed(trust.root)) == 2


# Signatures


def test_missing_signature_is_refused(trust: Root) -> None:
    (trust.add() / "prog.sig").unlink()
    assert trust.refusal("hello") == "missing_signature"


def test_signature_by_a_key_that_is_not_the_operators_is_refused(
    trust: Root, tmp_path: Path
) -> None:
    folder = trust.add()
    keygen(tmp_path / "evil", tmp_path / "evil.pub")
    sign_file(folder / "prog", tmp_path / "evil")
    assert trust.refusal("hello") == "bad_signature"


def test_signature_of_another_file_is_refused(trust: Root) -> None:
    one, two = trust.add("one", b"one"), trust.add("two", b"two")
    shutil.copy(two / "prog.sig", one / "prog.sig")
    assert trust.refusal("one") == "bad_signature"


def test_signature_in_another_encoding_is_refused(trust: Root) -> None:
    folder = trust.add()
    (folder / "prog.sig").write_text('{"mediaType": "application/vnd.dev.sigstore.bundle"}')
    assert trust.refusal("hello") == "bad_encoding"


def test_trusted_in_the_manifest_is_not_believed(trust: Root) -> None:
    folder = trust.write(trusted=True)
    assert trust_denied_before_listing(trust, folder)
    sign_file(folder / "prog", trust.secret)
    approve_files(trust.root, folder)
    (folder / "prog.sig").unlink()
    assert trust.refusal("hello") == "missing_signature"


def trust_denied_before_listing(trust: Root, folder: Path) -> bool:
    trust.allowlist.write_bytes(b"")
    return trust.refusal(folder) == "not_listed"


# Keys that the manifest names


def named(trust: Root, **signature: str) -> Path:
    folder = trust.write(signature=signature)
    sign_file(folder / "prog", trust.secret)
    return folder


def test_operator_key_named_by_path_is_accepted(trust: Root) -> None:
    approve_files(trust.root, named(trust, publicKey="../keys/operator.pub"))
    assert trust.approves("hello")


def test_operator_key_named_by_its_text_is_accepted(trust: Root) -> None:
    pem = (trust.path / "keys" / "operator.pub").read_text()
    approve_files(trust.root, named(trust, publicKey=pem))
    assert trust.approves("hello")


def test_copy_of_the_operator_key_in_the_folder_is_accepted(trust: Root) -> None:
    folder = named(trust, publicKey="own.pub")
    shutil.copy(trust.path / "keys" / "operator.pub", folder / "own.pub")
    approve_files(trust.root, folder)
    assert trust.approves("hello")


def test_key_that_is_not_the_operators_is_untrusted(trust: Root, tmp_path: Path) -> None:
    folder = named(trust, publicKey="own.pub")
    keygen(tmp_path / "evil", folder / "own.pub")
    sign_file(folder / "prog", tmp_path / "evil")
    with pytest.raises(IntegrityError) as caught:
        approve_files(trust.root, folder)
    assert caught.value.reason == "untrusted_key"
    assert not trust.allowlist.exists()


def test_named_key_is_the_only_one_that_may_have_signed(trust: Root, tmp_path: Path) -> None:
    keygen(tmp_path / "second", trust.path / "keys" / "second.pub")
    folder = named(trust, publicKey="../keys/second.pub")
    with pytest.raises(IntegrityError) as caught:
        approve_files(trust.root, folder)
    assert caught.value.reason == "bad_signature"


def test_key_outside_the_trust_root_is_refused(trust: Root, tmp_path: Path) -> None:
    shutil.copy(trust.path / "keys" / "operator.pub", tmp_path / "k.pub")
    with pytest.raises(IntegrityError) as caught:
        approve_files(trust.root, named(trust, publicKey="../../k.pub"))
    assert caught.value.reason == "bad_path"


def test_named_key_that_is_missing_is_refused(trust: Root) -> None:
    with pytest.raises(IntegrityError) as caught:
        approve_files(trust.root, named(trust, publicKey="../keys/gone.pub"))
    assert caught.value.reason == "not_found"


def certificate_of(secret: ec.EllipticCurvePrivateKey) -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "author")])
    start = datetime.datetime(2020, 1, 1)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).serial_number(1)
    builder = builder.public_key(secret.public_key()).not_valid_before(start)
    built = builder.not_valid_after(start + datetime.timedelta(days=1))
    return built.sign(secret, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def test_certificate_with_an_operator_key_is_accepted(trust: Root) -> None:
    secret = serialization.load_pem_private_key(trust.secret.read_bytes(), None)
    assert isinstance(secret, ec.EllipticCurvePrivateKey)
    approve_files(trust.root, named(trust, certificate=certificate_of(secret)))
    assert trust.approves("hello")


def test_certificate_with_another_key_is_untrusted(trust: Root) -> None:
    other = certificate_of(ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(IntegrityError) as caught:
        approve_files(trust.root, named(trust, certificate=other))
    assert caught.value.reason == "untrusted_key"


# Where a plugin may lie


def test_folder_that_brings_its_own_list_key_and_signature_is_refused(
    trust: Root, make_root: Callable[[str], Root]
) -> None:
    trust.add("listed")
    evil = make_root("evil")
    folder = evil.add(signature={"publicKey": "../keys/operator.pub"})
    assert evil.approves("hello")
    assert trust.refusal(folder) == "not_listed"


def test_folder_inside_the_root_that_brings_its_own_list_and_key_is_refused(
    trust: Root, make_root: Callable[[str], Root]
) -> None:
    trust.add("listed")
    make_root("evil").add(signature={"publicKey": "../keys/operator.pub"})
    shutil.copytree(trust.path.parent / "evil", trust.path / "nested")
    assert trust.refusal(trust.path / "nested") == "not_found"
    assert trust.refusal(trust.path / "nested" / "hello") == "bad_path"


def test_root_is_never_derived_from_the_plugin(
    trust: Root, make_root: Callable[[str], Root], monkeypatch: pytest.MonkeyPatch
) -> None:
    trust.add("listed")
    folder = make_root("evil").add()
    monkeypatch.chdir(folder.parent)
    assert trust.refusal("hello") == "not_listed"


def test_folder_outside_the_root_says_what_to_do(trust: Root, tmp_path: Path) -> None:
    folder = trust.add()
    shutil.copytree(folder, tmp_path / "elsewhere")
    with pytest.raises(IntegrityError, match=r"copy it there and approve it there"):
        approve(tmp_path / "elsewhere", trust.root)


def test_folder_whose_name_begins_like_the_root_is_outside(trust: Root) -> None:
    folder = trust.add()
    shutil.copytree(folder, f"{trust.path}-evil/hello")
    assert trust.refusal(f"{trust.path}-evil/hello") == "not_listed"


def test_link_outside_that_leads_into_the_root_is_resolved(trust: Root, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(trust.add())
    assert trust.approves(tmp_path / "link")


def test_link_inside_that_leads_out_of_the_root_is_refused(trust: Root, tmp_path: Path) -> None:
    folder = trust.add()
    folder.rename(tmp_path / "moved")
    folder.symlink_to(tmp_path / "moved")
    assert trust.refusal(folder) == "not_listed"
    assert trust.refusal("hello") == "not_regular"


@pytest.mark.parametrize("name", ["", "a\0b", "\ud800"])
def test_plugin_that_is_no_name_is_refused(trust: Root, name: str) -> None:
    trust.add()
    assert trust.refusal(name) == "bad_path"


@pytest.mark.parametrize("name", ["nothere", "../hello", "keys/..", "HELLO", "--bind=/", "a..b"])
def test_plugin_that_is_not_there_is_not_found(
    trust: Root, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust.add()
    monkeypatch.chdir(tmp_path)
    assert trust.refusal(name) == "not_found"


def test_folder_without_manifest_is_not_found(trust: Root) -> None:
    (trust.add() / "manifest.json").unlink()
    assert trust.refusal("hello") == "not_found"


def test_artifact_that_is_gone_is_not_found(trust: Root) -> None:
    (trust.add() / "prog").unlink()
    assert trust.refusal("hello") == "not_found"


def impostor(trust: Root) -> Path:
    """Write and sign a plugin in the folder ``other`` that calls itself hello."""
    folder = trust.write("other", name_in_manifest="hello")
    sign_file(folder / "prog", trust.secret)
    return folder


def test_impostor_with_the_name_of_another_folder_is_not_approved(trust: Root) -> None:
    trust.add()
    before = trust.allowlist.read_bytes()
    with pytest.raises(IntegrityError, match="its folder's 'other'") as caught:
        approve_files(trust.root, impostor(trust))
    assert (caught.value.reason, trust.allowlist.read_bytes()) == ("bad_path", before)


@pytest.mark.parametrize("form", ["name", "folder", "manifest"])
def test_impostor_does_not_start_though_it_is_listed(trust: Root, form: str) -> None:
    folder = impostor(trust)
    digests = {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for name in ("prog", "manifest.json")
    }
    trust.allowlist.write_text("".join(f"{digest}  other/{at}\n" for at, digest in digests.items()))
    forms: dict[str, str | Path] = {
        "name": "other",
        "folder": folder,
        "manifest": folder / "manifest.json",
    }
    assert trust.refusal(forms[form]) == "bad_path"


@pytest.mark.parametrize("form", ["name", "folder", "manifest"])
def test_listed_plugin_whose_folder_is_gone_says_what_to_do(trust: Root, form: str) -> None:
    folder = trust.add()
    shutil.rmtree(folder)
    forms: dict[str, str | Path] = {
        "name": "hello",
        "folder": folder,
        "manifest": folder / "manifest.json",
    }
    with pytest.raises(IntegrityError, match="is listed but gone; take its line out") as caught:
        approve(forms[form], trust.root)
    assert caught.value.reason == "not_found"


@pytest.mark.parametrize("file", ["prog", "manifest.json"])
def test_listed_file_that_is_gone_is_named(trust: Root, file: str) -> None:
    (trust.add() / file).unlink()
    with pytest.raises(IntegrityError, match=f"hello/{file}: is listed but gone"):
        approve("hello", trust.root)


def test_path_that_is_neither_there_nor_listed_is_not_called_gone(trust: Root) -> None:
    trust.add()
    with pytest.raises(IntegrityError, match="there is no such folder or manifest") as caught:
        approve(trust.path / "other", trust.root)
    assert "gone" not in str(caught.value)


def test_listed_manifest_that_breaks_a_rule_is_a_manifest_error(trust: Root) -> None:
    folder = trust.add()
    text = json.dumps({"name": "hello", "name ": 1})
    (folder / "manifest.json").write_text(text)
    before = trust.allowlist.read_text().splitlines()
    digest = hashlib.sha256(text.encode()).hexdigest()
    trust.allowlist.write_text(f"{before[0]}\n{digest}  hello/manifest.json\n")
    with pytest.raises(ManifestError):
        approve("hello", trust.root)


def test_manifest_that_is_not_listed_is_not_even_parsed(trust: Root) -> None:
    (trust.add() / "manifest.json").write_text("{")
    assert trust.refusal("hello") == "digest_mismatch"


# approve_files


def test_nothing_is_listed_without_a_signature(trust: Root) -> None:
    with pytest.raises(IntegrityError) as caught:
        approve_files(trust.root, trust.write())
    assert (caught.value.reason, trust.allowlist.exists()) == ("missing_signature", False)


def test_nothing_is_listed_with_a_signature_by_a_stranger(trust: Root, tmp_path: Path) -> None:
    folder = trust.write()
    keygen(tmp_path / "evil", tmp_path / "evil.pub")
    sign_file(folder / "prog", tmp_path / "evil")
    with pytest.raises(IntegrityError) as caught:
        approve_files(trust.root, folder)
    assert (caught.value.reason, trust.allowlist.exists()) == ("bad_signature", False)


def test_nothing_is_listed_with_a_broken_manifest(trust: Root) -> None:
    folder = trust.write(proxy=True)
    sign_file(folder / "prog", trust.secret)
    with pytest.raises(ManifestError):
        approve_files(trust.root, folder)
    assert not trust.allowlist.exists()


def test_nothing_outside_the_root_is_listed(trust: Root, tmp_path: Path) -> None:
    shutil.copytree(trust.add(), tmp_path / "elsewhere")
    before = trust.allowlist.read_bytes()
    with pytest.raises(IntegrityError) as caught:
        approve_files(trust.root, tmp_path / "elsewhere")
    assert (caught.value.reason, trust.allowlist.read_bytes()) == ("not_listed", before)


def test_entries_that_were_listed_are_returned(trust: Root) -> None:
    folder = trust.write()
    sign_file(folder / "prog", trust.secret)
    artifact, manifest = approve_files(trust.root, folder)
    assert (artifact.path, manifest.path) == ("hello/prog", "hello/manifest.json")
    assert artifact.digest == hashlib.sha256(PROGRAM).hexdigest()


def approval_fault(trust: Root, program: bytes = PROGRAM, **changes: object) -> ManifestError:
    """Sign a plugin that could never start, and return why it was not approved."""
    folder = trust.write(program=program, **changes)
    sign_file(folder / "prog", trust.secret)
    with pytest.raises(ManifestError) as caught:
        approve_files(trust.root, folder)
    assert not trust.allowlist.exists()
    return caught.value


ELF = b"\x7fELF\x02\x01\x01"


@pytest.mark.parametrize("program", [PROGRAM, b"", b"\x7fEL"])
@pytest.mark.parametrize("runtime", ["static", "dynamic", None])
def test_script_with_the_runtime_of_a_program_is_not_approved(
    trust: Root, runtime: str | None, program: bytes
) -> None:
    error = approval_fault(trust, program, runtime=runtime)
    assert (error.field, "'python'" in str(error)) == ("runtime", True)


def test_program_with_the_runtime_of_a_script_is_not_approved(trust: Root) -> None:
    assert approval_fault(trust, ELF, runtime="python").field == "runtime"


@pytest.mark.parametrize(
    ("runtime", "program"),
    [
        ("static", ELF),
        ("dynamic", ELF),
        (None, ELF),
        ("auto", ELF),
        ("auto", PROGRAM),
        ("python", PROGRAM),
    ],
)
def test_artifact_of_its_runtime_is_approved(
    trust: Root, runtime: str | None, program: bytes
) -> None:
    assert trust.approves(trust.add(program=program, runtime=runtime))


def test_capability_without_the_one_it_needs_is_not_approved(trust: Root) -> None:
    error = approval_fault(trust, capabilities=["CAP_FLOW_INSPECT_RAW"])
    assert (error.field, "CAP_FLOW_INSPECT " in str(error)) == ("capabilities", True)


def test_capability_with_the_one_it_needs_is_approved(trust: Root) -> None:
    assert trust.approves(trust.add(capabilities=["CAP_FLOW_INSPECT_RAW", "CAP_FLOW_INSPECT"]))


def test_refused_runtime_leaks_no_descriptor(trust: Root) -> None:
    approval_fault(trust, runtime="static")
    before = open_descriptors()
    for _ in range(5):
        approval_fault(trust, runtime="static")
    assert open_descriptors() == before


@pytest.mark.parametrize("broken", [{"version": 1}, {"runtime": "static"}, {"proxy": True}])
def test_fault_of_a_manifest_names_its_file(trust: Root, broken: dict[str, object]) -> None:
    error = approval_fault(trust, **broken)
    path = str(trust.path / "hello" / "manifest.json")
    assert (error.path, str(error).startswith(f"{path}: {error.field}: ")) == (path, True)


# Whose signature it is not


def test_signature_by_no_key_of_the_root_names_them(trust: Root, tmp_path: Path) -> None:
    keygen(tmp_path / "second", trust.path / "keys" / "second.pub")
    folder = trust.add()
    keygen(tmp_path / "evil", tmp_path / "evil.pub")
    sign_file(folder / "prog", tmp_path / "evil")
    with pytest.raises(IntegrityError) as caught:
        approve("hello", trust.root)
    message = str(caught.value)
    assert "by any key in keys/ (operator.pub, second.pub); sign the file" in message
    assert "private key of one of these" in message and "changed after signing" in message


def test_signature_by_another_key_than_the_manifest_names_says_so(
    trust: Root, tmp_path: Path
) -> None:
    keygen(tmp_path / "second", trust.path / "keys" / "second.pub")
    with pytest.raises(IntegrityError) as caught:
        approve_files(trust.root, named(trust, publicKey="../keys/second.pub"))
    assert "the key that signature.publicKey of the manifest names (second.pub)" in str(
        caught.value
    )


def test_file_not_signed_by_the_trust_root_names_its_keys(trust: Root) -> None:
    folder = trust.add()
    (folder / "prog").write_bytes(b"changed")
    with pytest.raises(IntegrityError, match=r"any key in keys/ \(operator.pub\)"):
        verify_file(folder / "prog", trust.root)


# Files that are no files


def fifo(path: Path) -> None:
    os.mkfifo(path)


def directory(path: Path) -> None:
    path.mkdir()


def link(path: Path) -> None:
    path.symlink_to(path.with_suffix(".moved"))


def dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def listener(path: Path) -> None:
    before = os.getcwd()
    os.chdir(path.parent)  # the address of a socket has 108 bytes
    try:
        with socket.socket(socket.AF_UNIX) as opened:
            opened.bind(path.name)
    finally:
        os.chdir(before)


def sparse(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(1 << 40)


KINDS: dict[Callable[[Path], None], tuple[str, str]] = {
    fifo: ("not_regular", "a FIFO"),
    directory: ("not_regular", "a directory"),
    link: ("not_regular", "a symbolic link"),
    dangling: ("not_regular", "a symbolic link"),
    listener: ("not_regular", "a socket"),
    sparse: ("too_big", "larger than"),
}
PLACES = ["hello/manifest.json", "hello/prog", "hello/prog.sig", "ALLOWLIST", "keys/operator.pub"]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.__name__))
@pytest.mark.parametrize("place", PLACES)
def test_file_of_another_kind_is_refused_at_once_by_name(
    trust: Root, place: str, kind: Callable[[Path], None]
) -> None:
    trust.add()
    path = trust.path / place
    path.rename(path.with_suffix(".moved"))
    kind(path)
    reason, words = KINDS[kind]
    started = time.monotonic()
    with pytest.raises(IntegrityError) as caught:
        approve("hello", trust.root)
    assert time.monotonic() - started < 1
    assert (caught.value.reason, words in str(caught.value)) == (reason, True), str(caught.value)


@pytest.mark.root
@pytest.mark.parametrize("place", PLACES)
def test_device_is_refused_at_once_by_name(trust: Root, place: str) -> None:
    trust.add()
    path = trust.path / place
    path.unlink()
    try:
        os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))  # /dev/zero never ends
    except PermissionError:
        os.symlink("/dev/zero", path)
    assert trust.refusal("hello") == "not_regular"


def test_folder_of_the_artifact_that_is_a_link_is_refused(trust: Root) -> None:
    folder = trust.write(artifact="bin/prog")
    (folder / "real").mkdir()
    (folder / "prog").rename(folder / "real" / "prog")
    (folder / "bin").symlink_to("real")
    sign_file(folder / "real" / "prog", trust.secret)
    with pytest.raises(IntegrityError) as caught:
        approve_files(trust.root, folder)
    assert (caught.value.reason, "symbolic link" in str(caught.value)) == ("not_regular", True)


def test_memory_where_only_noexec_files_are_allowed(
    trust: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = trust.add()
    real = os.memfd_create

    def refusing(name: str, flags: int) -> int:
        if not flags & 0x8:
            raise PermissionError(13, "vm.memfd_noexec")
        return real(name, flags)

    monkeypatch.setattr(os, "memfd_create", refusing)
    with approve(folder, trust.root) as approved:
        assert content(approved) == PROGRAM


def test_message_cannot_act_on_a_terminal(trust: Root) -> None:
    trust.add()
    with pytest.raises(IntegrityError) as caught:
        approve("\x1b[2J", trust.root)
    assert "\x1b" not in str(caught.value)
