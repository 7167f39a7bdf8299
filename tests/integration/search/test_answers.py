"""Kept answers: given again without a search, by every pod, and never when they are not true any more."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
from cortex_workloads.runtime.lake.migrate import migrations
from cortex_workloads.runtime.telemetry import REGISTRY
from cortex_workloads.search import tables
from cortex_workloads.search.documents import NewDocument
from cortex_workloads.search.store import LakeDocumentStore
from datapunk.cortex import common_pb2, search_pb2

REF = common_pb2.ResourceRef(namespace="default", name="papers")
TEXT = common_pb2.SEARCH_MODE_TEXT


class Call:
    """The context of a call without a deadline."""

    def time_remaining(self) -> None:
        return None


async def ask(service: Any, query: str = "sea", **more: Any) -> common_pb2.SearchResult:
    response = await service.Search(search_pb2.SearchRequest(index=REF, query=query, **more), Call())
    found: common_pb2.SearchResult = response.result
    return found


def kept(result: common_pb2.SearchResult) -> bool:
    return result.HasField("age")


def counted(level: str, result: str) -> float:
    labels = {"cache": "test_answers", "level": level, "result": result}
    return REGISTRY.get_sample_value("cortex_cache_requests_total", labels) or 0.0


@pytest.fixture
async def full(index: Any) -> Any:
    """An index with two documents, embedded."""
    await index.write(("whales", "whales sing in the sea"), ("ships", "ships carry goods"))
    await index.embed()
    return index


async def test_the_same_search_twice_is_made_once_and_its_age_is_told(full: Any) -> None:
    service, hits = full.service(), counted("memory", "hit")
    first, again = await ask(service), await ask(service)
    assert not kept(first)
    assert kept(again)
    assert counted("memory", "hit") == hits + 1
    for result in (first, again):
        assert result.HasField("took")
        result.ClearField("took")
    again.ClearField("age")
    assert again == first


async def test_what_one_pod_found_another_gives(full: Any, state_url: str) -> None:
    one, other = (full.service(full.answers(state_url)) for _ in range(2))
    hits = counted("shared", "hit")
    first, again = await ask(one), await ask(other)
    assert (kept(again), list(again.hits), counted("shared", "hit")) == (True, list(first.hits), hits + 1)
    assert kept(await ask(other))
    assert counted("shared", "hit") == hits + 1


@pytest.mark.parametrize(
    "more",
    [
        {"query": "goods"},
        {"mode": TEXT},
        {"top_k": 1},
        {"filter": {"field": "meta.a", "operator": "==", "value": 1}},
        {"exact": True},
    ],
    ids=lambda more: next(iter(more)),
)
async def test_another_request_has_another_answer(full: Any, more: dict[str, Any]) -> None:
    service = full.service()
    await ask(service)
    assert not kept(await ask(service, **more))
    assert kept(await ask(service, **more))


async def test_what_the_caller_would_accept_instead_makes_no_other_answer(full: Any) -> None:
    service = full.service()
    await ask(service)
    assert kept(await ask(service, fallbacks=[common_pb2.FALLBACK_TEXT_ONLY]))


async def test_what_the_index_decides_for_the_request_counts(full: Any, state_url: str) -> None:
    before, after = full.service(full.answers(state_url)), full.service(full.answers(state_url))
    after._default_top_k = 1
    assert len((await ask(before)).hits) == 2
    assert len((await ask(after)).hits) == 1


async def add(index: Any) -> None:
    await index.write(("gulls", "gulls over the sea"))


async def change(index: Any) -> None:
    await index.write(("ships", "ships sink in the sea"))


async def delete(index: Any) -> None:
    await index.store.update([], ["whales"])


async def change_meta_alone(index: Any) -> None:
    await index.write(NewDocument("whales", "", "whales sing in the sea", {"seen": True}))


async def embed(index: Any) -> None:
    await index.embed()


@pytest.mark.parametrize("write", [add, change, delete, change_meta_alone])
async def test_what_was_written_is_found_at_once(
    full: Any, write: Callable[[Any], Awaitable[None]], state_url: str
) -> None:
    one, other = (full.service(full.answers(state_url)) for _ in range(2))
    before = await ask(one)
    outdated = counted("memory", "outdated"), counted("shared", "outdated")
    await write(full)
    for service in (one, other):
        now = await ask(service)
        assert list(now.hits) != list(before.hits)
    assert kept(await ask(other))
    assert (counted("memory", "outdated"), counted("shared", "outdated")) == (outdated[0] + 1, outdated[1] + 1)


async def test_what_was_embedded_is_found_at_once(full: Any) -> None:
    service = full.service()
    await add(full)
    before = await ask(service)
    await embed(full)
    now = await ask(service)
    assert (before.coverage.embedded, now.coverage.embedded) == (2, 3)


async def test_what_changes_nothing_and_what_adds_up_sums_keeps_answers(full: Any) -> None:
    service = full.service()
    await ask(service)
    await full.write(("whales", "whales sing in the sea"))
    row = (await full.store.current()).row
    async with full.lake.transaction() as connection:
        await tables.compact(connection, row)
        await tables.prune(connection, row)
        assert (await tables.counts(connection, row)).rows == 1
    assert kept(await ask(service))


async def test_another_revision_answers_for_itself(full: Any) -> None:
    service = full.service()
    former = (await ask(service)).revision
    await full.build(chunking={"splitBy": "Word", "splitLength": 50})
    now = await ask(service)
    assert (kept(now), now.revision != former) == (False, True)
    # One that takes no writes does not hear of what changes: its answers are never kept.
    for _ in range(2):
        assert not kept(await ask(service, revision=former))
    await delete(full)
    assert [hit.id for hit in (await ask(service, revision=former)).hits] == ["ships"]


@pytest.mark.parametrize("mode", [TEXT, common_pb2.SEARCH_MODE_HYBRID])
async def test_a_switch_that_a_pod_has_not_heard_of_yet_is_asked_for(full: Any, monkeypatch: Any, mode: int) -> None:
    service = full.service()
    await ask(service, mode=mode)
    monkeypatch.setattr("cortex_workloads.search.store._FRESH_SECONDS", 60.0)
    await full.store.current()
    behind = full.store._current
    now = await full.build(chunking={"splitBy": "Word", "splitLength": 50})
    for query in ("sea", "goods"):
        full.store._current = behind
        assert (await ask(service, query, mode=mode)).revision == now.id


async def test_who_joins_a_search_sees_what_was_written_before_it_asked(full: Any, monkeypatch: Any) -> None:
    service, searched, go_on = full.service(), asyncio.Event(), asyncio.Event()
    search = full.store.search

    async def slow(*arguments: Any, **more: Any) -> Any:
        found = await search(*arguments, **more)
        searched.set()
        await go_on.wait()
        return found

    monkeypatch.setattr(full.store, "search", slow)
    first = asyncio.create_task(ask(service, mode=TEXT))
    await searched.wait()
    await add(full)
    later = [asyncio.create_task(ask(service, mode=TEXT)) for _ in range(5)]
    await asyncio.sleep(0)
    go_on.set()
    assert {hit.id for hit in (await first).hits} == {"whales"}
    for task in later:
        assert {hit.id for hit in (await task).hits} == {"whales", "gulls"}


async def test_many_who_ask_the_same_at_once_search_once(full: Any, monkeypatch: Any) -> None:
    service, searches = full.service(), 0
    search = full.store.search

    async def counting(*arguments: Any, **more: Any) -> Any:
        nonlocal searches
        searches += 1
        await asyncio.sleep(0)
        return await search(*arguments, **more)

    monkeypatch.setattr(full.store, "search", counting)
    found = await asyncio.gather(*(ask(service) for _ in range(20)))
    assert (searches, len({result.SerializeToString(deterministic=True) for result in map(bare, found)})) == (1, 1)


def bare(result: common_pb2.SearchResult) -> common_pb2.SearchResult:
    for field in ("took", "age"):
        result.ClearField(field)
    return result


async def test_every_search_sees_what_was_acknowledged_before_it_began(index: Any, lake: Any, state_url: str) -> None:
    """Writers and searchers side by side, over two pods: a document's number in an answer is never below the one that
    was acknowledged when the search began, a deletion that was stays one."""
    await index.write(*(NewDocument(f"d{n}", "", f"sea {n}", {"number": 0}) for n in range(4)))
    await index.embed()
    services = []
    for _ in range(2):
        index.store = LakeDocumentStore("default", "papers", lake=lake)
        services.append(index.service(index.answers(state_url)))
    chance, acknowledged = random.Random(7), dict.fromkeys(range(4), 0)
    writing, rest = True, asyncio.Barrier(4)
    seen_kept = 0

    async def write(document: int) -> None:
        for number in range(1, 41):
            change = NewDocument(f"d{document}", "", f"sea {document}", {"number": number})
            gone = document % 2 and not number % 3
            await index.store.update([] if gone else [change], [f"d{document}"] if gone else [])
            acknowledged[document] = -number if gone else number
            await asyncio.sleep(chance.random() * 0.02)
            if not number % 10:
                # However slow searches are, some answers stay true until they are asked for again.
                await rest.wait()
                before = seen_kept
                while seen_kept < before + 2:  # noqa: ASYNC110 - what is waited for has no event
                    await asyncio.sleep(0.01)

    async def search(service: Any) -> None:
        nonlocal seen_kept
        while writing:
            known = dict(acknowledged)
            found = await ask(service, mode=TEXT)
            seen_kept += kept(found)
            numbers = {int(hit.id[1:]): int(hit.meta["number"]) for hit in found.hits}
            for document, number in known.items():
                # Written meanwhile, it may be anything newer; deleted meanwhile, it may be missing.
                if document in numbers:
                    assert numbers[document] >= abs(number)
                    assert number >= 0 or numbers[document] > -number
                elif number >= 0:
                    assert acknowledged[document] != number or document % 2
            # An answer that asks nobody would keep writers from their turn.
            await asyncio.sleep(0)

    searchers = [asyncio.create_task(search(service)) for service in services for _ in range(3)]
    async with asyncio.timeout(90):
        await asyncio.gather(*(write(document) for document in range(4)))
    writing = False
    await asyncio.gather(*searchers)
    assert seen_kept > 5


async def test_a_shared_state_that_is_away_costs_no_answer(full: Any) -> None:
    service = full.service(full.answers("redis://127.0.0.1:1/0"))
    assert not kept(await ask(service))
    assert kept(await ask(service))


async def test_tables_of_an_earlier_release_are_completed(full: Any) -> None:
    row = (await full.store.current()).row
    drop = partial(tables.on, row, "ALTER TABLE {statistics} DROP COLUMN version")
    async with full.lake.transaction() as connection:
        await connection.execute(drop())
    service = full.service()
    assert [kept(await ask(service)) for _ in range(2)] == [False, True]
    async with full.lake.transaction() as connection:
        await connection.execute(drop())
        await tables.compact(connection, row)
    assert [kept(await ask(service)) for _ in range(2)] == [False, True]
    async with full.lake.transaction() as connection:
        await connection.execute(drop())
        await connection.execute(next(one.sql for one in migrations() if one.number == 5).encode())
    assert [kept(await ask(service)) for _ in range(2)] == [False, True]
