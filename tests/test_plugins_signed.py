"""The committed plugins are signed, listed and exactly what was approved."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from oxgen.errors import IntegrityError
from oxgen.integrity import TrustRoot, approve
from oxgen.manifest import parse_manifest

ROOT = Path(__file__).resolve().parent.parent
PLUGINS = sorted(path.parent.name for path in ROOT.glob("plugins/*/manifest.json"))


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    """A copy that belongs to the caller and that nobody else may write, whatever the umask was."""
    copy = tmp_path / "plugins"
    shutil.copytree(ROOT / "plugins", copy, ignore=shutil.ignore_patterns("__pycache__"))
    for path in [copy, *copy.rglob("*")]:
        path.chmod(path.stat().st_mode & 0o755)
    return copy


def artifact_of(folder: Path) -> Path:
    return folder / parse_manifest((folder / "manifest.json").read_bytes()).artifact


def test_there_are_plugins() -> None:
    assert PLUGINS


@pytest.mark.parametrize("name", PLUGINS)
def test_committed_plugin_is_approved(plugins: Path, name: str) -> None:
    with approve(plugins / name, TrustRoot.locate(str(plugins))) as approved:
        assert approved.name == name


@pytest.mark.parametrize("name", PLUGINS)
def test_committed_plugin_with_another_byte_is_refused(plugins: Path, name: str) -> None:
    artifact = artifact_of(plugins / name)
    artifact.write_bytes(artifact.read_bytes() + b"\n")
    with pytest.raises(IntegrityError):
        approve(plugins / name, TrustRoot.locate(str(plugins)))


@pytest.mark.parametrize("name", PLUGINS)
def test_committed_plugin_with_another_manifest_is_refused(plugins: Path, name: str) -> None:
    manifest = plugins / name / "manifest.json"
    manifest.write_bytes(manifest.read_bytes() + b"\n")
    with pytest.raises(IntegrityError):
        approve(plugins / name, TrustRoot.locate(str(plugins)))


def test_allowlist_names_nothing_that_is_not_there(plugins: Path) -> None:
    lines = (plugins / "ALLOWLIST").read_text(encoding="utf-8").splitlines()
    paths = [line[64:].lstrip(" *") for line in lines if line and not line.startswith("#")]
    assert len(paths) == 2 * len(PLUGINS)
    assert [path for path in paths if not (plugins / path).is_file()] == []


def test_signing_anew_replaces_the_key_and_keeps_no_private_one(plugins: Path) -> None:
    before = (plugins / "keys/0xgen-plugin.pub").read_bytes()
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts/sign-plugins"), str(plugins)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert (plugins / "keys/0xgen-plugin.pub").read_bytes() != before
    assert not list(plugins.rglob("*.key"))
    with approve(plugins / PLUGINS[0], TrustRoot.locate(str(plugins))) as approved:
        assert approved.name == PLUGINS[0]
