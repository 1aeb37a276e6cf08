"""Keys: ECDSA P-256 and nothing else, named by their bytes.

The identity of a key is the SHA-256 of its DER SubjectPublicKeyInfo (RFC 5280), uncompressed; that
of a signature is nothing: (r, n-s) is as valid as (r, s).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ..errors import IntegrityError
from .files import (
    check_owner,
    checked_name,
    open_directory,
    open_named,
    read_all,
    shown,
    sync_directory,
)

__all__ = [
    "MAX_KEY_BYTES",
    "PublicKey",
    "keygen",
    "load_certificate_key",
    "load_private_key",
    "load_public_key",
    "public_key_of",
    "read_private_key",
]

MAX_KEY_BYTES = 16 * 1024
_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,64})-----")


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A P-256 public key; two are equal if their bytes are. ``name`` is for messages only."""

    der: bytes
    name: str = field(default="", compare=False)

    @property
    def key_id(self) -> str:
        """Lower-case hex SHA-256 of the DER SubjectPublicKeyInfo."""
        return hashlib.sha256(self.der).hexdigest()

    def loaded(self) -> ec.EllipticCurvePublicKey:
        """Return the key as the cryptography library has it."""
        return _require_p256(serialization.load_der_public_key(self.der), self.name)


def load_public_key(content: bytes, *, path: str) -> PublicKey:
    """Read one PEM SubjectPublicKeyInfo of a P-256 key; else ``IntegrityError`` (``bad_key``)."""
    _require_block(content, b"PUBLIC KEY", path)
    try:
        key = serialization.load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise _bad_key(f"is not a public key that can be read: {_reason(exc)}", path) from exc
    return _public(_require_p256(key, path), path)


def load_certificate_key(content: bytes, *, path: str) -> PublicKey:
    """Read the P-256 key of one PEM X.509 certificate.

    The certificate only names a key: neither its chain, its dates nor its subject are looked at,
    because the key counts only if the operator holds the very same one.
    """
    _require_block(content, b"CERTIFICATE", path)
    try:
        key = x509.load_pem_x509_certificate(content).public_key()
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise _bad_key(f"is not a certificate that can be read: {_reason(exc)}", path) from exc
    return _public(_require_p256(key, path), path)


def load_private_key(content: bytes, *, path: str) -> ec.EllipticCurvePrivateKey:
    """Read an unencrypted PEM private key (PKCS#8, or the SEC 1 form of ``openssl ecparam``)."""
    labels = _BLOCK.findall(content)
    if any(label.startswith(b"ENCRYPTED") for label in labels):
        raise _bad_key(
            "is encrypted; decrypt it to a private file first (openssl pkcs8, cosign has its own"
            " format and no export)",
            path,
        )
    _refuse_public(content, path)
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise _bad_key(f"is not a private key that can be read: {_reason(exc)}", path) from exc
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise _bad_key(f"is {_kind(key)}; only ECDSA P-256 signs plugins", path)
    _require_p256(key.public_key(), path)
    return key


def read_private_key(path: str | os.PathLike[str]) -> ec.EllipticCurvePrivateKey:
    """Read a private key file that nobody but its owner can read or write."""
    text = checked_name(path)
    with open_named(text, MAX_KEY_BYTES) as descriptor:
        content = read_all(descriptor, path=shown(text), max_bytes=MAX_KEY_BYTES)
        # Before its mode, which everybody may read and chmod would not turn into the other half.
        _refuse_public(content, text)
        mode = check_owner(descriptor, text).st_mode & 0o777
        if mode & 0o077:
            raise _bad_key(
                f"mode {mode:04o} lets others read a private key; make a new one, or chmod 600 if"
                " nobody has read it",
                text,
            )
    return load_private_key(content, path=text)


def _refuse_public(content: bytes, path: str) -> None:
    if set(_BLOCK.findall(content)) == {b"PUBLIC KEY"}:
        raise _bad_key("is a public key; signing needs the private one", path)


