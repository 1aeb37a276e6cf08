"""Capability tokens: a short-lived proof, made by this process for one plugin in one run.

A token is base64url without padding (RFC 4648, section 5) of a payload in canonical JSON (keys
sorted, no blanks, ASCII only) followed by 32 bytes of HMAC-SHA-256 over a fixed label and that
payload. The key is random, drawn when the issuer is made, and never leaves the process: no token
outlives the process that made it. docs/capabilities.md describes the format.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math
import re
import secrets
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ..errors import CapabilityError, UsageError
from ..values import check_type
from .audit import AuditLog
from .clock import boottime_ns
from .names import Capability, parse_capabilities

__all__ = ["DEFAULT_SECONDS", "MAX_SECONDS", "Issuer", "Token"]

DEFAULT_SECONDS = 60.0
#: A token covers the time from the launch to the plugin's ``hello``, never a whole run.
MAX_SECONDS = 3600.0

_MAC_BYTES = hashlib.sha256().digest_size
_LABEL = b"oxgen.token/1\0"
_NAME_MAX = 256
#: Two names of 256 characters as ``\\uXXXX`` (surrogate pairs: 12 characters each), ten
#: capabilities and the rest of the payload fit into this after base64.
_TOKEN_MAX = 12 * 1024
_ALPHABET = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_SWEEP_LEAST = 1024
#: Canonical: members sorted, no blanks, ASCII only. Made once, as `json.dumps` would for each call.
_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What a verified token says. ``expires_ns`` is on the clock of `boottime_ns`."""

    id: str
    plugin: str
    run_id: str
    capabilities: tuple[Capability, ...]
    expires_ns: int

    def allows(self, capability: Capability) -> bool:
        """Tell whether the token carries this capability."""
        return capability in self.capabilities


class _Grant:
    """What the issuer remembers of a token that is neither revoked nor forgotten."""

    __slots__ = ("expires_ns", "held", "plugin", "run_id")

    def __init__(self, plugin: str, run_id: str, expires_ns: int) -> None:
        self.plugin = plugin
        self.run_id = run_id
        self.expires_ns = expires_ns
        self.held = False


