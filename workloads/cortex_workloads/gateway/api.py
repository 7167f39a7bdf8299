"""CortexAPI: the gateway's gRPC interface, on the same functions as REST."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from datapunk.cortex.api_pb2 import (
    AnalysisRequest,
    AnalysisResponse,
    IndexQuery,
    QueryRequest,
    QueryResponse,
    WorkflowQuery,
)
from datapunk.cortex.api_pb2_grpc import CortexAPIServicer
from datapunk.cortex.common_pb2 import ResourceRef, RunEvent
from pydantic import ValidationError

from cortex_workloads.gateway import body, queries, render, runs
from cortex_workloads.gateway.backend import Backend
from cortex_workloads.gateway.limits import Limits
from cortex_workloads.gateway.schemas import Run, Search
from cortex_workloads.runtime.errors import InvalidInput


class Api(CortexAPIServicer):
    """Answers CortexAPI."""

    def __init__(self, backend: Backend, limits: Limits) -> None:
        self._backend = backend
        self._limits = limits

    async def ProcessQuery(self, request: QueryRequest, context: Any) -> QueryResponse:
        """Asks an index or a workflow and waits for the answer."""
        left = context.time_remaining()
        match request.WhichOneof("target"):
            case "index":
                async with self._limits.place("search", _resource("indexes", request.index.index), left):
                    return await self._search(request.index, context.time_remaining())
            case "workflow":
                async with self._limits.place("runs", _resource("workflows", request.workflow.workflow), left):
                    return await self._run(request.workflow, context.time_remaining())
        raise InvalidInput("the request has no target", violations=[("target", "set `index` or `workflow`")])

    async def StreamAnalysis(self, request: AnalysisRequest, context: Any) -> AsyncIterator[AnalysisResponse]:
        """Runs a workflow and streams what happens."""
        resource = _resource("workflows", request.workflow)
        async with self._limits.place("runs", resource, context.time_remaining()):
            events = self._start(request, request.run_id, request.after_event_id, context.time_remaining())
            async with aclosing(events):  # type: ignore[type-var]
                async for event in events:
                    yield AnalysisResponse(event=event)

    async def _search(self, query: IndexQuery, timeout: float | None) -> QueryResponse:
        modes = {wire: mode for mode, wire in queries.MODES.items()}
        fallbacks = {wire: fallback for fallback, wire in queries.FALLBACKS.items()}
        asked = {
            "query": query.query,
            "mode": modes.get(query.mode),
            "top_k": query.top_k or None,
            "filter": render.struct(query.filter) if query.HasField("filter") else None,
            "exact": query.exact,
            # What this release does not know is refused by the number that it is.
            "fallbacks": [fallbacks.get(wire, wire) for wire in query.fallbacks],
        }
        try:
            search = Search.model_validate(asked)
        except ValidationError as error:
            raise body.invalid(error, Search) from None
        found = await queries.search(self._backend, query.index.namespace, query.index.name, search, timeout)
        return QueryResponse(search=found)

    async def _run(self, query: WorkflowQuery, timeout: float | None) -> QueryResponse:
        last, seen = RunEvent(), self._start(query, "", "", timeout)
        async with aclosing(seen):  # type: ignore[type-var]
            async for event in seen:
                last = event
        error = runs.failed(last)
        if error is not None:
            raise error
        return QueryResponse(run=last)

    def _start(
        self, request: WorkflowQuery | AnalysisRequest, run_id: str, after: str, timeout: float | None
    ) -> AsyncIterator[RunEvent]:
        try:
            run = Run(input=render.struct(request.input), thread_id=request.thread_id, run_id=run_id)
        except ValidationError as error:
            raise body.invalid(error, Run) from None
        name = request.workflow
        return runs.start(self._backend, name.namespace, name.name, run, after=after, timeout=timeout)


def _resource(kind: str, name: ResourceRef) -> str:
    """As in the paths of REST, with which its calls share their places."""
    return f"{name.namespace}/{kind}/{name.name}"
