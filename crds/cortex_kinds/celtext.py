"""What can be read off the text of a CEL expression; shields from CEL's grammar, of which only tokens matter here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_TOKEN: Final = re.compile(
    r"""(?P<space>\s+|//[^\n]*)
    |(?P<string>[rRbB]{0,2}(?:\"{3}.*?\"{3}|'{3}.*?'{3}|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<number>[0-9][0-9A-Za-z_.]*)
    |(?P<sign>.)""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    column: int


_NONE: Final = _Token("end", "", 0)


def keys_read(text: str) -> list[tuple[str, int]]:
    """The keys of `state` that an expression names (`state.KEY`, `state.?KEY`, `state['KEY']`), each with its column
    from 1, in order. Keys that are computed (`state[x]`) are not found."""
    tokens = _tokens(text)
    found = []
    for at, token in enumerate(tokens[: len(tokens) - 3]):
        if token.text != "state" or (at and tokens[at - 1].text == "."):
            continue
        following = [t for t in tokens[at + 1 : at + 5] if t.text != "?"]
        if key := _key(following):
            found.append((key, token.column))
    return found


def unbounded_call(text: str) -> str:
    """A call whose result can be as large as the product of two texts, or "": `replace`, and `join` with a computed
    separator."""
    tokens = _tokens(text)
    for at, token in enumerate(tokens[: len(tokens) - 3]):
        following = [t for t in tokens[at + 1 : at + 4]]
        if token.kind != "name" or following[0].text != "(" or not at or tokens[at - 1].text != ".":
            continue
        if token.text == "replace":
            return "replace()"
        if token.text == "join" and following[1].text != ")" and not _literal_argument(following):
            return "join() with a computed separator"
    return ""


def _literal_argument(tokens: list[_Token]) -> bool:
    return tokens[1].kind == "string" and tokens[2].text == ")"


def _key(tokens: list[_Token]) -> str:
    sign, key, *rest = tokens
    if sign.text == "." and key.kind == "name" and not (rest and rest[0].text == "("):
        return key.text
    if sign.text == "[" and key.kind == "string" and rest and rest[0].text == "]":
        return key.text.strip("'\"")
    return ""


def _tokens(text: str) -> list[_Token]:
    found = [_Token(m.lastgroup or "", m[0], m.start() + 1) for m in _TOKEN.finditer(text)]
    return [t for t in found if t.kind != "space"] + [_NONE] * 3
