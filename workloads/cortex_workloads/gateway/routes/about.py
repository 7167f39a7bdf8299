"""REST: the gateway itself: health and its own description."""

from __future__ import annotations

from importlib.resources import files
from typing import Final

from fastapi import APIRouter
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from cortex_workloads.gateway import parts, replies
from cortex_workloads.gateway.backend import Backend

_PAGE: Final = "docs.html"
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"


def router(backend: Backend) -> APIRouter:
    """/healthz, /readyz, /livez, /docs, and / which leads there."""
    routes = APIRouter(tags=["about"])
    page = files("cortex_workloads.gateway").joinpath(_PAGE).read_text()

    @routes.get("/healthz", summary="The state of each part, with its reason", response_model=None)
    async def healthz() -> Response:
        return replies.json(await parts.health(backend))

    @routes.get("/readyz", summary="Whether the gateway can answer", response_model=None)
    async def readyz() -> Response:
        return replies.json(backend.health.explain(), 200 if backend.health.ready else 503)

    @routes.get("/livez", summary="Whether the gateway is alive", response_model=None)
    async def livez() -> Response:
        return PlainTextResponse("ok\n")

    @routes.get("/docs", include_in_schema=False, response_model=None)
    async def docs() -> Response:
        return HTMLResponse(page, headers={"Content-Security-Policy": _POLICY})

    @routes.get("/", include_in_schema=False, response_model=None)
    async def root() -> Response:
        return RedirectResponse("/docs")

    return routes
