"""Exceptions: a plugin that never ran is an exception, one that ran and died is a result.

::

    OxgenError
    +-- UsageError(ValueError)                  a value that no machine would accept
    +-- LaunchError(OSError)                    a stage of the launch failed; nothing ran
    |   +-- ProgramNotFoundError(FileNotFoundError)
    |   +-- LostError                           our side failed before the launch was confirmed
    +-- UnsupportedError(OSError)               this machine cannot enforce what was asked for
    +-- IntegrityError(PermissionError)         not listed, not signed, not what was approved
    +-- ManifestError(ValueError)               manifest.json breaks a rule
    +-- CapabilityError(PermissionError)        a token or a grant was refused
    +-- FindingError(ValueError)                a finding breaks the schema
    +-- CaptureError(ValueError)                an HTTP capture as a whole cannot be read
    +-- RunFailedError(CalledProcessError)      ``check=True`` and the run did not exit with 0
"""

from __future__ import annotations

import errno as errno_names
import os
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .result import Completed

__all__ = [
    "USED_UP",
    "CapabilityError",
    "CaptureError",
    "FindingError",
    "IntegrityError",
    "LaunchError",
    "LostError",
    "ManifestError",
    "OxgenError",
    "ProgramNotFoundError",
    "RunFailedError",
    "UnsupportedError",
    "UsageError",
]


class OxgenError(Exception):
    """Root of every exception that oxgen raises on purpose."""


class UsageError(OxgenError, ValueError):
    """A value is refused whatever the machine: the message says what is accepted."""


#: Where something is used up, whoever finds it.
USED_UP = {
    errno_names.EMFILE: "raise the limit on open files",
    errno_names.ENFILE: "raise the machine's limit on open files (fs.file-max)",
    errno_names.ENOMEM: "give it more memory",
    # See csrc/linux/done.h: what was answered was not done.
    errno_names.EBADE: "a system call filter around this process answers 0 to calls that do not"
    " take place; take it away, or have it answer with an errno",
}


class LaunchError(OxgenError, OSError):
    """A stage of the launch failed, so no instruction of the plugin ran.

    ``stage`` is a name of the stage table (``oxgen._launch.stages()``), ``errno`` the kernel's
    answer, ``remedy`` one sentence on what to change, or an empty string.
    """

    def __init__(
        self,
        stage: str,
        errno: int,
        message: str = "",
        *,
        remedy: str = "",
        path: str | None = None,
    ) -> None:
        text = message or os.strerror(errno)
        super().__init__(errno, text, path) if path is not None else super().__init__(errno, text)
        self.stage = stage
        self.remedy = remedy or USED_UP.get(errno, "")

    def __str__(self) -> str:
        name = errno_names.errorcode.get(self.errno or 0, str(self.errno))
        where = f" {self.filename!r}" if self.filename is not None else ""
        remedy = f" ({self.remedy})" if self.remedy else ""
        return f"never ran: stage {self.stage}{where}: {self.strerror} [{name}]{remedy}"


class ProgramNotFoundError(LaunchError, FileNotFoundError):
    """The program to run is not there."""


class LostError(LaunchError):
    """The launcher or the warden died before it confirmed the launch."""


class UnsupportedError(OxgenError, OSError):
    """This machine cannot enforce a property that was asked for.

    ``missing`` names the properties, ``cause`` what stands in the way, ``remedy`` the narrowest
    change that helps; ``stage`` is the stage of the launch that found out, or an empty string.
    """

    def __init__(
        self,
        missing: tuple[str, ...],
        cause: str,
        remedy: str = "",
        *,
        errno: int = 0,
        stage: str = "",
    ) -> None:
        super().__init__(errno or errno_names.ENOTSUP, cause)
        self.stage = stage
        self.missing = missing
        self.cause = cause
        self.remedy = remedy

    def __str__(self) -> str:
        what = ", ".join(self.missing) or "the sandbox"
        remedy = f"; remedy: {self.remedy}" if self.remedy else ""
        return f"cannot enforce {what} here: {self.cause}{remedy}"


class IntegrityError(OxgenError, PermissionError):
    """A file may not start as a plugin.

    ``reason`` tells the cases apart: ``not_listed``, ``digest_mismatch``, ``bad_allowlist``,
    ``bad_encoding``, ``bad_key``, ``untrusted_key``, ``bad_signature``, ``missing_signature``,
    ``not_regular``, ``too_big``, ``bad_path``, ``untrusted_root``, ``not_found``, ``no_allowlist``,
    ``no_keys``, ``not_readable``, ``not_writable``, ``exists``, ``busy`` (docs/manifest.md).
    """

    def __init__(self, reason: str, message: str, *, path: str | None = None) -> None:
        super().__init__(errno_names.EACCES, message)
        self.reason = reason
        self.path = path

    def __str__(self) -> str:
        where = f"{self.path}: " if self.path else ""
        return f"{where}{self.strerror} [{self.reason}]"


class ManifestError(OxgenError, ValueError):
    """manifest.json breaks a rule; ``field`` names the place (``signature.publicKey``).

    ``path`` is the file as messages show it, None where only its bytes were given.
    """

    def __init__(self, field: str, message: str, *, path: str | None = None) -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.field = field
        self.path = path

    def __str__(self) -> str:
        return f"{self.path or 'manifest'}: {self.args[0]}"


class CapabilityError(OxgenError, PermissionError):
    """A token or a grant was refused; ``reason`` tells the cases apart (``expired`` ...)."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(errno_names.EACCES, message)
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.strerror} [{self.reason}]"


class FindingError(OxgenError, ValueError):
    """A finding breaks schema 0.2; ``field`` names the member."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"finding: {field}: {message}" if field else f"finding: {message}")
        self.field = field


class CaptureError(OxgenError, ValueError):
    """A capture as a whole cannot be read (a broken entry inside one is skipped and reported)."""


class RunFailedError(OxgenError, subprocess.CalledProcessError):
    """``check=True`` and the run did not exit with status 0; ``completed`` has it all."""

    def __init__(self, completed: Completed) -> None:
        super().__init__(
            completed.returncode, list(completed.args), completed.stdout, completed.stderr
        )
        self.completed = completed

    def __str__(self) -> str:
        reason = self.completed.termination.reason
        ended = f" ({reason}: {self.completed.termination.detail})" if reason else ""
        return f"{self.cmd[0]!r} ended with {self.returncode}{ended}"
