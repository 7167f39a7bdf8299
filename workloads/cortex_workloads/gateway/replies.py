"""Replies: JSON by orjson, problems (RFC 9457), server-sent events."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Final, TypeVar

import orjson
from starlette.responses import Response, StreamingResponse

from cortex_workloads.runtime import telemetry
from cortex_workloads.runtime.errors import CortexError, count, retry_after, to_problem

T = TypeVar("T")
HEARTBEAT_SECONDS: Final = 15.0
_HEARTBEAT: Final = b": still here\n\n"
Event = tuple[str, str, dict[str, Any]]
"""id (may be empty), name, data."""


def json(value: Any, status: int = 200) -> Response:
    """JSON, without any model handling."""
    data = orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS)
    return Response(data, status, media_type="application/json")


def problem(error: CortexError, **more: Any) -> Response:
    """An error; `more` are members of its own."""
    count(error)
    body = {**to_problem(error, telemetry.trace_id()), **more}
    headers: dict[str, str] = {}
    if (seconds := retry_after(error)) is not None:
        headers["Retry-After"] = str(math.ceil(seconds))
    return Response(orjson.dumps(body), body["status"], headers, media_type="application/problem+json")


async def stream(events: AsyncIterator[Event]) -> Response:
    """Server-sent events. The first is waited for, so that what fails at once is a problem with a status of its own;
    what fails later is an event `interrupted` with the problem: reconnect with Last-Event-ID to go on."""
    beats = _heartbeats(events)
    first = await anext(beats, None)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_written(first, beats), 200, headers, media_type="text/event-stream")


def sse(event: Event) -> bytes:
    """One event on the wire."""
    event_id, name, data = event
    head = f"id: {event_id}\n" if event_id else ""
    return f"{head}event: {name}\n".encode() + b"data: " + orjson.dumps(data, default=str) + b"\n\n"


async def _written(first: Event | None, beats: AsyncIterator[Event | None]) -> AsyncIterator[bytes]:
    async with aclosing(beats):  # type: ignore[type-var]
        yield _HEARTBEAT if first is None else sse(first)
        try:
            async for event in beats:
                yield _HEARTBEAT if event is None else sse(event)
        except CortexError as error:
            count(error)
            yield sse(("", "interrupted", to_problem(error, telemetry.trace_id())))


async def _heartbeats(items: AsyncIterator[T]) -> AsyncIterator[T | None]:
    """The items; None whenever none came for a while. Asking anew must not cancel what is awaited: hence the task."""
    pending: asyncio.Future[T] | None = None
    try:
        while True:
            pending = pending or asyncio.ensure_future(anext(items))
            done, _ = await asyncio.wait({pending}, timeout=HEARTBEAT_SECONDS)
            if not done:
                yield None
                continue
            try:
                item = pending.result()
            except StopAsyncIteration:
                return
            finally:
                pending = None
            yield item
    finally:
        if pending is not None:
            pending.cancel()
            await asyncio.wait({pending})
        await items.aclose()  # type: ignore[attr-defined]
