"""Documents -> passages -> vectors: the Haystack pipeline of ingestion, where one bad document fails alone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

import numpy as np
from cortex_kinds.index import Chunking
from haystack import Pipeline, component

from cortex_workloads.runtime.embedding.embedder import Vectors
from cortex_workloads.search.passages import Passage, split
from cortex_workloads.search.postings import Text
from cortex_workloads.search.queue import Divided, Embedded

T = TypeVar("T")
R = TypeVar("R")


class Encoder(Protocol):
    """What ingestion needs of an embedder."""

    @property
    def reads(self) -> int:
        """Tokens of a passage that it reads."""
        ...

    @property
    def cased(self) -> bool:
        """Whether texts that differ in case have vectors that differ."""
        ...

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Float32 [len(texts), dimensions]."""
        ...

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """Where the text's tokens are, in code points."""
        ...

    async def run(self, work: Callable[..., T], *arguments: Any) -> T:
        """Does work on the thread that embeds."""
        ...


@component
class PassageSplitter:
    """Splits texts into passages."""

    def __init__(self, chunking: Chunking, encoder: Encoder) -> None:
        self._split = partial(split, chunking=chunking, token_spans=encoder.token_spans)
        self._reads, self._cased = encoder.reads, encoder.cased

    @component.output_types(passages=list[list[Passage]])
    def run(self, texts: list[Text]) -> dict[str, Any]:
        """`passages` of each text."""
        return {
            "passages": [self._split(text.title, text.content, reads=self._reads, cased=self._cased) for text in texts]
        }


@component
class PassageEmbedder:
    """Embeds passages, those of several texts together."""

    def __init__(self, encode: Callable[[Sequence[str]], Vectors]) -> None:
        self._encode = encode

    @component.output_types(vectors=dict[bytes, np.ndarray])
    def run(self, passages: list[list[Passage]], known: Collection[bytes] = ()) -> dict[str, Any]:
        """`vectors`: float32 [dimensions] of each distinct passage by its key, without those that are `known`."""
        distinct = {passage.key: passage.text for some in passages for passage in some if passage.key not in known}
        vectors: Sequence[Vectors] = list(self._encode(list(distinct.values()))) if distinct else []
        return {"vectors": dict(zip(distinct, vectors, strict=True))}


class DocumentEmbedder:
    """Embeds texts with one revision's chunking, in two steps: what is known is looked up in between."""

    def __init__(self, encoder: Encoder, chunking: Chunking) -> None:
        self._splitter = Pipeline()
        self._splitter.add_component("splitter", PassageSplitter(chunking, encoder))
        self._embedder = Pipeline()
        self._embedder.add_component("embedder", PassageEmbedder(encoder.encode))

    def split(self, texts: Sequence[Text]) -> tuple[list[Divided], dict[int, str]]:
        """The texts with their passages, and what could not be split (row -> why)."""
        return _each_alone(self._split, texts, lambda text: text.row)

    def embed(self, texts: Sequence[Divided], known: Collection[bytes]) -> tuple[list[Embedded], dict[int, str]]:
        """What was embedded, without the passages that are known, and what was not (row -> why)."""
        return _each_alone(partial(self._embed, known=known), texts, lambda divided: divided.text.row)

    def _split(self, texts: Sequence[Text]) -> list[Divided]:
        passages = self._splitter.run({"splitter": {"texts": list(texts)}})["splitter"]["passages"]
        return [Divided(text, some) for text, some in zip(texts, passages, strict=True)]

    def _embed(self, texts: Sequence[Divided], known: Collection[bytes]) -> list[Embedded]:
        asked = {"passages": [divided.passages for divided in texts], "known": known}
        vectors: Mapping[bytes, Vectors] = self._embedder.run({"embedder": asked})["embedder"]["vectors"]
        return [Embedded(divided.text, divided.passages, vectors) for divided in texts]


def _each_alone(
    work: Callable[[Sequence[T]], list[R]], items: Sequence[T], row: Callable[[T], int]
) -> tuple[list[R], dict[int, str]]:
    """The work on all at once; one that fails does not fail the others."""
    if not items:
        return [], {}
    try:
        return work(items), {}
    except Exception as error:
        if len(items) == 1:
            return [], {row(items[0]): _reason(error)}
    done: list[R] = []
    failed: dict[int, str] = {}
    for item in items:
        some, why = _each_alone(work, [item], row)
        done += some
        failed |= why
    return done, failed


def _reason(error: BaseException) -> str:
    cause = error.__cause__ or error
    return f"{type(cause).__name__}: {cause}"
