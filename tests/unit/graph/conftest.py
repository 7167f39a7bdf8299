"""Graphs that run in memory: the nodes are real, the index and the embedder are doubles."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from cortex_workloads.graph.compile import Workflow, compile_workflow
from cortex_workloads.graph.execution import Execution
from cortex_workloads.graph.nodes.base import Tools
from cortex_workloads.graph.results import KeptResults
from cortex_workloads.graph.store import Run
from cortex_workloads.runtime.cache.layers import Layers
from cortex_workloads.runtime.cache.shared import Shared
from cortex_workloads.runtime.lake.revisions import Resource
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.runtime import RunControl


class Words:
    """Embeds by shared words, so that a test can see why a passage wins."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    async def aencode(self, texts: list[str]) -> Any:
        self.calls.append(texts)
        vocabulary = sorted({word for text in texts for word in text.lower().split()})
        vectors = np.array([[float(word in text.lower().split()) for word in vocabulary] for text in texts], np.float32)
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


class Index:
    """Answers with what it is given; an exception is raised."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.answers: list[Any] = []
        self.gate = asyncio.Event()
        self.gate.set()

    def target(self, index: str) -> str:
        return f"dns:///{index}"

    async def search(self, index: str, query: str, **options: Any) -> list[dict[str, Any]]:
        self.asked.append({"index": index, "query": query, **options})
        await self.gate.wait()
        answer = self.answers.pop(0) if self.answers else []
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]


class Bench:
    """Compiles and runs."""

    def __init__(self) -> None:
        self.index = Index()
        self.words = Words()
        self.events: list[Any] = []
        self.saver = InMemorySaver()
        self.executions: list[Execution] = []
        layers = Layers("test_results", 2**20, Shared("test_results", "", 0, 1.0))
        self.tools = Tools(self.index, self.encoder, KeptResults(Resource("CortexWorkflow", "default", "w"), layers))

    async def encoder(self) -> Words:
        return self.words

    def compile(self, nodes: list[dict[str, Any]], edges: list[str], **spec: Any) -> Workflow:
        """`edges`: `["START>a", "a>END"]`."""
        return self.compile_as("0123456789", nodes, edges, **spec)

    def compile_as(self, revision: str, nodes: list[dict[str, Any]], edges: list[str], **spec: Any) -> Workflow:
        """As `compile`, as another revision."""
        pairs = [dict(zip(("from", "to"), edge.split(">"), strict=True)) for edge in edges]
        definition = {"indexes": [{"name": "papers"}], "nodes": nodes, "edges": pairs, **spec}
        return compile_workflow(revision, definition, self.tools)

    async def run(
        self, workflow: Workflow, given: dict[str, Any] | None = None, *, attempts: int = 1
    ) -> dict[str, Any]:
        now = datetime.now(UTC)
        run = Run("r", "t", "0123456789", given or {}, "Running", None, None, 0, attempts, 0, now, None, 0.0, {})

        async def publish(event: Any) -> None:
            self.events.append(event)

        execution = Execution(workflow, run, self.saver, RunControl(), publish)  # type: ignore[arg-type]
        self.executions.append(execution)
        return await execution.finish()

    def order(self) -> list[str]:
        """Nodes in the order in which they ended."""
        steps = [event.step for event in self.events if event.WhichOneof("event") == "step"]
        return [step.node for step in steps if step.phase == step.PHASE_SUCCEEDED]

    async def asked(self, times: int) -> None:
        """Returns when the index was asked so often."""
        async with asyncio.timeout(30):
            while len(self.index.asked) < times:  # noqa: ASYNC110 - each turn of the loop is what is waited for
                await asyncio.sleep(0)


@pytest.fixture
async def bench() -> Bench:
    return Bench()


@pytest.fixture
def sets() -> Callable[..., dict[str, Any]]:
    """`sets("a", x="1")`: a Transform."""

    def build(name: str, **values: str) -> dict[str, Any]:
        return {"name": name, "type": "Transform", "transform": {"set": values}}

    return build


@pytest.fixture
def routes() -> Callable[..., dict[str, Any]]:
    """`routes("r", "default", when="to")`: a Route."""

    def build(name: str, default: str, cases: dict[str, str]) -> dict[str, Any]:
        listed = [{"when": when, "to": to} for when, to in cases.items()]
        return {"name": name, "type": "Route", "route": {"cases": listed, "default": default}}

    return build
