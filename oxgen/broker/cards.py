"""Cards: the numbers of payment cards in running text.

A primary account number has up to 19 digits, the last of which is a check digit by the formula of
Luhn (ISO/IEC 7812-1); those in use have 13 or more. Its first digit is 2 to 6 for the schemes that
are accepted everywhere, 8 or 9 for some national ones. One number in ten that looks like this is
none, and goes with the others.
"""

from __future__ import annotations

import re

__all__ = ["redact_cards"]

_LEAST, _MOST = 13, 19
_FIRST = frozenset("2345689")
#: Shorter groups are dates, times, coordinates; only the last one of a number can be shorter.
_GROUP_LEAST = 3

_SEPARATOR = (
    r"(?:[ \t+._\u00a0\u2007\u2009\u202f\u2010-\u2015-]|%20|%2[dD]|%[cC]2%[aA]0|&nbsp;|&\#160;|"
    r"\\{1,7}u00[aA]0)"
)
#: Digits in groups. A run begins where no letter or digit stands before it, except one that belongs
#: to an escape: ``%20``, and ``\n`` or ``\u00a0`` in JSON.
_RUN = re.compile(
    r"(?:(?<![A-Za-z0-9%])|(?<=%[0-9A-Fa-f]{2})|(?<=\\[nrtbf])|(?<=\\u00[aA]0))"
    rf"[0-9]+(?:{_SEPARATOR}{{1,3}}[0-9]+)*"
)
_GROUP = re.compile(rf"({_SEPARATOR}*)([0-9]+)")


def redact_cards(text: str, mark: str) -> str:
    """Replace numbers that may be those of cards by ``mark``, in time linear in the text.

    Found are 13 to 19 digits in one piece or in groups of three and more (the last may be shorter),
    with blanks, hyphens, dots and the like between them, also percent-encoded, and no letter or
    further digit at either end. What stands behind a decimal point is no card.
    """
    return _RUN.sub(lambda run: _redacted(run, text, mark), text)


def _redacted(run: re.Match[str], text: str, mark: str) -> str:
    if len(run[0]) < _LEAST:
        return run[0]
    groups = [(found.start(2), found.end(2), found[1]) for found in _GROUP.finditer(run[0])]
    if text[run.end() : run.end() + 1].isalnum():
        del groups[-1]
    sums = _Sums(run[0], groups)
    kept: list[str] = []
    done = at = 0
    while at < len(groups):
        last = sums.last_of_card(at)
        if last is None:
            at += 1
            continue
        kept += [run[0][done : groups[at][0]], mark]
        done = groups[last][1]
        at = last + 1
    return "".join([*kept, run[0][done:]])


class _Sums:
    """Luhn sums of all stretches of some groups of digits: each is asked for in constant time."""

    def __init__(self, run: str, groups: list[tuple[int, int, str]]) -> None:
        self._groups = groups
        digits = "".join(run[start:end] for start, end, _ in groups)
        self._first = [run[start] for start, _, _ in groups]
        self._ends: list[int] = []
        total = 0
        for start, end, _ in groups:
            total += end - start
            self._ends.append(total)
        # One for each parity of the place that is doubled.
        self._sums: tuple[list[int], list[int]] = ([0], [0])
        for place, digit in enumerate(digits):
            plain = ord(digit) - 48
            doubled = plain * 2 - 9 if plain > 4 else plain * 2
            for parity, sums in enumerate(self._sums):
                sums.append(sums[-1] + (doubled if place % 2 == parity else plain))

    def last_of_card(self, at: int) -> int | None:
        """Return the last group of the longest card that begins with the group ``at``."""
        if self._first[at] not in _FIRST or (at and self._groups[at][2] == "."):
            return None
        begin = self._ends[at - 1] if at else 0
        found = None
        for last in range(at, len(self._groups)):
            end = self._ends[last]
            if end - begin > _MOST:
                break
            if end - begin >= _LEAST:
                # The check digit counts once, the one before it twice, and so on.
                sums = self._sums[end % 2]
                if (sums[end] - sums[begin]) % 10 == 0:
                    found = last
            start, stop, _ = self._groups[last]
            if stop - start < _GROUP_LEAST:
                break
        return found
