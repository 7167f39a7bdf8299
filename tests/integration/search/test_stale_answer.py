"""The fallback StaleAnswer: who declared it is given the last answer when the index cannot be asked, marked."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from cortex_workloads.runtime.errors import InvalidInput, Unavailable
from cortex_workloads.runtime.telemetry import REGISTRY
from datapunk.cortex import common_pb2, search_pb2

STALE = common_pb2.FALLBACK_STALE_ANSWER
REF = common_pb2.ResourceRef(namespace="default", name="papers")


class Call:
    """The context of a call with so many seconds left."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds

    def time_remaining(self) -> float | None:
        return self._seconds


async def ask(service: Any, *fallbacks: int, seconds: float | None = None, **more: Any) -> common_pb2.SearchResult:
    request = search_pb2.SearchRequest(index=REF, **{"query": "sea", "fallbacks": fallbacks, **more})
    found: common_pb2.SearchResult = (await service.Search(request, Call(seconds))).result
    return found


def used(reason: str) -> float:
    labels = {"fallback": "StaleAnswer", "reason": reason}
    return REGISTRY.get_sample_value("cortex_fallbacks_total", labels) or 0.0


@pytest.fixture
async def full(index: Any) -> Any:
    await index.write(("whales", "whales sing in the sea"))
    await index.embed()
    return index


async def gone(*_: Any, **__: Any) -> Any:
    raise Unavailable("the Lake does not answer", reason="LakeUnreachable")


@pytest.mark.parametrize("far", [False, True], ids=["own", "of another pod"])
async def test_without_its_lake_a_pod_gives_the_last_answer_to_who_accepts_it(
    full: Any, state_url: str, monkeypatch: pytest.MonkeyPatch, far: bool
) -> None:
    one, other = (full.service(full.answers(state_url)) for _ in range(2))
    first = await ask(one)
    service = other if far else one
    before = used("LakeUnreachable")
    for method in ("search", "version"):
        monkeypatch.setattr(full.store, method, gone)
    with pytest.raises(Unavailable, match="the Lake does not answer"):
        await ask(service)
    with pytest.raises(Unavailable, match="the Lake does not answer"):
        await ask(service, STALE, query="never asked")
    with pytest.raises(Unavailable, match="the Lake does not answer"):
        await ask(service, STALE, top_k=1)
    assert used("LakeUnreachable") == before
    told = await ask(service, STALE)
    assert (told.fallback, told.HasField("age"), list(told.hits)) == (STALE, True, list(first.hits))
    assert used("LakeUnreachable") == before + 1


async def test_the_real_answer_is_not_marked_and_comes_first(full: Any) -> None:
    service = full.service()
    await ask(service)
    await full.write(("gulls", "gulls over the sea"))
    told = await ask(service, STALE, seconds=30)
    assert ({hit.id for hit in told.hits}, told.fallback) == ({"whales", "gulls"}, 0)


async def test_near_the_deadline_the_last_answer_is_given_and_the_search_goes_on(
    full: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, go_on = full.service(), asyncio.Event()
    await ask(service)
    await full.write(("gulls", "gulls over the sea"))
    search = full.store.search

    async def slow(*arguments: Any, **more: Any) -> Any:
        await go_on.wait()
        return await search(*arguments, **more)

    monkeypatch.setattr(full.store, "search", slow)
    before = used("TooSlow")
    told = await ask(service, STALE, seconds=0.2)
    assert ([hit.id for hit in told.hits], told.fallback, used("TooSlow")) == (["whales"], STALE, before + 1)
    (behind,) = service._behind
    go_on.set()
    await behind
    monkeypatch.setattr(full.store, "search", gone)
    fresh = await ask(service)
    assert {hit.id for hit in fresh.hits} == {"whales", "gulls"}
    assert not service._behind


async def test_what_goes_on_behind_is_bounded(full: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    service, held = full.service(), asyncio.Event()
    queries = [f"sea {number}" for number in range(12)]
    for query in queries:
        await ask(service, query=query)
    await full.write(("gulls", "gulls over the sea"))

    async def never(*_: Any, **__: Any) -> Any:
        await held.wait()

    monkeypatch.setattr(full.store, "search", never)
    told = await asyncio.gather(*(ask(service, STALE, seconds=0.2, query=query) for query in queries))
    assert {result.fallback for result in told} == {STALE}
    async with asyncio.timeout(60):
        # What is ended in the middle of a statement ends with that.
        while len(service._behind) > 8:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.01)
    assert len(service._behind) == 8
    for task in service._behind:
        task.cancel()


async def test_a_mistake_of_the_caller_is_told_as_one(full: Any) -> None:
    with pytest.raises(InvalidInput):
        await ask(full.service(), STALE, query=" ")
