"""Approve: the one way from files on a disk to bytes that may start as a plugin.

A plugin is approved if its manifest and its artifact are on the ALLOWLIST of the operator's trust
root, with these digests and at these places below it, and if the artifact carries a signature by
one of the operator's keys. Nothing that the plugin's own folder holds (a list, a key, ``trusted``)
counts, and no argument or environment variable leaves a check out.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass

from ..capabilities import REQUIRES
from ..errors import IntegrityError, ManifestError
from ..limits import MIB
from ..manifest import MAX_MANIFEST_BYTES, Manifest, parse_manifest, relative_path_fault
from ..values import path_text
from .allowlist import Allowlist, Entry
from .approved import Approved, Sealed
from .files import checked_name, shown
from .keys import MAX_KEY_BYTES, PublicKey, load_certificate_key, load_public_key
from .sealed import seal_copy, sha256_of
from .seen import recall, remember
from .signature import MAX_SIGNATURE_BYTES, verify_digest
from .trust import KEYS_OF_ROOT, OpenRoot, TrustRoot, check_root

__all__ = ["MAX_ARTIFACT_BYTES", "approve", "approve_files"]

MAX_ARTIFACT_BYTES = 512 * MIB
_MANIFEST = "manifest.json"
_ELF = b"\x7fELF"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """A plugin's folder directly below the trust root, and the path of its manifest."""

    folder: str
    manifest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Artifact:
    """A sealed artifact whose signature was verified; whoever gets it owns the descriptor."""

    descriptor: int
    digest: str
    size: int
    path: str
    signer: PublicKey


def approve(plugin: str | os.PathLike[str], root: TrustRoot) -> Approved:
    """Check a plugin against ``root`` and return the bytes that may start.

    ``plugin`` is an existing folder or manifest file, else the name of a folder of the trust root.
    The folder lies directly below the trust root and has the plugin's name, so that one name is one
    folder, else ``bad_path`` (a link on the way there is resolved first, one below the root is
    refused). Raises ``IntegrityError`` and ``ManifestError``.

    Of a plugin that was approved before nothing is read again, as long as every file that the
    verdict rests on is the one that was read then and has not been written since: a key or a line
    that is taken away counts from the next call on, in every process.
    """
    check_root(root)
    key = (root.directory, root.implicit, os.geteuid(), path_text("plugin", plugin))
    known = recall(key)
    if known is not None:
        return known
    with root.open() as opened:
        place, approved = _approve(plugin, opened)
    folder, manifest = (f"{opened.directory}/{path}" for path in (place.folder, place.manifest))
    remember(key, approved, opened.state, folder=folder, manifest=manifest)
    return approved


def _approve(plugin: str | os.PathLike[str], opened: OpenRoot) -> tuple[_Place, Approved]:
    allowlist = opened.allowlist()
    keys = opened.keys()
    place = _find(plugin, opened, allowlist)
    with _gone_if_listed(place.manifest, opened, allowlist):
        content = opened.read(place.manifest, MAX_MANIFEST_BYTES)
    manifest_digest = hashlib.sha256(content).hexdigest()
    _require(allowlist, place.manifest, manifest_digest, opened)
    manifest = _parse(content, place, opened)
    artifact = _verified(manifest, place, opened, keys, allowlist)
    return place, Approved(
        manifest=manifest,
        manifest_digest=manifest_digest,
        digest=artifact.digest,
        signer=artifact.signer.key_id,
        size=artifact.size,
        path=opened.path(artifact.path),
        sealed=Sealed(artifact.descriptor),
    )


def approve_files(root: TrustRoot, manifest_path: str | os.PathLike[str]) -> tuple[Entry, Entry]:
    """Put a plugin's artifact and manifest on the ALLOWLIST; return the two entries.

    The lines are written only after the manifest was parsed and the artifact's signature verified
    against a key of ``root``; what is written are the digests of those very bytes. The list is
    replaced atomically under a lock, its comments stay, a path that was listed gets its new digest.
    ``manifest_path`` may be whatever ``approve`` takes. Raises what ``approve`` raises, ``busy``
    and ``not_writable``; ``ManifestError`` for what could never start: an artifact that is no
    program of its ``runtime``, a capability without the one it needs.
    """
    with check_root(root).open() as opened, opened.locked():
        keys = opened.keys()
        place = _find(manifest_path, opened, None)
        content = opened.read(place.manifest, MAX_MANIFEST_BYTES)
        manifest = _parse(content, place, opened)
        _check_capabilities(manifest, opened.path(place.manifest))
        artifact = _verified(manifest, place, opened, keys, None)
        try:
            _check_runtime(manifest, artifact.descriptor, opened.path(place.manifest))
        finally:
            os.close(artifact.descriptor)
        entries = (
            Entry(artifact.digest, artifact.path),
            Entry(hashlib.sha256(content).hexdigest(), place.manifest),
        )
        opened.add(entries)
    return entries