class Issuer:
    """Make, verify and revoke tokens under one random key. Safe to use from several threads.

    The issuer remembers the tokens that are good, not those that are bad: revoking forgets one, and
    what is not remembered is refused. So revocation holds at once and for ever, and memory is
    bounded by ``max_tokens``: expired tokens that no session holds are forgotten by themselves, and
    those of a run when its broker ends.

    Revoking is for programs that embed the library (``revoke``, ``revoke_plugin``, ``revoke_run``):
    no command of this version calls it.

    With ``audit`` every grant and revocation is recorded; a grant whose record cannot be written
    raises and hands out nothing. ``clock`` returns nanoseconds and must go on in suspend.
    """

    def __init__(
        self,
        *,
        audit: AuditLog | None = None,
        max_tokens: int = 1 << 18,
        clock: Callable[[], int] = boottime_ns,
    ) -> None:
        if isinstance(max_tokens, bool) or not isinstance(max_tokens, int) or max_tokens < 1:
            raise UsageError(f"max_tokens must be a whole number of at least 1, got {max_tokens!r}")
        if audit is not None:
            check_type("audit", audit, AuditLog, "an AuditLog or None")
        #: Copied for each token: to make one takes longer than to use it.
        self._keyed = hmac.new(secrets.token_bytes(32), _LABEL, hashlib.sha256)
        self._audit = audit
        self._max_tokens = max_tokens
        self._clock = clock
        self._lock = threading.Lock()
        self._live: dict[str, _Grant] = {}
        #: The tokens of each run: nearly always one.
        self._runs: dict[str, list[str]] = {}
        self._sweep_at = min(_SWEEP_LEAST, max_tokens)

    def grant(
        self,
        *,
        plugin: str,
        run_id: str,
        capabilities: Iterable[Capability],
        seconds: float = DEFAULT_SECONDS,
    ) -> str:
        """Make a token for one plugin in one run, good for ``seconds`` from now.

        Raises ``UsageError`` for an empty or overlong name and a lifetime that is not above 0 and
        at most `MAX_SECONDS`, ``CapabilityError`` for what is no capability
        (``unknown_capability``, ``needs_capability``) and when ``max_tokens`` live tokens exist
        (``too_many``).
        """
        _check_name("plugin", plugin)
        _check_name("run_id", run_id)
        names = [each.value for each in parse_capabilities(capabilities)]
        lifetime_ns = _lifetime_ns(seconds)
        token_id = secrets.token_hex(16)
        expires_ns = self._clock() + lifetime_ns
        payload = _canonical(
            {
                "capabilities": names,
                "expires_ns": expires_ns,
                "id": token_id,
                "plugin": plugin,
                "run": run_id,
                "version": 1,
            }
        ).encode("ascii")
        if self._audit is not None:
            self._audit.record(
                "capability_grant",
                decision="allow",
                plugin=plugin,
                run_id=run_id,
                token_id=token_id,
                capabilities=names,
                seconds=float(seconds),
            )
        with self._lock:
            if len(self._live) >= self._sweep_at:
                self._make_room()
            self._runs.setdefault(run_id, []).append(token_id)
            self._live[token_id] = _Grant(plugin, run_id, expires_ns)
        return _encode(payload + self._mac(payload))

    def verify(self, token: str, *, plugin: str, run_id: str) -> Token:
        """Return what the token says, if it is ours, good, and for this plugin in this run.

        Raises ``CapabilityError``; ``reason`` is ``bad_encoding`` (not exactly what `grant` could
        return), ``bad_mac`` (not made by this issuer), ``wrong_plugin``, ``wrong_run``, ``expired``
        or ``revoked``. No message holds any part of the token.
        """
        opened = self._open(token)
        if opened.plugin != plugin:
            raise CapabilityError(
                "wrong_plugin", f"the token was granted to {opened.plugin!r}, not to {plugin!r}"
            )
        if opened.run_id != run_id:
            raise CapabilityError(
                "wrong_run", f"the token was granted for run {opened.run_id!r}, not for {run_id!r}"
            )
        with self._lock:
            now_ns = self._clock()
            if now_ns >= opened.expires_ns:
                raise CapabilityError(
                    "expired",
                    f"the token expired {(now_ns - opened.expires_ns) / 1e9:.1f} s ago;"
                    " start the plugin again to get a new one",
                )
            if opened.id not in self._live:
                raise CapabilityError("revoked", "the token was revoked")
        return opened

    def hold(self, token_id: str) -> None:
        """Begin the one session of a verified token: it is remembered beyond its expiry.

        Raises ``CapabilityError``: ``revoked`` where it was revoked or forgotten since, ``in_use``
        where a session holds it already. End the session with `release`.
        """
        with self._lock:
            grant = self._live.get(token_id)
            if grant is None:
                raise CapabilityError("revoked", "the token was revoked")
            if grant.held:
                raise CapabilityError("in_use", "the token has a session already; it opens one")
            grant.held = True

    def release(self, token_id: str) -> None:
        """End the session of a token and forget it: it opens no other one."""
        with self._lock:
            self._forget(token_id)

    def forget_run(self, run_id: str) -> None:
        """Forget the tokens of a run that has ended: they are good for nothing else."""
        with self._lock:
            for token_id in self._runs.pop(run_id, ()):
                self._live.pop(token_id, None)

    def _forget(self, token_id: str) -> bool:
        # Called with the lock held.
        grant = self._live.pop(token_id, None)
        if grant is None:
            return False
        of_run = self._runs.get(grant.run_id, [])
        if token_id in of_run:
            of_run.remove(token_id)
        if not of_run:
            self._runs.pop(grant.run_id, None)
        return True

    def revoke(self, token: str) -> bool:
        """Take a token back; return False if it was not good any more.

        Raises ``CapabilityError`` (``bad_encoding``, ``bad_mac``) for what this issuer never made.
        The revocation holds even where its audit record cannot be written; then this raises.
        """
        opened = self._open(token)
        with self._lock:
            known = self._forget(opened.id)
        self._record_revocation("token", opened.id, opened.plugin, int(known))
        return known

    def revoke_plugin(self, name: str) -> int:
        """Take back every token of a plugin, in all its runs; return how many there were."""
        return self._revoke_where("plugin", name, lambda grant: grant.plugin == name)

    def revoke_run(self, run_id: str) -> int:
        """Take back every token of one run; return how many there were."""
        return self._revoke_where("run_id", run_id, lambda grant: grant.run_id == run_id)

    def is_revoked(self, token_id: str) -> bool:
        """Tell whether a session of this token must end.

        True for a token that was revoked and for one that this issuer does not know (any more). The
        expiry does not end a session that holds its token.
        """
        with self._lock:
            return token_id not in self._live

    @property
    def live(self) -> int:
        """How many tokens are remembered."""
        with self._lock:
            return len(self._live)

    def _revoke_where(self, kind: str, name: str, chosen: Callable[[_Grant], bool]) -> int:
        with self._lock:
            found = [token_id for token_id, grant in self._live.items() if chosen(grant)]
            for token_id in found:
                self._forget(token_id)
        self._record_revocation(kind, "", name, len(found))
        return len(found)

    def _record_revocation(self, kind: str, token_id: str, name: str, count: int) -> None:
        if self._audit is not None:
            self._audit.record(
                "capability_revoked",
                decision="deny",
                by=kind,
                name=name,
                token_id=token_id or None,
                count=count,
            )

    def _make_room(self) -> None:
        # Called with the lock held, whenever the number has doubled: that keeps a grant O(1) on
        # average and the memory within twice of what is needed.
        now_ns = self._clock()
        expired = [
            token_id
            for token_id, grant in self._live.items()
            if not grant.held and grant.expires_ns <= now_ns
        ]
        for token_id in expired:
            self._forget(token_id)
        if len(self._live) >= self._max_tokens:
            raise CapabilityError(
                "too_many",
                f"{self._max_tokens} tokens are live; revoke some, or wait until they expire",
            )
        self._sweep_at = min(self._max_tokens, max(_SWEEP_LEAST, 2 * len(self._live)))

    def _mac(self, payload: bytes) -> bytes:
        mac = self._keyed.copy()
        mac.update(payload)
        return mac.digest()

    def _open(self, token: str) -> Token:
        raw = _decode(token)
        payload, mac = raw[:-_MAC_BYTES], raw[-_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(payload)):
            raise CapabilityError("bad_mac", "the token was not made by this process")
        # From here on the payload is our own text: it needs no second check.
        fields = json.loads(payload)
        return Token(
            id=fields["id"],
            plugin=fields["plugin"],
            run_id=fields["run"],
            capabilities=parse_capabilities(fields["capabilities"]),
            expires_ns=fields["expires_ns"],
        )


