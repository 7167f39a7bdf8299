"""HaystackService: parse, ask the pipelines or the store, answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

from datapunk.cortex import common_pb2, search_pb2, search_pb2_grpc

from cortex_workloads.runtime.errors import FailedPrecondition, InvalidInput
from cortex_workloads.runtime.lake.revisions import Resource
from cortex_workloads.search import documents
from cortex_workloads.search.answers import Answers, Asked
from cortex_workloads.search.documents import from_struct
from cortex_workloads.search.fallback import Fallback, NotEmbedded, embedding_seconds, used
from cortex_workloads.search.pipelines import Pipelines
from cortex_workloads.search.retrieval import Hit, Mode
from cortex_workloads.search.store import LakeDocumentStore

QUERY_CHARACTERS: Final = 8_192
TOP_K: Final = 1_000
_MODES: Final = {
    common_pb2.SEARCH_MODE_HYBRID: Mode.HYBRID,
    common_pb2.SEARCH_MODE_VECTOR: Mode.VECTOR,
    common_pb2.SEARCH_MODE_TEXT: Mode.TEXT,
}
_FALLBACKS: Final = frozenset({common_pb2.FALLBACK_TEXT_ONLY})
_MODE_NUMBERS: Final = {mode: number for number, mode in _MODES.items()}


class Quiet:
    """Says when no query is in progress."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.event.set()
        self._queries = 0

    @contextmanager
    def query(self) -> Iterator[None]:
        """A query is in progress."""
        self._queries += 1
        self.event.clear()
        try:
            yield
        finally:
            self._queries -= 1
            if not self._queries:
                self.event.set()


class Haystack(search_pb2_grpc.HaystackServiceServicer):
    """Serves one index. `ready` gives the pipelines or raises what is still missing; `written` is called after each
    update that leaves something to embed."""

    def __init__(
        self,
        store: LakeDocumentStore,
        answers: Answers,
        ready: Callable[[], Pipelines],
        quiet: Quiet,
        written: Callable[[], None],
        *,
        default_mode: Mode,
        default_top_k: int,
    ) -> None:
        self._store = store
        self._answers = answers
        self._ready = ready
        self._quiet = quiet
        self._written = written
        self._default_mode = default_mode
        self._default_top_k = default_top_k

    async def Search(self, request: search_pb2.SearchRequest, context: Any) -> search_pb2.SearchResponse:
        """Finds documents."""
        began = time.perf_counter()
        check_resource(self._store.resource, request.index, "index")
        _check_query(request)
        pipelines = self._ready()
        with self._quiet.query():
            result = await self._answer(pipelines, request, context)
        response = search_pb2.SearchResponse(result=result)
        response.result.took.FromNanoseconds(int((time.perf_counter() - began) * 1e9))
        return response

    async def _answer(
        self, pipelines: Pipelines, request: search_pb2.SearchRequest, context: Any
    ) -> common_pb2.SearchResult:
        mode, top_k = _MODES.get(request.mode, self._default_mode), request.top_k or self._default_top_k
        text_only = common_pb2.FALLBACK_TEXT_ONLY in request.fallbacks
        patience = embedding_seconds(context.time_remaining()) if text_only else None
        # Who gives up on the embedder early takes nobody along who does not.
        asked = Asked(request, _MODE_NUMBERS[mode], top_k, b"text-only" if text_only else b"")
        try:
            return await self._answers.get(asked, partial(_find, pipelines, request, mode, top_k, patience))
        except NotEmbedded as why:
            if not text_only:
                raise why.cause from None
            result, _ = await _find(pipelines, request, Mode.TEXT, top_k)
            result.fallback = common_pb2.FALLBACK_TEXT_ONLY
            used(Fallback.TEXT_ONLY, why)
            return result

    async def UpdateIndex(self, request: search_pb2.UpdateRequest, context: Any) -> search_pb2.UpdateResponse:
        """Writes and deletes documents."""
        check_resource(self._store.resource, request.index, "index")
        self._ready()
        new = [documents.from_message(document) for document in request.documents]
        done = await self._store.update(new, list(request.delete_ids))
        if done.waiting:
            self._written()
        return search_pb2.UpdateResponse(
            written=done.written, unchanged=done.unchanged, deleted=done.deleted, waiting=done.waiting
        )


def check_resource(served: Resource, asked: common_pb2.ResourceRef, field: str) -> None:
    """Raises FailedPrecondition (`WrongResource`) when a request is for another resource than this pod's."""
    if (asked.namespace, asked.name) != (served.namespace, served.name):
        raise FailedPrecondition(
            f"this pod serves the {field} {served.namespace}/{served.name},"
            f" not {asked.namespace or '(no namespace)'}/{asked.name or '(no name)'}",
            remedy=f"ask the Service of that {field}, or name the one that is served here",
            reason="WrongResource",
        )


async def _find(
    pipelines: Pipelines, request: search_pb2.SearchRequest, mode: Mode, top_k: int, seconds: float | None = None
) -> tuple[common_pb2.SearchResult, int | None]:
    found, revision = await pipelines.search(
        request.query, mode, top_k, from_struct(request.filter), request.revision, request.exact, seconds
    )
    result = common_pb2.SearchResult(
        hits=[_hit(hit) for hit in found.hits],
        revision=revision,
        mode=_MODE_NUMBERS[mode],
        coverage=common_pb2.Coverage(documents=found.documents, embedded=found.embedded),
    )
    return result, found.version


def _check_query(request: search_pb2.SearchRequest) -> None:
    violations: list[tuple[str, str]] = []
    if not request.query.strip():
        violations.append(("query", "is empty"))
    elif len(request.query) > QUERY_CHARACTERS:
        violations.append(("query", f"has {len(request.query):,} characters; the limit is {QUERY_CHARACTERS:,}"))
    elif (mistake := documents.text_mistake(request.query)) is not None:
        violations.append(("query", mistake))
    if not 0 <= request.top_k <= TOP_K:
        violations.append(("top_k", f"is {request.top_k}; 1 to {TOP_K:,} is expected, or 0 for the index's own"))
    if request.mode and request.mode not in _MODES:
        violations.append(("mode", f"is {request.mode}, which this release does not know"))
    for place, fallback in enumerate(request.fallbacks):
        if fallback not in _FALLBACKS:
            violations.append((f"fallbacks[{place}]", f"is {fallback}, which this release does not know"))
    if violations:
        raise InvalidInput(
            "the search is not valid: " + "; ".join(f"{field} {message}" for field, message in violations),
            remedy="correct the fields named and ask again",
            violations=violations,
        )


def _hit(hit: Hit) -> common_pb2.Hit:
    message = common_pb2.Hit(
        id=hit.id,
        title=hit.title,
        passage=hit.passage,
        score=hit.score,
        passage_start=hit.start,
        passage_end=hit.stop,
        vector_rank=hit.vector_rank,
        text_rank=hit.text_rank,
    )
    message.meta.update(hit.meta)
    return message
