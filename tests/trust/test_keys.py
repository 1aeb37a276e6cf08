"""Keys: P-256 only, made exclusively and privately, read strictly."""

from __future__ import annotations

import base64
import datetime
import os
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa, x25519
from cryptography.x509.oid import NameOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oxgen.errors import IntegrityError
from oxgen.integrity import keygen, sign_file, verify_file
from oxgen.integrity.keys import (
    load_certificate_key,
    load_private_key,
    load_public_key,
    public_key_of,
)

PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
KEY = ec.generate_private_key(ec.SECP256R1())
SPKI = serialization.PublicFormat.SubjectPublicKeyInfo


def public_pem(key: object) -> bytes:
    public = key.public_key()  # type: ignore[attr-defined]
    return bytes(public.public_bytes(serialization.Encoding.PEM, SPKI))


def private_pem(key: object, encryption: serialization.KeySerializationEncryption) -> bytes:
    return bytes(
        key.private_bytes(  # type: ignore[attr-defined]
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
        )
    )


PLAIN = serialization.NoEncryption()


def certificate(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "author")])
    now = datetime.datetime(2020, 1, 1)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
    )
    return built.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def fault(content: bytes) -> str:
    with pytest.raises(IntegrityError) as caught:
        load_public_key(content, path="k.pub")
    assert caught.value.reason == "bad_key"
    return str(caught.value)


def test_p256_public_key_is_accepted() -> None:
    assert load_public_key(public_pem(KEY), path="k") == public_key_of(KEY)


def test_crlf_in_pem_is_accepted() -> None:
    crlf = public_pem(KEY).replace(b"\n", b"\r\n")
    assert load_public_key(crlf, path="k") == public_key_of(KEY)


def test_compressed_point_has_the_same_identity() -> None:
    public = KEY.public_key()
    point = public.public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint
    )
    head = bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200")
    pem = (
        b"-----BEGIN PUBLIC KEY-----\n"
        + base64.b64encode(head + point)
        + b"\n-----END PUBLIC KEY-----\n"
    )
    assert load_public_key(pem, path="k").key_id == public_key_of(KEY).key_id


@pytest.mark.parametrize(
    ("key", "word"),
    [
        (ec.generate_private_key(ec.SECP384R1()), "secp384r1"),
        (ec.generate_private_key(ec.SECP521R1()), "secp521r1"),
        (ec.generate_private_key(ec.SECP256K1()), "secp256k1"),
        (rsa.generate_private_key(public_exponent=65537, key_size=2048), "RSA"),
        (ed25519.Ed25519PrivateKey.generate(), "Ed25519"),
        (x25519.X25519PrivateKey.generate(), "X25519"),
        (dsa.generate_private_key(key_size=2048), "DSA"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_curve_or_key_type_is_refused_by_name(key: object, word: str) -> None:
    assert word in fault(public_pem(key))


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "not PEM"),
        (b"\x30\x59", "not PEM"),
        (public_pem(KEY) * 2, "one block"),
        (private_pem(KEY, PLAIN), "private key"),
        (public_pem(KEY) + private_pem(KEY, PLAIN), "private key"),
        (certificate(KEY), "CERTIFICATE"),
        (b"comment\n" + public_pem(KEY), "beside"),
        (public_pem(KEY) + b"more", "beside"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "cannot|be read"),
        (b"-----BEGIN PUBLIC KEY-----\n!!!!\n-----END PUBLIC KEY-----\n", "be read"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_file_that_is_no_single_public_key_is_refused(content: bytes, word: str) -> None:
    assert any(part in fault(content) for part in word.split("|"))


def test_certificate_of_a_p256_key_names_the_key() -> None:
    assert load_certificate_key(certificate(KEY), path="c") == public_key_of(KEY)


def test_certificate_of_another_key_type_is_refused() -> None:
    other = certificate(rsa.generate_private_key(public_exponent=65537, key_size=2048))
    with pytest.raises(IntegrityError, match="RSA"):
        load_certificate_key(other, path="c")


def test_public_key_is_no_certificate() -> None:
    with pytest.raises(IntegrityError, match="CERTIFICATE"):
        load_certificate_key(public_pem(KEY), path="c")


def test_encrypted_private_key_is_refused_by_name() -> None:
    locked = private_pem(KEY, serialization.BestAvailableEncryption(b"x"))
    with pytest.raises(IntegrityError, match="encrypted"):
        load_private_key(locked, path="k")


@pytest.mark.parametrize("label", [b"COSIGN", b"SIGSTORE"])
def test_cosign_private_key_is_refused_by_name(label: bytes) -> None:
    block = b"-----BEGIN ENCRYPTED " + label + b" PRIVATE KEY-----\nAAAA\n"
    with pytest.raises(IntegrityError, match="encrypted"):
        load_private_key(block, path="k")


@pytest.mark.parametrize(
    "key",
    [ec.generate_private_key(ec.SECP384R1()), ed25519.Ed25519PrivateKey.generate()],
    ids=["P-384", "Ed25519"],
)
def test_private_key_of_another_type_is_refused(key: object) -> None:
    with pytest.raises(IntegrityError, match="bad_key"):
        load_private_key(private_pem(key, PLAIN), path="k")


@PATIENT
@given(st.binary(max_size=200))
def test_any_bytes_are_no_key_and_no_traceback(content: bytes) -> None:
    block = b"-----BEGIN PUBLIC KEY-----\n" + content + b"\n-----END PUBLIC KEY-----\n"
    assert fault(content)
    assert fault(block)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
def test_private_key_is_0600_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        keygen(tmp_path / "k", tmp_path / "k.pub")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "k").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "k.pub").stat().st_mode) == 0o644


