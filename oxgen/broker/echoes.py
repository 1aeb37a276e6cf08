"""Echoes: secrets of one flow that stand in the rest of it, in one spelling or another."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable
from urllib.parse import quote, quote_plus, unquote_plus

from .names import mark

__all__ = ["Echoes"]

#: An echo of a secret is looked for when the secret is long and mixed enough to be one.
_LEAST = 10
_LEAST_DIGITS = 12
_LEAST_LETTERS = 20
_MOST = 256
#: Spelled in many ways only up to this length; beyond, as it is.
_SPELLED_MOST = 4096
_HEX = re.compile(r"%[0-9A-F]{2}")
_ESCAPES = re.compile(r"\\u([0-9a-fA-F]{4})|\\/")


class Echoes:
    """Secrets of one flow, to be taken out of the rest of it."""

    def __init__(self, values: Iterable[str]) -> None:
        wanted: dict[str, None] = {}
        for value in values:
            text = value.strip().strip('"')
            for each in (text, unquote_plus(text)):
                if _is_mixed(each) and len(wanted) < _MOST:
                    wanted[each] = None
        spelled = {spelling for each in wanted for spelling in _spellings(each)}
        # Longest first: one secret may be the beginning of another.
        self._values = sorted(spelled, key=lambda text: (-len(text), text))

    def __bool__(self) -> bool:
        return bool(self._values)

    def within(self, text: str) -> Echoes:
        """Return those that may stand in this text or in the strings of its JSON."""
        plain = _ESCAPES.sub(_character, text)
        found = Echoes(())
        found._values = [each for each in self._values if each in text or each in plain]
        return found

    def remove(self, text: str) -> str:
        """Return the text without any of the secrets."""
        for value in self._values:
            text = text.replace(value, mark("echo"))
        return text


def _is_mixed(text: str) -> bool:
    if len(text) < _LEAST or text.startswith("[redacted:"):
        return False
    digit, other = re.search(r"\d", text), re.search(r"\D", text)
    least = _LEAST if digit and other else _LEAST_DIGITS if digit else _LEAST_LETTERS
    return len(text) >= least


def _spellings(text: str) -> Iterable[str]:
    yield text
    if len(text) > _SPELLED_MOST or re.fullmatch(r"[A-Za-z0-9_.~-]*", text):
        return
    for safe in ("", "/", "/:@!$&'()*+,;=", "/:@!$'()*,;"):
        encoded = quote(text, safe=safe, errors="replace")
        yield encoded
        yield _HEX.sub(lambda found: found[0].lower(), encoded)
        yield quote(encoded, safe="")
    yield quote_plus(text, errors="replace")
    yield html.escape(text)
    yield html.escape(text, quote=False)
    escaped = json.dumps(text)[1:-1]
    yield escaped
    yield escaped.replace("/", "\\/")


def _character(found: re.Match[str]) -> str:
    return "/" if found[1] is None else chr(int(found[1], 16))
