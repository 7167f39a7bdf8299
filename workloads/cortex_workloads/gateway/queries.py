"""Searches. Called by REST and by CortexAPI."""

from __future__ import annotations

from typing import Final

from cortex_kinds.index import RetrievalMode
from datapunk.cortex.common_pb2 import FALLBACK_STALE_ANSWER, FALLBACK_TEXT_ONLY, SearchMode, SearchResult
from datapunk.cortex.search_pb2 import SearchRequest

from cortex_workloads.gateway.backend import Backend, ref
from cortex_workloads.gateway.body import to_struct
from cortex_workloads.gateway.schemas import Search
from cortex_workloads.runtime import answers
from cortex_workloads.runtime.catalogue import Resource
from cortex_workloads.runtime.errors import DeadlineExceeded, Overloaded, Unavailable
from cortex_workloads.runtime.fallbacks import Fallback, used

MODES: Final = {
    RetrievalMode.HYBRID: SearchMode.SEARCH_MODE_HYBRID,
    RetrievalMode.VECTOR: SearchMode.SEARCH_MODE_VECTOR,
    RetrievalMode.TEXT: SearchMode.SEARCH_MODE_TEXT,
}
FALLBACKS: Final = {
    Fallback.TEXT_ONLY: FALLBACK_TEXT_ONLY,
    Fallback.STALE_ANSWER: FALLBACK_STALE_ANSWER,
}
_ASKING_SHARE: Final = 0.9
"""Of the time that a caller has who accepts the last answer: what the pods may take."""


async def search(
    backend: Backend, namespace: str, name: str, search: Search, timeout: float | None = None
) -> SearchResult:
    """Asks an index. Raises NotFound, InvalidInput, Unavailable, DeadlineExceeded."""
    index = backend.index(namespace, name)
    request = SearchRequest(
        index=ref(index),
        query=search.query,
        mode=MODES[search.mode] if search.mode else SearchMode.SEARCH_MODE_UNSPECIFIED,
        top_k=search.top_k or 0,
        filter=to_struct(search.filter) if search.filter else None,
        revision=search.revision,
        exact=search.exact,
        fallbacks=[FALLBACKS[fallback] for fallback in search.fallbacks],
    )
    seconds = backend.policies.now.search_seconds if timeout is None else timeout
    if Fallback.STALE_ANSWER in search.fallbacks:
        return await _asked_or_last(backend, index, request, seconds)
    return (await backend.haystack(index).Search(request, timeout=seconds)).result


async def _asked_or_last(backend: Backend, index: Resource, request: SearchRequest, seconds: float) -> SearchResult:
    try:
        return (await backend.haystack(index).Search(request, timeout=seconds * _ASKING_SHARE)).result
    except (Unavailable, DeadlineExceeded, Overloaded) as error:
        found = await answers.last(backend.answers, request)
        if found is None:
            raise
        used(Fallback.STALE_ANSWER, error.reason)
        return found.stale()
