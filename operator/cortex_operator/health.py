"""The HTTP port of the operator: /livez, /readyz, /metrics.

/livez fails when the event loop does not turn (no answer) and when only a new process helps: the engine, the watches or
the election are stuck. /readyz fails until the resource definitions are there, the watches are open and everything was
looked at once, and when the watches are stale. A follower is ready, as an update waits for it.
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
    """What is known of the operator's state, as sentences, which are empty when all is well: each of `stuck` says why
    only a new process helps, `unready` why it does not do its work, `follows` for whom it waits instead of working."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.stuck: tuple[Callable[[], str], ...] = ()
        self.unready: Callable[[], str] = lambda: "waiting for the API server"
        self.follows: Callable[[], str] = lambda: ""
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
        """The operator waits for this before it can work at all."""
        self.unready = lambda: f"waiting for {what}"

    async def close(self) -> None:
        """Ends what listens."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _livez(self, _: web.Request) -> web.Response:
        return _answer(next(filter(None, (stuck() for stuck in self.stuck)), ""))

    async def _readyz(self, _: web.Request) -> web.Response:
        return _answer(self.unready(), self.follows() or "ok")

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": _TEXT})


def _answer(why_not: str, well: str = "ok") -> web.Response:
    return web.Response(status=503 if why_not else 200, text=f"{why_not or well}\n")
