"""Warming: after a switch and in a new pod the most-used requests have answers before anybody asks; callers never wait
for it."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from cortex_workloads.runtime import tasks
from cortex_workloads.runtime.cache.tally import Tally
from cortex_workloads.runtime.telemetry import REGISTRY
from cortex_workloads.search import warming
from cortex_workloads.search.quiet import Quiet
from cortex_workloads.search.warming import Warming
from datapunk.cortex import common_pb2, search_pb2

REF = common_pb2.ResourceRef(namespace="default", name="papers")
HOT = [f"whales number {number}" for number in range(5)]


def request(query: str, **more: Any) -> search_pb2.SearchRequest:
    return search_pb2.SearchRequest(index=REF, query=query, **more)


class Call:
    """The context of a call without a deadline."""

    def time_remaining(self) -> None:
        return None


class Pod:
    """The parts of a pod that warm, over the fixture's index."""

    def __init__(self, index: Any, state_url: str = "", most: int = 4) -> None:
        self.quiet = Quiet()
        self.service = index.service(quiet=self.quiet, answered=lambda asked: self.warming.asked(asked))
        self.warming = Warming(index.store.resource, state_url, most, self.quiet, self.service.ahead)
        self.serving = asyncio.create_task(self.warming.serve())

    async def ask(self, query: str, **more: Any) -> common_pb2.SearchResult:
        response = await self.service.Search(request(query, **more), Call())
        found: common_pb2.SearchResult = response.result
        return found

    async def close(self) -> None:
        await tasks.end(self.serving)
        await self.warming.close()


def ended(cause: str, end: str) -> float:
    return REGISTRY.get_sample_value("cortex_cache_warming_seconds_count", {"cause": cause, "end": end}) or 0.0


async def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)


@pytest.fixture
async def make(index: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[..., Pod]]:
    """Makes pods; the index has documents and a revision that answers. However late they are, they warm."""
    for name in ("_PATIENCE_SECONDS", "_ANSWER_SECONDS", "_SECONDS"):
        monkeypatch.setattr(warming, name, 60.0)
    await index.write(*((f"d{number}", query) for number, query in enumerate(HOT)))
    await index.embed()
    made: list[Pod] = []

    def build(**more: Any) -> Pod:
        made.append(Pod(index, **more))
        return made[-1]

    yield build
    for pod in made:
        await pod.close()


@pytest.mark.parametrize("shared", [True, False])
async def test_after_a_switch_what_is_asked_most_has_answers(
    index: Any, make: Callable[..., Pod], state_url: str, shared: bool
) -> None:
    pod = make(state_url=state_url if shared else "")
    pod.warming.answers((await index.store.current()).id)
    for query in [*HOT[:4] * 3, "once"]:
        await pod.ask(query)
    await pod.ask(HOT[0], mode=common_pb2.SEARCH_MODE_TEXT)
    before, embedded = ended("switch", "done"), len(index.encoder.texts)
    pod.warming.answers((await index.build(chunking={"splitBy": "Word", "splitLength": 50})).id)
    await until(lambda: ended("switch", "done") == before + 1)
    assert [(await pod.ask(query)).HasField("age") for query in HOT[:4]] == [True] * 4
    assert not (await pod.ask("once")).HasField("age")
    # The same model: vectors of queries were kept, and nothing was embedded twice.
    assert not set(HOT[:4]) & set(index.encoder.texts[embedded:])


async def test_a_pod_that_begins_warms_with_what_others_are_asked(
    index: Any, make: Callable[..., Pod], state_url: str
) -> None:
    current = (await index.store.current()).id
    one, other = make(state_url=state_url), make(state_url=state_url)
    for pod, times in ((one, 2), (other, 3)):
        for query in HOT[:3] * times:
            await pod.ask(query)
    await one.close()
    await other.close()
    tally = Tally(state_url, warming.keys("default", "papers"), 16)
    assert len(await tally.top(16)) == 3
    await tally.close()
    begins, before = make(state_url=state_url), ended("start", "done")
    begins.warming.answers(current)
    await until(lambda: ended("start", "done") == before + 1)
    assert [(await begins.ask(query)).HasField("age") for query in HOT[:3]] == [True] * 3


async def test_a_pod_under_load_does_not_warm(index: Any, make: Callable[..., Pod], monkeypatch: Any) -> None:
    """One caller, who asks again at once: between two questions there is a moment without."""
    monkeypatch.setattr(warming, "_PATIENCE_SECONDS", 0.5)
    pod, before = make(), ended("switch", "busy")
    pod.warming.answers("former")
    for query in HOT * 2:
        await pod.ask(query)
    asked, warmed = True, REGISTRY.get_sample_value("cortex_cache_warmed_total", {"cause": "switch"})

    async def caller() -> None:
        while asked:
            await pod.ask("another question")

    calling = asyncio.create_task(caller())
    pod.warming.answers("now")
    await until(lambda: ended("switch", "busy") == before + 1)
    asked = False
    await calling
    assert REGISTRY.get_sample_value("cortex_cache_warmed_total", {"cause": "switch"}) == warmed