def public_key_of(key: ec.EllipticCurvePrivateKey, path: str = "") -> PublicKey:
    """Return the public half of a private key."""
    return _public(_require_p256(key.public_key(), path), path)


def keygen(private_path: str | os.PathLike[str], public_path: str | os.PathLike[str]) -> PublicKey:
    """Make a P-256 key pair: PKCS#8 PEM with mode 0600, and PEM SubjectPublicKeyInfo.

    Both files are created exclusively, the private one with its final mode from the first instant;
    an existing file is never overwritten (``IntegrityError`` ``exists``). A failure leaves neither.
    """
    private_name, public_name = checked_name(private_path), checked_name(public_path)
    key = ec.generate_private_key(ec.SECP256R1())
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    _create(private_name, secret, 0o600)
    try:
        _create(public_name, public, 0o644)
    except BaseException:
        os.unlink(private_name)
        raise
    return _public(key.public_key(), public_name)


def _create(path: str, content: bytes, mode: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, mode)
    except FileExistsError as exc:
        message = "is there already; a key is never overwritten, move it away or name another"
        raise IntegrityError("exists", message, path=shown(path)) from exc
    except OSError as exc:
        raise _unwritable(exc, path) from exc
    try:
        with os.fdopen(descriptor, "wb") as stream:
            # The umask may have taken bits from a public key; it cannot add any to a private one.
            os.fchmod(descriptor, mode)
            stream.write(content)
            stream.flush()
            os.fsync(descriptor)
        with open_directory(os.path.dirname(path) or ".") as directory:
            sync_directory(directory)
    except BaseException as exc:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        if isinstance(exc, OSError) and not isinstance(exc, IntegrityError):
            raise _unwritable(exc, path) from exc
        raise


def _unwritable(exc: OSError, path: str) -> IntegrityError:
    return IntegrityError("not_writable", f"cannot be written: {exc.strerror}", path=shown(path))


def _require_block(content: bytes, wanted: bytes, path: str) -> None:
    """Accept one PEM block with the right label and nothing but white space round it."""
    labels = _BLOCK.findall(content)
    if any(b"PRIVATE KEY" in label for label in labels):
        raise _bad_key("holds a private key; take it away from here and make a new one", path)
    if not labels:
        raise _bad_key(f"is not PEM; wanted is one block {wanted.decode()!r}", path)
    if labels != [wanted]:
        got = ", ".join(label.decode("ascii") for label in labels[:4])
        raise _bad_key(f"holds {got!r}; wanted is one block {wanted.decode()!r}", path)
    text = content.strip()
    end = b"-----END " + wanted + b"-----"
    if not text.startswith(b"-----BEGIN ") or not text.endswith(end) or text.count(end) != 1:
        raise _bad_key("has text beside its PEM block; keep the block only", path)


def _require_p256(key: object, path: str) -> ec.EllipticCurvePublicKey:
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise _bad_key(f"is {_kind(key)}; only ECDSA P-256 keys are accepted", path)
    if not isinstance(key.curve, ec.SECP256R1):
        message = f"is on the curve {key.curve.name}; only P-256 (secp256r1) is accepted"
        raise _bad_key(message, path)
    return key


def _public(key: ec.EllipticCurvePublicKey, path: str) -> PublicKey:
    der = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return PublicKey(der, shown(path))


def _kind(key: object) -> str:
    name = type(key).__name__.lstrip("_")
    for suffix in ("PublicKey", "PrivateKey"):
        name = name.removesuffix(suffix)
    return f"a key of type {name}"


def _reason(exc: BaseException) -> str:
    first = str(exc).splitlines()
    return ascii(first[0])[1:-1][:160] if first else type(exc).__name__


def _bad_key(message: str, path: str) -> IntegrityError:
    return IntegrityError("bad_key", message, path=shown(path))
