"""HaystackService: parse, ask the pipelines or the store, answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final

from datapunk.cortex import common_pb2, search_pb2, search_pb2_grpc

from cortex_workloads.runtime.errors import DeadlineExceeded, InvalidInput, Unavailable
from cortex_workloads.runtime.fallbacks import Fallback, used
from cortex_workloads.runtime.preconditions import check_resource
from cortex_workloads.search import documents
from cortex_workloads.search.answers import Answers, Asked
from cortex_workloads.search.documents import from_struct
from cortex_workloads.search.fallback import NotEmbedded, asking_seconds, embedding_seconds, text_only
from cortex_workloads.search.pipelines import Pipelines
from cortex_workloads.search.quiet import Quiet
from cortex_workloads.search.retrieval import Hit, Mode
from cortex_workloads.search.store import LakeDocumentStore

QUERY_CHARACTERS: Final = 8_192
TOP_K: Final = 1_000
_MODE_NUMBERS: Final = {
    Mode.HYBRID: common_pb2.SEARCH_MODE_HYBRID,
    Mode.VECTOR: common_pb2.SEARCH_MODE_VECTOR,
    Mode.TEXT: common_pb2.SEARCH_MODE_TEXT,
}
_MODES: Final[dict[int, Mode]] = {number: mode for mode, number in _MODE_NUMBERS.items()}
_FALLBACKS: Final = frozenset({common_pb2.FALLBACK_TEXT_ONLY, common_pb2.FALLBACK_STALE_ANSWER})
_BEHIND: Final = 8
"""Searches, at most, that go on when their callers were given the last answer."""


class Haystack(search_pb2_grpc.HaystackServiceServicer):
    """Serves one index. `ready` gives the pipelines or raises what is still missing; `written` is called after each
    update that leaves something to embed, `answered` with each search that was."""

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
        answered: Callable[[Asked], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._answers = answers
        self._behind: set[asyncio.Task[common_pb2.SearchResult]] = set()
        self._ready = ready
        self._quiet = quiet
        self._written = written
        self._default_mode = default_mode
        self._default_top_k = default_top_k
        self._answered = answered

    async def Search(self, request: search_pb2.SearchRequest, context: Any) -> search_pb2.SearchResponse:
        """Finds documents."""
        began = time.perf_counter()
        check_resource(self._store.resource, request.index)
        _check_query(request)
        asked = self._decided(request)
        with self._quiet.query():
            result = await self._answer(asked, context)
        self._answered(asked)
        response = search_pb2.SearchResponse(result=result)
        response.result.took.FromNanoseconds(int((time.perf_counter() - began) * 1e9))
        return response

    async def ahead(self, request: search_pb2.SearchRequest) -> None:
        """Answers a search that nobody waits for, so that who asks the same next finds the answer. Raises as Search."""
        check_resource(self._store.resource, request.index)
        _check_query(request)
        await self._real(self._decided(request), None)

    async def _answer(self, asked: Asked, context: Any) -> common_pb2.SearchResult:
        early = common_pb2.FALLBACK_TEXT_ONLY in asked.request.fallbacks
        patience = embedding_seconds(context.time_remaining()) if early else None
        real = self._real(asked, patience)
        if common_pb2.FALLBACK_STALE_ANSWER not in asked.request.fallbacks:
            return await real
        return await self._real_or_last(asked, real, asking_seconds(context.time_remaining()))

    def _decided(self, request: search_pb2.SearchRequest) -> Asked:
        mode, top_k = _MODES.get(request.mode, self._default_mode), request.top_k or self._default_top_k
        early = common_pb2.FALLBACK_TEXT_ONLY in request.fallbacks
        # Who gives up on the embedder early takes nobody along who does not.
        return Asked(request, _MODE_NUMBERS[mode], top_k, b"text-only" if early else b"")

    async def _real_or_last(
        self, asked: Asked, real: Coroutine[Any, Any, common_pb2.SearchResult], seconds: float | None
    ) -> common_pb2.SearchResult:
        task = asyncio.create_task(real)
        try:
            await asyncio.wait((task,), timeout=seconds)
            why = _unavailable(task)
            if why and (last := await self._answers.last(asked)) is not None:
                used(Fallback.STALE_ANSWER, why)
                self._go_on(task)
                return last
            return await task
        except asyncio.CancelledError:
            task.cancel()
            raise

    def _go_on(self, task: asyncio.Task[common_pb2.SearchResult]) -> None:
        """The next caller is to find an answer; but not more and more of them while nothing answers."""
        if len(self._behind) >= _BEHIND:
            task.cancel()
        self._behind.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[common_pb2.SearchResult]) -> None:
        self._behind.discard(task)
        if not task.cancelled():
            task.exception()

    async def _real(self, asked: Asked, seconds: float | None) -> common_pb2.SearchResult:
        pipelines, request, mode = self._ready(), asked.request, _MODES[asked.mode]
        try:
            return await self._answers.get(asked, partial(_find, pipelines, request, mode, asked.top_k, seconds))
        except NotEmbedded as why:
            if common_pb2.FALLBACK_TEXT_ONLY not in request.fallbacks:
                raise why.cause from None
            result, _ = await _find(pipelines, request, Mode.TEXT, asked.top_k)
            result.fallback = common_pb2.FALLBACK_TEXT_ONLY
            text_only(why)
            return result

    async def UpdateIndex(self, request: search_pb2.UpdateRequest, context: Any) -> search_pb2.UpdateResponse:
        """Writes and deletes documents."""
        check_resource(self._store.resource, request.index)
        self._ready()
        new = [documents.from_message(document) for document in request.documents]
        done = await self._store.update(new, list(request.delete_ids))
        if done.waiting:
            self._written()
        return search_pb2.UpdateResponse(
            written=done.written, unchanged=done.unchanged, deleted=done.deleted, waiting=done.waiting
        )


def _unavailable(task: asyncio.Task[common_pb2.SearchResult]) -> str:
    """Why the real answer cannot be had, as far as it cannot; else empty."""
    if not task.done():
        return "TooSlow"
    error = None if task.cancelled() else task.exception()
    return error.reason if isinstance(error, Unavailable | DeadlineExceeded) else ""


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
