"""Signature: a detached base64 ECDSA P-256 signature with SHA-256, read without any leniency.

The encoding is that of ``cosign sign-blob --new-bundle-format=false`` and of
``openssl dgst -sha256 -sign KEY FILE | openssl base64 -A``: the DER Ecdsa-Sig-Value of RFC 3279,
once in base64 (RFC 4648), with at most one newline behind it.
"""

from __future__ import annotations

import base64
import binascii
import posixpath
import re
from collections.abc import Iterable

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from ..errors import IntegrityError
from .keys import PublicKey, public_key_of

__all__ = ["MAX_SIGNATURE_BYTES", "decode_signature", "sign_digest", "verify_digest"]

#: Room for a sigstore bundle, so that one is called by its name and not just too big.
MAX_SIGNATURE_BYTES = 64 * 1024

#: The order of the base point of P-256: SEC 2, section 2.4.2.
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_BASE64 = re.compile(rb"[A-Za-z0-9+/]+={0,2}")
_URL_BASE64 = re.compile(rb"[A-Za-z0-9_-]+={0,2}")
_HEX = re.compile(rb"[0-9A-Fa-f]+")
_DER_SEQUENCE = 0x30
_DER_INTEGER = 0x02
_NAMES_SHOWN = 8


def decode_signature(content: bytes, *, path: str) -> bytes:
    """Return the DER signature in a signature file.

    Raises ``IntegrityError`` with reason ``bad_encoding``, and a message that says which form was
    found instead: bare DER, raw r||s, base64 twice, wrapped, hex, PEM, a sigstore bundle.
    """
    if not content.strip():
        raise _bad("is empty", path)
    if len(content) > MAX_SIGNATURE_BYTES:
        raise IntegrityError("too_big", f"is larger than {MAX_SIGNATURE_BYTES} bytes", path=path)
    text = content[:-2] if content.endswith(b"\r\n") else content.removesuffix(b"\n")
    if len(text) >= 128 and _HEX.fullmatch(text):
        raise _bad("is hex; wanted is base64", path)
    if not _BASE64.fullmatch(text):
        raise _bad(_text_fault(content, text), path)
    try:
        der = base64.b64decode(text, validate=True)
    except binascii.Error as exc:
        raise _bad(f"is not base64: {str(exc).lower()}", path) from exc
    if base64.b64encode(der) != text:
        raise _bad("is not canonical base64 (stray bits before the padding)", path)
    fault = _der_fault(der)
    if fault is not None:
        raise _bad(_inner_fault(der) or fault, path)
    return der


def verify_digest(
    digest: bytes, content: bytes, keys: Iterable[PublicKey], *, path: str, whose: str = ""
) -> PublicKey:
    """Return the first of ``keys`` whose signature over the SHA-256 ``digest`` is in ``content``.

    ``whose`` says in a message whose keys these are ("any key in keys/"). Raises
    ``IntegrityError``: ``bad_encoding`` (see ``decode_signature``) or ``bad_signature``.
    """
    signature = decode_signature(content, path=path)
    candidates = tuple(keys)
    for key in candidates:
        try:
            key.loaded().verify(signature, digest, ec.ECDSA(Prehashed(hashes.SHA256())))
        except InvalidSignature:
            continue
        return key
    one = len(candidates) == 1
    raise IntegrityError(
        "bad_signature",
        f"is not a signature of these bytes by {whose or ('the key' if one else 'any key')}"
        f" ({_names(candidates)}); sign the file as it is now with the private key of"
        f" {'this one' if one else 'one of these'}, if it was not signed by it or was changed"
        " after signing",
        path=path,
    )


def _names(keys: tuple[PublicKey, ...]) -> str:
    names = [posixpath.basename(key.name) or key.key_id[:16] for key in keys]
    more = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def sign_digest(digest: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the content of a signature file: base64 DER and a newline."""
    der = key.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256())))
    content = base64.b64encode(der) + b"\n"
    verify_digest(digest, content, [public_key_of(key)], path="the new signature")
    return content


def _text_fault(content: bytes, text: bytes) -> str:
    """Name the form of what is not base64."""
    if text.lstrip().startswith(b"{"):
        return (
            "is a sigstore bundle (JSON); wanted is the plain signature:"
            " cosign sign-blob --new-bundle-format=false --output-signature FILE"
        )
    if content.startswith(b"\xef\xbb\xbf"):
        return "begins with a byte order mark (BOM); save it as plain ASCII"
    if text.startswith(b"-----BEGIN "):
        return "is PEM armoured; wanted is one line of base64"
    if _der_fault(content) is None:
        return "is bare DER; encode it with base64 (openssl base64 -A)"
    if len(content) == 64 and not content.isascii():
        return "is raw r||s (64 bytes); wanted is the DER form in base64"
    if _URL_BASE64.fullmatch(text):
        return "is URL-safe base64; wanted is the plain alphabet with + and /"
    if text.endswith(b"\r") and b"\n" not in text:
        return "ends with a carriage return alone; wanted is LF, CRLF or nothing"
    lines = text.split(b"\n")
    if all(_BASE64.fullmatch(line.removesuffix(b"\r")) for line in lines if line.strip()):
        full = [line for line in lines if line.strip()]
        if len(full) == 1:
            return "has more than one newline behind the base64"
        return "is base64 in several lines or several signatures; wanted is one line"
    return "is not base64 (one line of A-Z a-z 0-9 + / with = padding, at most one newline)"


def _inner_fault(der: bytes) -> str | None:
    """Name the form of what is base64 but not of a DER signature."""
    if len(der) == 64:
        return "is base64 of raw r||s (64 bytes); wanted is the DER form"
    if _BASE64.fullmatch(der.strip()) and len(der) >= 8:
        return "is base64 twice; encode the DER signature once"
    return None


def _der_fault(der: bytes) -> str | None:
    """Check SEQUENCE { INTEGER r, INTEGER s }, minimal, in range, to the last byte."""
    if len(der) < 2 or der[0] != _DER_SEQUENCE:
        return "is not a DER signature (no SEQUENCE)"
    if der[1] >= 0x80:
        return "is DER of another size than P-256: another curve, another key type or padded"
    if len(der) != 2 + der[1]:
        return "has bytes behind its DER signature" if len(der) > 2 + der[1] else "is cut short"
    rest = der[2:]
    for name in ("r", "s"):
        if len(rest) < 2 or rest[0] != _DER_INTEGER or rest[1] >= 0x80 or len(rest) < 2 + rest[1]:
            return f"is not a DER signature ({name} is not an INTEGER)"
        value, rest = rest[2 : 2 + rest[1]], rest[2 + rest[1] :]
        if not value:
            return f"is not a DER signature ({name} is empty)"
        if len(value) > 1 and value[0] == 0 and value[1] < 0x80:
            return f"is not minimal DER ({name} has leading zeros)"
        if value[0] >= 0x80:
            return f"has a negative {name}"
        if not 1 <= int.from_bytes(value, "big") < _ORDER:
            return f"has an {name} out of range for P-256; was it made on another curve?"
    return "has bytes behind r and s" if rest else None


def _bad(message: str, path: str) -> IntegrityError:
    return IntegrityError("bad_encoding", message, path=path)
