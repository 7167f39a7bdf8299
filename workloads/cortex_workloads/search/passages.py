"""Splits a document into passages that the embedder reads whole.

A passage is a run of units (sentences or words) of the content, by exact code-point offsets. Nothing is dropped: every
character but white space is in a passage, and none is longer than the tokens that the embedder reads.
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from cortex_kinds.index import Chunking, SplitBy

from cortex_workloads.runtime.embedding.model import MAX_TOKENS, SPECIAL_TOKENS

Span = tuple[int, int]
TokenSpans = Callable[[str], list[Span]]

_TITLE_TOKENS: Final = 64
_WORD: Final = re.compile(r"\S+")
# The end of a sentence: a mark, what closes with it, and white space before what can begin one; or an empty line; or
# a full-width mark, which needs no space.
_END: Final = re.compile(r"[.!?]+[\"'”’)\]]*(?=\s+[\"'“‘(\[]*[^\s\da-z])|[。！？]+[”’）」』]*|\n[ \t\r]*\n")
_ABBREVIATION: Final = re.compile(
    r"\b(?:[A-Z]|al|ca|cf|Dr|eds?|e\.g|etc|Figs?|i\.e|Inc|Jr|Mrs?|Ms|Nos?|pp?|Prof|resp|Sr|St|vs|vol)\.$"
)


@dataclass(frozen=True)
class Passage:
    """[start, stop) of the content, and the text to embed (the title goes before it). `key`: equal for texts that the
    embedder does not tell apart."""

    start: int
    stop: int
    text: str
    key: bytes


def split(
    title: str,
    content: str,
    chunking: Chunking,
    token_spans: TokenSpans,
    *,
    reads: int = MAX_TOKENS - SPECIAL_TOKENS,
    cased: bool = False,
) -> list[Passage]:
    """The passages of a document, in order. Without content: one of the title; without both: none. `reads`: tokens that
    the embedder reads; `cased`: whether it tells case apart."""
    title = title.strip()
    if not content.strip():
        return [Passage(0, 0, title, digest(title, cased=cased))] if title else []
    prefix = _prefix(title, token_spans, min(_TITLE_TOKENS, reads // 3))
    room = reads - len(token_spans(prefix))
    units = sentences(content) if chunking.split_by is SplitBy.SENTENCE else words(content)
    tokens = token_spans(content)
    units = [piece for unit in units for piece in _pieces(content, unit, tokens, room, token_spans)]
    spans = _windows(units, tokens, chunking, room)
    texts = [prefix + content[start:stop] for start, stop in spans]
    return [Passage(*span, text, digest(text, cased=cased)) for span, text in zip(spans, texts, strict=True)]


def digest(text: str, *, cased: bool = False) -> bytes:
    """Equal for texts that the embedder does not tell apart: one that is not cased knows no case and one kind of white
    space."""
    return hashlib.sha256((text if cased else " ".join(text.lower().split())).encode()).digest()


def words(text: str) -> list[Span]:
    """Where the words are."""
    return [match.span() for match in _WORD.finditer(text)]


def sentences(text: str) -> list[Span]:
    """Where the sentences are, without the white space around them."""
    spans, start = [], 0
    for match in _END.finditer(text):
        if _ABBREVIATION.search(text, max(start, match.end() - 12), match.end()):
            continue
        spans.append((start, match.end()))
        start = match.end()
    spans.append((start, len(text)))
    return [trimmed for span in spans if (trimmed := _trimmed(text, span)) is not None]


def _trimmed(text: str, span: Span) -> Span | None:
    piece = text[span[0] : span[1]]
    start = span[0] + len(piece) - len(piece.lstrip())
    stop = span[0] + len(piece.rstrip())
    return (start, stop) if start < stop else None


def _prefix(title: str, token_spans: TokenSpans, most: int) -> str:
    spans = token_spans(title)
    if len(spans) > most:
        title = title[: spans[most - 1][1]] if most else ""
    return f"{title} " if title else ""


def _pieces(text: str, unit: Span, tokens: Sequence[Span], room: int, token_spans: TokenSpans) -> list[Span]:
    """The unit, or the runs of words that it has to be cut into to be read whole."""
    if _count(tokens, unit) <= room:
        return [unit]
    pieces: list[Span] = []
    for start, stop in words(text[unit[0] : unit[1]]):
        word = (unit[0] + start, unit[0] + stop)
        if pieces and _count(tokens, (pieces[-1][0], word[1])) <= room:
            pieces[-1] = (pieces[-1][0], word[1])
        else:
            pieces += _cut(text, word, room, token_spans)
    return pieces


def _cut(text: str, word: Span, room: int, token_spans: TokenSpans) -> list[Span]:
    """A word that is longer than the embedder reads, in halves of halves."""
    start, stop = word
    if stop - start < 2 or len(token_spans(text[start:stop])) <= room:
        return [word]
    middle = (start + stop) // 2
    return _cut(text, (start, middle), room, token_spans) + _cut(text, (middle, stop), room, token_spans)


def _windows(units: Sequence[Span], tokens: Sequence[Span], chunking: Chunking, room: int) -> list[Span]:
    spans: list[Span] = []
    first = 0
    while first < len(units):
        last = min(first + chunking.split_length, len(units)) - 1
        while last > first and _count(tokens, (units[first][0], units[last][1])) > room:
            last -= 1
        spans.append((units[first][0], units[last][1]))
        if last == len(units) - 1:
            break
        first = max(last + 1 - chunking.split_overlap, first + 1)
    return spans


def _count(tokens: Sequence[Span], span: Span) -> int:
    return bisect_left(tokens, (span[1], 0)) - bisect_left(tokens, (span[0], 0))
