"""What is written is there at once and once; what did not change costs nothing; many may write at the same time."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from cortex_workloads.runtime.errors import Unavailable
from cortex_workloads.runtime.lake.pool import Lake
from cortex_workloads.search import tables
from cortex_workloads.search.documents import NewDocument
from cortex_workloads.search.retrieval import Mode
from cortex_workloads.search.store import LakeDocumentStore
from haystack import Document
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy


async def statistics(index: Any) -> dict[str, int]:
    """The sums as kept, checked against the rows that they are sums of."""
    row = (await index.store.current()).row
    async with index.lake.connection() as connection:
        kept = await connection.execute(
            tables.on(
                row, "SELECT sum(documents), sum(posted), sum(length), sum(embedded), sum(chunks) FROM {statistics}"
            )
        )
        counted = await connection.execute(
            tables.on(
                row,
                "SELECT (SELECT count(*) FROM documents), count(*), coalesce(sum(length), 0),"
                " count(*) FILTER (WHERE q.document_id IS NULL), (SELECT count(*) FROM {chunks})"
                " FROM {indexed} LEFT JOIN {queue} q USING (document_id)",
            )
        )
        sums = await counted.fetchone()
        assert await kept.fetchone() == sums
        words = await connection.execute(tables.on(row, "SELECT coalesce(sum(frequency), 0) FROM {postings}"))
        assert (await words.fetchone()) == (sums[2],)
    return dict(zip(("documents", "posted", "length", "embedded", "chunks"), sums, strict=True))


async def test_an_update_says_what_it_did(index: Any) -> None:
    new = [NewDocument(identity, "", f"text of {identity}", {"n": 1}) for identity in "abc"]
    done = await index.store.update(new, ["x"])
    assert (done.written, done.unchanged, done.deleted, done.waiting) == (3, 0, 0, 3)
    await index.embed()
    done = await index.store.update(
        [new[0], NewDocument("b", "", "text of b", {"n": 2}), NewDocument("d", "", "new", {})], ["c", "y"]
    )
    assert (done.written, done.unchanged, done.deleted, done.waiting) == (2, 1, 1, 1)


async def test_only_a_changed_text_is_embedded_again(index: Any) -> None:
    await index.write(NewDocument("a", "T", "text", {}), NewDocument("b", "", "other", {}))
    await index.embed()
    index.encoder.texts.clear()
    await index.write(NewDocument("a", "T", "text", {"new": True}), NewDocument("b", "", "other", {}))
    await index.embed()
    assert index.encoder.texts == []
    (document,) = await index.store.filter_documents_async({"field": "meta.new", "operator": "==", "value": True})
    assert document.id == "a"
    await index.write(NewDocument("a", "Title", "text", {"new": True}))
    await index.embed()
    assert index.encoder.texts == ["Title text"]


async def test_a_rewritten_document_is_found_by_its_new_text_only(index: Any) -> None:
    await index.write(("a", "whale whale"), ("b", "ship"))
    await index.embed()
    await index.write(("a", "sailor"))
    for mode in (Mode.TEXT, Mode.HYBRID):
        assert "a" not in [hit.id for hit in (await index.search("whale", mode)).hits if hit.text_rank]
        assert [hit.id for hit in (await index.search("sailor", mode)).hits if hit.text_rank] == ["a"]
    assert [hit.id for hit in (await index.search("whale", Mode.VECTOR)).hits] == ["b"]
    await index.embed()
    assert (await statistics(index)) == {"documents": 2, "posted": 2, "length": 2, "embedded": 2, "chunks": 2}


async def test_a_deleted_document_leaves_nothing(index: Any) -> None:
    await index.write(("a", "whale"), ("b", "ship"), ("c", "sailor"))
    await index.embed()
    await index.write(("d", "not embedded"))
    await index.store.update([], ["a", "b", "d"])
    assert (await statistics(index)) == {"documents": 1, "posted": 1, "length": 1, "embedded": 1, "chunks": 1}
    for mode in Mode:
        assert [hit.id for hit in (await index.search("whale ship sailor", mode)).hits] == ["c"]


async def test_many_writers_of_the_same_documents_neither_deadlock_nor_lose(index: Any) -> None:
    chance = random.Random(3)

    async def write(writer: int) -> None:
        for turn in range(6):
            ids = chance.sample(range(30), 20)
            new = [NewDocument(f"d{n}", "", f"text {writer} {turn} {n}", {}) for n in ids[:14]]
            deleted = [f"d{n}" for n in ids[14:]] if turn % 2 else []
            await index.store.update(new if turn % 3 else [], deleted)

    stop = asyncio.Event()

    async def embed() -> None:
        worker, revision = index.worker(), await index.store.current()
        while not stop.is_set() or await worker.embed_batch(revision):
            await worker.embed_batch(revision)

    embedders = [asyncio.create_task(embed()) for _ in range(2)]
    async with asyncio.timeout(60):
        await asyncio.gather(*(write(writer) for writer in range(6)))
        stop.set()
        await asyncio.gather(*embedders)
        await index.embed()
    found = await statistics(index)
    assert found["documents"] == found["embedded"] == found["chunks"] > 0


async def test_statistics_added_up_are_the_same(index: Any) -> None:
    for number in range(5):
        await index.write((f"d{number}", "text"))
    before = await statistics(index)
    row = (await index.store.current()).row
    async with index.lake.connection() as connection:
        await tables.compact(connection, row)
        await tables.compact(connection, row)
        assert (await tables.counts(connection, row)).rows == 1
    assert await statistics(index) == before


async def test_without_a_revision_nothing_is_accepted(lake: Lake) -> None:
    store = LakeDocumentStore("default", "other", lake=lake)
    with pytest.raises(Unavailable) as refused:
        await store.update([NewDocument("a", "", "text", {})], [])
    assert refused.value.reason == "NoRevision"


class TestHaystackProtocol:
    async def test_writes_filters_counts_deletes(self, index: Any) -> None:
        store = index.store
        documents = [Document(id="a", content="one", meta={"title": "A", "n": 1}), Document(id="b", content="two")]
        assert await store.write_documents_async(documents) == 2
        assert await store.count_documents_async() == 2
        assert await store.filter_documents_async() == documents
        await store.delete_documents_async(["a", "never there"])
        assert [document.id for document in await store.filter_documents_async()] == ["b"]

    async def test_duplicates(self, index: Any) -> None:
        store = index.store
        await store.write_documents_async([Document(id="a", content="one")])
        again = [Document(id="a", content="changed"), Document(id="b", content="two")]
        with pytest.raises(DuplicateDocumentError, match="a"):
            await store.write_documents_async(again, DuplicatePolicy.FAIL)
        assert await store.write_documents_async(again, DuplicatePolicy.SKIP) == 1
        assert [d.content for d in await store.filter_documents_async()] == ["one", "two"]
        assert await store.write_documents_async(again, DuplicatePolicy.OVERWRITE) == 2
        assert [d.content for d in await store.filter_documents_async()] == ["changed", "two"]

    async def test_from_another_thread(self, index: Any) -> None:
        await index.store.write_documents_async([Document(id="a", content="one")])
        assert await asyncio.to_thread(index.store.count_documents) == 1
        with pytest.raises(RuntimeError, match="own event loop"):
            index.store.count_documents()

    async def test_as_a_dictionary(self, lake_dsn: str, index: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        await index.write(("a", "text"))
        monkeypatch.setenv("CORTEX_LAKE_DSN", lake_dsn)
        written = index.store.to_dict()
        assert lake_dsn not in str(written)
        store = LakeDocumentStore.from_dict(written)
        await (await store.lake()).answered()
        assert await store.count_documents_async() == 1
        await store.close()