def test_private_key_is_created_exclusively_with_its_final_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    real = os.open

    def spy(path: str, flags: int, mode: int = 0o777, **rest: object) -> int:
        if str(path).endswith("/k"):
            seen.append((flags & os.O_EXCL != 0, flags & os.O_CREAT != 0, mode))
        return real(path, flags, mode, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", spy)
    keygen(tmp_path / "k", tmp_path / "k.pub")
    assert seen == [(True, True, 0o600)]


def test_key_pair_is_pkcs8_and_spki_that_fit(tmp_path: Path) -> None:
    made = keygen(tmp_path / "k", tmp_path / "k.pub")
    assert (tmp_path / "k").read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----\n")
    assert load_public_key((tmp_path / "k.pub").read_bytes(), path="k") == made
    assert public_key_of(load_private_key((tmp_path / "k").read_bytes(), path="k")) == made


@pytest.mark.parametrize("taken", ["k", "k.pub"])
def test_keygen_never_overwrites_and_leaves_nothing_behind(tmp_path: Path, taken: str) -> None:
    (tmp_path / taken).write_bytes(b"precious")
    with pytest.raises(IntegrityError) as caught:
        keygen(tmp_path / "k", tmp_path / "k.pub")
    assert caught.value.reason == "exists"
    assert [path.name for path in tmp_path.iterdir()] == [taken]
    assert (tmp_path / taken).read_bytes() == b"precious"


def test_keygen_does_not_follow_a_dangling_link(tmp_path: Path) -> None:
    (tmp_path / "k").symlink_to(tmp_path / "target")
    with pytest.raises(IntegrityError):
        keygen(tmp_path / "k", tmp_path / "k.pub")
    assert not (tmp_path / "target").exists()


def test_keygen_into_a_missing_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="No such file"):
        keygen(tmp_path / "no" / "k", tmp_path / "k.pub")


@pytest.fixture
def signed(tmp_path: Path) -> Path:
    keygen(tmp_path / "k", tmp_path / "k.pub")
    (tmp_path / "artifact").write_bytes(b"bytes")
    sign_file(tmp_path / "artifact", tmp_path / "k")
    return tmp_path


def test_signature_file_is_one_line_beside_the_artifact(signed: Path) -> None:
    content = (signed / "artifact.sig").read_bytes()
    assert (
        content.count(b"\n"),
        content[-1:],
        stat.S_IMODE((signed / "artifact.sig").stat().st_mode),
    ) == (1, b"\n", 0o644)


def test_signed_file_verifies(signed: Path) -> None:
    assert verify_file(signed / "artifact", signed / "k.pub").name.endswith("k.pub")


def test_signing_again_replaces_the_signature_and_leaves_no_other_file(signed: Path) -> None:
    (signed / "artifact").write_bytes(b"other")
    sign_file(signed / "artifact", signed / "k")
    assert verify_file(signed / "artifact", signed / "k.pub")
    assert sorted(path.name for path in signed.iterdir()) == [
        "artifact",
        "artifact.sig",
        "k",
        "k.pub",
    ]


def test_signing_replaces_a_link_and_not_its_target(signed: Path) -> None:
    (signed / "victim").write_bytes(b"precious")
    (signed / "artifact.sig").unlink()
    (signed / "artifact.sig").symlink_to(signed / "victim")
    sign_file(signed / "artifact", signed / "k")
    assert (signed / "victim").read_bytes() == b"precious"
    assert verify_file(signed / "artifact", signed / "k.pub")


def test_changed_file_does_not_verify(signed: Path) -> None:
    (signed / "artifact").write_bytes(b"bytes\n")
    with pytest.raises(IntegrityError, match="bad_signature"):
        verify_file(signed / "artifact", signed / "k.pub")


def test_missing_signature_is_its_own_reason(signed: Path) -> None:
    (signed / "artifact.sig").unlink()
    with pytest.raises(IntegrityError, match="missing_signature"):
        verify_file(signed / "artifact", signed / "k.pub")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o777])
def test_private_key_that_others_can_reach_does_not_sign(signed: Path, mode: int) -> None:
    (signed / "k").chmod(mode)
    with pytest.raises(IntegrityError, match="chmod"):
        sign_file(signed / "artifact", signed / "k")


@pytest.mark.parametrize("mode", [0o644, 0o600, 0o666])
def test_public_key_that_should_sign_is_called_one(signed: Path, mode: int) -> None:
    (signed / "k.pub").chmod(mode)
    with pytest.raises(IntegrityError, match="is a public key; signing needs the private one"):
        sign_file(signed / "artifact", signed / "k.pub")


def test_file_that_is_not_signed_by_the_one_key_names_it(signed: Path) -> None:
    (signed / "artifact").write_bytes(b"other")
    with pytest.raises(IntegrityError) as caught:
        verify_file(signed / "artifact", signed / "k.pub")
    message = str(caught.value)
    assert "by the key (k.pub)" in message
    assert "private key of this one" in message and "changed after signing" in message


def test_private_key_for_reading_only_signs(signed: Path) -> None:
    (signed / "k").chmod(0o400)
    assert sign_file(signed / "artifact", signed / "k")


@pytest.mark.parametrize("name", ["", "a\0b", "\ud800"])
def test_name_that_is_no_file_name_is_refused(signed: Path, name: str) -> None:
    with pytest.raises(IntegrityError) as caught:
        sign_file(name, signed / "k")
    assert caught.value.reason == "bad_path"
