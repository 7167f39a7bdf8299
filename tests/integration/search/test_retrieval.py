"""Text search is BM25, vector search is the nearest passage, hybrid is their fusion; all say what they saw."""

from __future__ import annotations

import asyncio
import math
import random
import re
from collections import Counter
from typing import Any

import pytest
from cortex_workloads.runtime.errors import InvalidInput, NotFound
from cortex_workloads.search import retrieval, tables
from cortex_workloads.search.documents import NewDocument
from cortex_workloads.search.retrieval import Mode

WORDS = ("alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma tau").split()  # noqa: SIM905


def corpus(count: int, seed: int = 1) -> list[NewDocument]:
    chance = random.Random(seed)
    return [
        NewDocument(
            f"d{number:03}",
            chance.choice(WORDS),
            ". ".join(" ".join(chance.choices(WORDS, k=chance.randint(2, 9))) for _ in range(chance.randint(1, 30))),
            {"even": number % 2 == 0, "number": number},
        )
        for number in range(count)
    ]


def bm25(documents: list[NewDocument], query: str) -> dict[str, float]:
    bags = {d.id: Counter(re.findall(r"\w+", f"{d.title} {d.content}".lower())) for d in documents}
    average = sum(bag.total() for bag in bags.values()) / len(bags)
    scores: dict[str, float] = Counter()
    for word in query.split():
        having = [identity for identity, bag in bags.items() if bag[word]]
        idf = math.log(1 + (len(bags) - len(having) + 0.5) / (len(having) + 0.5))
        for identity in having:
            bag = bags[identity]
            scores[identity] += idf * bag[word] / (bag[word] + 1.2 * (0.25 + 0.75 * bag.total() / average))
    return dict(scores)


@pytest.fixture
async def filled(index: Any) -> Any:
    await index.write(*corpus(60))
    await index.build(retrieval={"language": "Simple"})
    return index


async def test_text_scores_are_those_of_bm25(filled: Any) -> None:
    query = "alpha kappa tau alpha"
    expected = bm25(corpus(60), query)
    found = await filled.search(query, Mode.TEXT, 60)
    assert {hit.id: hit.score for hit in found.hits} == pytest.approx(expected)
    assert [hit.id for hit in found.hits] == sorted(expected, key=lambda i: (-round(expected[i], 9), i))
    assert [hit.text_rank for hit in found.hits] == list(range(1, len(expected) + 1))


async def test_long_documents_count_every_word(index: Any) -> None:
    await index.write(("long", "whale " * 30_000 + "harpoon"), ("short", "whale harpoon"))
    found = await index.search("harpoon", Mode.TEXT)
    assert {hit.id for hit in found.hits} == {"long", "short"}
    assert found.hits[0].id == "short"


async def test_vector_search_finds_the_best_passage_of_each_document(filled: Any) -> None:
    documents = {document.id: document for document in corpus(60)}
    found = await filled.search("alpha kappa tau", Mode.VECTOR, 60)
    assert len(found.hits) == 60
    assert [hit.score for hit in found.hits] == sorted((hit.score for hit in found.hits), reverse=True)
    for hit in found.hits:
        assert documents[hit.id].content[hit.start : hit.stop] == hit.passage != ""
        (vector,) = filled.encoder.encode([f"{hit.title} {hit.passage}"])
        (query,) = filled.encoder.encode(["alpha kappa tau"])
        assert hit.score == pytest.approx(float(vector @ query), abs=2e-3)


