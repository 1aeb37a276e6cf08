"""Manifest: what a plugin says of itself, read strictly.

Nothing here decides about trust: ``trusted`` is parsed, shown and never believed, and the bytes
that are parsed must have been found on the ALLOWLIST before (``oxgen.integrity``). The keys are
those of 0xGen's ``manifest.json``; ``limits``, ``runtime``, ``description`` and ``proxy`` are ours.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, cast, get_args

from .errors import ManifestError, UsageError
from .limits import KIB, MIB, Limits
from .sandbox import Runtime
from .values import check_type

__all__ = [
    "CAPABILITY_NAMES",
    "MAX_CONFIG_BYTES",
    "MAX_MANIFEST_BYTES",
    "Manifest",
    "SignatureReference",
    "config_fault",
    "parse_manifest",
    "relative_path_fault",
]

MAX_MANIFEST_BYTES = MIB
#: As compact ASCII JSON: it travels in one line of the plugin protocol, beside other members.
MAX_CONFIG_BYTES = 64 * KIB
CAPABILITY_NAMES = (
    "CAP_EMIT_FINDINGS",
    "CAP_HTTP_PASSIVE",
    "CAP_FLOW_INSPECT",
    "CAP_FLOW_INSPECT_RAW",
    "CAP_HTTP_ACTIVE",
    "CAP_WS",
    "CAP_SPIDER",
    "CAP_REPORT",
    "CAP_STORAGE",
    "CAP_AI_ANALYSIS",
)

_KEYS = (
    "name",
    "version",
    "entry",
    "artifact",
    "trusted",
    "capabilities",
    "config",
    "signature",
    "limits",
    "runtime",
    "description",
    "proxy",
)
_REQUIRED = ("name", "version", "entry", "artifact", "capabilities")
_SIGNATURE_KEYS = ("signature", "publicKey", "certificate")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+_-]{0,63}")
_DRIVE = re.compile(r"[A-Za-z]:")
#: C0, DEL and C1: they end lines, move cursors or end strings in somebody's parser.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_PATH_MAX_BYTES = 1024
_COMPONENT_MAX_BYTES = 255
_DEPTH_MAX = 64
#: Below the 32 levels of a line of the plugin protocol.
_CONFIG_DEPTH_MAX = 16
_DIGITS_MAX = 400
_DESCRIPTION_MAX = 4096
_KEY_TEXT_MAX = 16 * 1024
_PEM = "-----BEGIN "


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureReference:
    """Where the signature is, and which of the operator's keys made it.

    ``signature`` is a path inside the manifest's folder (None: ``<artifact>.sig``).
    ``public_key`` and ``certificate`` (at most one is set) are PEM text, or a path relative to the
    manifest's folder that may climb (0xGen writes ``../keys/0xgen-plugin.pub``) but not out of the
    trust root.
    """

    signature: str | None = None
    public_key: str | None = None
    certificate: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One plugin's manifest.

    ``config`` is JSON as it stood there, handed to the plugin in its ``hello``, and must not be
    changed. ``description`` and ``trusted`` are for people who look; both are hostile text as long
    as nobody has approved the manifest, and ``trusted`` decides nothing at any time.
    """

    name: str
    version: str
    entry: str
    artifact: str
    trusted: bool = False
    capabilities: tuple[str, ...] = ()
    config: dict[str, Any] = field(default_factory=dict, hash=False)
    signature: SignatureReference = SignatureReference()
    limits: Limits | None = None
    runtime: Runtime = "static"
    description: str = ""

    @property
    def signature_path(self) -> str:
        """The detached signature, relative to the manifest's folder."""
        return self.signature.signature or f"{self.artifact}.sig"


def parse_manifest(data: bytes, *, path: str | None = None) -> Manifest:
    """Parse the bytes of a manifest.json; raise ``ManifestError`` that names the field.

    ``path`` is for messages only. Refused: more than 1 MiB, anything but UTF-8 without a byte order
    mark, unknown or duplicate keys at any depth, NaN and infinities, lone surrogates, nesting
    beyond 64; a ``config`` beyond 64 KiB or 16 levels.
    """
    check_type("data", data, bytes, "the bytes of a manifest.json")
    try:
        return _parse(data)
    except ManifestError as exc:
        exc.path = path
        raise


def config_fault(config: Mapping[str, Any]) -> str | None:
    """Say why an object cannot be a plugin's ``config``, or None.

    Accepted is what JSON can say, at most `MAX_CONFIG_BYTES` as compact ASCII JSON and 16 levels.
    """
    try:
        too_deep = _depth_exceeds(config, _CONFIG_DEPTH_MAX)
        size = 0 if too_deep else len(json.dumps(config, allow_nan=False, separators=(",", ":")))
    except (TypeError, ValueError) as exc:
        return f"is not JSON: {ascii(str(exc))[1:-1][:120]}"
    if too_deep:
        return f"is nested deeper than {_CONFIG_DEPTH_MAX} levels"
    if size > MAX_CONFIG_BYTES:
        return f"has {size} bytes as JSON, at most {MAX_CONFIG_BYTES}; put data into files"
    return None


