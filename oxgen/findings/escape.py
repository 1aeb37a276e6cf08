"""Escape: hostile text made safe for a terminal."""

from __future__ import annotations

import re
import unicodedata

from ..values import check_type

__all__ = ["escape_text"]

#: Invisible without being a control or format character: fillers, joiners, variation selectors
#: (Default_Ignorable_Code_Point of Unicode's DerivedCoreProperties), and the blank braille cell.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0"
    "\U000e0100-\U000e01ef]"
)
_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def escape_text(text: str) -> str:
    """Make hostile text safe for a terminal: one line, nothing that acts, hides or reorders.

    Controls (C0, DEL, C1, so ESC and line ends too), format characters (bidi, zero width, tags),
    line and paragraph separators, lone surrogates, private and unassigned code points and
    invisible fillers become ``\\x1b``, ``\\u202e``, ``\\U000e0041``. Everything else stays, the
    backslash too.
    """
    if check_type("text", text, str, "text").isascii() and text.isprintable():
        return text
    return "".join(_escaped(char) if _is_unsafe(char) else char for char in text)


def _is_unsafe(char: str) -> bool:
    return unicodedata.category(char) in _UNSAFE_CATEGORIES or bool(_INVISIBLE.match(char))


def _escaped(char: str) -> str:
    point = ord(char)
    if point <= 0xFF:
        return f"\\x{point:02x}"
    return f"\\u{point:04x}" if point <= 0xFFFF else f"\\U{point:08x}"