async def test_exact_search_asks_no_approximate_index(filled: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pipelines, run, ways = filled.pipelines(), retrieval._run, []

    async def noted(connection: Any, query: Any, exactly: bool) -> Any:
        ways.append(exactly)
        return await run(connection, query, exactly)

    monkeypatch.setattr(retrieval, "_run", noted)
    for mode in (Mode.VECTOR, Mode.HYBRID):
        near, _ = await pipelines.search("alpha kappa", mode, 20)
        exact, _ = await pipelines.search("alpha kappa", mode, 20, exact=True)
        assert [hit.id for hit in exact.hits] == [hit.id for hit in near.hits]
    assert ways == [False, True, False, True]


async def test_hybrid_is_the_fusion_of_both_legs_by_rank(filled: Any) -> None:
    query = "gamma sigma mu"
    text = {hit.id: hit.text_rank for hit in (await filled.search(query, Mode.TEXT, 100)).hits}
    vector = {hit.id: hit.vector_rank for hit in (await filled.search(query, Mode.VECTOR, 100)).hits}
    expected = {
        identity: sum(1 / (60 + leg[identity]) for leg in (text, vector) if identity in leg)
        for identity in text | vector
    }
    found = await filled.search(query, Mode.HYBRID, 100)
    assert {hit.id: hit.score for hit in found.hits} == pytest.approx(expected)
    assert [hit.score for hit in found.hits] == sorted(expected.values(), reverse=True)
    assert all((hit.text_rank, hit.vector_rank) == (text.get(hit.id), vector.get(hit.id)) for hit in found.hits)
    assert (await filled.search(query, Mode.HYBRID, 7)).hits == found.hits[:7]


@pytest.mark.parametrize("few", [0, 10_000], ids=["by the index", "by comparing all"])
@pytest.mark.parametrize("mode", list(Mode))
async def test_a_selective_filter_gives_all_that_match(
    filled: Any, monkeypatch: pytest.MonkeyPatch, mode: Mode, few: int
) -> None:
    monkeypatch.setattr(retrieval, "_FEW", few)
    only = {"field": "meta.number", "operator": "in", "value": [3, 30, 31]}
    found = await filled.search(" ".join(WORDS), mode, 10, filters=only)
    assert {hit.id for hit in found.hits} == {"d003", "d030", "d031"}


async def test_a_filter_changes_no_score(filled: Any) -> None:
    every = {hit.id: hit.score for hit in (await filled.search("beta pi", Mode.TEXT, 60)).hits}
    even = await filled.search(
        "beta pi", Mode.TEXT, 60, filters={"field": "meta.even", "operator": "==", "value": True}
    )
    assert {hit.id: hit.score for hit in even.hits} == pytest.approx(
        {identity: score for identity, score in every.items() if int(identity[1:]) % 2 == 0}
    )


async def test_many_passages_of_one_document_do_not_hide_the_others(index: Any) -> None:
    await index.write(("flood", ". ".join(["Whale song"] * 900)), *((f"d{n}", f"whale number{n}") for n in range(20)))
    await index.build(chunking={"splitLength": 1, "splitOverlap": 0})
    found = await index.search("whale song", Mode.VECTOR, 10)
    assert len(found.hits) == 10
    assert found.hits[0].id == "flood"


async def test_text_answers_before_anything_is_embedded(index: Any) -> None:
    await index.write(("a", "The whale sings."), ("b", "The ship sails."))
    text, vector = await index.search("whale", Mode.TEXT), await index.search("whale", Mode.VECTOR)
    assert [hit.id for hit in text.hits] == ["a"]
    assert vector.hits == ()
    assert [(found.documents, found.embedded) for found in (text, vector)] == [(2, 0), (2, 0)]
    assert [hit.id for hit in (await index.search("whale", Mode.HYBRID)).hits] == ["a"]


async def test_a_text_hit_shows_where_the_content_begins(index: Any) -> None:
    await index.write(("a", "word " * 400 + "harpoon"))
    (hit,) = (await index.search("harpoon", Mode.TEXT)).hits
    assert (hit.start, hit.stop) == (0, len(hit.passage))
    assert hit.passage == ("word " * 120).strip()


async def test_pipelines_answer_many_at_once_each_its_own(filled: Any) -> None:
    pipelines = filled.pipelines()
    asked = [(word, mode) for word in WORDS for mode in Mode]
    answers = await asyncio.gather(*(pipelines.search(word, mode, 5) for word, mode in asked))
    for (word, mode), (found, revision) in zip(asked, answers, strict=True):
        assert found.hits == (await filled.search(word, mode, 5)).hits
        assert revision == (await filled.store.current()).id


async def test_a_pipeline_raises_what_its_components_raise(filled: Any) -> None:
    pipelines = filled.pipelines()
    with pytest.raises(InvalidInput):
        await pipelines.search("a", Mode.TEXT, 5, {"field": "x", "operator": "==", "value": 1})
    with pytest.raises(NotFound):
        await pipelines.search("a", Mode.HYBRID, 5, None, "0123456789")


async def test_an_empty_index_and_stop_words_find_nothing(index: Any) -> None:
    for mode in Mode:
        assert (await index.search("the of and", mode)).hits == ()


async def test_equal_passages_do_not_hide_the_others_and_are_one_vector(index: Any) -> None:
    blank = [NewDocument(f"blank{n}", "", "This page  intentionally left blank.", {}) for n in range(700)]
    others = corpus(8)
    await index.write(
        *others[:4], *blank, *others[4:], NewDocument("case", "", "this PAGE intentionally left blank.", {})
    )
    await index.build()
    for document in others:
        found = await index.search(f"{document.title} {document.content[:200]}", Mode.VECTOR, 1)
        exact = await index.search(f"{document.title} {document.content[:200]}", Mode.VECTOR, 1, exact=True)
        assert found.hits == exact.hits
    row = (await index.store.current()).row
    async with index.lake.connection() as connection:
        counted = await connection.execute(tables.on(row, "SELECT count(*), count(DISTINCT vector_id) FROM {chunks}"))
        chunks, vectors = await counted.fetchone()
        assert (chunks - vectors) == 700
        await index.store.update([], [document.id for document in blank])
        await tables.prune(connection, row)
        left = await connection.execute(tables.on(row, "SELECT count(*) FROM {vectors}"))
        assert await left.fetchone() == (vectors,)  # `case` still has it
        await index.store.update([], ["case"])
        await tables.prune(connection, row)
        left = await connection.execute(tables.on(row, "SELECT count(*) FROM {vectors}"))
        assert await left.fetchone() == (vectors - 1,)
