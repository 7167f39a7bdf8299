"""REST: the state of indexes and workflows."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from cortex_workloads.gateway import body, replies, schemas, state
from cortex_workloads.gateway.backend import Backend
from cortex_workloads.gateway.routes.operations import described, sse, takes
from cortex_workloads.runtime.catalogue import INDEX, WORKFLOW

_KINDS: Final = {"indexes": INDEX, "workflows": WORKFLOW}
_REBUILD_BYTES: Final = 1024
_AGGREGATES: Final = "`resource`, `revision/ID`, `thread/NAME`, `run/UUID`"
_POSITIONS: Final = 10**18

Level = Annotated[
    Literal["Durable", "Latest", "Bounded"],
    Query(description="As the Lake has it; with all that was acknowledged before; or at most `boundMs` behind."),
]
Bound = Annotated[
    int | None, Query(alias="boundMs", ge=1, le=3_600_000, description="Of Bounded, in ms. Default: a second.")
]
After = Annotated[
    str | None,
    Query(description="Changes behind this id (POSITION-MARK) or position. Default: from now on. Last-Event-ID wins."),
]


def router(backend: Backend) -> APIRouter:
    """The operations on state, of both kinds."""
    routes = APIRouter()
    for plural, kind in _KINDS.items():
        _add(routes, backend, plural, kind)
    return routes


def _add(routes: APIRouter, backend: Backend, plural: str, kind: str) -> None:
    one = f"/v1/namespaces/{{namespace}}/{plural}/{{name}}"
    told: dict[str, Any] = {"tags": [plural]}

    @routes.get(
        f"{one}/state",
        summary="Compare events, rows and copies of its state; it reads all of them",
        **told,
        **described(schemas.StateReport, 404, 422, 503, 504),
    )
    async def report(namespace: str, name: str) -> Response:
        return replies.json(await state.report(backend, backend.catalogue.get(kind, namespace, name)))

    @routes.post(
        f"{one}/state/rebuild",
        summary="Make rows that differ from their events again, and every copy anew",
        openapi_extra=takes(schemas.Rebuild),
        **told,
        **described(schemas.StateReport, 400, 404, 413, 415, 422, 503, 504),
    )
    async def rebuild(request: Request, namespace: str, name: str) -> Response:
        await body.read(request, schemas.Rebuild, _REBUILD_BYTES, "send {}")
        return replies.json(await state.rebuild(backend, backend.catalogue.get(kind, namespace, name)))

    @routes.get(
        one + "/state/{aggregate:path}",
        summary=f"Show the state of an aggregate: {_AGGREGATES}, `replica/POD`",
        **told,
        **described(schemas.StateReply, 404, 413, 422, 503, 504),
    )
    async def read(
        namespace: str, name: str, aggregate: str, consistency: Level = "Latest", bound_ms: Bound = None
    ) -> Response:
        resource = backend.catalogue.get(kind, namespace, name)
        return replies.json(await state.read(backend, resource, aggregate, consistency, bound_ms))

    @routes.get(
        one + "/history/{aggregate:path}",
        summary=f"The events of an aggregate, in pages of 1 MiB at most: {_AGGREGATES}",
        **told,
        **described(schemas.History, 404, 422, 503, 504),
    )
    async def history(
        namespace: str,
        name: str,
        aggregate: str,
        after: Annotated[int, Query(ge=0, le=_POSITIONS, description="Events behind this version.")] = 0,
        limit: Annotated[int, Query(ge=1, le=500, description="How many at most.")] = 100,
    ) -> Response:
        resource = backend.catalogue.get(kind, namespace, name)
        return replies.json(await state.history(backend, resource, aggregate, after, limit))

    @routes.get(
        f"{one}/changes",
        summary="Follow every change of its state (SSE); an event's id is its position and its mark",
        **told,
        **described(schemas.Change, 404, 409, 422, 503, text__event_stream=sse("position, change")),
    )
    async def changes(request: Request, namespace: str, name: str, after: After = None) -> Response:
        resource = backend.catalogue.get(kind, namespace, name)
        begin = state.place(after, "/query/after")
        last = state.place(request.headers.get("last-event-id") or None, "/header/Last-Event-ID")
        return await replies.stream(state.changes(backend, resource, begin if last is None else last))