async def test_a_warming_that_takes_long_is_left(index: Any, make: Callable[..., Pod], monkeypatch: Any) -> None:
    monkeypatch.setattr(warming, "_SECONDS", 0.2)
    pod, before = make(), ended("switch", "late")
    pod.warming.answers("former")
    for query in HOT * 2:
        await pod.ask(query)

    async def never(_: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(pod.warming, "_answer", never)
    pod.warming.answers("now")
    await until(lambda: ended("switch", "late") == before + 1)


async def test_what_cannot_be_asked_any_more_stops_nothing(
    index: Any, make: Callable[..., Pod], state_url: str
) -> None:
    """Of another release, or of somebody else who writes to the shared state."""
    tally = Tally(state_url, warming.keys("default", "papers"), 16)
    strange = request("", top_k=5), request("sea", top_k=100_000), request("gone", revision="0123456789")
    packed = [one.SerializeToString() for one in strange]
    await tally.add({b"\xff\xff": 9, **dict.fromkeys(packed, 8), request(HOT[0]).SerializeToString(): 2})
    await tally.close()
    pod, before = make(state_url=state_url, most=8), ended("start", "done")
    pod.warming.answers((await index.store.current()).id)
    await until(lambda: ended("start", "done") == before + 1)
    assert (await pod.ask(HOT[0])).HasField("age")


async def test_none_are_counted_where_none_are_to_be_warmed(index: Any, make: Any, state_url: str) -> None:
    pod = make(state_url=state_url, most=0)
    pod.warming.answers("former")
    for query in HOT * 2:
        await pod.ask(query)
    await pod.close()
    with redis.Redis.from_url(state_url) as state:
        assert state.keys("*") == []


async def test_the_shared_state_holds_bounded_counts_that_expire(
    state_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    # All of it in one hour.
    monkeypatch.setattr("cortex_workloads.runtime.cache.tally.time", SimpleNamespace(time=lambda: now))
    tally = Tally(state_url, "cortex:{index:a/b}:asked:", 8)
    for number in range(20):
        await tally.add({b"key%d" % number: number})
    assert await tally.top(3) == [b"key19", b"key18", b"key17"]
    with redis.Redis.from_url(state_url) as state:
        (key,) = state.keys("*")
        assert state.zcard(key) == 8
        assert 0 < state.ttl(key) <= 7200
        hour = int(key.rsplit(b":", 1)[1])
        assert abs(hour - time.time() / 3600) < 2
        state.zadd(f"cortex:{{index:a/b}}:asked:{hour - 1}", {"then": 30, "key12": 20})
        assert await tally.top(2) == [b"key12", b"key19"]
    await tally.close()


async def test_without_a_shared_state_there_are_no_counts() -> None:
    tally = Tally("redis://127.0.0.1:1/0", "a", 8)
    await tally.add({b"a": 1})
    assert await tally.top(8) == []
    await tally.close()


async def told(pod: Any, least: float, metric: str, **labels: str) -> None:
    async with asyncio.timeout(60):
        while await pod.metric(metric, **labels) < least:  # noqa: ASYNC110 - it is another process
            await asyncio.sleep(0.05)


async def test_real_pods_warm_at_a_switch_and_at_their_start(
    pods: type[Any], lake_dsn: str, state_url: str, tmp_path: Path
) -> None:
    environment = {"CORTEX_STATE_URL": state_url, "CORTEX_WARMING_REQUESTS": "3"}
    pod = pods(lake_dsn, tmp_path / "pod.log", **environment)
    await pod.ready()
    first = await pod.ensure()
    # Before that, the other revision would be the first that it knows.
    await told(pod, 1, "cortex_cache_warming_seconds_count", cause="start", end="done")
    await pod.update(whales="Whales sing in the sea.", ships="Ships carry goods.")
    await pod.embedded(2)
    for query in ("music", "goods", "sea") * 3:
        await pod.search(query)
    built = await pod.ensure(chunking={"splitLength": 2, "splitOverlap": 1})
    assert built.id != first.id
    await told(pod, 3, "cortex_cache_warmed_total", cause="switch")
    for query in ("music", "goods", "sea"):
        found = await pod.search(query)
        assert (found.revision, found.HasField("age")) == (built.id, True)
    pod.process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(pod.process.wait, 60) == 0
    pod.start()
    await pod.ready()
    await told(pod, 3, "cortex_cache_warmed_total", cause="start")
    shared = {"cache": "answers", "level": "shared", "result": "hit"}
    assert await pod.metric("cortex_cache_requests_total", **shared) == 3
    await pod.search("music")
    assert await pod.metric("cortex_cache_requests_total", **{**shared, "level": "memory"}) == 1
    await pod.close()
