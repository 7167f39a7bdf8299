"""How an operation is described in the OpenAPI page."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel

from cortex_workloads.gateway.schemas import Problem

_PROBLEMS: Final = {
    400: "The body cannot be read",
    404: "There is no such resource; near names are listed",
    409: "The state is another one than the caller took it for",
    413: "The body is too large",
    415: "Another media type is needed",
    422: "Something in the request is not valid; every violation is named",
    429: "More is asked than can be answered; Retry-After says when to try again",
    500: "A defect; the trace id leads to the logs",
    503: "Not available now; Retry-After says when to try again",
    504: "The time ran out",
}


def described(reply: type[BaseModel], *problems: int, **media: dict[str, Any]) -> dict[str, Any]:
    """`responses=` and `response_model=None` of a route. `media`: further media types of the 200 reply."""
    content = {name.replace("__", "/").replace("_", "-"): value for name, value in media.items()}
    responses: dict[int, Any] = {200: {"model": reply, "content": content}}
    for status in problems:
        schema = {"$ref": f"#/components/schemas/{Problem.__name__}"}
        responses[status] = {
            "description": _PROBLEMS[status],
            "content": {"application/problem+json": {"schema": schema}},
        }
    return {"responses": responses, "response_model": None}


def takes(model: type[BaseModel], **media: dict[str, Any]) -> dict[str, Any]:
    """`openapi_extra=` of a route that reads a body. `media`: further media types."""
    content: dict[str, Any] = {"application/json": {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}}
    content |= {name.replace("__", "/").replace("_", "-"): value for name, value in media.items()}
    return {"requestBody": {"required": True, "content": content}}


def sse(events: str) -> dict[str, Any]:
    """The media type of server-sent events."""
    return {"schema": {"type": "string", "description": f"Server-sent events: {events}. Resumes from Last-Event-ID."}}
