"""Signing: make and check detached signatures of files, apart from any trust root's list."""

from __future__ import annotations

import os

from ..errors import IntegrityError
from ..values import why_not_replaced
from .approve import MAX_ARTIFACT_BYTES
from .files import checked_name, open_directory, open_named, read_named, replace_file, shown
from .keys import MAX_KEY_BYTES, PublicKey, load_public_key, public_key_of, read_private_key
from .sealed import sha256_of
from .signature import MAX_SIGNATURE_BYTES, sign_digest, verify_digest
from .trust import KEYS_OF_ROOT, TrustRoot

__all__ = ["sign_file", "verify_file"]


def sign_file(
    path: str | os.PathLike[str],
    private_key_path: str | os.PathLike[str],
    signature_path: str | os.PathLike[str] | None = None,
) -> PublicKey:
    """Write the signature of ``path`` to ``signature_path`` (default ``<path>.sig``), atomically.

    Returns the public key that verifies it. Raises ``IntegrityError``: ``bad_key``, ``not_found``,
    ``not_regular`` (also where the signature would take the place of a device, a pipe or the
    like), ``too_big``, ``untrusted_root`` for a key that others can write.
    """
    key = read_private_key(private_key_path)
    content = sign_digest(_digest(path), key)
    target = _signature_path(path, signature_path)
    folder, name = os.path.split(target)
    if not name:
        raise IntegrityError("bad_path", "names no file for the signature", path=shown(target))
    if fault := why_not_replaced(target):
        raise IntegrityError(
            "not_regular", f"{fault}: no signature takes that place", path=shown(target)
        )
    with open_directory(folder or ".") as directory:
        replace_file(directory, name, content, mode=0o644, path=shown(target))
    return public_key_of(key, os.fsdecode(private_key_path))


def verify_file(
    path: str | os.PathLike[str],
    keys: str | os.PathLike[str] | TrustRoot,
    signature_path: str | os.PathLike[str] | None = None,
) -> PublicKey:
    """Return the key that signed ``path``: one of a trust root's, or that of a PEM file.

    This says who signed the bytes, not that they may start: that is ``approve``. Raises
    ``IntegrityError``: ``missing_signature``, ``bad_encoding``, ``bad_signature``, ``bad_key``,
    and what reading files raises.
    """
    if isinstance(keys, TrustRoot):
        with keys.open() as opened:
            candidates, whose = opened.keys(), KEYS_OF_ROOT
    else:
        whose = "the key"
        content = read_named(keys, MAX_KEY_BYTES)
        candidates = (load_public_key(content, path=os.fsdecode(keys)),)
    digest = _digest(path)
    target = _signature_path(path, signature_path)
    try:
        content = read_named(target, MAX_SIGNATURE_BYTES)
    except IntegrityError as exc:
        if exc.reason != "not_found":
            raise
        message = "the signature is missing; sign the file or name the signature's file"
        raise IntegrityError("missing_signature", message, path=shown(target)) from exc
    return verify_digest(digest, content, candidates, path=shown(target), whose=whose)


def _signature_path(
    path: str | os.PathLike[str], signature_path: str | os.PathLike[str] | None
) -> str:
    if signature_path is not None:
        return checked_name(signature_path)
    return f"{checked_name(path)}.sig"


def _digest(path: str | os.PathLike[str]) -> bytes:
    with open_named(path, MAX_ARTIFACT_BYTES) as descriptor:
        return sha256_of(descriptor)
