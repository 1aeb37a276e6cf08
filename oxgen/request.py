"""Request: one run as its caller wants it, to be handed to ``map``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field

from .errors import UsageError
from .limits import Limits
from .sandbox import Sandbox, is_encodable
from .values import check_bool, plain_path

__all__ = ["Request"]

#: How many files one run may be given, and how many names it may be asked for.
_FILES_MAX = 10_000
_NAME_BYTES_MAX = 1023
_COMPONENT_BYTES_MAX = 255

_SANDBOX = Sandbox()
_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Request:
    """What ``run`` would be called with: a frozen value that starts nothing.

    ``args[0]`` with a slash is a path of the host, without one it is looked up in the caller's
    PATH. ``capture_output`` keeps stdout and stderr; without it they are read, counted and dropped:
    many runs at once have no terminal to share. ``files`` are put into /workspace before the start:
    names below it, and for each its content (bytes) or a file of the host (``pathlib.Path``).
    ``collect`` names files of /workspace that are read back after the end. Raises ``UsageError``
    for bad values.
    """

    args: Sequence[str | os.PathLike[str]]
    _: KW_ONLY
    sandbox: Sandbox | None = None
    limits: Limits | None = None
    input: bytes | None = None
    capture_output: bool = True
    tenant: str = ""
    task_id: str | None = None
    files: Mapping[str, bytes | os.PathLike[str]] | None = field(default=None, hash=False)
    collect: Sequence[str] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "args", _words(self.args))
        _check_type("sandbox", self.sandbox, Sandbox)
        _check_type("limits", self.limits, Limits)
        if self.input is not None and not isinstance(self.input, bytes):
            raise UsageError(f"input must be bytes or None, got {type(self.input).__name__}")
        check_bool("capture_output", self.capture_output)
        if not isinstance(self.tenant, str):
            raise UsageError(f"tenant must be text, got {self.tenant!r}")
        object.__setattr__(self, "tenant", str.__str__(self.tenant))
        if self.task_id is not None and not isinstance(self.task_id, str):
            raise UsageError(f"task_id must be text or None, got {self.task_id!r}")
        if self.files is not None:
            object.__setattr__(self, "files", _check_files(self.files))
        if self.collect != ():
            object.__setattr__(self, "collect", _check_names(self.collect))

    @property
    def words(self) -> tuple[str, ...]:
        """``args`` as the program gets them."""
        return self.args  # type: ignore[return-value]  # __post_init__ made them that

    @property
    def box(self) -> Sandbox:
        """``sandbox``, or the usual one."""
        return self.sandbox or _SANDBOX

    @property
    def bounds(self) -> Limits:
        """``limits``, or the usual ones."""
        return self.limits or _LIMITS


def _words(args: object) -> tuple[str, ...]:
    if isinstance(args, (str, bytes)) or not isinstance(args, Sequence) or not args:
        raise UsageError(f"args must be a sequence of at least the program's name, got {args!r}")
    return tuple(map(_word, args))


def _word(word: object) -> str:
    text = plain_path("args", word) if isinstance(word, os.PathLike) else word
    if not isinstance(text, str) or "\0" in text or not is_encodable(text):
        raise UsageError(f"args must be text or paths without NUL, got {word!r}")
    # A subclass may compare and hash as it likes, and what runs have in common is found by that.
    return str.__str__(text)


def _check_type(name: str, value: object, wanted: type) -> None:
    if value is not None and not isinstance(value, wanted):
        raise UsageError(f"{name} must be a {wanted.__name__} or None, got {value!r}")


def _check_files(files: object) -> dict[str, bytes | os.PathLike[str]] | None:
    if not isinstance(files, Mapping):
        raise UsageError(
            "files must map names to bytes or to paths of the host (pathlib.Path),"
            f" got {type(files).__name__}"
        )
    if len(files) > _FILES_MAX:
        raise UsageError(f"files: at most {_FILES_MAX} are accepted, got {len(files)}")
    checked: dict[str, bytes | os.PathLike[str]] = {}
    for name, source in files.items():
        if not isinstance(source, (bytes, os.PathLike)):
            raise UsageError(
                f"files: {name!r} must be bytes (its content) or a path of the host"
                f" (pathlib.Path), got {type(source).__name__}"
            )
        checked[_check_name("files", name)] = source
    for name in checked:
        above = name.rpartition("/")[0]
        while above:
            if above in checked:
                raise UsageError(f"files: {above!r} is a file, and {name!r} would lie in it")
            above = above.rpartition("/")[0]
    return checked or None


def _check_names(names: object) -> tuple[str, ...]:
    if isinstance(names, (str, bytes)) or not isinstance(names, Iterable):
        raise UsageError(f"collect must be a sequence of names, got {names!r}")
    checked = tuple(dict.fromkeys(_check_name("collect", name) for name in names))
    if len(checked) > _FILES_MAX:
        raise UsageError(f"collect: at most {_FILES_MAX} names are accepted, got {len(checked)}")
    return checked


def _check_name(field: str, name: object) -> str:
    if not isinstance(name, str) or "\0" in name or not is_encodable(name):
        raise UsageError(f"{field}: a name must be text without NUL, got {name!r}")
    parts = os.fsencode(name).split(b"/")
    if (
        any(part in (b"", b".", b"..") or len(part) > _COMPONENT_BYTES_MAX for part in parts)
        or len(os.fsencode(name)) > _NAME_BYTES_MAX
    ):
        raise UsageError(
            f"{field}: a name is relative to /workspace, such as 'out.json' or 'logs/1.txt',"
            f" without empty parts, '.' and '..', at most {_NAME_BYTES_MAX} bytes and"
            f" {_COMPONENT_BYTES_MAX} each part, got {name[:80]!r}"
        )
    return str.__str__(name)
