"""Approved: the proof of an approval, and the sealed bytes that it is about."""

from __future__ import annotations

import os
from collections.abc import Callable

from ..closing import Closes
from ..errors import UsageError
from ..manifest import Manifest

__all__ = ["Approved", "Sealed"]


class Sealed:
    """Owns a sealed memfd that several proofs share; it is closed with the last of them.

    ``program`` is what starts these bytes, kept here by whoever has made it (``oxgen.plugin``).
    """

    __slots__ = ("descriptor", "program")

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.program: object | None = None

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        # The default: at exit the names of a module may be gone before its objects.
        close(self.descriptor)


class Approved(Closes):
    """The proof of an approval: it owns the bytes that were hashed, and those are started.

    ``descriptor`` is a memfd sealed against every change, with offset 0; it may be used until
    ``close`` or the end of the ``with`` block. ``digest`` and ``manifest_digest`` are
    lower-case hex SHA-256, ``signer`` the id of the operator's key, ``size`` bytes, ``path`` where
    the artifact was (for messages only: what is there now is somebody else's affair).
    """

    __slots__ = (
        "_sealed",
        "digest",
        "manifest",
        "manifest_digest",
        "path",
        "signer",
        "size",
    )

    def __init__(
        self,
        *,
        manifest: Manifest,
        manifest_digest: str,
        digest: str,
        signer: str,
        size: int,
        path: str,
        sealed: Sealed,
    ) -> None:
        self.manifest = manifest
        self.manifest_digest = manifest_digest
        self.digest = digest
        self.signer = signer
        self.size = size
        self.path = path
        self._sealed: Sealed | None = sealed

    @property
    def name(self) -> str:
        """The plugin's name, as the manifest has it."""
        return self.manifest.name

    @property
    def version(self) -> str:
        """The plugin's version, as the manifest has it."""
        return self.manifest.version

    @property
    def entry(self) -> str:
        """The file name in the cell: the program is ``/bin/<entry>``."""
        return self.manifest.entry

    @property
    def descriptor(self) -> int:
        """The sealed memfd; ``UsageError`` once it is closed."""
        return self.sealed.descriptor

    @property
    def sealed(self) -> Sealed:
        """The sealed bytes; ``UsageError`` once it is closed."""
        if self._sealed is None:
            raise UsageError(f"the approval of {self.name} is closed; approve the plugin again")
        return self._sealed

    def close(self) -> None:
        """Let go of the bytes; doing it twice is fine."""
        self._sealed = None

    def again(self) -> Approved:
        """Return one more proof of the same approval, to be closed by itself."""
        return Approved(
            manifest=self.manifest,
            manifest_digest=self.manifest_digest,
            digest=self.digest,
            signer=self.signer,
            size=self.size,
            path=self.path,
            sealed=self.sealed,
        )

    def __repr__(self) -> str:
        return f"<Approved {self.name} {self.version} sha256:{self.digest}>"
