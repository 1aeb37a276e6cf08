"""Signature: the one accepted form, and every other form called by its name."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oxgen.errors import IntegrityError
from oxgen.integrity import keygen, sign_file, verify_file
from oxgen.integrity.keys import PublicKey, public_key_of
from oxgen.integrity.signature import decode_signature, sign_digest, verify_digest

PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
KEY = ec.generate_private_key(ec.SECP256R1())
PUBLIC = public_key_of(KEY)
MESSAGE = b"the artifact"
DIGEST = hashlib.sha256(MESSAGE).digest()
DER = KEY.sign(MESSAGE, ec.ECDSA(hashes.SHA256()))
TEXT = base64.b64encode(DER)


def raw(der: bytes) -> bytes:
    r, s = decode_dss_signature(der)
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def integer(value: bytes) -> bytes:
    return bytes([2, len(value)]) + value


def sequence(*parts: bytes) -> bytes:
    body = b"".join(parts)
    return bytes([0x30, len(body)]) + body


def accepts(content: bytes, digest: bytes = DIGEST, key: PublicKey = PUBLIC) -> bool:
    return verify_digest(digest, content, [key], path="x.sig") == key


def refusal(content: bytes) -> IntegrityError:
    with pytest.raises(IntegrityError) as caught:
        verify_digest(DIGEST, content, [PUBLIC], path="x.sig")
    return caught.value


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_one_base64_signature_with_at_most_one_newline_is_accepted(end: bytes) -> None:
    assert accepts(TEXT + end)


def test_our_own_signature_is_accepted() -> None:
    assert accepts(sign_digest(DIGEST, KEY))


def test_both_signs_of_s_are_accepted() -> None:
    r, s = decode_dss_signature(DER)
    assert accepts(base64.b64encode(encode_dss_signature(r, ORDER - s)))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (TEXT + b"\n\n", "more than one newline"),
        (b"\n" + TEXT, "more than one newline"),
        (TEXT + b" ", "not base64"),
        (b" " + TEXT, "not base64"),
        (TEXT + b"\r", "carriage return"),
        (TEXT[:64] + b"\n" + TEXT[64:] + b"\n", "several lines"),
        (TEXT + b"\n" + TEXT + b"\n", "several lines"),
        (TEXT[:10] + b"!" + TEXT[10:], "not base64"),
        (TEXT + b"\0", "not base64"),
        (b"\xef\xbb\xbf" + TEXT, "byte order mark"),
        (DER, "bare DER"),
        (bytes(range(192, 256)), "raw r||s"),
        (base64.b64encode(raw(DER)), "raw r||s"),
        (base64.b64encode(TEXT), "base64 twice"),
        (base64.b64encode(TEXT + b"\n"), "base64 twice"),
        (DER.hex().encode(), "hex"),
        (
            json.dumps({"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json"}).encode(),
            "bundle",
        ),
        (b"-----BEGIN PGP SIGNATURE-----\n", "PEM"),
        (base64.urlsafe_b64encode(b"\xff\xef\xbe" * 24), "URL-safe"),
        (base64.b64encode(DER + b"\0"), "behind its DER"),
        (base64.b64encode(DER + DER), "behind its DER"),
        (base64.b64encode(DER[:-1]), "cut short"),
        (base64.b64encode(b"\x00" * 70), "no SEQUENCE"),
        (base64.b64encode(b"\x30\x81" + DER[1:]), "another size"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_encoding_is_refused_by_name(content: bytes, words: str) -> None:
    error = refusal(content)
    assert (error.reason, words in str(error)) == ("bad_encoding", True), str(error)


def test_stray_bits_before_the_padding_are_refused() -> None:
    der = sequence(integer(b"\x01" * 32), integer(b"\x01" * 32))
    text = base64.b64encode(der)
    assert text.endswith(b"=")
    last = text.rstrip(b"=")[-1:]
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    stray = alphabet[alphabet.index(last) + 1 : alphabet.index(last) + 2]
    pad = text[len(text.rstrip(b"=")) :]
    assert "canonical" in str(refusal(text.rstrip(b"=")[:-1] + stray + pad))
    assert decode_signature(text, path="x") == der


@pytest.mark.parametrize(
    ("der", "words"),
    [
        (sequence(integer(b"\x00"), integer(b"\x01")), "r out of range"),
        (sequence(integer(b"\x01"), integer(b"\x00")), "s out of range"),
        (
            sequence(integer(b"\x00" + ORDER.to_bytes(32, "big")), integer(b"\x01")),
            "r out of range",
        ),
        (sequence(integer(b"\x01"), integer(b"\x00" + b"\xff" * 32)), "s out of range"),
        (sequence(integer(b"\xff"), integer(b"\x01")), "negative r"),
        (sequence(integer(b"\x00\x01"), integer(b"\x01")), "leading zeros"),
        (sequence(integer(b"\x01"), integer(b"\x00\x7f")), "leading zeros"),
        (sequence(integer(b""), integer(b"\x01")), "r is empty"),
        (sequence(integer(b"\x01")), "s is not an INTEGER"),
        (sequence(integer(b"\x01"), integer(b"\x01"), integer(b"\x01")), "behind r and s"),
        (sequence(integer(b"\x01"), b"\x04\x01\x01"), "s is not an INTEGER"),
        (b"\x31" + DER[1:], "no SEQUENCE"),
        (b"\x30\x80" + DER[2:] + b"\0\0", "another size"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_der_that_is_not_minimal_and_in_range_is_refused(der: bytes, words: str) -> None:
    error = refusal(base64.b64encode(der))
    assert (error.reason, words in str(error)) == ("bad_encoding", True), str(error)


def test_smallest_integers_are_well_formed() -> None:
    assert (
        refusal(base64.b64encode(sequence(integer(b"\1"), integer(b"\1")))).reason
        == "bad_signature"
    )


@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP521R1(), ec.SECP256K1()])
def test_signature_of_another_curve_is_refused(curve: ec.EllipticCurve) -> None:
    der = ec.generate_private_key(curve).sign(MESSAGE, ec.ECDSA(hashes.SHA256()))
    assert refusal(base64.b64encode(der)).reason in ("bad_encoding", "bad_signature")


def test_signature_of_another_key_type_is_refused() -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    signature = key.sign(MESSAGE, padding.PKCS1v15(), hashes.SHA256())
    assert refusal(base64.b64encode(signature)).reason == "bad_encoding"


def test_ed25519_signature_is_refused() -> None:
    signature = ed25519.Ed25519PrivateKey.generate().sign(MESSAGE)
    assert refusal(base64.b64encode(signature)).reason == "bad_encoding"


@pytest.mark.parametrize("algorithm", [hashes.SHA384(), hashes.SHA512(), hashes.SHA3_256()])
def test_signature_with_another_digest_is_refused(algorithm: hashes.HashAlgorithm) -> None:
    der = KEY.sign(MESSAGE, ec.ECDSA(algorithm))
    assert refusal(base64.b64encode(der)).reason == "bad_signature"


def test_signature_of_other_bytes_is_refused() -> None:
    with pytest.raises(IntegrityError, match="bad_signature"):
        accepts(TEXT, hashlib.sha256(MESSAGE + b"\n").digest())


def test_signature_by_another_key_is_refused() -> None:
    other = public_key_of(ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(IntegrityError, match="bad_signature"):
        accepts(TEXT, key=other)


def test_signer_among_several_keys_is_found() -> None:
    others = [public_key_of(ec.generate_private_key(ec.SECP256R1())) for _ in range(3)]
    assert verify_digest(DIGEST, TEXT, [*others, PUBLIC], path="x") == PUBLIC


def test_no_key_verifies_nothing() -> None:
    with pytest.raises(IntegrityError, match="bad_signature"):
        verify_digest(DIGEST, TEXT, [], path="x")


@PATIENT
@given(st.binary(max_size=120))
def test_any_bytes_are_refused_with_a_reason(content: bytes) -> None:
    assert refusal(content).reason in ("bad_encoding", "bad_signature")


@PATIENT
@given(st.integers(0, len(DER) * 8 - 1))
def test_signature_with_any_bit_flipped_is_refused(bit: int) -> None:
    changed = bytearray(DER)
    changed[bit // 8] ^= 1 << bit % 8
    assert refusal(base64.b64encode(changed)).reason in ("bad_encoding", "bad_signature")


@PATIENT
@given(st.integers(1, ORDER - 1), st.integers(1, ORDER - 1))
def test_every_canonical_signature_is_decoded(r: int, s: int) -> None:
    der = encode_dss_signature(r, s)
    assert decode_signature(base64.b64encode(der), path="x") == der


openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl program here")


def run(*args: str | Path, stdin: bytes = b"") -> bytes:
    done = subprocess.run(
        ["openssl", *map(str, args)], input=stdin, capture_output=True, check=True, timeout=60
    )
    return done.stdout


@openssl
def test_openssl_verifies_what_we_sign(tmp_path: Path) -> None:
    keygen(tmp_path / "k", tmp_path / "k.pub")
    artifact = tmp_path / "artifact"
    artifact.write_bytes(b"bytes\r\n\0")
    sign_file(artifact, tmp_path / "k")
    der = run("base64", "-d", "-A", stdin=(tmp_path / "artifact.sig").read_bytes().strip())
    (tmp_path / "der").write_bytes(der)
    said = run(
        "dgst", "-sha256", "-verify", tmp_path / "k.pub", "-signature", tmp_path / "der", artifact
    )
    assert b"Verified OK" in said


@openssl
@pytest.mark.parametrize("form", ["ecparam", "genpkey"])
def test_we_verify_what_openssl_signs(tmp_path: Path, form: str) -> None:
    key, artifact = tmp_path / "k", tmp_path / "artifact"
    if form == "ecparam":
        run("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
    else:
        run("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key)
    run("pkey", "-in", key, "-pubout", "-out", tmp_path / "k.pub")
    artifact.write_bytes(b"bytes")
    der = run("dgst", "-sha256", "-sign", key, artifact)
    (tmp_path / "artifact.sig").write_bytes(run("base64", "-A", stdin=der))
    assert (
        verify_file(artifact, tmp_path / "k.pub").key_id
        == hashlib.sha256(
            run("pkey", "-pubin", "-in", tmp_path / "k.pub", "-outform", "DER")
        ).hexdigest()
    )


@openssl
def test_we_sign_with_a_key_that_openssl_made(tmp_path: Path) -> None:
    run("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", tmp_path / "k")
    (tmp_path / "k").chmod(0o600)
    run("pkey", "-in", tmp_path / "k", "-pubout", "-out", tmp_path / "k.pub")
    (tmp_path / "artifact").write_bytes(b"bytes")
    signer = sign_file(tmp_path / "artifact", tmp_path / "k", tmp_path / "elsewhere")
    assert verify_file(tmp_path / "artifact", tmp_path / "k.pub", tmp_path / "elsewhere") == signer


def test_der_bytes_of_the_key_round_trip() -> None:
    pem = KEY.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert (PUBLIC.der, PUBLIC.key_id) == (pem, hashlib.sha256(pem).hexdigest())