def _depth_exceeds(value: object, most: int) -> bool:
    if isinstance(value, dict):
        inner: Iterable[object] = value.values()
    elif isinstance(value, (list, tuple)):
        inner = value
    else:
        return False
    return most == 0 or any(_depth_exceeds(each, most - 1) for each in inner)


def _parse(data: bytes) -> Manifest:
    members = _object("", _read_json(data), _KEYS)
    for key in _REQUIRED:
        if key not in members:
            raise ManifestError(key, "is missing; every manifest has " + ", ".join(_REQUIRED))
    _check_proxy(members.get("proxy"))
    return Manifest(
        name=_name(members["name"]),
        version=_matching("version", members["version"], _VERSION),
        entry=_entry(members["entry"]),
        artifact=_path("artifact", members["artifact"]),
        trusted=_typed("trusted", members.get("trusted", False), bool, "true or false"),
        capabilities=_capabilities(members["capabilities"]),
        config=_config(members.get("config", {})),
        signature=_signature(members.get("signature", {})),
        limits=_limits(members["limits"]) if "limits" in members else None,
        runtime=_runtime(members.get("runtime", "static")),
        description=_description(members.get("description", "")),
    )


def relative_path_fault(path: str, *, climbing: bool = False) -> str | None:
    """Say what is wrong with a relative path, or None.

    Accepted is the one spelling that names a file below a folder: components joined by single
    slashes, none of them ``.``, ``..`` (unless ``climbing``) or empty; no backslash, no drive, no
    control character, at most 1024 bytes of UTF-8 and 255 a component.
    """
    if not check_type("path", path, str, "text"):
        return "is empty"
    if "\0" in path:
        return "holds a NUL"
    if _CONTROL.search(path):
        return "holds a control character"
    try:
        encoded = path.encode("utf-8")
    except UnicodeEncodeError:
        return "is not text (a lone surrogate)"
    if len(encoded) > _PATH_MAX_BYTES:
        return f"is longer than {_PATH_MAX_BYTES} bytes"
    if "\\" in path:
        return "holds a backslash; components are joined by '/'"
    if path.startswith("/"):
        return "is absolute; write it relative"
    if _DRIVE.match(path):
        return "begins with a drive; write it relative"
    for component in path.split("/"):
        if not component:
            return "has an empty component ('//' or a slash at the end)"
        if component == ".":
            return "has a '.' component; write it without"
        if component == ".." and not climbing:
            return "has a '..' component; it must stay inside the folder"
        if len(component.encode("utf-8")) > _COMPONENT_MAX_BYTES:
            return f"has a component longer than {_COMPONENT_MAX_BYTES} bytes"
    return None


