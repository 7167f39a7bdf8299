"""Extract: picks the passage that answers a question best, by the similarity of embeddings.

Candidates are windows of a few sentences. Embedding is what takes the time, so their number is bounded: those that
share most words with the question are kept.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from cortex_kinds.nodes import Extract, Node

from cortex_workloads.graph.expressions import Expression
from cortex_workloads.graph.failures import NodeProblem
from cortex_workloads.graph.nodes.base import Outcome, Parted, State, Tools

SENTENCES: Final = 3
"""Sentences of one passage."""
PASSAGE_CHARACTERS: Final = 700
"""A passage is cut there; about what the embedder reads."""
CANDIDATES: Final = 32
"""Passages that are embedded, at most."""
_SENTENCE_END: Final = re.compile(r"(?<=[.!?。！？])\s+|\n\s*\n")
_WORD: Final = re.compile(r"\w+")


@dataclass(frozen=True)
class Passage:
    """A candidate: a window of a document's sentences."""

    document: int
    text: str


def build(node: Node, tools: Tools) -> Parted:
    """The node's work."""
    assert node.extract is not None
    spec = node.extract
    question = Expression(spec.question, "extract.question", "str")
    documents = Expression(spec.documents, "extract.documents", "list")

    def reads(state: State) -> dict[str, Any]:
        return {"question": question.value(state), "documents": documents.objects(state)}

    async def does(read: dict[str, Any], seconds: float | None) -> Outcome:
        asked, given = read["question"], read["documents"]
        passages = candidates(asked, given)
        if not passages:
            return Outcome({spec.into: "", "sources": []})
        encoder = await tools.encoder()
        vectors = await encoder.aencode([asked, *(passage.text for passage in passages)])
        # Rounded: equal passages must tie on every machine, and ties go to the first.
        scores = np.round(vectors[1:] @ vectors[0], 6)
        return Outcome(_answer(spec, given, passages, scores.tolist()))

    return Parted(reads, does)


def writes(node: Node) -> tuple[str, ...]:
    """The answer's key, and `sources`."""
    assert node.extract is not None
    return (node.extract.into, "sources")


def candidates(question: str, documents: list[dict[str, Any]]) -> list[Passage]:
    """Windows over every document's sentences, in the order of the documents; at most CANDIDATES."""
    passages = [
        Passage(position, text) for position, document in enumerate(documents) for text in windows(_text(document))
    ]
    if len(passages) <= CANDIDATES:
        return passages
    asked = _words(question)
    by_words = sorted(range(len(passages)), key=lambda i: (-len(asked & _words(passages[i].text)), i))
    return [passages[i] for i in sorted(by_words[:CANDIDATES])]


def windows(text: str) -> list[str]:
    """Windows of SENTENCES sentences that overlap by one, so that no pair of neighbours is torn apart."""
    sentences = [s.strip() for s in _SENTENCE_END.split(text) if s.strip()]
    starts = range(0, max(len(sentences) - 1, 1), SENTENCES - 1)
    return [" ".join(sentences[i : i + SENTENCES])[:PASSAGE_CHARACTERS] for i in starts if sentences]


def _answer(spec: Extract, documents: list[dict[str, Any]], passages: list[Passage], scores: list[float]) -> Any:
    best = sorted(range(len(passages)), key=lambda i: (-scores[i], i))
    seen: set[int] = set()
    sources: list[dict[str, Any]] = []
    for i in best:
        passage = passages[i]
        if passage.document not in seen:
            seen.add(passage.document)
            sources.append(_source(documents[passage.document], passage.text, scores[i]))
    return {spec.into: passages[best[0]].text, "sources": sources[: spec.sources]}


def _source(document: dict[str, Any], passage: str, score: float) -> dict[str, Any]:
    kept = {key: document.get(key, default) for key, default in (("id", ""), ("title", ""), ("index", ""))}
    return {**kept, "meta": document.get("meta", {}), "passage": passage, "score": score}


def _text(document: dict[str, Any]) -> str:
    content = document.get("content", "")
    if not isinstance(content, str):
        raise NodeProblem(
            f"the content of document {document.get('id', '')!r} is not a string",
            "give extract.documents what a Search node wrote: [{id, title, content, ...}]",
        )
    return content or str(document.get("title", ""))


def _words(text: str) -> set[str]:
    return {word.lower() for word in _WORD.findall(text)}
