r"""Members: values that stand behind the name of a secret, in whatever notation.

JSON is read by its tokens, and what was JSON is JSON afterwards. Everything else (scripts, YAML,
forms, JSON that was cut or stands in a page, in a string, in an attribute) is searched for names
with ``:`` or ``=`` behind them. There a value ends where its quotes or brackets end; brackets that
are never closed reach to the end of the text. Time is linear in the length of the text.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable

from .names import is_secret_name, mark

__all__ = ["redact_json", "redact_members"]

_LEVELS_MAX = 6
#: Shorter tokens hold nothing that is found by its looks.
_STRING_LEAST, _NUMBER_LEAST = 7, 10
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\],:]|[^\s{}\[\],:"]+|\s+', re.DOTALL)
_CONTAINER = re.compile(r"\s*[{\[]")
#: ``{"name": "password", "value": "..."}``: which member names, and which hold.
_NAMING = frozenset({"name", "key", "id", "field", "header", "param", "parameter", "type", "label"})
_HOLDING = frozenset(
    {"value", "values", "val", "v", "content", "contents", "text", "data", "default"}
    | {"defaultvalue", "currentvalue", "initialvalue", "stringvalue"}
)
_HIDDEN = json.dumps(mark("value"))
#: Nothing to hide; whether a password is set or demanded is for a scanner to know.
_NOTHING = frozenset({"null", "true", "false", '""', "{}", "[]"})

#: A quote as it stands in a document: plain, escaped once or often, as an entity or an escape of
#: HTML, of URLs, of scripts.
_QUOTE = (
    r"(?:\\{0,15}[\"'`]|&(?:quot|apos|\#0{0,3}3[49]|\#[xX]0{0,3}2[27]);|%2[27]|"
    r"\\{1,15}(?:u002|x2)[27])"
)
_SEPARATOR = r"(?::|=(?![=>])|%3[aAdD]|&\#58;|\\{1,8}u003[aAdD])"
_NAME = re.compile(
    # In quotes.
    rf"(?P<open>{_QUOTE})(?P<quoted>(?:[^\"'`\\\r\n:=&%]|\\{{1,8}}(?:u[0-9a-fA-F]{{4}}|"
    rf"x[0-9a-fA-F]{{2}})){{1,256}})(?P=open)(?:\s|%20){{0,256}}(?P<sign>{_SEPARATOR})|"
    # Bare, for a form or a script; the look-behind begins a try at the beginning of a name only.
    r"(?<![\w.\-\[\]%])(?P<assigned>[\w$](?:[\w$.\-\[\]]|%(?!3[dD]))*)\s{0,256}(?:=(?![=>])|%3[dD])|"
    r"(?<![\w.\-\[\]%$])(?P<bare>[\w$](?:[\w$.\-]|\\u[0-9a-fA-F]{4}){0,256})\s{0,256}:(?!:|//)"
)
_SPACE = re.compile(r"(?:\s|%20|\+(?=[\"'{\[])){0,4096}")
_PIECE = re.compile(
    rf"(?P<quote>{_QUOTE})|(?P<open>[\[{{(]|%5[bB]|%7[bB])|"
    rf"(?P<rest>(?:(?!{_QUOTE}|%5[bB]|%7[bB]|%2[cC])[^\s;,&<>\[\]{{}}()])+)"
)
_BRACKET = re.compile(rf"(?P<quote>{_QUOTE})|(?P<open>[\[{{(]|%5[bB]|%7[bB])|[\]}})]|%5[dD]|%7[dD]")
_ANY_QUOTE = re.compile(_QUOTE)
_JOINED = re.compile(r"\s{0,256}\+\s{0,256}(?=[\"'`\w])")
_LINE_REST = re.compile(r"[^\r\n<]*")
_FORM_REST = re.compile(r"[^\s;&<>\"'`\\]*")
_BLOCK = re.compile(r"[|>]?[+-]?\d?[ \t]*(?:\r?\n)+(?=[ \t])")
#: ``type=password`` says what a field is for; its value stands elsewhere.
_TYPES = frozenset({"type", "name", "id", "for", "htmlfor"})
_FLAT = re.compile(r"\{([^{}]+)")
_NAMED = re.compile(
    rf"(?:{_QUOTE}|\b)(?:name|key|id|field|header|param|parameter|type)(?:{_QUOTE})?\s{{0,64}}"
    rf"[:=]\s{{0,64}}(?P<quote>{_QUOTE})(?P<name>[^\"'`\\&%\r\n]{{1,128}})(?P=quote)",
    re.IGNORECASE,
)
_HELD = re.compile(
    rf"(?:{_QUOTE}|\b)(?:value|values|val|v|content|text|data|default(?:value)?)(?:{_QUOTE})?"
    r"\s{0,64}[:=]",
    re.IGNORECASE,
)


def redact_json(text: str, leaf: Callable[[str], str], levels: int = 0) -> str | None:
    """Redact a text that is JSON, or return None where it is none.

    ``leaf`` redacts the strings that have no secret's name. Strings that hold JSON are redacted
    like it. What is not changed keeps its spelling.
    """
    if levels >= _LEVELS_MAX or (levels and _CONTAINER.match(text) is None):
        return None
    try:
        json.loads(text, strict=False, parse_int=len, parse_float=len)
    except (ValueError, RecursionError):
        return None
    return _Tokens(leaf, levels).redacted(text)


class _Frame:
    """An object or list that is open."""

    def __init__(self, closing: str, start: int) -> None:
        self.closing = closing
        self.start = start
        #: The member being read; None between members and in lists.
        self.member: str | None = None
        self.awaits_name = closing == "}"
        self.named_secret = False
        #: Where the values that a name beside them may speak of begin and end.
        self.holds: list[tuple[int, int]] = []
        self.elements = 0


class _Tokens:
    """One pass over the tokens of a JSON text."""

    def __init__(self, leaf: Callable[[str], str], levels: int) -> None:
        self._leaf = leaf
        self._levels = levels
        self._pieces: list[str] = []
        self._open: list[_Frame] = []

    def redacted(self, text: str) -> str:
        for found in _TOKEN.finditer(text):
            token = found[0]
            first = token[0]
            if first in "{[":
                self._begin(token)
            elif first in "}]":
                self._end(token)
            elif first == ",":
                self._pieces.append(token)
                if self._open:
                    self._open[-1].awaits_name = self._open[-1].closing == "}"
            elif first == ":" or first.isspace():
                self._pieces.append(token)
            else:
                self._scalar(token)
        return "".join(self._pieces)

    def _begin(self, token: str) -> None:
        self._open.append(_Frame("}" if token == "{" else "]", len(self._pieces)))
        self._pieces.append(token)

    def _end(self, token: str) -> None:
        self._pieces.append(token)
        frame = self._open.pop()
        if frame.named_secret:
            for start, end in reversed(frame.holds):
                self._pieces[start:end] = [_HIDDEN]
        self._valued(frame.start)

    def _scalar(self, token: str) -> None:
        frame = self._open[-1] if self._open else None
        start = len(self._pieces)
        if frame is not None and frame.closing == "}" and frame.awaits_name:
            frame.awaits_name = False
            frame.member = _unquoted(token)
            self._pieces.append(self._string(token))
            return
        if frame is not None:
            self._note_name(frame, token)
        secret = frame is not None and frame.member is not None and is_secret_name(frame.member)
        if secret:
            self._pieces.append(token)
        elif token[0] == '"':
            self._pieces.append(self._string(token))
        else:
            # A number in which something is found becomes a string.
            plain = len(token) < _NUMBER_LEAST or self._leaf(token) == token
            self._pieces.append(token if plain else _HIDDEN)
        self._valued(start)

    def _note_name(self, frame: _Frame, token: str) -> None:
        if token[0] != '"' or len(token) > 300:
            return
        first_of_pair = frame.closing == "]" and frame.elements == 0
        naming = frame.member is not None and frame.member.lower() in _NAMING
        if (first_of_pair or naming) and is_secret_name(_unquoted(token)):
            frame.named_secret = True

    def _valued(self, start: int) -> None:
        """Judge the value whose pieces begin at ``start``, now that it is whole."""
        if not self._open:
            return
        frame, end = self._open[-1], len(self._pieces)
        frame.elements += 1
        if frame.closing == "]":
            # ["password", "..."]; a longer list is a list of words.
            if frame.elements == 2:
                frame.holds.append((start, end))
            elif frame.elements == 3:
                frame.holds.clear()
            return
        name, frame.member = frame.member or "", None
        if is_secret_name(name):
            if "".join(self._pieces[start : min(end, start + 4)]) not in _NOTHING:
                self._pieces[start:] = [_HIDDEN]
        elif re.sub(r"[^a-z]", "", name.lower()) in _HOLDING:
            frame.holds.append((start, end))

    def _string(self, token: str) -> str:
        if len(token) < _STRING_LEAST:
            return token
        text = _unquoted(token)
        inner = redact_json(text, self._leaf, self._levels + 1)
        redacted = self._leaf(text) if inner is None else inner
        if redacted == text:
            return token
        made = json.dumps(redacted, ensure_ascii=False)
        return made if made.isascii() or _is_text(made) else json.dumps(redacted)


def _is_text(text: str) -> bool:
    return re.search(r"[\ud800-\udfff]", text) is None


def _unquoted(token: str) -> str:
    return str(json.loads(token, strict=False)) if token[0] == '"' else token


def redact_members(text: str) -> str:
    """Redact values behind the names of secrets in a text that is no JSON."""
    return _named(_FLAT.sub(_pair, text))


def _pair(match: re.Match[str]) -> str:
    """Redact the value in ``{name: 'password', value: '...'}``."""
    if not any(is_secret_name(found["name"]) for found in _NAMED.finditer(match[0])):
        return match[0]
    text = match[0]
    kept: list[str] = []
    done = 0
    for held in _HELD.finditer(text):
        if held.start() < done:
            continue
        end = _value_end(text, held.end(), "")
        if end is not None:
            kept += [text[done : end[0]], _hidden(text[end[0] : end[1]], "")]
            done = end[1]
    return "".join([*kept, text[done:]])


def _named(text: str) -> str:
    """Replace the value behind each name of a secret.

    What follows another name is searched in its turn: ``href="/?token=..."`` holds a secret.
    """
    kept: list[str] = []
    done = at = 0
    while (found := _NAME.search(text, at)) is not None:
        at = found.end()
        name = found["quoted"] or found["assigned"] or found["bare"]
        if found["quoted"] is not None:
            # The closing quote may open the next name where this was none.
            at = found.start("sign")
        if name.lower() in _TYPES or not is_secret_name(name):
            continue
        span = _span(text, found)
        if span is None:
            continue
        start, end = span
        quote = "" if found["quoted"] is None or "=" in found["sign"] else found["open"]
        kept += [text[done:start], _hidden(text[start:end], quote)]
        done = at = end
    return "".join([*kept, text[done:]])


def _hidden(value: str, quote: str) -> str:
    """Return the mark in the quotes that the value had, else in those of its name."""
    own = _ANY_QUOTE.match(value)
    quote = own[0] if own is not None else quote
    return f"{quote}{mark('value')}{quote}"


def _span(text: str, found: re.Match[str]) -> tuple[int, int] | None:
    """Return where the value behind a name begins and ends, None where there is none."""
    prefix = found["open"] or ""
    if found["bare"] is not None:
        line = text.rfind("\n", 0, found.start()) + 1
        lead = text[line : found.start()] if found.start() - line <= 256 else "x"
        at_line_start = lead.strip(" \t-") == ""
        if at_line_start:
            block = _block(text, found.end(), len(lead))
            if block is not None:
                return block
        span = _value_end(text, found.end(), prefix, same_line=True)
        if span is None or not _is_bare(text[span[0]]):
            return span
        end = span[1]
        before = text[found.start() - 1 : found.start()]
        if at_line_start:
            rest = _LINE_REST.match(text, end)
            end = end if rest is None else rest.end()
        elif before and before in "\"'`":
            # curl -H 'Cookie: a=1; b=2'
            rest = _string_stop(before).match(text, end)
            end = end if rest is None else rest.end() - rest[0].endswith(before)
        return span[0], span[0] + len(text[span[0] : end].rstrip())
    span = _value_end(text, found.end(), prefix)
    if span is not None and found["assigned"] is not None and _is_bare(text[span[0]]):
        rest = _FORM_REST.match(text, span[1])
        return span[0], span[1] if rest is None else rest.end()
    return span


def _is_bare(char: str) -> bool:
    return char == "" or char not in "\"'`[{(\\&%"


def _block(text: str, at: int, indent: int) -> tuple[int, int] | None:
    """Return the deeper lines behind ``name:`` of YAML."""
    while at < len(text) and text[at] in " \t":
        at += 1
    head = _BLOCK.match(text, at)
    if head is None:
        return None
    start = end = head.end()
    while end < len(text):
        stop = text.find("\n", end)
        stop = len(text) if stop < 0 else stop + 1
        line = text[end:stop]
        bare = line.lstrip(" \t")
        if bare.startswith("<") or (bare.strip() and len(line) - len(bare) <= indent):
            break
        end = stop
    value = text[start:end]
    start += len(value) - len(value.lstrip())
    end = start + len(value.strip())
    return (start, end) if end > start else None


def _value_end(
    text: str, at: int, prefix: str, *, same_line: bool = False
) -> tuple[int, int] | None:
    space = _SPACE.match(text, at)
    start = at if space is None else space.end()
    if same_line and "\n" in text[at:start] and _is_bare(text[start : start + 1]):
        return None
    end = start
    joins = True
    while (piece := _PIECE.match(text, end)) is not None:
        if piece["quote"] is not None:
            if not joins:
                break
            if prefix and _depth(piece["quote"]) < _depth(prefix):
                break
            end = _string_end(text, piece)
        elif piece["open"] is not None:
            end = _container_end(text, piece.start(), prefix)
        else:
            end = piece.end()
            joins = text[end - 1] == "+"
            continue
        joined = _JOINED.match(text, end)
        joins = joined is not None
        if joined is not None:
            end = joined.end()
    return (start, end) if end > start else None


def _depth(quote: str) -> int:
    return len(quote) - len(quote.lstrip("\\"))


def _string_end(text: str, opened: re.Match[str]) -> int:
    """Return where a string ends: at the same quote, or at the end of its line if there is none."""
    found = _string_stop(opened["quote"]).match(text, opened.end())
    return len(text) if found is None else found.end()


@functools.lru_cache(maxsize=64)
def _string_stop(quote: str) -> re.Pattern[str]:
    if len(quote) > 1:
        return re.compile(rf"[^\r\n]*?(?:{re.escape(quote)}|(?=[\r\n])|\Z)")
    inside = "" if quote == "`" else r"\r\n"
    return re.compile(rf"[^\\{quote}{inside}]*(?:\\.[^\\{quote}{inside}]*)*(?:{quote})?", re.DOTALL)


def _container_end(text: str, at: int, prefix: str) -> int:
    """Return where the bracket that opens here is closed, else the end of the text."""
    depth, opening, start = 0, text[at], at
    while True:
        found = _BRACKET.search(text, at)
        if found is None:
            # A lone parenthesis is prose.
            rest = _LINE_REST.match(text, start) if opening == "(" else None
            return len(text) if rest is None else rest.end()
        at = found.end()
        if found["quote"] is not None:
            if prefix and _depth(found["quote"]) < _depth(prefix):
                # The string around all this ends here.
                return found.start()
            at = _string_end(text, found)
            continue
        depth += 1 if found["open"] is not None else -1
        if depth == 0:
            return at