class _Pairs:
    """A JSON object as it was written, duplicates included."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        self.pairs = pairs


def _read_json(data: bytes) -> Any:
    if len(data) > MAX_MANIFEST_BYTES:
        raise ManifestError("", f"is larger than {MAX_MANIFEST_BYTES} bytes")
    if data.startswith(b"\xef\xbb\xbf"):
        raise ManifestError("", "begins with a byte order mark (BOM); save it as plain UTF-8")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ManifestError("", "is UTF-16; save it as plain UTF-8")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise ManifestError(
            "", f"is not UTF-8: byte {exc.start} is {data[exc.start]:#04x}"
        ) from exc
    try:
        value = json.loads(
            text,
            object_pairs_hook=_Pairs,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            parse_int=_whole,
        )
    except json.JSONDecodeError as exc:
        message = f"is not JSON: line {exc.lineno}, column {exc.colno}: {exc.msg}"
        raise ManifestError("", message) from exc
    except RecursionError as exc:
        raise ManifestError("", f"is nested deeper than {_DEPTH_MAX} levels") from exc
    return _plain("", value, 0)


def _refuse_constant(name: str) -> float:
    raise ManifestError("", f"holds {name}, which is not JSON; write a finite number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ManifestError("", f"holds the number {text[:40]}, which is too large for a float")
    return number


def _whole(text: str) -> int:
    if len(text) > _DIGITS_MAX:
        raise ManifestError("", f"holds a number of more than {_DIGITS_MAX} digits")
    return int(text)


def _plain(where: str, value: Any, depth: int) -> Any:
    """Turn pairs into dicts; the path of a fault is only known from above."""
    if depth > _DEPTH_MAX:
        raise ManifestError(where, f"is nested deeper than {_DEPTH_MAX} levels")
    if isinstance(value, _Pairs):
        members: dict[str, Any] = {}
        for key, member in value.pairs:
            _check_text(where, key)
            place = _place(where, key)
            if key in members:
                raise ManifestError(place, "stands there twice; keep one of them")
            members[key] = _plain(place, member, depth + 1)
        return members
    if isinstance(value, list):
        return [_plain(f"{where}[{at}]", item, depth + 1) for at, item in enumerate(value)]
    if isinstance(value, str):
        _check_text(where, value)
    return value


def _place(where: str, key: str) -> str:
    """Name a member for a message; keys are hostile text until they are known."""
    shown = ascii(key)[1:-1]
    shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
    return f"{where}.{shown}" if where else shown


def _check_text(where: str, text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as exc:
        raise ManifestError(where, "holds a lone surrogate, which is not text") from exc


def _object(where: str, value: Any, keys: tuple[str, ...]) -> dict[str, Any]:
    members = _typed(where, value, dict, "an object")
    for key in members:
        if key not in keys:
            raise ManifestError(
                _place(where, key), "is not a known key; known are " + ", ".join(keys)
            )
    return cast("dict[str, Any]", members)


def _typed(where: str, value: Any, kind: type, accepted: str) -> Any:
    # bool is an int to isinstance; only exact types come out of json.
    if type(value) is not kind:
        raise ManifestError(where, f"must be {accepted}, got {_shown(value)}")
    return value


def _shown(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _text(where: str, value: Any) -> str:
    return cast(str, _typed(where, value, str, "a string"))


def _matching(where: str, value: Any, pattern: re.Pattern[str]) -> str:
    text = _text(where, value)
    if not pattern.fullmatch(text):
        raise ManifestError(where, f"must match {pattern.pattern}, got {_shown(text)}")
    return text


def _name(value: Any) -> str:
    text = _matching("name", value, _NAME)
    if ".." in text:
        raise ManifestError("name", f"must not hold '..', got {_shown(text)}")
    return text


def _entry(value: Any) -> str:
    text = _path("entry", value)
    if "/" in text:
        raise ManifestError(
            "entry", f"must be one file name (it becomes /bin/<entry>), got {_shown(text)}"
        )
    return text


def _path(where: str, value: Any, *, climbing: bool = False) -> str:
    text = _text(where, value)
    fault = relative_path_fault(text, climbing=climbing)
    if fault is not None:
        raise ManifestError(where, f"{fault}: {_shown(text)}")
    return text


def _capabilities(value: Any) -> tuple[str, ...]:
    names: list[str] = []
    for at, item in enumerate(_typed("capabilities", value, list, "a list of names")):
        where = f"capabilities[{at}]"
        name = _text(where, item)
        if name not in CAPABILITY_NAMES:
            accepted = ", ".join(CAPABILITY_NAMES)
            raise ManifestError(where, f"{_shown(name)} is unknown; known are {accepted}")
        if name in names:
            raise ManifestError(where, f"{name} stands there twice; keep one of them")
        names.append(name)
    return tuple(names)


def _config(value: Any) -> dict[str, Any]:
    members = cast("dict[str, Any]", _typed("config", value, dict, "an object"))
    fault = config_fault(members)
    if fault is not None:
        raise ManifestError("config", fault)
    return members


def _signature(value: Any) -> SignatureReference:
    members = _object("signature", value, _SIGNATURE_KEYS)
    if "publicKey" in members and "certificate" in members:
        raise ManifestError(
            "signature.certificate", "publicKey and certificate exclude each other; keep one"
        )
    return SignatureReference(
        signature=_optional(members, "signature", _path),
        public_key=_optional(members, "publicKey", _key_reference),
        certificate=_optional(members, "certificate", _key_reference),
    )


def _optional(members: dict[str, Any], key: str, read: Callable[[str, Any], str]) -> str | None:
    return read(f"signature.{key}", members[key]) if key in members else None


def _key_reference(where: str, value: Any) -> str:
    text = _text(where, value)
    if not text.lstrip().startswith(_PEM):
        return _path(where, text, climbing=True)
    if len(text) > _KEY_TEXT_MAX:
        raise ManifestError(where, f"is longer than {_KEY_TEXT_MAX} characters")
    return text


def _limits(value: Any) -> Limits:
    known = tuple(item.name for item in fields(Limits))
    members = _object("limits", value, known)
    for key, member in members.items():
        try:
            Limits(**{key: member})
        except UsageError as exc:
            raise ManifestError(f"limits.{key}", str(exc)) from exc
    return Limits(**members)


def _runtime(value: Any) -> Runtime:
    text = _text("runtime", value)
    if text not in get_args(Runtime):
        accepted = ", ".join(get_args(Runtime))
        raise ManifestError("runtime", f"must be one of {accepted}, got {_shown(text)}")
    return cast(Runtime, text)


def _description(value: Any) -> str:
    text = _text("description", value)
    if len(text) > _DESCRIPTION_MAX:
        raise ManifestError("description", f"is longer than {_DESCRIPTION_MAX} characters")
    return text


def _check_proxy(value: Any) -> None:
    """Refuse every wish for a proxy: a policy that is accepted and not applied is a hole."""
    if value is not None and value is not False:
        raise ManifestError(
            "proxy",
            "this build starts plugins without any network and has no proxy to offer;"
            f" leave it out or write null or false, got {_shown(value)}",
        )
