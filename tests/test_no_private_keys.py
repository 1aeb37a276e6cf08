"""No private key is in the repository, in whatever form."""

from __future__ import annotations

import base64
import os
import re
import subprocess
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

ROOT = Path(__file__).resolve().parent.parent
#: What is never committed, for trees without git (an unpacked source archive).
BUILT = {"build", "dist", "wheelhouse", "__pycache__", ".git", ".hypothesis"}

#: A PEM block with a body. Its first line alone is no key: programs have to name it. Line ends may
#: be written as \\n, as in JSON and in source code.
PEM = re.compile(
    rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----(?:\\r|\\n|\s)+[A-Za-z0-9+/=,:\s-]{40,}"
)
#: The beginning of a P-256 key in PKCS #8 (RFC 5958) and in SEC 1 (RFC 5915), and of the former in
#: base64.
DER = re.compile(
    rb"\x30\x81\x87\x02\x01\x00\x30\x13\x06\x07\x2a\x86\x48|\x30\x77\x02\x01\x01\x04\x20"
)
BASE64 = re.compile(rb"MIGHAgEAMBMGByqGSM49AgEG[A-Za-z0-9+/\s]{40,}")


def holds_private_key(content: bytes) -> bool:
    """Say whether the bytes hold a private key."""
    return any(pattern.search(content) for pattern in (PEM, DER, BASE64))


def committed_files() -> list[Path]:
    """Return what git tracks or would add, or without git all files that no build made."""
    try:
        listed = subprocess.run(
            ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-zco", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            timeout=60,
        )
    except FileNotFoundError:
        listed = None
    if (ROOT / ".git").exists() and listed is not None and listed.returncode == 0:
        names = [os.fsdecode(name) for name in listed.stdout.split(b"\0") if name]
        return [path for path in (ROOT / name for name in names) if path.is_file()]
    return [
        path
        for path in ROOT.rglob("*")
        if not BUILT & set(path.relative_to(ROOT).parts) and path.is_file()
    ]


def test_no_file_holds_a_private_key() -> None:
    files = committed_files()
    assert ROOT / "pyproject.toml" in files
    assert [str(path) for path in files if holds_private_key(path.read_bytes())] == []


def test_no_file_is_named_like_a_private_key() -> None:
    assert [str(path) for path in committed_files() if path.suffix in (".key", ".p12")] == []


def encoded(encoding: serialization.Encoding, form: serialization.PrivateFormat) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(encoding, form, serialization.NoEncryption())


def test_pkcs8_pem_is_caught() -> None:
    pem = encoded(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    assert holds_private_key(b"x" + pem)


def test_sec1_pem_is_caught() -> None:
    sec1 = serialization.PrivateFormat.TraditionalOpenSSL
    assert holds_private_key(encoded(serialization.Encoding.PEM, sec1))


def test_pem_in_a_json_string_is_caught() -> None:
    pem = encoded(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    assert holds_private_key(b'{"key": "' + pem.replace(b"\n", b"\\n") + b'"}')


def test_pkcs8_der_is_caught() -> None:
    assert holds_private_key(encoded(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8))


def test_sec1_der_is_caught() -> None:
    sec1 = serialization.PrivateFormat.TraditionalOpenSSL
    assert holds_private_key(encoded(serialization.Encoding.DER, sec1))


def test_bare_base64_is_caught() -> None:
    der = encoded(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8)
    assert holds_private_key(b"key=" + base64.b64encode(der))


def test_public_key_is_allowed() -> None:
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    pem = public.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert not holds_private_key(pem)


def test_name_of_the_block_alone_is_allowed() -> None:
    assert not holds_private_key(b'begin = "-----BEGIN PRIVATE KEY-----"\nend = b"more of it"\n')
