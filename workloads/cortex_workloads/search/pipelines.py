"""The closed catalogue of search pipelines, one per mode. Nothing of a request or a manifest names a component."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from haystack import Pipeline
from haystack.core.errors import PipelineRuntimeError

from cortex_workloads.runtime.embedding.embedder import Embedder
from cortex_workloads.runtime.errors import CortexError
from cortex_workloads.search.components import HybridRetriever, QueryEmbedder, TextRetriever, VectorRetriever
from cortex_workloads.search.retrieval import Found, Mode
from cortex_workloads.search.store import LakeDocumentStore


class Pipelines:
    """The pipelines over one store."""

    def __init__(self, store: LakeDocumentStore, embedder: Embedder) -> None:
        self._pipelines: Mapping[Mode, Pipeline] = {
            Mode.TEXT: _text(store),
            Mode.VECTOR: _with_vector(VectorRetriever(store), embedder),
            Mode.HYBRID: _with_vector(HybridRetriever(store), embedder),
        }

    async def search(
        self,
        text: str,
        mode: Mode,
        top_k: int,
        filters: dict[str, Any] | None = None,
        revision: str = "",
        exact: bool = False,
    ) -> tuple[Found, str]:
        """What was found and the id of the revision that answered. Raises as `LakeDocumentStore.search`."""
        asked: dict[str, Any] = {"top_k": top_k, "filters": filters, "revision": revision}
        if mode is not Mode.VECTOR:
            asked["text"] = text
        inputs = {"retriever": asked}
        if mode is not Mode.TEXT:
            asked["exact"] = exact
            inputs["embedder"] = {"text": text}
        try:
            outputs = await self._pipelines[mode].run_async(inputs)
        except PipelineRuntimeError as error:
            if isinstance(error.__cause__, CortexError):
                raise error.__cause__ from None
            raise
        return outputs["retriever"]["found"], outputs["retriever"]["revision"]


def _text(store: LakeDocumentStore) -> Pipeline:
    pipeline = Pipeline()
    pipeline.add_component("retriever", TextRetriever(store))
    return pipeline


def _with_vector(retriever: VectorRetriever | HybridRetriever, embedder: Embedder) -> Pipeline:
    pipeline = Pipeline()
    pipeline.add_component("embedder", QueryEmbedder(embedder))
    pipeline.add_component("retriever", retriever)
    pipeline.connect("embedder.vector", "retriever.vector")
    return pipeline