def _find(plugin: str | os.PathLike[str], opened: OpenRoot, allowlist: Allowlist | None) -> _Place:
    """Say where below the trust root the manifest of ``plugin`` is."""
    text = checked_name(plugin)
    if os.path.isdir(text):
        return _place(_below(text, text, opened), _MANIFEST)
    if os.path.lexists(text):
        parent, name = os.path.split(text)
        return _place(_below(parent or ".", text, opened), name)
    if "/" in text:
        _refuse_gone(_inside(text, opened), opened, allowlist)
        message = "there is no such folder or manifest"
        raise IntegrityError("not_found", message, path=shown(text))
    if not _is_name(text):
        raise IntegrityError(
            "not_found",
            "there is no such folder or manifest, and it is not a plugin's name"
            f" ({_NAME.pattern}, no '..')",
            path=shown(text),
        )
    try:
        os.stat(text, dir_fd=opened.descriptor, follow_symlinks=False)
    except OSError as exc:
        _refuse_gone(text, opened, allowlist)
        message = f"there is no such folder here, and the trust root {opened.path('')} has none"
        raise IntegrityError("not_found", message, path=shown(text)) from exc
    return _place(text, _MANIFEST)


def _is_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None and ".." not in text


def _inside(path: str, opened: OpenRoot) -> str | None:
    """Return the real path relative to the trust root ("" is the root), None for one outside."""
    real = os.path.realpath(path)
    if real == opened.directory:
        return ""
    prefix = opened.directory.rstrip("/") + "/"
    return real.removeprefix(prefix) if real.startswith(prefix) else None


def _refuse_gone(relative: str | None, opened: OpenRoot, allowlist: Allowlist | None) -> None:
    """Refuse a file or a plugin's folder that is on the list and not there."""
    if relative is None or allowlist is None:
        return
    for path in (relative, posixpath.join(relative, _MANIFEST)):
        if allowlist.digest_of(path) is not None:
            raise IntegrityError(
                "not_found",
                "is listed but gone; take its line out of ALLOWLIST, or put the file back",
                path=opened.path(path),
            )


@contextlib.contextmanager
def _gone_if_listed(relative: str, opened: OpenRoot, allowlist: Allowlist | None) -> Iterator[None]:
    """Say of a file that was not found whether it should be there."""
    try:
        yield
    except IntegrityError as exc:
        if exc.reason == "not_found":
            _refuse_gone(relative, opened, allowlist)
        raise


def _below(folder: str, plugin: str, opened: OpenRoot) -> str:
    """Return the real path of ``folder`` relative to the trust root, or refuse it."""
    relative = _inside(folder, opened)
    if relative is None:
        raise IntegrityError(
            "not_listed",
            f"lies outside the trust root {shown(opened.directory)}, whose ALLOWLIST names files"
            " below it only; copy it there and approve it there",
            path=shown(plugin),
        )
    return relative


def _place(folder: str, manifest: str) -> _Place:
    """Hold a place against the rule that makes one name one folder."""
    relative = posixpath.join(folder, manifest)
    fault = relative_path_fault(relative)
    if fault is not None:
        raise IntegrityError(
            "bad_path", f"the path below the trust root {fault}", path=shown(relative)
        )
    if manifest != _MANIFEST or not _is_name(folder):
        raise IntegrityError(
            "bad_path",
            f"is not the place of a plugin; a plugin is <name>/{_MANIFEST} directly below the trust"
            f" root, the name as in the manifest ({_NAME.pattern}, no '..')",
            path=shown(relative),
        )
    return _Place(folder=folder, manifest=relative)


def _parse(content: bytes, place: _Place, opened: OpenRoot) -> Manifest:
    path = opened.path(place.manifest)
    manifest = parse_manifest(content, path=path)
    if manifest.name != place.folder:
        raise IntegrityError(
            "bad_path",
            f"the manifest's name is {manifest.name!r}, its folder's {place.folder!r}; they must be"
            " equal, rename one of them",
            path=path,
        )
    return manifest


def _check_capabilities(manifest: Manifest, path: str) -> None:
    """Refuse what no grant would be made for (``parse_capabilities``)."""
    for capability, needed in REQUIRES.items():
        if capability in manifest.capabilities and needed not in manifest.capabilities:
            message = f"{capability} needs {needed} beside it; add that or take this out"
            raise ManifestError("capabilities", message, path=path)


