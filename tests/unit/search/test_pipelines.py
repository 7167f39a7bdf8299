"""Pipelines are made once for each embedder, and keep none that was let go."""

from __future__ import annotations

import gc
from operator import attrgetter
from typing import Any
from weakref import ref

import numpy as np
import pytest
from cortex_workloads.runtime.cache.memory import Memory
from cortex_workloads.search.pipelines import Pipelines
from cortex_workloads.search.retrieval import Found, Mode


class Words:
    """An embedder."""

    def __init__(self, name: str) -> None:
        self.digest, self.cased = name.encode(), False

    async def aencode_query(self, text: str) -> Any:
        return np.full(3, len(text), np.float32)


class Models:
    """The model of each revision, as long as it is kept."""

    def __init__(self, **models: Words) -> None:
        self.kept = models

    async def queries(self, revision: Any) -> Any:
        return self.kept[revision.id]

    documents = queries


class Revision:
    def __init__(self, name: str) -> None:
        self.id = name


class Store:
    """Finds nothing in any revision."""

    async def revision(self, name: str) -> Any:
        return Revision(name)

    async def search(self, text: str, mode: Mode, top_k: int, *, revision: str, **_: Any) -> Any:
        return Found((), 1, 1), Revision(revision)


@pytest.mark.parametrize("mode", [Mode.HYBRID, Mode.VECTOR])
async def test_a_model_that_is_let_go_leaves_memory(mode: Mode) -> None:
    models = Models(one=Words("one"), two=Words("two"))
    store: Any = Store()
    pipelines = Pipelines(store, models, Memory("test_let_go", 2**20, 60.0, attrgetter("nbytes")))
    for revision in ("one", "two", "one"):
        assert (await pipelines.search("bees", mode, 3, revision=revision))[1] == revision
    one, two = (ref(model) for model in models.kept.values())
    del models.kept["one"]
    gc.collect()
    assert (one(), two() is not None) == (None, True)
    assert (await pipelines.search("bees fly", mode, 3, revision="two"))[1] == "two"
