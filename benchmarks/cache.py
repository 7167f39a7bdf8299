"""Caches: what a kept answer costs beside the search that it saves, each level beside the one below; and how often L1
has what is asked for, beside an LRU of as many entries.

The encoder costs nothing, so a search is cheaper here than with a model, and the share of a hit is an upper bound.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import statistics
import tempfile
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

import numpy as np
from cortex_cli.local import postgres, valkey
from cortex_kinds.index import CortexIndexSpec
from cortex_kinds.revision import index_definition, revision_id
from cortex_workloads.runtime import answers
from cortex_workloads.runtime.cache.memory import ENTRY_BYTES, Memory
from cortex_workloads.runtime.cache.shared import Shared
from cortex_workloads.runtime.embedding.embedder import Vectors
from cortex_workloads.runtime.lake import revisions
from cortex_workloads.runtime.lake.migrate import migrate
from cortex_workloads.runtime.lake.pool import Lake
from cortex_workloads.runtime.lake.revisions import Revision
from cortex_workloads.runtime.progress import ProgressStream, connect
from cortex_workloads.search import retrieval, tables
from cortex_workloads.search.answers import Answers, size
from cortex_workloads.search.documents import NewDocument
from cortex_workloads.search.pipelines import Pipelines
from cortex_workloads.search.quiet import Quiet
from cortex_workloads.search.service import Haystack
from cortex_workloads.search.store import LakeDocumentStore
from cortex_workloads.search.worker import JOB, Worker
from datapunk.cortex.common_pb2 import SEARCH_MODE_HYBRID, SEARCH_MODE_TEXT, ResourceRef
from datapunk.cortex.search_pb2 import SearchRequest

from benchmarks.served import served

RESULTS: Final = Path(__file__).parent / "results" / "cache"
DOCUMENTS: Final = 5_000
ROUNDS: Final = 40
AT_ONCE: Final = 16
ENTRIES: Final = 500
KEYS: Final = 20_000
EXPONENT: Final = 0.9
ASKED: Final = 50_000
_REF: Final = ResourceRef(namespace="default", name="papers")
_WORDS: Final = tuple(f"word{number}" for number in range(8_000))


def run() -> int:
    """Measures and writes the results; returns the exit code."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="cortex-cache-") as folder, ExitStack() as servers:
        lake = servers.enter_context(served(postgres.prepare(Path(folder) / "lake", durable=False)))
        state = servers.enter_context(served(valkey.prepare(Path(folder) / "state", durable=False)))
        figures = asyncio.run(_measure(lake, state))
    (RESULTS / "answers.json").write_text(json.dumps(figures, indent=1) + "\n")
    (RESULTS / "hits.json").write_text(json.dumps(hit_rates(), indent=1) + "\n")
    return 0


def table() -> str:
    """All results as Markdown."""
    lines = [
        "## Caches\n",
        "Medians of one run, the cases in turn; at once: per call.\n",
        "| case | milliseconds | ratio | of |",
    ]
    lines.append("|---|---|---|---|")
    figures: dict[str, float] = json.loads((RESULTS / "answers.json").read_text())
    for case, of in _COMPARED:
        ratio = f"{figures[case] / figures[of]:.4f} | {of}" if of else " | "
        lines.append(f"| {case} | {figures[case]:.4f} | {ratio} |")
    lines += [
        f"\n{ENTRIES} entries, {ASKED:,} questions for {KEYS:,} keys of a Zipf distribution (a = {EXPONENT}); scan: as"
        " many questions in between for keys that are asked for once.\n",
        "| share of hits | L1 | LRU | ratio |",
        "|---|---|---|---|",
    ]
    rates: dict[str, dict[str, float]] = json.loads((RESULTS / "hits.json").read_text())
    lines += [
        f"| {case} | {rate['L1']:.3f} | {rate['LRU']:.3f} | {rate['L1'] / rate['LRU']:.2f} |"
        for case, rate in rates.items()
    ]
    return "\n".join(lines) + "\n"


def hit_rates() -> dict[str, dict[str, float]]:
    """By case: the share of all questions that L1 answers, and that an LRU of as many entries does; after as many
    questions that are not counted."""
    chance = random.Random(5)
    weights = [rank**-EXPONENT for rank in range(1, KEYS + 1)]
    keys = chance.choices([b"%064d" % number for number in range(KEYS)], weights, k=2 * ASKED)
    scanned = [one for number, key in enumerate(keys) for one in (key, b"%064d" % (KEYS + number))]
    return {
        case: {"L1": _share(asked, _near()), "LRU": _share(asked, _lru())}
        for case, asked in (("Zipf", keys), ("Zipf and a scan", scanned))
    }


