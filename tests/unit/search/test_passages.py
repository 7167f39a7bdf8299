"""Passages are exact, complete and short enough to be read whole."""

from __future__ import annotations

import pytest
from cortex_kinds.index import Chunking, SplitBy
from cortex_workloads.runtime.embedding.embedder import Embedder
from cortex_workloads.runtime.embedding.model import MAX_TOKENS, SPECIAL_TOKENS
from cortex_workloads.search.passages import sentences, split
from hypothesis import given, settings
from hypothesis import strategies as st

chunkings = st.builds(
    lambda unit, length, overlap: Chunking(split_by=unit, split_length=length, split_overlap=overlap % length),
    st.sampled_from(SplitBy),
    st.integers(1, 40),
    st.integers(0, 39),
)
texts = st.one_of(
    st.text(max_size=400),
    st.lists(
        st.sampled_from(
            ["word", "Dr.", "e.g.", "End.", "Why?", "“Quoted.”", "é́", "\n\n", "漢字。", "x" * 300, "a.b" * 200]
        ),
        max_size=600,
    ).map(" ".join),
)


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder()


@given(
    title=st.one_of(st.just(""), st.text(max_size=50), st.just("long title " * 180)), content=texts, chunking=chunkings
)
@settings(max_examples=120, deadline=None)
def test_nothing_is_dropped_and_nothing_is_too_long(
    embedder: Embedder, title: str, content: str, chunking: Chunking
) -> None:
    passages = split(title, content, chunking, embedder.token_spans)
    covered = set()
    for passage in passages:
        assert 0 <= passage.start <= passage.stop <= len(content)
        assert passage.text.endswith(content[passage.start : passage.stop])
        covered.update(range(passage.start, passage.stop))
        if content.strip():
            assert len(embedder.token_spans(passage.text)) <= MAX_TOKENS - SPECIAL_TOKENS
    assert all(character.isspace() for index, character in enumerate(content) if index not in covered)
    assert [passage.start for passage in passages] == sorted(passage.start for passage in passages)


def test_chunks_are_of_whole_sentences_and_overlap() -> None:
    content = "One here. Two there? Three! Four. Five."
    passages = split("", content, Chunking(split_length=2, split_overlap=1), lambda text: [])
    assert [content[p.start : p.stop] for p in passages] == [
        "One here. Two there?",
        "Two there? Three!",
        "Three! Four.",
        "Four. Five.",
    ]


def test_the_title_goes_before_every_passage() -> None:
    passages = split("On whales", "One. Two.", Chunking(split_length=1, split_overlap=0), lambda text: [])
    assert [passage.text for passage in passages] == ["On whales One.", "On whales Two."]


@pytest.mark.parametrize(("title", "expected"), [("", []), ("  ", []), ("Only a title", ["Only a title"])])
def test_without_content_the_title_is_the_passage(title: str, expected: list[str]) -> None:
    assert [passage.text for passage in split(title, " \n ", Chunking(), lambda text: [])] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It works. It does!", ["It works.", "It does!"]),
        ("As Smith et al. Wrote it, e.g. Here.", ["As Smith et al. Wrote it, e.g. Here."]),
        ("Version 3.11 is out. Good.", ["Version 3.11 is out.", "Good."]),
        ("He said “No.” Then he left.", ["He said “No.”", "Then he left."]),
        ("A heading\n\nA paragraph", ["A heading", "A paragraph"]),
        ("第一。第二！第三", ["第一。", "第二！", "第三"]),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert [text[start:stop] for start, stop in sentences(text)] == expected
