"""REST: workflows and their runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated, Final

from datapunk.cortex.common_pb2 import RunEvent
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from cortex_workloads.gateway import body, render, replies, runs, schemas
from cortex_workloads.gateway.backend import Backend
from cortex_workloads.gateway.routes.operations import described, sse, takes
from cortex_workloads.gateway.routes.resources import listed, shown
from cortex_workloads.runtime.catalogue import WORKFLOW

_RUN_BYTES: Final = 2 * 1024 * 1024
_ONE: Final = "/v1/namespaces/{namespace}/workflows/{name}"
_EVENTS: Final = "started, step, progress, partial, completed, failed"


def router(backend: Backend) -> APIRouter:
    """The operations on workflows."""
    routes = APIRouter(tags=["workflows"])

    @routes.get("/v1/workflows", summary="List all workflows", **described(schemas.Items))
    async def list_all() -> Response:
        return listed(backend, WORKFLOW, None)

    @routes.get(
        "/v1/namespaces/{namespace}/workflows", summary="List a namespace's workflows", **described(schemas.Items, 422)
    )
    async def list_some(namespace: str) -> Response:
        return listed(backend, WORKFLOW, namespace)

    @routes.get(_ONE, summary="Show a workflow", **described(schemas.Resource, 404, 422))
    async def show(namespace: str, name: str) -> Response:
        return shown(backend.workflow(namespace, name))

    @routes.post(
        f"{_ONE}/runs",
        summary="Run a workflow: waits for its end (JSON) or streams its events (SSE)",
        openapi_extra=takes(schemas.Run),
        **described(schemas.RunResult, 400, 404, 413, 415, 422, 429, 500, 503, 504, text__event_stream=sse(_EVENTS)),
    )
    async def start(request: Request, namespace: str, name: str) -> Response:
        asked = await body.read(request, schemas.Run, _RUN_BYTES, "give the workflow less input")
        after = request.headers.get("last-event-id", "") if _streams(request) else ""
        events = runs.start(backend, namespace, name, asked, after=after)
        if _streams(request):
            return await replies.stream(_rendered(events))
        result = await runs.outcome(events)
        if (error := result.get("error")) is None:
            return replies.json(result)
        return replies.problem(runs.failure(result["runId"], error["code"], error["message"]), run=result)

    @routes.get(
        _ONE + "/runs/{run_id}",
        summary="How a run is; waits for its end when asked to",
        **described(schemas.RunResult, 404, 422, 429, 503, 504),
    )
    async def show_run(
        namespace: str,
        name: str,
        run_id: str,
        wait: Annotated[float, Query(ge=0, le=600, description="Seconds to wait for the run's end.")] = 0,
    ) -> Response:
        return replies.json({**(await runs.known(backend, namespace, name, run_id, wait)), "runId": run_id})

    @routes.get(
        _ONE + "/runs/{run_id}/events",
        summary="The events of a run (SSE); resumes from Last-Event-ID",
        **described(schemas.RunResult, 404, 422, 429, 503, text__event_stream=sse(_EVENTS)),
    )
    async def run_events(request: Request, namespace: str, name: str, run_id: str) -> Response:
        after = request.headers.get("last-event-id", "")
        return await replies.stream(_rendered(runs.attach(backend, namespace, name, run_id, after=after)))

    return routes


def _streams(request: Request) -> bool:
    return "text/event-stream" in request.headers.get("accept", "")


async def _rendered(events: AsyncIterator[RunEvent]) -> AsyncIterator[replies.Event]:
    async with aclosing(events):  # type: ignore[type-var]
        async for event in events:
            yield (event.event_id, *render.event(event))
