"""A search pod's parts over a real Lake, with an encoder that costs nothing; and real pods as processes."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import numpy as np
import pytest
from cortex_kinds.index import CortexIndexSpec
from cortex_kinds.revision import index_definition, revision_id
from cortex_workloads.runtime.embedding.embedder import Vectors
from cortex_workloads.runtime.lake import revisions
from cortex_workloads.runtime.lake.migrate import migrate
from cortex_workloads.runtime.lake.pool import Lake
from cortex_workloads.runtime.lake.revisions import Revision
from cortex_workloads.runtime.progress import ProgressStream
from cortex_workloads.search import retrieval, tables
from cortex_workloads.search.documents import NewDocument
from cortex_workloads.search.store import LakeDocumentStore
from cortex_workloads.search.worker import Batch, Worker


class HashEncoder:
    """Bag of words -> vector: alike texts have alike vectors. Fails on texts with `poison`; counts what it embeds."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.before: Callable[[], None] = lambda: None

    def encode(self, texts: Sequence[str]) -> Vectors:
        self.before()
        if any("poison" in text for text in texts):
            raise ValueError("cannot read this")
        self.texts += texts
        vectors = np.zeros((len(texts), 384), np.float32)
        for row, text in enumerate(texts):
            for word in re.findall(r"\w+", text.lower()):
                digest = hashlib.sha256(word.encode()).digest()
                vectors[row, int.from_bytes(digest[:4], "big") % 384] += 1 if digest[4] % 2 else -1
            vectors[row] /= max(float(np.linalg.norm(vectors[row])), 1e-9)
        return vectors

    async def aencode(self, texts: Sequence[str]) -> Vectors:
        return self.encode(texts)

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        return [match.span() for match in re.finditer(r"\w+|[^\w\s]", text)]

    async def run(self, work: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.to_thread(work, *arguments)


class Index:
    """An index with one revision, its store and workers."""

    def __init__(self, lake: Lake, state_url: str = "") -> None:
        self.lake = lake
        self.state = ProgressStream(state_url)
        self.encoder = HashEncoder()
        self.store = LakeDocumentStore("default", "papers", lake=lake)

    async def ensure(self, retain: int = 2, **spec: Any) -> Revision:
        wanted = index_definition(CortexIndexSpec.model_validate(spec))
        async with self.lake.transaction() as connection:
            made = await revisions.ensure(connection, self.store.resource, revision_id(wanted), wanted, retain)
            await tables.prepare(connection, made)
        return made

    def worker(self, batch: Batch = Batch(8, 20_000)) -> Worker:  # noqa: B008
        return Worker(self.lake, self.store.resource, self.encoder, self.state, batch)

    async def build(self, **spec: Any) -> Revision:
        """Makes a revision and sees it become current."""
        made = await self.ensure(**spec)
        assert await self.worker().drain(made.id)
        self.store.forget()
        return await self.store.current()

    async def embed(self) -> None:
        assert await self.worker().drain((await self.store.current()).id)

    async def write(self, *documents: tuple[str, str] | NewDocument) -> None:
        new = [d if isinstance(d, NewDocument) else NewDocument(d[0], "", d[1], {}) for d in documents]
        await self.store.update(new, [])

    async def search(self, text: str, mode: retrieval.Mode, top_k: int = 10, **more: Any) -> retrieval.Found:
        vector = self.encoder.encode([text])[0] if mode is not retrieval.Mode.TEXT else None
        found, _ = await self.store.search(text, mode, top_k, vector=vector, **more)
        return found


@pytest.fixture
async def lake(lake_dsn: str) -> AsyncIterator[Lake]:
    lake = Lake(lake_dsn, 10, session=retrieval.SESSION)
    await lake.open()
    await migrate(lake)
    yield lake
    await lake.close()


@pytest.fixture
async def index(lake: Lake) -> Index:
    index = Index(lake)
    await index.ensure()
    return index
