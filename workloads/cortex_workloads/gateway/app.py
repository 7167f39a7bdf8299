"""The HTTP application: operations, errors as problems, the OpenAPI description."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp

from cortex_workloads.gateway import body, replies
from cortex_workloads.gateway.backend import Backend
from cortex_workloads.gateway.edge import Edge
from cortex_workloads.gateway.limits import Limits, Shedding
from cortex_workloads.gateway.routes import about, indexes, state, workflows
from cortex_workloads.gateway.schemas import REQUESTS
from cortex_workloads.runtime import telemetry
from cortex_workloads.runtime.errors import CortexError, InvalidInput, MethodNotAllowed, NotFound, internal

_DESCRIPTION: Final = (
    "Search indexes and run workflows. Errors are `application/problem+json` with stable `reason` and `family`;"
    " JSON is camelCase."
)


def build(backend: Backend, limits: Limits, *, any_host: bool) -> ASGIApp:
    """The ASGI application of the gateway."""
    app = FastAPI(title="Datapunk Cortex", version="v1", description=_DESCRIPTION, docs_url=None, redoc_url=None)
    for module in (indexes, workflows, state, about):
        app.include_router(module.router(backend))
    app.add_exception_handler(CortexError, _cortex_error)
    app.add_exception_handler(RequestValidationError, _invalid_parameters)
    app.add_exception_handler(HTTPException, _no_route)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _defect)
    _describe(app)
    return Edge(Shedding(app, limits), any_host=any_host)


async def _defect(_: Request, error: Exception) -> Response:
    # Logged by the edge, which sees it too.
    return replies.problem(internal(telemetry.trace_id()))


async def _cortex_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, CortexError)
    return replies.problem(error)


async def _invalid_parameters(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    lines = error.errors()
    violations = [(body.pointer(line["loc"]), line["msg"]) for line in lines]
    told = f"the parameter {lines[0]['loc'][-1]} is not valid: {violations[0][1]}"
    remedy = "correct what `errors` names; /docs says what each parameter may be"
    return replies.problem(InvalidInput(told, violations=violations, remedy=remedy))


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.url.path
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        told: CortexError = MethodNotAllowed(f"{request.method} is not possible on {path}", remedy=f"use {allowed}")
    else:
        told = NotFound(f"there is nothing at {path}", reason="NoSuchPath", remedy="see /docs for what there is")
    response = replies.problem(told)
    response.headers.update(error.headers or {})
    return response


async def _gone(_: Request, __: Exception) -> Response:
    # Nobody reads it: the client left while it was sending.
    return Response(status_code=499)


def _describe(app: FastAPI) -> None:
    """Adds the schemas of what is read without FastAPI: bodies are bounded and parsed by `body`."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            described = plain()
            template = "#/components/schemas/{model}"
            _, extra = models_json_schema([(model, "validation") for model in REQUESTS], ref_template=template)
            described.setdefault("components", {}).setdefault("schemas", {}).update(extra["$defs"])
            app.openapi_schema = described
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
