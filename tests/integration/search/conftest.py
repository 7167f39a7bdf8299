"""A search pod's parts over a real Lake, with an encoder that costs nothing; and real pods as processes."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from cortex_cli.local.ports import free_port
from cortex_kinds.index import CortexIndexSpec
from cortex_kinds.revision import index_definition, revision_id
from cortex_workloads.runtime.cache.memory import Memory
from cortex_workloads.runtime.cache.shared import Shared
from cortex_workloads.runtime.embedding.embedder import Vectors
from cortex_workloads.runtime.lake import revisions
from cortex_workloads.runtime.lake.migrate import migrate
from cortex_workloads.runtime.lake.pool import Lake
from cortex_workloads.runtime.lake.revisions import Revision
from cortex_workloads.runtime.progress import ProgressStream
from cortex_workloads.search import retrieval, tables
from cortex_workloads.search.answers import Answers, size
from cortex_workloads.search.documents import NewDocument
from cortex_workloads.search.pipelines import Pipelines
from cortex_workloads.search.quiet import Quiet
from cortex_workloads.search.service import Haystack
from cortex_workloads.search.store import LakeDocumentStore
from cortex_workloads.search.worker import Batch, Worker
from datapunk.cortex import common_pb2, control_pb2, control_pb2_grpc, search_pb2, search_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from patience import IN_A_PROCESS, with_the_state
from prometheus_client.parser import text_string_to_metric_families


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

    digest, reads, cased = b"hash", 254, False

    async def queries(self, revision: Revision) -> HashEncoder:
        return self

    documents = queries

    def encode_query(self, text: str) -> Vectors:
        return self.encode([text])[0]

    async def aencode_query(self, text: str) -> Vectors:
        return self.encode_query(text)

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

    def pipelines(self) -> Pipelines:
        """Its pipelines, with a cache of their own."""
        return Pipelines(self.store, self.encoder, Memory("test", 2**20, 60.0, attrgetter("nbytes")))

    def answers(self, state_url: str = "") -> Answers:
        """Kept answers of a pod of its own."""
        memory = Memory("test_answers", 2**20, 60.0, size)
        return Answers(self.store, memory, Shared("test_answers", state_url, 2**16, 60.0))

    def service(self, answers: Answers | None = None, quiet: Quiet | None = None, **more: Any) -> Haystack:
        """A pod's service."""
        pipelines = self.pipelines()
        return Haystack(
            self.store,
            answers or self.answers(),
            lambda: pipelines,
            quiet or Quiet(),
            lambda: None,
            default_mode=retrieval.Mode.HYBRID,
            default_top_k=5,
            **more,
        )

    def worker(self, batch: Batch = Batch(8, 20_000), **more: Any) -> Worker:  # noqa: B008
        return Worker(self.lake, self.store.resource, self.encoder, self.state, batch, **more)

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


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    with_the_state(monkeypatch)


@pytest.fixture
async def lake(lake_dsn: str) -> AsyncIterator[Lake]:
    lake = Lake(lake_dsn, 10, session=retrieval.SESSION)
    await lake.open()
    await lake.answered()
    await migrate(lake)
    yield lake
    await lake.close()


@pytest.fixture
async def index(lake: Lake) -> Index:
    index = Index(lake)
    await index.ensure()
    return index