def _check_name(field: str, name: object) -> None:
    if not isinstance(name, str) or not 1 <= len(name) <= _NAME_MAX:
        raise UsageError(f"{field} must be a text of 1 to {_NAME_MAX} characters, got {name!r:.80}")


def _lifetime_ns(seconds: object) -> int:
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise UsageError(f"seconds must be a number, got {seconds!r}")
    if math.isnan(seconds) or not 0 < seconds <= MAX_SECONDS:
        raise UsageError(f"seconds must be above 0 and at most {MAX_SECONDS:.0f}, got {seconds!r}")
    return int(seconds * 1e9)


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def _decode(token: object) -> bytes:
    """Decode exactly what `_encode` returns.

    base64 libraries drop foreign characters, accept both alphabets and ignore the unused low bits
    of the last character, so one token would have many spellings. Here it has one.
    """
    if not isinstance(token, str):
        raise CapabilityError("bad_encoding", "a token is text")
    if len(token) > _TOKEN_MAX:
        raise CapabilityError("bad_encoding", f"a token has at most {_TOKEN_MAX} characters")
    if _ALPHABET.fullmatch(token) is None or len(token) % 4 == 1:
        raise CapabilityError(
            "bad_encoding", "a token is base64url without padding: A-Z a-z 0-9 - _ and nothing else"
        )
    raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    if _encode(raw) != token:
        raise CapabilityError("bad_encoding", "the last character of the token has stray bits")
    if len(raw) <= _MAC_BYTES:
        raise CapabilityError("bad_encoding", "the token is too short to hold a payload and a MAC")
    return raw
