"""``0xgenctl plugin keygen|sign|approve|verify|list``: from a key to an approved plugin."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

Invoke = Callable[..., Result]


@pytest.fixture
def root(tmp_path: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a trust root with one key and one plugin that is neither signed nor listed."""
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "root"
    (root / "keys").mkdir(parents=True, mode=0o755)
    folder = root / "hydra"
    folder.mkdir(mode=0o755)
    (folder / "scan").write_bytes(b"\x7fELF, or so it begins")
    (folder / "manifest.json").write_text(
        json.dumps(
            {
                "name": "hydra",
                "version": "1.0",
                "entry": "scan",
                "artifact": "scan",
                "capabilities": ["CAP_EMIT_FINDINGS"],
            }
        )
    )
    for path in (root, root / "keys", folder):
        path.chmod(0o755)
    made = invoke("plugin", "keygen", "release.key", str(root / "keys" / "release.pub"))
    assert made.exit_code == 0, made.stderr
    return root


@pytest.fixture
def approved(root: Path, invoke: Invoke) -> Path:
    """Sign and approve that plugin."""
    for words in (
        ["sign", "--key", "release.key", "root/hydra"],
        ["approve", "--trust-root", "root", "root/hydra"],
    ):
        result = invoke("plugin", *words)
        assert result.exit_code == 0, result.stderr
    return root


def test_private_key_is_for_its_owner_only(root: Path, tmp_path: Path) -> None:
    assert stat.S_IMODE((tmp_path / "release.key").stat().st_mode) == 0o600


def test_public_key_goes_beside_the_private_one_by_default(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert invoke("plugin", "keygen", "other.key").exit_code == 0
    assert (tmp_path / "other.pub").exists()


def test_keygen_never_overwrites_a_key(root: Path, tmp_path: Path, invoke: Invoke) -> None:
    before = (tmp_path / "release.key").read_bytes()
    result = invoke("plugin", "keygen", "release.key", "another.pub")
    assert result.exit_code == 1
    assert (tmp_path / "release.key").read_bytes() == before


def test_verify_says_yes_to_an_approved_plugin(approved: Path, invoke: Invoke) -> None:
    result = invoke("plugin", "verify", "--trust-root", "root", "hydra")
    assert result.exit_code == 0
    assert result.stdout.startswith("hydra 1.0: verified\n")


def test_verify_says_no_and_why_to_an_unsigned_plugin(root: Path, invoke: Invoke) -> None:
    result = invoke("plugin", "verify", "--trust-root", "root", "hydra")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "ALLOWLIST" in result.stderr


def test_verify_says_no_when_one_byte_has_changed(approved: Path, invoke: Invoke) -> None:
    (approved / "hydra" / "scan").write_bytes(b"#!/bin/evil\n")
    result = invoke("plugin", "verify", "--trust-root", "root", "hydra")
    assert result.exit_code == 1
    assert "digest_mismatch" in result.stderr


def test_approve_refuses_an_unsigned_plugin(root: Path, invoke: Invoke) -> None:
    result = invoke("plugin", "approve", "--trust-root", "root", "hydra")
    assert result.exit_code == 1
    assert "missing_signature" in result.stderr
    assert not (root / "ALLOWLIST").exists()


def test_approve_refuses_a_bare_file(root: Path, invoke: Invoke) -> None:
    result = invoke("plugin", "approve", "--trust-root", "root", "root/hydra/scan")
    assert result.exit_code == 1
    assert "manifest" in result.stderr


def test_signature_of_a_single_file_is_verified_by_its_key(approved: Path, invoke: Invoke) -> None:
    result = invoke("plugin", "verify", "--key", "root/keys/release.pub", "root/hydra/scan")
    assert result.exit_code == 0


def test_signature_of_a_single_file_is_refused_for_another_key(
    approved: Path, invoke: Invoke
) -> None:
    assert invoke("plugin", "keygen", "other.key").exit_code == 0
    result = invoke("plugin", "verify", "--key", "other.pub", "root/hydra/scan")
    assert result.exit_code == 1
    assert "bad_signature" in result.stderr


def test_list_names_what_would_start(approved: Path, invoke: Invoke) -> None:
    result = invoke("plugin", "list", "--json", "--trust-root", "root")
    assert result.exit_code == 0
    (row,) = json.loads(result.stdout)
    assert (row["name"], row["state"], row["error"]) == ("hydra", "ok", None)


def test_list_names_what_would_not_start_and_why(approved: Path, invoke: Invoke) -> None:
    (approved / "hydra" / "scan.sig").unlink()
    result = invoke("plugin", "list", "--json", "--trust-root", "root")
    assert result.exit_code == 1
    (row,) = json.loads(result.stdout)
    assert row["state"] == "missing_signature"


def test_list_for_people_is_one_line_a_plugin(approved: Path, invoke: Invoke) -> None:
    result = invoke("plugin", "list", "--trust-root", "root")
    assert result.stdout == "hydra\t1.0\tok\tstatic\tCAP_EMIT_FINDINGS\t\n"


def test_trust_root_that_others_can_write_is_refused(approved: Path, invoke: Invoke) -> None:
    approved.chmod(0o777)
    result = invoke("plugin", "list", "--trust-root", "root")
    assert result.exit_code == 1
    assert "untrusted_root" in result.stderr
