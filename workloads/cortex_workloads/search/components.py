"""The Haystack components of the search service.

Vectors travel between them as numpy arrays: Haystack copies what it passes on, and copies a list of floats slowly.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any
from weakref import ref

import numpy as np
from haystack import component

from cortex_workloads.runtime.cache.memory import Memory
from cortex_workloads.runtime.embedding.embedder import Embedder, Vectors
from cortex_workloads.search.fallback import NotEmbedded
from cortex_workloads.search.passages import digest
from cortex_workloads.search.retrieval import Found, Mode
from cortex_workloads.search.store import LakeDocumentStore


@component
class QueryEmbedder:
    """Embeds the text of a query. `known`: vectors by model and text, of this embedder and of others.

    Whoever searches holds the embedder: a pipeline that did would keep a model in memory that was let go."""

    def __init__(self, embedder: Embedder, known: Memory[Vectors]) -> None:
        self._held_elsewhere = ref(embedder)
        self._known = known

    @property
    def _embedder(self) -> Embedder:
        embedder = self._held_elsewhere()
        assert embedder is not None
        return embedder

    @component.output_types(vector=np.ndarray)
    def run(self, text: str, seconds: float | None = None) -> dict[str, Any]:
        """`vector`: float32 [dimensions]. `seconds` is of `run_async`: nothing ends a thread that computes."""
        return {"vector": self._embedder.encode_query(text)}

    @component.output_types(vector=np.ndarray)
    async def run_async(self, text: str, seconds: float | None = None) -> dict[str, Any]:
        """As `run`, on the embedder's thread, unless it is known, in `seconds` at most. The vector is shared, and
        read-only. Raises NotEmbedded."""
        embedder = self._embedder
        key = embedder.digest + digest(text, cased=embedder.cased)
        try:
            async with asyncio.timeout(seconds):
                return {"vector": await self._known.get(key, partial(_embed, embedder, text))}
        except Exception as error:
            raise NotEmbedded(error) from error


async def _embed(embedder: Embedder, text: str) -> Vectors:
    # A copy: a row would keep its whole batch in memory.
    vector = (await embedder.aencode_query(text)).copy()
    vector.setflags(write=False)
    return vector


class _Retriever:
    """What the retrievers share: one statement on the store, awaited."""

    mode: Mode

    def __init__(self, store: LakeDocumentStore) -> None:
        self._store = store

    async def _search(
        self, text: str, vector: Any, top_k: int, filters: dict[str, Any] | None, revision: str, exact: bool
    ) -> dict[str, Any]:
        found, answered = await self._store.search(
            text, self.mode, top_k, vector=vector, filters=filters, revision=revision, exact=exact
        )
        return {"found": found, "revision": answered.id}

    def _search_from_a_thread(self, *arguments: Any) -> dict[str, Any]:
        return self._store.wait(self._search(*arguments))


@component
class TextRetriever(_Retriever):
    """BM25."""

    mode = Mode.TEXT

    @component.output_types(found=Found, revision=str)
    def run(
        self, text: str, top_k: int = 10, filters: dict[str, Any] | None = None, revision: str = ""
    ) -> dict[str, Any]:
        """`found`, and the id of the `revision` that answered."""
        return self._search_from_a_thread(text, None, top_k, filters, revision, False)

    @component.output_types(found=Found, revision=str)
    async def run_async(
        self, text: str, top_k: int = 10, filters: dict[str, Any] | None = None, revision: str = ""
    ) -> dict[str, Any]:
        """As `run`."""
        return await self._search(text, None, top_k, filters, revision, False)


@component
class VectorRetriever(_Retriever):
    """Cosine similarity of the best passage."""

    mode = Mode.VECTOR

    @component.output_types(found=Found, revision=str)
    def run(
        self,
        vector: np.ndarray,
        top_k: int = 10,
        filters: dict[str, Any] | None = None,
        revision: str = "",
        exact: bool = False,
    ) -> dict[str, Any]:
        """`found`, and the id of the `revision` that answered. `vector`: float32 [dimensions]."""
        return self._search_from_a_thread("", vector, top_k, filters, revision, exact)

    @component.output_types(found=Found, revision=str)
    async def run_async(
        self,
        vector: np.ndarray,
        top_k: int = 10,
        filters: dict[str, Any] | None = None,
        revision: str = "",
        exact: bool = False,
    ) -> dict[str, Any]:
        """As `run`."""
        return await self._search("", vector, top_k, filters, revision, exact)


@component
class HybridRetriever(_Retriever):
    """Both legs and their fusion by reciprocal rank: one statement, so that both see the same documents."""

    mode = Mode.HYBRID

    @component.output_types(found=Found, revision=str)
    def run(
        self,
        text: str,
        vector: np.ndarray,
        top_k: int = 10,
        filters: dict[str, Any] | None = None,
        revision: str = "",
        exact: bool = False,
    ) -> dict[str, Any]:
        """`found`, and the id of the `revision` that answered. `vector`: float32 [dimensions]."""
        return self._search_from_a_thread(text, vector, top_k, filters, revision, exact)

    @component.output_types(found=Found, revision=str)
    async def run_async(
        self,
        text: str,
        vector: np.ndarray,
        top_k: int = 10,
        filters: dict[str, Any] | None = None,
        revision: str = "",
        exact: bool = False,
    ) -> dict[str, Any]:
        """As `run`."""
        return await self._search(text, vector, top_k, filters, revision, exact)
