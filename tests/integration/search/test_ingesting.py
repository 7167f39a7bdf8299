"""Everything that waits is embedded once, whoever works on it, whatever fails; revisions are built and switched."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
import redis.asyncio
from cortex_workloads.runtime import tasks
from cortex_workloads.runtime.lake import revisions
from cortex_workloads.runtime.lake.pool import Lake
from cortex_workloads.search import queue, tables, worker
from cortex_workloads.search.documents import NewDocument
from cortex_workloads.search.quiet import Quiet
from cortex_workloads.search.retrieval import Mode
from cortex_workloads.search.worker import Batch


async def phases(index: Any) -> dict[str, str]:
    async with index.lake.connection() as connection:
        return {one.id: one.phase.value for one in await revisions.describe(connection, index.store.resource)}


async def until(condition: Any, seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 - it is in another process
            await asyncio.sleep(0.01)


async def test_each_document_is_embedded_once_by_many_workers(index: Any) -> None:
    await index.write(*((f"d{number}", f"text number {number}") for number in range(100)))
    revision = await index.store.current()
    await asyncio.gather(*(index.worker(Batch(7, 10_000)).drain(revision.id) for _ in range(4)))
    assert sorted(index.encoder.texts) == sorted(f"text number {number}" for number in range(100))


async def test_a_poisonous_document_is_tried_three_times_and_reported(index: Any) -> None:
    await index.write(("good", "text"), ("bad", "poison"), ("fine", "words"))
    await index.embed()
    revision = await index.store.current()
    async with index.lake.connection() as connection:
        assert await queue.waiting(connection, revision.row) == 0
        message = await queue.poison(connection, revision.row)
        tried = await connection.execute(tables.on(revision.row, "SELECT attempts FROM {queue}"))
        assert await tried.fetchall() == [(queue.ATTEMPTS,)]
    assert "1 document " in message
    assert "'bad'" in message
    assert "cannot read this" in message
    assert {hit.id for hit in (await index.search("text words", Mode.VECTOR)).hits} == {"good", "fine"}
    await index.write(("bad", "cured"))
    await index.embed()
    async with index.lake.connection() as connection:
        assert await queue.poison(connection, revision.row) == ""


async def test_a_document_deleted_or_rewritten_while_it_is_embedded(index: Any) -> None:
    await index.write(("deleted", "one"), ("rewritten", "two"), ("kept", "three"))
    loop, began, go_on = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def wait() -> None:
        loop.call_soon_threadsafe(began.set)
        assert go_on.wait(60)

    index.encoder.before = wait
    embedding = asyncio.create_task(index.worker().embed_batch(await index.store.current()))
    await began.wait()
    async with asyncio.timeout(60):
        await index.store.update([], ["deleted"])
        await index.write(("rewritten", "two again"))
    go_on.set()
    await embedding
    index.encoder.before = lambda: None
    await index.embed()
    found = await index.search("one two three again", Mode.VECTOR)
    assert {hit.id: hit.passage for hit in found.hits} == {"rewritten": "two again", "kept": "three"}
    assert (found.documents, found.embedded) == (2, 2)


async def test_a_second_revision_is_built_while_the_first_answers_then_replaces_it(index: Any) -> None:
    first = await index.store.current()
    await index.write(("a", "One. Two. Three."), ("b", "Four."))
    await index.embed()
    second = await index.ensure(chunking={"splitLength": 1, "splitOverlap": 0})
    assert await phases(index) == {first.id: "Current", second.id: "Building"}
    await index.write(("c", "Written meanwhile."))
    assert [hit.id for hit in (await index.search("Four", Mode.TEXT)).hits] == ["b"]
    assert await index.worker().drain(second.id)
    assert await phases(index) == {first.id: "Retained", second.id: "Current"}
    index.store.forget()
    found = await index.search("Two", Mode.VECTOR)
    assert (found.hits[0].id, found.hits[0].passage, found.documents, found.embedded) == ("a", "Two.", 3, 3)
    assert [hit.id for hit in (await index.search("meanwhile", Mode.TEXT)).hits] == ["c"]


async def test_a_retained_revision_comes_back_with_what_changed_since(index: Any) -> None:
    first = await index.store.current()
    await index.write(("kept", "whale"), ("gone", "ship"), ("changed", "sailor"))
    await index.embed()
    await index.build(chunking={"splitLength": 3})
    await index.store.update(
        [NewDocument("changed", "", "captain", {}), NewDocument("new", "", "harpoon", {})], ["gone"]
    )
    index.encoder.texts.clear()
    assert (await index.build()).id == first.id
    assert sorted(index.encoder.texts) == ["captain", "harpoon"]
    found = await index.search("whale ship sailor captain harpoon", Mode.HYBRID)
    assert {hit.id for hit in found.hits} == {"kept", "changed", "new"}
    assert (found.documents, found.embedded) == (3, 3)


async def test_the_tables_of_removed_revisions_are_dropped(index: Any, lake: Lake) -> None:
    for length in (3, 4, 5):
        await index.build(retain=1, chunking={"splitLength": length})
    await tables.sweep(lake)
    async with lake.connection() as connection:
        left = await connection.execute(
            "SELECT count(*) FROM pg_class WHERE relname ~ '^queue_[0-9]+$' AND relkind = 'r'"
        )
        assert await left.fetchone() == (2,)
    assert len(await phases(index)) == 2


async def test_a_superseded_revision_ends_its_job(index: Any) -> None:
    await index.write(("a", "text"))
    superseded = await index.ensure(chunking={"splitLength": 3})
    await index.ensure(chunking={"splitLength": 4})
    assert not await index.worker().drain(superseded.id)


async def test_a_serving_pod_empties_the_queue_and_promotes(index: Any) -> None:
    await index.write(("a", "text"))
    built = await index.ensure(chunking={"splitLength": 3})
    serving = index.worker()
    loop = asyncio.create_task(serving.serve())

    async def current() -> bool:
        return (await phases(index))[built.id] == "Current"

    await until(current)
    await index.write(("b", "more"))
    serving.wake()
    index.store.forget()

    async def embedded() -> bool:
        return (await index.search("more", Mode.VECTOR)).embedded == 2

    await until(embedded)
    loop.cancel()


async def test_queries_without_end_keep_no_document_from_being_embedded(index: Any) -> None:
    await index.write(*((f"d{number}", f"text number {number}") for number in range(6)))
    revision, quiet = await index.store.current(), Quiet()

    async def nothing_waits() -> bool:
        async with index.lake.connection() as connection:
            return await queue.waiting(connection, revision.row, 1) == 0

    serving = asyncio.create_task(index.worker(Batch(2, 20_000), quiet=quiet.event).serve())
    with quiet.query():
        await until(nothing_waits)
    await tasks.end(serving)
    assert sorted(index.encoder.texts) == sorted(f"text number {number}" for number in range(6))


@pytest.mark.parametrize("job", [True, False])
async def test_a_long_queue_is_left_to_a_job_that_works(index: Any, monkeypatch: pytest.MonkeyPatch, job: bool) -> None:
    monkeypatch.setattr(worker, "MANY", 5)
    await index.write(*((f"d{number}", f"text {number}") for number in range(10)))
    revision = await index.store.current()
    async with index.lake.connection() as working:
        if job:
            await queue.announce_job(working, revision.row)
        worked = await index.worker(Batch(1, 1000))._round()
        assert worked is not job
        await working.execute("SELECT pg_advisory_unlock_all()")
    assert len(index.encoder.texts) == (0 if job else 1)
    await index.embed()


async def test_progress_is_told_and_its_absence_stops_nothing(lake: Lake, state_url: str, index: Any) -> None:
    told = type(index)(lake, state_url)
    await index.write(*((f"d{number}", f"text {number}") for number in range(30)))
    await told.embed()
    async with redis.asyncio.Redis.from_url(state_url) as state:
        entries = [fields for _, fields in await state.xrange("cortex:{index:default/papers}:progress")]
        assert await state.ttl("cortex:{index:default/papers}:progress") > 0
    await told.state.close()
    last = {key.decode(): value.decode() for key, value in entries[-1].items()}
    revision = await index.store.current()
    assert last == {
        "revision": revision.id,
        "documents": "30",
        "embedded": "30",
        "waiting": "0",
        "rate": "0.0",
        "phase": "Idle",
    }
    assert entries[0][b"phase"] == b"Embedding"
    nowhere = type(index)(lake, "redis://127.0.0.1:1/0")
    await index.write(("e", "without progress"))
    await nowhere.embed()
    assert (await index.search("progress", Mode.VECTOR)).embedded == 31
    await nowhere.state.close()
