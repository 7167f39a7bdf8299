"""The closed catalogue of search pipelines, one per mode. Nothing of a request or a manifest names a component."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final
from weakref import WeakKeyDictionary

from haystack import Pipeline
from haystack.core.errors import PipelineRuntimeError

from cortex_workloads.runtime.cache.memory import Memory
from cortex_workloads.runtime.embedding.embedder import Embedder, Vectors
from cortex_workloads.runtime.errors import CortexError, NotFound, Unavailable
from cortex_workloads.runtime.lake.revisions import Revision
from cortex_workloads.search.components import HybridRetriever, QueryEmbedder, TextRetriever, VectorRetriever
from cortex_workloads.search.encoders import Source
from cortex_workloads.search.fallback import NotEmbedded
from cortex_workloads.search.retrieval import Found, Mode
from cortex_workloads.search.store import LakeDocumentStore

_TRIES: Final = 3


class Pipelines:
    """The pipelines over one store; those with vectors once for each embedder that its revisions need. `known`: vectors
    of queries, of all of them. `loaded` raises Unavailable (`ModelLoading`) until a query can be embedded."""

    def __init__(
        self,
        store: LakeDocumentStore,
        encoders: Source,
        known: Memory[Vectors],
        loaded: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._known = known
        self._encoders = encoders
        self._loaded = loaded
        self._text = _text(store)
        self._made: WeakKeyDictionary[Embedder, Mapping[Mode, Pipeline]] = WeakKeyDictionary()

    async def search(
        self,
        text: str,
        mode: Mode,
        top_k: int,
        filters: dict[str, Any] | None = None,
        revision: str = "",
        exact: bool = False,
        seconds: float | None = None,
    ) -> tuple[Found, str]:
        """What was found and the id of the revision that answered. `seconds`: what embedding the query may take. Raises
        as `LakeDocumentStore.search`, and NotEmbedded (the revision's model, the embedder)."""
        if mode is Mode.TEXT:
            return await self._run(self._text, text, mode, top_k, filters, revision, exact, seconds)
        for _ in range(_TRIES):
            # The revision whose model made the vector: another one's vectors would not fit.
            target = await self._store.revision(revision) if revision else await self._store.current()
            embedder = await self._embedder(target, seconds)
            pipeline = self._of(embedder)[mode]
            try:
                found, answered = await self._run(pipeline, text, mode, top_k, filters, target.id, exact, seconds)
            except NotFound:
                if revision:
                    raise
            else:
                if found.version is not None or revision:
                    return found, answered
            self._store.forget()
        raise Unavailable("the index changes its revision", remedy="try again", reason="RevisionChanging")

    async def _embedder(self, target: Revision, seconds: float | None) -> Embedder:
        try:
            self._loaded()
            async with asyncio.timeout(seconds):
                return await self._encoders.queries(target)
        except (TimeoutError, CortexError) as error:
            raise NotEmbedded(error) from error

    def _of(self, embedder: Embedder) -> Mapping[Mode, Pipeline]:
        # No value may hold its key: `QueryEmbedder` does not.
        made = self._made.get(embedder)
        if made is None:
            made = {
                Mode.VECTOR: _with_vector(VectorRetriever(self._store), QueryEmbedder(embedder, self._known)),
                Mode.HYBRID: _with_vector(HybridRetriever(self._store), QueryEmbedder(embedder, self._known)),
            }
            self._made[embedder] = made
        return made

    async def _run(
        self,
        pipeline: Pipeline,
        text: str,
        mode: Mode,
        top_k: int,
        filters: dict[str, Any] | None,
        revision: str,
        exact: bool,
        seconds: float | None,
    ) -> tuple[Found, str]:
        asked: dict[str, Any] = {"top_k": top_k, "filters": filters, "revision": revision}
        if mode is not Mode.VECTOR:
            asked["text"] = text
        inputs: dict[str, Any] = {"retriever": asked}
        if mode is not Mode.TEXT:
            asked["exact"] = exact
            inputs["embedder"] = {"text": text, "seconds": seconds}
        try:
            outputs = await pipeline.run_async(inputs)
        except PipelineRuntimeError as error:
            if isinstance(error.__cause__, CortexError | NotEmbedded):
                raise error.__cause__ from None
            raise
        return outputs["retriever"]["found"], outputs["retriever"]["revision"]


def _text(store: LakeDocumentStore) -> Pipeline:
    pipeline = Pipeline()
    pipeline.add_component("retriever", TextRetriever(store))
    return pipeline


def _with_vector(retriever: VectorRetriever | HybridRetriever, embedder: QueryEmbedder) -> Pipeline:
    pipeline = Pipeline()
    pipeline.add_component("embedder", embedder)
    pipeline.add_component("retriever", retriever)
    pipeline.connect("embedder.vector", "retriever.vector")
    return pipeline
