"""Find the entries of a HAR file in its text without decoding them.

Each entry is decoded on its own, so that a number or a byte that breaks one entry costs that entry
only. What is looked at here are strings and brackets; whether the text of an entry is JSON is for
the decoder to say. Memory is that of the file; time is bounded by `MAX_BRACKETS`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["MAX_BRACKETS", "BudgetError", "StructureError", "entry_spans"]

#: Brackets that are looked at in one file, outside strings. An entry of a real capture has one for
#: each header field, cookie and parameter.
MAX_BRACKETS = 16_000_000

_BLANK = re.compile(rb"[ \t\r\n]*")
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_SCALAR = re.compile(rb'[^\[\]{}",:\s]+')
#: Up to the next bracket, over strings; a part at a time, for the sake of the regex engine's stack.
_TO_BRACKET = re.compile(
    rb'[^\[\]{}"]*(?:"[^"\\]*(?:\\.[^"\\]*){0,1000}"[^\[\]{}"]*){0,64}', re.DOTALL
)
_OPEN, _CLOSE = frozenset(b"[{"), frozenset(b"]}")
_QUOTE = ord('"')


class StructureError(Exception):
    """The text is no object with an object ``log`` that has a list ``entries``."""


class BudgetError(Exception):
    """More brackets than are looked at; what was found before stands."""


def entry_spans(text: bytes) -> Iterator[tuple[int, int]]:
    """Yield where each element of ``log.entries`` begins and ends.

    Raises `StructureError` where the file around the entries is broken, cut, or names ``log`` or
    ``entries`` twice, and `BudgetError`.
    """
    yield from _Splitter(text).entries()


class _Splitter:
    def __init__(self, text: bytes) -> None:
        self._text = text
        self._brackets = 0

    def entries(self) -> Iterator[tuple[int, int]]:
        at = self._blank(0)
        found = False
        for name, value in self._members(at):
            if name != b'"log"':
                self._at = self._value(value)
                continue
            if found:
                raise StructureError("it has 'log' twice")
            found = True
            yield from self._log(value)
        if not found:
            raise StructureError("it has no 'log'")
        if self._blank(self._at) != len(self._text):
            raise StructureError(f"something follows the object (byte {self._at})")

    def _log(self, at: int) -> Iterator[tuple[int, int]]:
        found = False
        for name, value in self._members(at):
            if name != b'"entries"':
                self._at = self._value(value)
                continue
            if found:
                raise StructureError("its log has 'entries' twice")
            found = True
            yield from self._elements(value)
        if not found:
            raise StructureError("its log has no 'entries'")

    def _members(self, at: int) -> Iterator[tuple[bytes, int]]:
        """Yield name and start of the value of each member; the caller moves ``_at`` behind it."""
        at = self._blank(self._expect(at, b"{"))
        if self._text[at : at + 1] == b"}":
            self._at = at + 1
            return
        while True:
            name = _STRING.match(self._text, at)
            if name is None:
                raise self._broken(at, "a name in quotes")
            value = self._blank(self._expect(self._blank(name.end()), b":"))
            self._at = value
            yield name[0] if len(name[0]) <= 64 else b"", value
            at = self._blank(self._at)
            if self._text[at : at + 1] == b"}":
                self._at = at + 1
                return
            at = self._blank(self._expect(at, b","))

    def _elements(self, at: int) -> Iterator[tuple[int, int]]:
        at = self._blank(self._expect(at, b"["))
        if self._text[at : at + 1] == b"]":
            self._at = at + 1
            return
        while True:
            end = self._value(at)
            yield at, end
            at = self._blank(end)
            if self._text[at : at + 1] == b"]":
                self._at = at + 1
                return
            at = self._blank(self._expect(at, b","))

    def _value(self, at: int) -> int:
        """Return where the value that begins here ends."""
        first = self._text[at : at + 1]
        if first == b"":
            raise self._broken(at, "a value")
        if first[0] in _OPEN:
            return self._container(at)
        match = (_STRING if first == b'"' else _SCALAR).match(self._text, at)
        if match is None:
            raise self._broken(at, "a value")
        return match.end()

    def _container(self, at: int) -> int:
        text, depth, start = self._text, 0, at
        while True:
            found = _TO_BRACKET.match(text, at)
            end = at if found is None else found.end()
            if end >= len(text):
                raise StructureError(f"what begins at byte {start} has no end")
            byte = text[end]
            if byte == _QUOTE:
                # The bound on repetition, or a string without an end.
                string = _STRING.match(text, end)
                if string is None:
                    raise StructureError(f"the string at byte {end} has no end")
                at = string.end()
                continue
            self._brackets += 1
            if self._brackets > MAX_BRACKETS:
                raise BudgetError
            depth += 1 if byte in _OPEN else -1
            at = end + 1
            if depth == 0:
                return at

    def _blank(self, at: int) -> int:
        found = _BLANK.match(self._text, at)
        return at if found is None else found.end()

    def _expect(self, at: int, wanted: bytes) -> int:
        if self._text[at : at + 1] != wanted:
            raise self._broken(at, repr(wanted.decode()))
        return at + 1

    def _broken(self, at: int, wanted: str) -> StructureError:
        where = "at the end" if at >= len(self._text) else f"at byte {at}"
        return StructureError(f"it is no JSON: {where} {wanted} is missing")
