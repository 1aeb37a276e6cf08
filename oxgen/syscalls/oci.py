"""OCI profiles: the JSON policies of container runtimes, read and written.

The form is that of ``linux.seccomp`` in the OCI runtime specification with what Docker's and
Podman's profiles add (``archMap``, ``includes``, ``excludes``). Programs in a cell have no
capability, which decides what ``caps`` means here.
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from ..errors import UsageError
from .policy import Action, Comparison, Policy, Rule
from .table import ARCHES, X86_64

__all__ = ["Profile", "load_profile", "read_profile", "write_profile"]

#: A profile of a container runtime has some tens of kilobytes.
_SIZE_MAX: Final = 1 << 20
_SYSCALLS_MAX: Final = 4096
_ARGS_MAX: Final = 32

_TOP: Final = {"defaultAction", "defaultErrnoRet", "architectures", "archMap", "flags", "syscalls"}
_ENTRY: Final = {"names", "name", "action", "errnoRet", "args", "comment", "includes", "excludes"}
_CONDITION: Final = {"caps", "arches", "minKernel"}
_COMPARISON: Final = {"index", "value", "valueTwo", "op"}
#: SCMP_ACT_KILL is a thread's end in other runtimes; here always the process's, which is stricter.
_ACTIONS: Final[Mapping[str, str]] = {
    "SCMP_ACT_ALLOW": "allow",
    "SCMP_ACT_ERRNO": "errno",
    "SCMP_ACT_KILL": "kill",
    "SCMP_ACT_KILL_THREAD": "kill",
    "SCMP_ACT_KILL_PROCESS": "kill",
}
_OPERATORS: Final[Mapping[str, str]] = {
    "SCMP_CMP_EQ": "==",
    "SCMP_CMP_NE": "!=",
    "SCMP_CMP_LT": "<",
    "SCMP_CMP_LE": "<=",
    "SCMP_CMP_GT": ">",
    "SCMP_CMP_GE": ">=",
    "SCMP_CMP_MASKED_EQ": "masked",
}
#: TSYNC makes no difference to a program that is about to start: it has one thread.
_FLAGS: Final = {"SECCOMP_FILTER_FLAG_TSYNC"}
#: What Go programs call an architecture, and what uname does.
_GO_ARCHES: Final = {"amd64": "x86_64", "arm64": "aarch64"}
_ARCHITECTURE_NAMES: Final = (
    "NATIVE X86 X86_64 X32 ARM AARCH64 LOONGARCH64 M68K MIPS MIPS64 MIPS64N32 MIPSEL MIPSEL64"
    " MIPSEL64N32 PARISC PARISC64 PPC PPC64 PPC64LE S390 S390X RISCV64 SHEB SH"
)
#: Those of libseccomp. Which of them a profile lists makes no difference.
_ARCHITECTURES: Final = frozenset(f"SCMP_ARCH_{name}" for name in _ARCHITECTURE_NAMES.split())
_KERNEL: Final = re.compile(r"(\d{1,4})\.(\d{1,4})")
_WRITTEN: Final = {X86_64: "SCMP_ARCH_X86_64"}


@dataclass(frozen=True, slots=True)
class Profile:
    """A profile as it holds on one machine."""

    policy: Policy
    #: Entries that this machine's kernel, architecture or lack of capabilities leaves out.
    left_out: int = 0


def load_profile(
    path: str | os.PathLike[str], *, machine: str | None = None, release: str | None = None
) -> Profile:
    """Read a profile from a file; raises as ``read_profile`` does."""
    name = os.fspath(path)
    try:
        # A FIFO would make us wait for its writer.
        descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        with open(descriptor, "rb") as file:
            text = file.read(_SIZE_MAX + 1)
    except OSError as failed:
        raise UsageError(f"syscalls: {name}: {failed.strerror}") from None
    return read_profile(text, name=name, machine=machine, release=release)


def read_profile(
    text: bytes, *, name: str = "profile", machine: str | None = None, release: str | None = None
) -> Profile:
    """Return what a profile says for a machine (default: this one).

    ``machine`` and ``release`` are as ``uname -m`` and ``-r`` say. Raises ``UsageError`` that names
    the place for what is no profile, and for every action, operator, flag or key that is not known:
    a rule that is passed over would be a hole or a riddle. So is a key that stands twice. Names of
    calls that no table knows are passed over, as other runtimes do, where the rule would allow
    what they name or the default is as strict: profiles are written for kernels of all ages.
    """
    if len(text) > _SIZE_MAX:
        raise UsageError(f"syscalls: {name}: is larger than {_SIZE_MAX} bytes")
    try:
        top = json.loads(text.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
    except _TwiceError as twice:
        raise UsageError(
            f"syscalls: {name}: the key {twice.key!r} stands twice in one object"
        ) from None
    except (ValueError, RecursionError) as bad:
        raise UsageError(f"syscalls: {name}: is not JSON: {bad}") from None
    here = os.uname()
    return _Reader(name, machine or here.machine, release or here.release).read(top)


class _TwiceError(ValueError):
    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object. Of two equal keys some readers take the first, others the last."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _TwiceError(key)
        found[key] = value
    return found


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


class _Reader:
    def __init__(self, name: str, machine: str, release: str) -> None:
        self.name = name
        self.machine = machine
        found = _KERNEL.match(release)
        self.kernel = (int(found[1]), int(found[2])) if found else (0, 0)
        self.left_out = 0

    def read(self, top: object) -> Profile:
        fields = self.fields(top, "", _TOP)
        if "defaultAction" not in fields:
            self.fail("defaultAction", "is missing; accepted: one of " + ", ".join(_ACTIONS))
        default_errno = self.errno(fields.get("defaultErrnoRet"), "defaultErrnoRet")
        self.architectures(fields)
        for i, flag in enumerate(self.items(fields.get("flags"), "flags")):
            if not isinstance(flag, str) or flag not in _FLAGS:
                self.fail(f"flags[{i}]", f"{flag!r} is refused; accepted: {', '.join(_FLAGS)}")
        entries = self.items(fields.get("syscalls"), "syscalls")
        if len(entries) > _SYSCALLS_MAX:
            self.fail("syscalls", f"has more than {_SYSCALLS_MAX} entries")
        rules: list[Rule] = []
        for i, entry in enumerate(entries):
            rules += self.entry(entry, f"syscalls[{i}]", default_errno)
        default = self.action(fields["defaultAction"], "defaultAction", default_errno)
        return Profile(Policy(default, tuple(rules), ignore_unknown=True), self.left_out)

    def entry(self, entry: object, at: str, default_errno: int) -> list[Rule]:
        fields = self.fields(entry, at, _ENTRY)
        names = self.items(fields.get("names"), f"{at}.names")
        if "name" in fields:
            names = [*names, fields["name"]]
        for each in names:
            if not isinstance(each, str) or not each:
                self.fail(f"{at}.names", f"{each!r} is no name of a system call")
        if not isinstance(fields.get("comment", ""), str):
            self.fail(f"{at}.comment", "must be text")
        own = fields.get("errnoRet")
        number = default_errno if own is None else self.errno(own, f"{at}.errnoRet")
        action = self.action(fields.get("action"), f"{at}.action", number)
        groups = self.groups(fields.get("args"), f"{at}.args")
        includes = self.conditions(fields.get("includes"), f"{at}.includes")
        excludes = self.conditions(fields.get("excludes"), f"{at}.excludes")
        if (includes is not None and not self.includes(includes)) or (
            excludes is not None and self.excludes(excludes)
        ):
            self.left_out += 1
            return []
        return [Rule(tuple(names), action, group) for group in groups] if names else []

    def groups(self, value: object, at: str) -> list[tuple[Comparison, ...]]:
        """Return when the rule holds: with any of the groups, with all of one group."""
        given = self.items(value, at)
        tests = [self.comparison(test, f"{at}[{i}]") for i, test in enumerate(given)]
        if len(tests) > _ARGS_MAX:
            self.fail(at, f"has more than {_ARGS_MAX} comparisons")
        # As runc has it: one argument that is compared twice makes alternatives of all of them.
        if len({test.index for test in tests}) < len(tests):
            return [(test,) for test in tests]
        return [tuple(tests)]

    def comparison(self, value: object, at: str) -> Comparison:
        fields = self.fields(value, at, _COMPARISON)
        op = fields.get("op")
        if not isinstance(op, str) or op not in _OPERATORS:
            self.fail(f"{at}.op", f"{op!r} is refused; accepted: {', '.join(_OPERATORS)}")
        numbers = {}
        for key in ("index", "value", "valueTwo"):
            number = fields.get(key, 0)
            if not isinstance(number, int) or isinstance(number, bool):
                self.fail(f"{at}.{key}", f"must be a whole number, got {number!r}")
            numbers[key] = number
        try:
            if op == "SCMP_CMP_MASKED_EQ":
                return Comparison(numbers["index"], "masked", numbers["valueTwo"], numbers["value"])
            return Comparison(numbers["index"], _OPERATORS[op], numbers["value"])  # type: ignore[arg-type]
        except UsageError as bad:
            self.fail(at, str(bad))

    def conditions(self, value: object, at: str) -> dict[str, Any] | None:
        if value is None:
            return None
        fields = self.fields(value, at, _CONDITION)
        for key in ("caps", "arches"):
            if not all(
                isinstance(word, str) for word in self.items(fields.get(key), f"{at}.{key}")
            ):
                self.fail(f"{at}.{key}", "must be a list of text")
        least = fields.get("minKernel")
        if least not in (None, "") and not (isinstance(least, str) and _KERNEL.fullmatch(least)):
            self.fail(f"{at}.minKernel", f'must be like "4.8", got {least!r}')
        return fields

    def includes(self, fields: dict[str, Any]) -> bool:
        """Whether every condition holds. No program in a cell has a capability."""
        arches = fields.get("arches") or []
        return (
            not fields.get("caps")
            and (not arches or self.is_machine(arches))
            and self.is_kernel(fields.get("minKernel"))
        )

    def excludes(self, fields: dict[str, Any]) -> bool:
        """Whether any condition holds."""
        least = fields.get("minKernel")
        return self.is_machine(fields.get("arches") or []) or (
            bool(least) and self.is_kernel(least)
        )

    def is_machine(self, arches: Iterable[str]) -> bool:
        return any(_GO_ARCHES.get(arch, arch) == self.machine for arch in arches)

    def is_kernel(self, least: str | None) -> bool:
        found = _KERNEL.fullmatch(least) if least else None
        return found is None or self.kernel >= (int(found[1]), int(found[2]))

    def architectures(self, fields: dict[str, Any]) -> None:
        """Check them. The program's own is always meant, and no other can be opened."""
        named = [
            (f"architectures[{i}]", word)
            for i, word in enumerate(self.items(fields.get("architectures"), "architectures"))
        ]
        for i, entry in enumerate(self.items(fields.get("archMap"), "archMap")):
            at = f"archMap[{i}]"
            row = self.fields(entry, at, {"architecture", "subArchitectures"})
            named.append((f"{at}.architecture", row.get("architecture")))
            below = f"{at}.subArchitectures"
            named += [(below, word) for word in self.items(row.get("subArchitectures"), below)]
        for at, word in named:
            if not isinstance(word, str) or word not in _ARCHITECTURES:
                self.fail(
                    at,
                    f"{word!r} is refused; accepted: those of libseccomp, such as SCMP_ARCH_X86_64",
                )

    def action(self, value: object, at: str, number: int) -> Action:
        kind = _ACTIONS.get(value) if isinstance(value, str) else None
        if kind is None:
            self.fail(at, f"{value!r} is refused; accepted: {', '.join(_ACTIONS)}")
        return Action.refuse(number) if kind == "errno" else Action(kind)  # type: ignore[arg-type]

    def errno(self, value: object, at: str) -> int:
        if value is None:
            return errno.EPERM
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 4095:
            self.fail(at, f"must be a number from 1 to 4095, got {value!r}")
        return value

    def fields(self, value: object, at: str, keys: set[str]) -> dict[str, Any]:
        if not isinstance(value, dict):
            self.fail(at, f"must be an object, got {type(value).__name__}")
        for key in value:
            if key not in keys:
                where = f"{at}.{key}" if at else str(key)
                self.fail(where, f"is not known; accepted: {', '.join(sorted(keys))}")
        return value

    def items(self, value: object, at: str) -> list[Any]:
        """Return a list; null and a missing one are empty, and an empty one allows nothing."""
        if value is None:
            return []
        if not isinstance(value, list):
            self.fail(at, f"must be a list, got {type(value).__name__}")
        return value

    def fail(self, at: str, text: str) -> NoReturn:
        raise UsageError(f"syscalls: {self.name}: {f'{at}: ' if at else ''}{text}")


def write_profile(
    names: Iterable[str], arch: int, refused: Mapping[int, Iterable[str]] | None = None
) -> bytes:
    """Return a profile that allows these calls on an architecture and refuses the rest.

    What is refused fails with ENOSYS, as on a kernel without it: programs know how to go on. The
    names in ``refused`` fail with the errno that they stand under.
    """
    import msgspec

    go_arch = {value: key for key, value in _GO_ARCHES.items()}[ARCHES[arch]]
    condition = {"includes": {"arches": [go_arch]}}
    profile = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": int(errno.ENOSYS),
        "architectures": [_WRITTEN.get(arch, f"SCMP_ARCH_{ARCHES[arch].upper()}")],
        "syscalls": [
            {"names": sorted(set(names)), "action": "SCMP_ACT_ALLOW", **condition},
            *(
                {
                    "names": sorted(set(others)),
                    "action": "SCMP_ACT_ERRNO",
                    "errnoRet": number,
                    **condition,
                }
                for number, others in sorted((refused or {}).items())
            ),
        ],
    }
    text: bytes = msgspec.json.format(msgspec.json.encode(profile), indent=2)
    return text + b"\n"