def _share(asked: Sequence[bytes], has: Callable[[bytes], bool]) -> float:
    found = [has(key) for key in asked][len(asked) // 2 :]
    return sum(found) / len(found)


def _near() -> Callable[[bytes], bool]:
    memory: Memory[bytes] = Memory("rates", ENTRIES * (64 + 64 + ENTRY_BYTES), 3600, len)

    def has(key: bytes) -> bool:
        if memory.find(key) is not None:
            return True
        memory.keep(key, key)
        return False

    return has


def _lru() -> Callable[[bytes], bool]:
    kept: OrderedDict[bytes, bytes] = OrderedDict()

    def has(key: bytes) -> bool:
        found = kept.pop(key, None) is not None
        kept[key] = key
        if len(kept) > ENTRIES:
            kept.popitem(last=False)
        return found

    return has


_COMPARED: Final = (
    ("hybrid search", ""),
    ("hybrid answer from L1", "hybrid search"),
    ("hybrid answer from L2", "hybrid search"),
    (f"hybrid search, {AT_ONCE} at once", ""),
    (f"hybrid answer from L1, {AT_ONCE} at once", f"hybrid search, {AT_ONCE} at once"),
    ("text search", ""),
    ("text answer from L1", "text search"),
    ("text answer from L2", "text search"),
    ("raw GET", ""),
    ("L2 hit", "raw GET"),
    ("L1 hit", "L2 hit"),
)


class _Encoder:
    """Words of a text, hashed: near texts have near vectors, at no cost."""

    digest, reads, cased = b"hash", 254, False

    async def queries(self, _: Revision) -> _Encoder:
        return self

    documents = queries

    def encode(self, texts: Sequence[str]) -> Vectors:
        vectors = np.full((len(texts), 384), 1e-6, np.float32)
        for row, text in enumerate(texts):
            for word in text.split():
                vectors[row, int(hashlib.sha256(word.encode()).hexdigest()[:6], 16) % 384] += 1
        unit: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit

    async def aencode_query(self, text: str) -> Vectors:
        vector: Vectors = self.encode([text])[0]
        return vector

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        spans, start = [], 0
        for word in text.split(" "):
            spans.append((start, start + len(word)))
            start += len(word) + 1
        return spans

    async def run(self, work: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.to_thread(work, *arguments)


class _Call:
    def time_remaining(self) -> None:
        return None


async def _measure(dsn: str, state_url: str) -> dict[str, float]:
    lake, encoder = Lake(dsn, 10, session=retrieval.SESSION), _Encoder()
    store = LakeDocumentStore(_REF.namespace, _REF.name, lake=lake)
    await lake.open()
    await migrate(lake)
    await _fill(lake, store, encoder)

    def service(memory: int, shared: int) -> Haystack:
        kept = Answers(
            store,
            Memory("answers", memory, 3600, size),
            Shared("answers", state_url if shared else "", shared, 3600),
        )
        pipelines = Pipelines(store, encoder, Memory("known", 2**24, 3600, attrgetter("nbytes")))  # type: ignore[arg-type]
        mode = retrieval.Mode.HYBRID
        return Haystack(store, kept, lambda: pipelines, Quiet(), lambda: None, default_mode=mode, default_top_k=10)

    cases = {"answer from L1": service(2**26, 0), "answer from L2": service(0, 2**20), "search": service(0, 0)}
    taken: dict[str, list[float]] = {}
    chance = random.Random(3)
    for _ in range(ROUNDS):
        query = " ".join(chance.choices(_WORDS[:500], k=6))
        for name, mode in (("hybrid", SEARCH_MODE_HYBRID), ("text", SEARCH_MODE_TEXT)):
            request = SearchRequest(index=_REF, query=query, mode=mode)
            for one in cases.values():
                await one.Search(request, _Call())
            if mode == SEARCH_MODE_HYBRID:
                await _at_once(cases["answer from L1"], query)
            for case, one in cases.items():
                await _timed(taken, f"{name} {case}", lambda one=one, request=request: one.Search(request, _Call()))  # type: ignore[misc]
        for case, one in cases.items():
            if case != "answer from L2":
                await _timed(taken, f"hybrid {case}, {AT_ONCE} at once", partial(_at_once, one, query))
    for case in list(taken):
        if case.endswith("at once"):
            taken[case] = [seconds / AT_ONCE for seconds in taken[case]]
    await _levels(taken, state_url, request)
    await lake.close()
    return {case: statistics.median(times) * 1000 for case, times in taken.items()}


async def _at_once(service: Haystack, query: str) -> None:
    requests = [SearchRequest(index=_REF, query=query, mode=SEARCH_MODE_HYBRID, top_k=10 + n) for n in range(AT_ONCE)]
    await asyncio.gather(*(service.Search(request, _Call()) for request in requests))


async def _levels(taken: dict[str, list[float]], state_url: str, request: SearchRequest) -> None:
    client, shared = connect(state_url, 1.0), Shared("raw", state_url, 2**20, 3600)
    memory: Memory[bytes] = Memory("raw", 2**26, 3600, len)
    key = answers.key(request)
    memory.keep(key.encode(), await client.get(key))  # type: ignore[arg-type]

    async def unpacked() -> None:
        answers.Answer.unpack(await shared.find(key) or b"")

    async def near() -> None:
        for _ in range(100):
            memory.find(key.encode())

    for _ in range(1_000):
        await _timed(taken, "raw GET", lambda: client.get(key))  # type: ignore[arg-type,return-value]
        await _timed(taken, "L2 hit", unpacked)
        await _timed(taken, "L1 hit", near)
    taken["L1 hit"] = [seconds / 100 for seconds in taken["L1 hit"]]
    await client.aclose()
    await shared.close()


async def _timed(taken: dict[str, list[float]], case: str, work: Callable[[], Awaitable[Any]]) -> None:
    began = time.perf_counter()
    await work()
    taken.setdefault(case, []).append(time.perf_counter() - began)


async def _fill(lake: Lake, store: LakeDocumentStore, encoder: _Encoder) -> None:
    wanted = index_definition(CortexIndexSpec())
    async with lake.transaction() as connection:
        made = await revisions.ensure(connection, store.resource, revision_id(wanted), wanted, 0)
        await tables.prepare(connection, made)
    chance = random.Random(1)
    for start in range(0, DOCUMENTS, 500):
        texts = (" ".join(chance.choices(_WORDS, k=150)) for _ in range(500))
        await store.update([NewDocument(f"d{start + n}", "", text, {"n": n}) for n, text in enumerate(texts)], [])
    worker = Worker(lake, store.resource, encoder, ProgressStream(""), JOB)  # type: ignore[arg-type]
    await worker.drain(made.id)
