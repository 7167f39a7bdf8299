"""The HTTP port of the operator: /livez, /readyz, /metrics.

/livez fails when the event loop does not turn (no answer) or when the engine is stuck; /readyz until the resource
definitions are there and the watches run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest

_TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"


class CannotListen(Exception):
    """The port cannot be had; one line that says which and what to do."""


class Health:
    """What is known of the operator's state; `stuck` says why it hangs, if it does."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._awaited = "the API server"
        self.stuck: Callable[[], str] = lambda: ""
        self._registry = registry
        self._runner: web.AppRunner | None = None

    async def serve(self, host: str, port: int) -> int:
        """Listens; returns the port. Raises CannotListen."""
        app = web.Application()
        app.add_routes(
            [web.get("/livez", self._livez), web.get("/readyz", self._readyz), web.get("/metrics", self._metrics)]
        )
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port, shutdown_timeout=1.0).start()
        except OSError as error:
            raise CannotListen(
                f"cannot listen on {host}:{port}: {error.strerror}; stop what uses it, or set CORTEX_PORT_METRICS to "
                "another port"
            ) from error
        return int(self._runner.addresses[0][1])

    def wait_for(self, what: str) -> None:
        """The operator waits for this; for nothing any more when it is empty."""
        self._awaited = what

    async def close(self) -> None:
        """Ends what listens."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _livez(self, _: web.Request) -> web.Response:
        return _answer(self.stuck())

    async def _readyz(self, _: web.Request) -> web.Response:
        return _answer(f"waiting for {self._awaited}" if self._awaited else "")

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": _TEXT})


def _answer(why_not: str) -> web.Response:
    return web.Response(status=503 if why_not else 200, text=f"{why_not or 'ok'}\n")