class Pod:
    """`python -m cortex_workloads.search` as a process, and stubs to ask it; it waits for the shared state."""

    def __init__(self, dsn: str, log: Path, **environment: str) -> None:
        self._dsn = dsn
        self._log = log
        self._environment = environment
        self.ref = common_pb2.ResourceRef(namespace="default", name="papers")
        self.start()

    def start(self) -> None:
        """Starts it, on free ports of its own choice."""
        ports: dict[str, int] = {}
        for name in ("GRPC", "CONTROL", "METRICS"):
            ports[name] = free_port(frozenset(ports.values()))
        self.process = self.run("cortex_workloads.search", **{f"CORTEX_PORT_{k}": str(v) for k, v in ports.items()})
        self.metrics_port = ports["METRICS"]
        self._channels = [grpc.aio.insecure_channel(f"127.0.0.1:{ports[name]}") for name in ("GRPC", "CONTROL")]
        self.haystack = search_pb2_grpc.HaystackServiceStub(self._channels[0])
        self.health = health_pb2_grpc.HealthStub(self._channels[0])
        self.control = control_pb2_grpc.ControlServiceStub(self._channels[1])

    def run(self, module: str, **environment: str) -> subprocess.Popen[bytes]:
        """A process of the release with the pod's environment."""
        common = {"CORTEX_LAKE_DSN": self._dsn, "CORTEX_RESOURCE_NAME": "papers", "CORTEX_LISTEN_HOST": "127.0.0.1"}
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-c", IN_A_PROCESS % module],
                env={**os.environ, **common, **self._environment, **environment},
                stdout=log,
                stderr=log,
            )

    async def close(self) -> None:
        """kill -9, if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for channel in self._channels:
            await channel.close()

    async def ready(self, seconds: float = 90) -> None:
        """Returns when it is ready."""
        async with asyncio.timeout(seconds):
            while not await self._serving():  # noqa: ASYNC110 - it is another process
                await asyncio.sleep(0.05)

    async def _serving(self) -> bool:
        assert self.process.poll() is None, self._log.read_text()[-2000:]
        try:
            reply = await self.health.Check(health_pb2.HealthCheckRequest(service=""))
        except grpc.aio.AioRpcError:
            return False
        return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)

    async def ensure(self, **spec: Any) -> control_pb2.Revision:
        """As the operator does."""
        wanted = index_definition(CortexIndexSpec.model_validate(spec))
        request = control_pb2.CommandRequest(resource=self.ref, operation_id="1")
        request.ensure_revision.id = revision_id(wanted)
        request.ensure_revision.definition.update(wanted)
        return (await self.control.Command(request)).revision

    async def describe(self) -> control_pb2.DescribeResponse:
        """As the operator does."""
        return await self.control.Describe(control_pb2.DescribeRequest(resource=self.ref))

    async def update(self, **texts: str) -> search_pb2.UpdateResponse:
        """Writes documents, id=text."""
        new = [common_pb2.Document(id=identity, content=text) for identity, text in texts.items()]
        return await self.haystack.UpdateIndex(search_pb2.UpdateRequest(index=self.ref, documents=new))

    async def metric(self, name: str, **labels: str) -> float:
        """A value in its /metrics; 0 where there is none."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.metrics_port)
        writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
        page = (await reader.read()).decode().split("\r\n\r\n", 1)[1]
        writer.close()
        families = text_string_to_metric_families(page)
        return sum(
            one.value for family in families for one in family.samples if (one.name, one.labels) == (name, labels)
        )

    async def search(self, query: str, **more: Any) -> common_pb2.SearchResult:
        """Searches."""
        request = search_pb2.SearchRequest(index=self.ref, query=query, **more)
        return (await self.haystack.Search(request)).result

    async def embedded(self, documents: int, seconds: float = 60) -> None:
        """Returns when so many documents are embedded and none waits."""
        async with asyncio.timeout(seconds):
            while True:
                now = (await self.describe()).revisions[0]
                if (now.documents, now.waiting) == (documents, 0):
                    return
                await asyncio.sleep(0.05)


@pytest.fixture
async def pod(lake_dsn: str, tmp_path: Path) -> AsyncIterator[Pod]:
    pod = Pod(lake_dsn, tmp_path / "pod.log")
    await pod.ready()
    yield pod
    await pod.close()


@pytest.fixture
def pods() -> type[Pod]:
    """Makes pods with settings of one's own."""
    return Pod


@pytest.fixture
def release() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a module of the release to its end."""

    def run(module: str, **environment: str) -> subprocess.CompletedProcess[str]:
        ports = {f"CORTEX_PORT_{name}": "0" for name in ("GRPC", "CONTROL", "METRICS")}
        return subprocess.run(
            [sys.executable, "-m", module],
            env={**os.environ, **ports, **environment},
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )

    return run
