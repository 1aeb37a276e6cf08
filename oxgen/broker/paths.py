"""Paths of URLs that are secrets themselves: webhooks, links that log in or reset a password."""

from __future__ import annotations

import re

from .names import mark

__all__ = ["redact_paths"]

_SLASH = r"(?:\\{0,7}/|%2[fF])"
_SEGMENT = r"(?:[\w.~=+:@!$,*-]|%(?!2[fF]))+"
#: Incoming webhooks: who knows the address may post (the vendors' documents call it a secret).
_WEBHOOK = re.compile(
    rf"(hooks\.slack(?:-gov)?\.com{_SLASH}(?:services|workflows|triggers)|"
    rf"discord(?:app)?\.com{_SLASH}api{_SLASH}(?:v\d{{1,3}}{_SLASH})?webhooks|"
    rf"outlook\.office(?:365)?\.com{_SLASH}webhook|webhook\.office\.com{_SLASH}webhookb2|"
    rf"hooks\.zapier\.com{_SLASH}hooks|maker\.ifttt\.com{_SLASH}(?:trigger|use)|"
    rf"chat\.googleapis\.com{_SLASH}v1{_SLASH}spaces)({_SLASH})(?:{_SLASH}|{_SEGMENT})+",
    re.IGNORECASE,
)
_BOT = re.compile(r"(?<![A-Za-z0-9])((?:bot)?\d{6,12}(?::|%3[aA]))[A-Za-z0-9_-]{30,64}")
_PATH = re.compile(rf"(?:{_SLASH}{_SEGMENT}){{2,}}")
_PART = re.compile(rf"({_SLASH})({_SEGMENT})")
#: Behind a segment with such a word stands what a mail to the user holds.
_WORDS = re.compile(
    r"reset|passw|verif|confirm|activat|invit|magic|unsubscribe|token|session|recover|one-?time|"
    r"webhook|unlock|secret|api-?key|\botp\b|login-?link|signin-?link|share-?link",
    re.IGNORECASE,
)
_FILE_ENDING = re.compile(r"\.[a-z][a-z0-9]{1,5}$")
#: A segment is taken for a secret from so many characters on: with a digit, and without.
_MIXED_LEAST, _LEAST = 8, 20


def redact_paths(text: str) -> str:
    """Replace what follows in the path of a webhook, or of a link that is good once."""
    text = _WEBHOOK.sub(lambda found: f"{found[1]}{found[2]}{mark('path')}", text)
    text = _BOT.sub(lambda found: found[1] + mark("token"), text)
    return _PATH.sub(_path, text) if _WORDS.search(text) else text


def _path(match: re.Match[str]) -> str:
    secret = False
    made: list[str] = []
    for slash, segment in _PART.findall(match[0]):
        hidden = secret and _looks_secret(segment)
        made.append(slash + (mark("path") if hidden else segment))
        secret = secret or _WORDS.search(segment) is not None
    return "".join(made)


def _looks_secret(segment: str) -> bool:
    if _FILE_ENDING.search(segment) is not None:
        return False
    if len(segment) >= _LEAST and "_" not in segment.strip("_") and segment.count("-") < 2:
        return True
    return len(segment) >= _MIXED_LEAST and re.search(r"\d", segment) is not None
