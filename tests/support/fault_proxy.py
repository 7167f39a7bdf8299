"""A proxy before a real API server: counts what is asked, and answers with faults when it is told to."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aiohttp import ClientSession, ClientTimeout, web
from cortex_kube import config

_HOP = frozenset({"connection", "content-length", "host", "keep-alive", "transfer-encoding"})
_OWN = ("/apis/authorization.k8s.io/", "/apis/coordination.k8s.io/")


@dataclass(frozen=True)
class Asked:
    """A request that came."""

    method: str
    path: str
    query: str

    @property
    def watches(self) -> bool:
        return "watch=true" in self.query

    @property
    def writes(self) -> bool:
        """Whether it changes what people see; not the operator's own Lease."""
        return self.method != "GET" and not self.path.startswith(_OWN)


Fault = Callable[[Asked], int]
"""The status to answer a request with instead of passing it on; 0: it is passed on."""


class FaultProxy:
    """`kubeconfig` leads to it; `asked` is what came so far. Watches that `silence` names stay open and say nothing."""

    def __init__(self, directory: Path) -> None:
        self.kubeconfig = directory / "proxy.kubeconfig"
        self.asked: list[Asked] = []
        self.fault: Fault = lambda _: 0
        self.too_old: Callable[[Asked], bool] = lambda _: False
        """Watches that are told in their stream that their version is too old (410): their client must list anew."""
        self.silence: Callable[[Asked], bool] = lambda _: False
        self._streams: set[web.StreamResponse] = set()
        self._more = asyncio.Condition()

    @asynccontextmanager
    async def before(self, kubeconfig: Path) -> AsyncIterator[FaultProxy]:
        """Runs before the cluster of `kubeconfig`, as its user."""
        behind = await config.load(kubeconfig, None)
        context = ssl.create_default_context(cafile=behind.ssl_ca_cert)
        context.load_cert_chain(behind.cert_file, behind.key_file)
        app = web.Application(client_max_size=10 * 1024 * 1024)
        async with ClientSession(behind.host, timeout=ClientTimeout(total=None), auto_decompress=False) as session:

            async def answer(request: web.Request) -> web.StreamResponse:
                return await self._answer(request, session, context)

            app.router.add_route("*", "/{path:.*}", answer)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.kubeconfig.write_text(_kubeconfig(runner.addresses[0][1]))
            try:
                yield self
            finally:
                await runner.cleanup()

    async def until_asked(self, times: int, which: Callable[[Asked], object], seconds: float = 20.0) -> None:
        """Returns when so many more requests of that sort have come."""
        before = len(self.asked)
        async with asyncio.timeout(seconds), self._more:
            await self._more.wait_for(lambda: sum(1 for asked in self.asked[before:] if which(asked)) >= times)

    def break_streams(self) -> None:
        """Ends all watches, as an API server that goes away does."""
        for stream in self._streams:
            stream.force_close()
            if stream._req is not None and stream._req.transport is not None:
                stream._req.transport.abort()

    async def _answer(
        self, request: web.Request, session: ClientSession, context: ssl.SSLContext
    ) -> web.StreamResponse:
        asked = Asked(request.method, request.path, request.query_string)
        async with self._more:
            self.asked.append(asked)
            self._more.notify_all()
        if status := self.fault(asked):
            told = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status, "message": "a fault"}
            return web.json_response({**told, "reason": "Fault"}, status=status)
        if self.too_old(asked):
            gone = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410, "reason": "Expired"}
            return web.json_response({"type": "ERROR", "object": gone})
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
        body = await request.read()
        async with session.request(
            request.method,
            request.rel_url,
            headers=headers,
            data=body or None,
            ssl=context,
            skip_auto_headers=("Content-Type", "Accept-Encoding"),
        ) as got:
            kept = {name: value for name, value in got.headers.items() if name.lower() not in _HOP}
            response = web.StreamResponse(status=got.status, headers=kept)
            self._streams.add(response)
            try:
                await response.prepare(request)
                async for data in got.content.iter_any():
                    if not (asked.watches and self.silence(asked)):
                        await response.write(data)
                await response.write_eof()
            except (ConnectionError, asyncio.CancelledError):
                pass
            finally:
                self._streams.discard(response)
            return response


def _kubeconfig(port: int) -> str:
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "proxy", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
            "users": [{"name": "nobody", "user": {}}],
            "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "nobody"}}],
            "current-context": "proxy",
        }
    )
