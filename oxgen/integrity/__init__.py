"""Integrity: what may start, decided by the operator's ALLOWLIST and keys.

``approve`` returns ``Approved``, which owns a sealed copy of the very bytes that were hashed, found
on the list and verified; only an ``Approved`` can be launched as a plugin. Every refusal is an
``IntegrityError`` with a ``reason``; the list of reasons is in docs/manifest.md.
"""

from __future__ import annotations

from .allowlist import Allowlist, Entry, parse_allowlist
from .approve import MAX_ARTIFACT_BYTES, approve, approve_files
from .approved import Approved
from .keys import PublicKey, keygen
from .signing import sign_file, verify_file
from .trust import TrustRoot, listed

__all__ = [
    "MAX_ARTIFACT_BYTES",
    "Allowlist",
    "Approved",
    "Entry",
    "PublicKey",
    "TrustRoot",
    "approve",
    "approve_files",
    "keygen",
    "listed",
    "parse_allowlist",
    "sign_file",
    "verify_file",
]
