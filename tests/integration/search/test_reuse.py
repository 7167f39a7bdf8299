"""Vectors that the Lake has already are copied, not computed: of another revision, of another version of a document."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from cortex_workloads.runtime.telemetry import REGISTRY
from cortex_workloads.search import tables
from cortex_workloads.search.retrieval import Mode
from cortex_workloads.search.store import LakeDocumentStore

TEXTS = ("Whales sing in the sea. They are large.", "Ships carry goods. They are slow.", "Gulls fly over the sea.")
SENTENCES = {"splitBy": "Sentence", "splitLength": 1, "splitOverlap": 0}


def reused() -> float:
    return REGISTRY.get_sample_value("cortex_embeddings_reused_total") or 0.0


@pytest.fixture
async def full(index: Any) -> Any:
    """Three documents, a passage for each sentence, embedded."""
    await index.build(chunking=SENTENCES)
    await index.write(*((f"d{number}", text) for number, text in enumerate(TEXTS)))
    await index.embed()
    index.encoder.texts.clear()
    return index


async def vectors(index: Any) -> dict[bytes, str]:
    row = (await index.store.current()).row
    async with index.lake.connection() as connection:
        found = await connection.execute(tables.on(row, "SELECT digest, embedding::text FROM {vectors}"))
        return {bytes(digest): embedding for digest, embedding in await found.fetchall()}


async def test_a_revision_that_divides_alike_embeds_nothing(full: Any) -> None:
    before, count = await vectors(full), reused()
    former = await full.store.current()
    now = await full.build(chunking=SENTENCES, retrieval={"language": "Danish"})
    assert now.row != former.row
    assert (full.encoder.texts, reused() - count) == ([], 5)
    assert await vectors(full) == before
    assert (await full.search("sea", Mode.VECTOR)).embedded == 3
    # It stands by itself: the former one may go.
    async with full.lake.transaction() as connection:
        await tables.drop(connection, former.row)
    assert {hit.id for hit in (await full.search("gulls fly over the sea", Mode.VECTOR, 1)).hits} == {"d2"}


async def test_a_revision_that_divides_otherwise_embeds_what_is_new_alone(full: Any) -> None:
    await full.build(chunking={"splitBy": "Sentence", "splitLength": 2, "splitOverlap": 0})
    assert sorted(full.encoder.texts) == sorted(TEXTS[:2])


async def test_of_a_changed_document_what_stayed_is_not_embedded_again(full: Any) -> None:
    await full.write(("d0", "Whales sing in the sea. They are small."))
    await full.embed()
    assert full.encoder.texts == ["They are small."]
    assert (await full.search("they are small", Mode.VECTOR, 1)).hits[0].id == "d0"


@pytest.mark.parametrize("other", ["model_files", "definition", "phase"])
async def test_vectors_of_another_model_or_of_a_failed_revision_are_not_taken(full: Any, other: str) -> None:
    former = await full.store.current()
    change: dict[str, Any] = {
        "model_files": json.dumps({"model.onnx": "other"}),
        "definition": json.dumps({**former.definition, "embedding": {"local": {"model": "other"}}}),
        "phase": "Failed",
    }
    made = await full.ensure(chunking=SENTENCES, retrieval={"language": "German"})
    async with full.lake.transaction() as connection:
        await connection.execute(f"UPDATE revisions SET {other} = %s WHERE id = %s", (change[other], former.row))
    assert await full.worker().drain(made.id)
    assert len(full.encoder.texts) == 5


async def test_another_index_gives_nothing(full: Any) -> None:
    full.store = LakeDocumentStore("default", "secrets", lake=full.lake)
    await full.build(chunking=SENTENCES)
    await full.write(("d0", TEXTS[0]))
    await full.embed()
    assert len(full.encoder.texts) == 2


async def test_a_revision_that_is_dropped_while_it_gives_is_waited_for_or_done_without(full: Any) -> None:
    former = await full.store.current()
    made = await full.ensure(chunking=SENTENCES, retrieval={"language": "French"})

    async def drop() -> None:
        async with full.lake.transaction() as connection:
            await tables.drop(connection, former.row)

    dropping = asyncio.create_task(drop())
    assert await full.worker().drain(made.id)
    await dropping
    assert (await full.search("sea", Mode.VECTOR)).embedded == 3


async def test_two_workers_that_copy_the_same_do_not_stop_each_other(full: Any) -> None:
    await full.write(*((f"e{number}", TEXTS[number % 3] + f" Number {number}.") for number in range(60)))
    await full.embed()
    full.encoder.texts.clear()
    made = await full.ensure(chunking=SENTENCES, retrieval={"language": "Italian"})
    assert all(await asyncio.gather(*(full.worker().drain(made.id) for _ in range(3))))
    assert full.encoder.texts == []
