"""Header fields that are lists in which a secret may stand among what a scanner judges."""

from __future__ import annotations

import re
from collections.abc import Iterable

from .names import is_secret_name, mark

__all__ = ["redact_challenge", "redact_protocols", "secret_protocols"]

#: Parameters of a challenge that tell how to log in (RFC 7616, 6750, 7617, 9470, 9728).
_PLAIN = frozenset(
    {"realm", "scope", "error", "error_description", "error_uri", "charset", "algorithm", "qop"}
    | {"domain", "stale", "userhash", "title", "resource_metadata", "authorization_uri", "as_uri"}
    | {"max_age", "acr_values", "algs", "resource_id", "rel", "tenant_id"}
)
_PARAMETER = re.compile(r"([\w.-]{1,64})(\s{0,8}=\s{0,8})(\"(?:[^\"\\]|\\.)*\"?|[^\s,\"=]+=*)")
#: ``Negotiate <token68>`` (RFC 9110, section 11.3).
_TOKEN68 = re.compile(
    r"((?:^|,)\s{0,8}[A-Za-z][\w-]{0,30}\s{1,8})([A-Za-z0-9._~+/-]{8,}=*)(?=\s*(?:,|$))"
)

#: Subprotocols that carry a token behind a prefix.
_PREFIX = re.compile(
    r"(base64url\.bearer\.authorization\.k8s\.io\.|bearer[.\-_:]).+", re.IGNORECASE
)
#: Names in the registry of IANA (WebSocket Subprotocol Name Registry) and of well-known servers
#: that have digits and are as long as a secret.
_KNOWN = re.compile(
    r"[vV]?\d{0,2}\.?(?:stomp|mqtt\w*|wamp|ocpp|channel|stream|binary|base64|actioncable|graphql)[\w.-]*|"
    r"(?:stomp|mqtt|wamp|ocpp|actioncable|graphql|soap|xmpp|sip|msrp|base64|channel)[\w.-]*",
    re.IGNORECASE,
)
_LEAST = 10
_LEAST_PLAIN = 24


def redact_challenge(value: str) -> str:
    """Redact what is no plain parameter in ``WWW-Authenticate``."""
    value = _TOKEN68.sub(lambda found: found[1] + mark("authorization"), value)
    return _PARAMETER.sub(_parameter, value)


def _parameter(match: re.Match[str]) -> str:
    if match[1].lower().replace("-", "_") in _PLAIN:
        return match[0]
    text = mark("authorization")
    return (
        f'{match[1]}{match[2]}"{text}"' if match[3].startswith('"') else match[1] + match[2] + text
    )


def redact_protocols(value: str) -> str:
    """Redact tokens among the subprotocols of a WebSocket."""
    return ", ".join(
        text if secret is None else text[: len(text) - len(secret)] + mark("header")
        for text, secret in _protocols(value)
    )


def secret_protocols(value: str) -> Iterable[str]:
    """Yield the tokens among the subprotocols of a WebSocket."""
    return (secret for _, secret in _protocols(value) if secret is not None)


def _protocols(value: str) -> Iterable[tuple[str, str | None]]:
    """Yield each subprotocol and the part of it that is secret, which stands at its end."""
    before = ""
    for part in value.split(","):
        text = part.strip()
        prefix = _PREFIX.fullmatch(text)
        if prefix is not None:
            yield text, text[len(prefix[1]) :]
        elif is_secret_name(before) and text:
            # "bearer, <token>", "access_token, <token>"
            yield text, text
        elif _KNOWN.fullmatch(text) is None and _looks_secret(text):
            yield text, text
        else:
            yield text, None
        before = text


def _looks_secret(text: str) -> bool:
    digits = re.search(r"\d", text) is not None
    return len(text) >= (_LEAST if digits else _LEAST_PLAIN)
