"""Documents -> passages -> vectors: the Haystack pipeline of ingestion, where one bad document fails alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

import numpy as np
from cortex_kinds.index import Chunking
from haystack import Pipeline, component

from cortex_workloads.runtime.embedding.embedder import Vectors
from cortex_workloads.search.passages import Passage, split
from cortex_workloads.search.postings import Text
from cortex_workloads.search.queue import Embedded

T = TypeVar("T")


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

    @component.output_types(vectors=np.ndarray)
    def run(self, passages: list[list[Passage]]) -> dict[str, Any]:
        """`vectors`: float32 [all passages in order, dimensions]. What stands there twice is computed once."""
        digests = [passage.key for some in passages for passage in some]
        distinct = {passage.key: passage.text for some in passages for passage in some}
        places = {key: place for place, key in enumerate(distinct)}
        return {"vectors": self._encode(list(distinct.values()))[[places[key] for key in digests]]}


class DocumentEmbedder:
    """Embeds texts with one revision's chunking."""

    def __init__(self, encoder: Encoder, chunking: Chunking) -> None:
        self._pipeline = Pipeline()
        self._pipeline.add_component("splitter", PassageSplitter(chunking, encoder))
        self._pipeline.add_component("embedder", PassageEmbedder(encoder.encode))
        self._pipeline.connect("splitter.passages", "embedder.passages")

    def embed(self, texts: Sequence[Text]) -> tuple[list[Embedded], dict[int, str]]:
        """What was embedded, and what was not (row -> why). One text that fails does not fail the others."""
        try:
            return self._embed(texts), {}
        except Exception as error:
            if len(texts) == 1:
                return [], {texts[0].row: _reason(error)}
        embedded: list[Embedded] = []
        failed: dict[int, str] = {}
        for text in texts:
            some, why = self.embed([text])
            embedded += some
            failed |= why
        return embedded, failed

    def _embed(self, texts: Sequence[Text]) -> list[Embedded]:
        if not texts:
            return []
        outputs = self._pipeline.run({"splitter": {"texts": list(texts)}}, include_outputs_from={"splitter"})
        passages, vectors = outputs["splitter"]["passages"], outputs["embedder"]["vectors"]
        embedded, start = [], 0
        for text, some in zip(texts, passages, strict=True):
            embedded.append(Embedded(text, some, vectors[start : start + len(some)]))
            start += len(some)
        return embedded


def _reason(error: BaseException) -> str:
    cause = error.__cause__ or error
    return f"{type(cause).__name__}: {cause}"
