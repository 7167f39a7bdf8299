"""The HTTP server of every pod: /metrics, /livez, /readyz. Tiny on purpose: it has no routes to grow."""

from __future__ import annotations

import asyncio
from typing import Final

import orjson
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from cortex_workloads.runtime.health import Health
from cortex_workloads.runtime.telemetry import REGISTRY

_REQUEST_SECONDS: Final = 5.0
_REQUEST_BYTES: Final = 16 * 1024
_REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    503: "Service Unavailable",
}


async def serve(health: Health, host: str, port: int) -> asyncio.Server:
    """Starts to listen. Raises OSError when the address is taken."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(_reply(head.split(b"\r\n", 1)[0], health))
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    return await asyncio.start_server(answer, host, port, limit=_REQUEST_BYTES)


def _reply(request_line: bytes, health: Health) -> bytes:
    words = request_line.split(b" ")
    if len(words) != 3:
        return _response(400, b"", "text/plain")
    if words[0] not in (b"GET", b"HEAD"):
        return _response(405, b"", "text/plain")
    match words[1].split(b"?", 1)[0]:
        case b"/metrics":
            return _response(200, generate_latest(REGISTRY), CONTENT_TYPE_LATEST)
        case b"/livez":
            return _response(200, b"ok\n", "text/plain")
        case b"/readyz":
            return _response(200 if health.ready else 503, orjson.dumps(health.explain()), "application/json")
    return _response(404, b"there is /metrics, /livez and /readyz\n", "text/plain")


def _response(status: int, body: bytes, content_type: str) -> bytes:
    head = f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + body
