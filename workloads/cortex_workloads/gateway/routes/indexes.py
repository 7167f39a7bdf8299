"""REST: indexes."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from cortex_workloads.gateway import body, documents, ingestion, queries, render, replies, schemas
from cortex_workloads.gateway.backend import Backend
from cortex_workloads.gateway.routes.operations import described, sse, takes
from cortex_workloads.gateway.routes.resources import listed, shown
from cortex_workloads.runtime.catalogue import INDEX
from cortex_workloads.runtime.errors import InvalidInput

_NDJSON: Final = "application/x-ndjson"
_SEARCH_BYTES: Final = 256 * 1024
_DOCUMENTS_BYTES: Final = 8 * 1024 * 1024
_ONE: Final = "/v1/namespaces/{namespace}/indexes/{name}"
_LINES: Final[dict[str, Any]] = {
    "schema": {"type": "string", "description": "One document a line; any number of them."},
    "example": '{"id": "1", "title": "Vaccines", "content": "They train the immune system."}\n',
}


def router(backend: Backend) -> APIRouter:
    """The operations on indexes."""
    routes = APIRouter(tags=["indexes"])

    @routes.get("/v1/indexes", summary="List all indexes", **described(schemas.Items))
    async def list_all() -> Response:
        return listed(backend, INDEX, None)

    @routes.get(
        "/v1/namespaces/{namespace}/indexes", summary="List a namespace's indexes", **described(schemas.Items, 422)
    )
    async def list_some(namespace: str) -> Response:
        return listed(backend, INDEX, namespace)

    @routes.get(_ONE, summary="Show an index", **described(schemas.Resource, 404, 422))
    async def show(namespace: str, name: str) -> Response:
        return shown(backend.index(namespace, name))

    @routes.post(
        f"{_ONE}/search",
        summary="Search",
        openapi_extra=takes(schemas.Search),
        **described(schemas.SearchResult, 400, 404, 413, 415, 422, 429, 503, 504),
    )
    async def search(request: Request, namespace: str, name: str) -> Response:
        remedy = f"a query has at most {schemas.QUERY_CHARACTERS:,} characters"
        asked = await body.read(request, schemas.Search, _SEARCH_BYTES, remedy)
        found = await queries.search(backend, namespace, name, asked)
        response = replies.json(render.search_result(found))
        if found.HasField("age"):
            response.headers["Age"] = str(found.age.seconds)
        return response

    @routes.post(
        f"{_ONE}/documents",
        summary="Write documents: JSON, all or none; NDJSON, any number, each line by itself",
        openapi_extra=takes(schemas.Documents, application__x_ndjson=_LINES),
        **described(schemas.Written, 400, 404, 413, 415, 422, 429, 503, 504),
    )
    async def write(request: Request, namespace: str, name: str) -> Response:
        if body.require(request, "application/json", _NDJSON) == _NDJSON:
            return _outcome(await documents.upload(backend, namespace, name, request.stream()))
        remedy = f"a document has at most 1 MiB of content; send many documents as {_NDJSON}, one a line"
        asked = await body.read(request, schemas.Documents, _DOCUMENTS_BYTES, remedy)
        return replies.json(render.written(await documents.write(backend, namespace, name, asked.documents)))

    @routes.delete(
        _ONE + "/documents/{document:path}",
        summary="Delete a document",
        **described(schemas.Written, 404, 422, 429, 503, 504),
    )
    async def delete(namespace: str, name: str, document: str) -> Response:
        return replies.json(render.written(await documents.delete(backend, namespace, name, document)))

    @routes.get(
        f"{_ONE}/progress",
        summary="How far embedding is, as it stands (JSON) or as it goes on (SSE)",
        **described(schemas.Progress, 404, 422, 503, text__event_stream=sse("progress")),
    )
    async def progress(request: Request, namespace: str, name: str) -> Response:
        if "text/event-stream" not in request.headers.get("accept", ""):
            return replies.json(await ingestion.snapshot(backend, namespace, name))
        after = request.headers.get("last-event-id", "")
        return await replies.stream(ingestion.events(backend, namespace, name, after))

    return routes


def _outcome(outcome: documents.Outcome) -> Response:
    counts = {name: getattr(outcome, name) for name in ("written", "unchanged", "deleted", "waiting")}
    if outcome.ended_by is not None:
        more = {"accepted": outcome.accepted, "line": outcome.line, "errors": outcome.errors, **counts}
        return replies.problem(outcome.ended_by, **more)
    if outcome.bad:
        error = InvalidInput(
            f"{outcome.bad} lines were refused, {outcome.accepted} documents stand",
            reason="LinesRefused",
            remedy="correct those lines and send them again; the others need not be sent again",
        )
        return replies.problem(error, accepted=outcome.accepted, refused=outcome.bad, errors=outcome.errors, **counts)
    return replies.json(counts)
