"""The fallback TextOnly: who declared it is answered by text when the query cannot be embedded, and told so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from cortex_workloads.runtime.errors import CortexError, FailedPrecondition, InvalidInput, Unavailable
from cortex_workloads.runtime.telemetry import REGISTRY
from datapunk.cortex import common_pb2, search_pb2

TEXT_ONLY = common_pb2.FALLBACK_TEXT_ONLY


class Call:
    """The context of a call with so many seconds left."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds

    def time_remaining(self) -> float | None:
        return self._seconds


Ask = Callable[..., Any]


@pytest.fixture
async def ask(index: Any) -> Ask:
    await index.write(("whales", "whales sing in the sea"), ("ships", "ships carry goods"))
    await index.embed()
    service = index.service()
    ref = common_pb2.ResourceRef(namespace="default", name="papers")

    async def search(*fallbacks: int, seconds: float | None = None, mode: int = 0) -> common_pb2.SearchResult:
        request = search_pb2.SearchRequest(index=ref, query="sea", mode=mode, fallbacks=fallbacks)
        return (await service.Search(request, Call(seconds))).result

    return search


def failing(index: Any, error: Exception) -> None:
    def fail() -> None:
        raise error

    index.encoder.before = fail


def used(reason: str) -> float:
    labels = {"fallback": "TextOnly", "reason": reason}
    return REGISTRY.get_sample_value("cortex_fallbacks_total", labels) or 0.0


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Unavailable("not yet", reason="ModelLoading"), "ModelLoading"),
        (FailedPrecondition("others", reason="ModelChanged"), "ModelChanged"),
        (RuntimeError("the network failed"), "EmbeddingFailed"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("mode", [common_pb2.SEARCH_MODE_HYBRID, common_pb2.SEARCH_MODE_VECTOR])
async def test_a_query_that_cannot_be_embedded_is_answered_by_text(
    index: Any, ask: Ask, error: Exception, reason: str, mode: int
) -> None:
    failing(index, error)
    before = used(reason)
    with pytest.raises(type(error), match=str(error)):
        await ask(mode=mode)
    assert used(reason) == before
    told = await ask(TEXT_ONLY, mode=mode)
    assert [hit.id for hit in told.hits] == ["whales"]
    assert (told.fallback, told.mode) == (TEXT_ONLY, common_pb2.SEARCH_MODE_TEXT)
    assert used(reason) == before + 1


async def test_a_model_that_cannot_be_used_is_no_reason_to_fail(
    index: Any, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def queries(_: Any) -> Any:
        raise FailedPrecondition("no such directory", reason="ModelMissing")

    monkeypatch.setattr(index.encoder, "queries", queries)
    with pytest.raises(CortexError, match="no such directory"):
        await ask()
    assert (await ask(TEXT_ONLY)).fallback == TEXT_ONLY


async def test_an_embedder_that_is_too_slow_for_the_deadline_is_not_waited_for(
    index: Any, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = asyncio.Event()

    async def never(_: str) -> Any:
        await held.wait()

    monkeypatch.setattr(index.encoder, "aencode_query", never)
    before = used("TooSlow")
    told = await ask(TEXT_ONLY, seconds=0.2)
    assert ([hit.id for hit in told.hits], told.fallback) == (["whales"], TEXT_ONLY)
    assert used("TooSlow") == before + 1


async def test_the_real_answer_is_not_marked(ask: Ask) -> None:
    told = await ask(TEXT_ONLY, seconds=30)
    assert (told.fallback, told.mode, told.HasField("age")) == (0, common_pb2.SEARCH_MODE_HYBRID, False)
    assert told.hits[0].HasField("vector_rank")


async def test_a_lake_that_is_gone_is_no_matter_of_text(index: Any, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    async def gone(*_: Any, **__: Any) -> Any:
        raise Unavailable("the Lake does not answer", reason="LakeUnreachable")

    monkeypatch.setattr(index.store, "search", gone)
    with pytest.raises(Unavailable, match="the Lake does not answer"):
        await ask(TEXT_ONLY)
    assert used("LakeUnreachable") == 0


async def test_a_fallback_that_this_release_does_not_know_is_refused_by_its_place(ask: Ask) -> None:
    with pytest.raises(InvalidInput) as told:
        await ask(TEXT_ONLY, 17)
    assert told.value.violations == (("fallbacks[1]", "is 17, which this release does not know"),)