def _check_runtime(manifest: Manifest, descriptor: int, path: str) -> None:
    """Refuse an artifact that is no program of the runtime, by its first bytes (``elf(5)``)."""
    head = os.pread(descriptor, len(_ELF), 0)
    runtime = manifest.runtime
    if runtime in ("static", "dynamic") and head != _ELF:
        fault = f"is {runtime!r}{' by default' if runtime == 'static' else ''}, and the artifact"
        fault += f" {manifest.artifact!a} is no ELF program; 'python', 'node' or 'auto' runs"
        fault += " a script"
    elif runtime in ("python", "node") and head == _ELF:
        fault = f"is {runtime!r}, and the artifact {manifest.artifact!a} is an ELF program;"
        fault += " 'static' or 'dynamic' runs it"
    else:
        return
    raise ManifestError("runtime", fault, path=path)


def _require(allowlist: Allowlist, path: str, digest: str, opened: OpenRoot) -> None:
    wanted = _listed_digest(allowlist, path, opened)
    if wanted != digest:
        raise IntegrityError(
            "digest_mismatch",
            f"has SHA-256 {digest}, the ALLOWLIST has {wanted}; look at what changed, then approve"
            " it again",
            path=opened.path(path),
        )


def _listed_digest(allowlist: Allowlist, path: str, opened: OpenRoot) -> str:
    wanted = allowlist.digest_of(path)
    if wanted is None:
        raise IntegrityError(
            "not_listed",
            f"is not on the ALLOWLIST of {shown(opened.directory)} as {path!a};"
            " approve the plugin first",
            path=opened.path(path),
        )
    return wanted


def _verified(
    manifest: Manifest,
    place: _Place,
    opened: OpenRoot,
    keys: tuple[PublicKey, ...],
    allowlist: Allowlist | None,
) -> _Artifact:
    """Seal the artifact, hold it against the list (if there is one yet) and check its signature."""
    path = posixpath.join(place.folder, manifest.artifact)
    with (
        _gone_if_listed(path, opened, allowlist),
        opened.regular(path, MAX_ARTIFACT_BYTES) as source,
    ):
        if allowlist is not None:
            # Before 512 MiB are copied for somebody who was never allowed.
            _listed_digest(allowlist, path, opened)
        copy, size = seal_copy(source, path=opened.path(path), max_bytes=MAX_ARTIFACT_BYTES)
    try:
        digest = sha256_of(copy)
        if allowlist is not None:
            _require(allowlist, path, digest.hex(), opened)
        candidates, whose = _candidates(manifest, place, opened, keys)
        signature_path = posixpath.join(place.folder, manifest.signature_path)
        signature = _read_signature(opened, signature_path)
        signer = verify_digest(
            digest, signature, candidates, path=opened.path(signature_path), whose=whose
        )
    except BaseException:
        os.close(copy)
        raise
    return _Artifact(descriptor=copy, digest=digest.hex(), size=size, path=path, signer=signer)


def _read_signature(opened: OpenRoot, path: str) -> bytes:
    try:
        return opened.read(path, MAX_SIGNATURE_BYTES)
    except IntegrityError as exc:
        if exc.reason != "not_found":
            raise
        message = "the signature is missing; sign the artifact or name its file in the manifest"
        raise IntegrityError("missing_signature", message, path=opened.path(path)) from exc


def _candidates(
    manifest: Manifest, place: _Place, opened: OpenRoot, keys: tuple[PublicKey, ...]
) -> tuple[tuple[PublicKey, ...], str]:
    """Return the operator's keys that may have signed (the one the manifest names, or all).

    The text says in a message whose they are.
    """
    reference = manifest.signature
    if reference.public_key is not None:
        field, text, load = "signature.publicKey", reference.public_key, load_public_key
    elif reference.certificate is not None:
        field, text, load = "signature.certificate", reference.certificate, load_certificate_key
    else:
        return keys, KEYS_OF_ROOT
    if text.lstrip().startswith("-----BEGIN "):
        path = f"{opened.path(place.manifest)}: {field}"
        named = load(text.encode("utf-8"), path=path)
    else:
        relative = posixpath.normpath(posixpath.join(place.folder, text))
        if relative == ".." or relative.startswith("../"):
            message = f"{field} leaves the trust root: {text!a}"
            raise IntegrityError("bad_path", message, path=opened.path(place.manifest))
        path = opened.path(relative)
        named = load(opened.read(relative, MAX_KEY_BYTES), path=path)
    for key in keys:
        if key == named:
            return (key,), f"the key that {field} of the manifest names"
    raise IntegrityError(
        "untrusted_key",
        f"{field} is the key {named.key_id}, which is none of {opened.path('keys')};"
        " only the operator's own keys count",
        path=path,
    )
