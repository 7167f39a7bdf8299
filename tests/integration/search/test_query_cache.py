"""A query that was asked before is not embedded again, whoever asks; another model's vector is never taken for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cortex_workloads.search.retrieval import Mode
from datapunk.cortex import common_pb2


async def cached(pod: Any) -> dict[str, float]:
    """Questions to the pod's cache, by result."""
    return {
        result: await pod.metric("cortex_cache_requests_total", cache="query_embeddings", level="memory", result=result)
        for result in ("hit", "miss", "joined")
    }


@pytest.fixture
async def pod(pods: Callable[..., Any], lake_dsn: str, tmp_path: Path) -> AsyncIterator[Any]:
    """A pod that keeps no answers, so that a search is made each time."""
    pod = pods(lake_dsn, tmp_path / "pod.log", CORTEX_ANSWER_CACHE_BYTES="0")
    await pod.ready()
    yield pod
    await pod.close()


async def test_the_same_query_twice_embeds_once(pod: Any) -> None:
    await pod.ensure()
    await pod.update(whales="Whales sing in the sea.", ships="Ships carry goods.")
    await pod.embedded(2)
    assert await cached(pod) == {"hit": 0, "miss": 0, "joined": 0}
    first = await pod.search("which animals make music?")
    again = await pod.search("which animals make music?")
    assert [hit.score for hit in again.hits] == [hit.score for hit in first.hits]
    assert await cached(pod) == {"hit": 1, "miss": 1, "joined": 0}
    # Another mode and another spelling that the model does not tell apart have the same vector.
    await pod.search("Which  Animals make music?", mode=common_pb2.SEARCH_MODE_VECTOR)
    assert await cached(pod) == {"hit": 2, "miss": 1, "joined": 0}
    # Without a vector leg nothing is embedded.
    await pod.search("sea", mode=common_pb2.SEARCH_MODE_TEXT)
    await pod.search("sea")
    assert await cached(pod) == {"hit": 2, "miss": 2, "joined": 0}
    of_cache = {"cache": "query_embeddings", "level": "memory"}
    assert await pod.metric("cortex_cache_entries", **of_cache) == 2
    bound = await pod.metric("cortex_cache_limit_bytes", **of_cache)
    assert 2 * 384 * 4 < await pod.metric("cortex_cache_bytes", **of_cache) <= bound == 64 * 2**20


async def test_a_pod_without_room_for_it_answers_all_the_same(
    pods: Callable[..., Any], lake_dsn: str, tmp_path: Path
) -> None:
    pod = pods(lake_dsn, tmp_path / "small.log", CORTEX_QUERY_CACHE_BYTES="0", CORTEX_ANSWER_CACHE_BYTES="0")
    await pod.ready()
    await pod.ensure()
    await pod.update(whales="Whales sing in the sea.")
    await pod.embedded(1)
    for _ in range(2):
        assert [hit.id for hit in (await pod.search("music")).hits] == ["whales"]
    assert await cached(pod) == {"hit": 0, "miss": 2, "joined": 0}
    await pod.close()


async def test_many_who_ask_the_same_at_once_embed_once(index: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    await index.write(("whales", "whales sing"), ("ships", "ships carry"))
    await index.embed()
    pipelines, began, go, asked = index.pipelines(), asyncio.Event(), asyncio.Event(), []

    async def slow(text: str) -> Any:
        asked.append(text)
        began.set()
        await go.wait()
        return index.encoder.encode_query(text)

    monkeypatch.setattr(index.encoder, "aencode_query", slow)
    searches = [asyncio.create_task(pipelines.search("whales", Mode.VECTOR, 1)) for _ in range(8)]
    async with asyncio.timeout(60):
        await began.wait()
    searches[0].cancel()
    go.set()
    outcomes = await asyncio.gather(*searches, return_exceptions=True)
    assert isinstance(outcomes[0], asyncio.CancelledError)
    assert [found.hits[0].id for found, _ in outcomes[1:]] == ["whales"] * 7  # type: ignore[misc]
    assert asked == ["whales"]


async def test_another_models_vector_is_never_taken(index: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    await index.write(("whales", "whales sing"))
    await index.embed()
    pipelines = index.pipelines()
    first, _ = await pipelines.search("whales", Mode.VECTOR, 1)
    other = type(index.encoder)()
    other.digest = b"another model"

    async def other_vector(text: str) -> Any:
        return np.full(384, -(384**-0.5), np.float32) - index.encoder.encode_query(text)

    async def queries(revision: Any) -> Any:
        return other

    monkeypatch.setattr(other, "aencode_query", other_vector)
    monkeypatch.setattr(index.encoder, "queries", queries)
    second, _ = await pipelines.search("whales", Mode.VECTOR, 1)
    assert first.hits[0].score > 0.5 > second.hits[0].score
