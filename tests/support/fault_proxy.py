"""A proxy before a real API server: counts what is asked, and answers with faults when it is told to."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import ClientSession, ClientTimeout, TCPConnector, web
from cortex_kube import config

_HOP = frozenset({"connection", "content-length", "host", "keep-alive", "transfer-encoding"})
_OWN = ("/apis/authorization.k8s.io/", "/apis/coordination.k8s.io/")


@dataclass(frozen=True)
class Asked:
    """A request that came."""

    method: str
    path: str
    query: str
    at: float = field(default_factory=time.monotonic, compare=False)

    @property
    def watches(self) -> bool:
        return "watch=true" in self.query

    @property
    def lists(self) -> bool:
        """Whether it asks for a collection of a namespace."""
        return self.method == "GET" and not self.watches and self.path.split("/")[-3:-2] == ["namespaces"]

    @property
    def writes(self) -> bool:
        """Whether it changes what people see; not the operator's own Lease."""
        return self.method != "GET" and not self.path.startswith(_OWN)


Fault = Callable[[Asked], int]
"""The status to answer a request with instead of passing it on; 0: it is passed on."""


class FaultProxy:
    """`kubeconfig` leads to it; `asked` is what came so far, `done` what of it the API server did. Watches that
    `silence` names stay open and say nothing; requests that `lost` names are passed on, and their answer never comes.
    `retry_after`: what a fault of 429 or 503 says, in seconds."""

    def __init__(self, directory: Path) -> None:
        self.kubeconfig = directory / "proxy.kubeconfig"
        self.asked: list[Asked] = []
        self.done: list[Asked] = []
        self.fault: Fault = lambda _: 0
        self.too_old: Callable[[Asked], bool] = lambda _: False
        """Watches that are told in their stream that their version is too old (410): their client must list anew."""
        self.silence: Callable[[Asked], bool] = lambda _: False
        self.lost: Callable[[Asked], bool] = lambda _: False
        self.retry_after = ""
        self.lists: dict[str, bytes] = {}
        """The newest answer to each list, by path."""
        self.old_lists: dict[str, bytes] = {}
        """What the next list of a path is answered with, once: an API server that is behind."""
        self._streams: set[web.StreamResponse] = set()
        self._more = asyncio.Condition()

    @asynccontextmanager
    async def before(self, kubeconfig: Path) -> AsyncIterator[FaultProxy]:
        """Runs before the cluster of `kubeconfig`, as its user."""
        behind = await config.load(kubeconfig, None)
        context = ssl.create_default_context(cafile=behind.ssl_ca_cert)
        context.load_cert_chain(behind.cert_file, behind.key_file)
        app = web.Application(client_max_size=10 * 1024 * 1024)
        session = ClientSession(
            behind.host,
            timeout=ClientTimeout(total=None),
            auto_decompress=False,
            connector=TCPConnector(limit=0),  # each watch keeps one
        )
        async with session:

            async def answer(request: web.Request) -> web.StreamResponse:
                return await self._answer(request, session, context)

            app.router.add_route("*", "/{path:.*}", answer)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.kubeconfig.write_text(_kubeconfig(runner.addresses[0][1]))
            try:
                yield self
            finally:
                await runner.cleanup()

    async def until_asked(self, times: int, which: Callable[[Asked], object], seconds: float = 60.0) -> None:
        """Returns when so many more requests of that sort have come."""
        before = len(self.asked)
        async with asyncio.timeout(seconds), self._more:
            await self._more.wait_for(lambda: sum(1 for asked in self.asked[before:] if which(asked)) >= times)

    def break_streams(self) -> None:
        """Ends all watches, as an API server that goes away does."""
        for stream in tuple(self._streams):
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
            headers = {"Retry-After": self.retry_after} if self.retry_after and status in (429, 503) else {}
            return web.json_response({**told, "reason": "Fault"}, status=status, headers=headers)
        if asked.lists and (old := self.old_lists.pop(asked.path, None)):
            return web.Response(body=old, content_type="application/json")
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
            if got.ok:
                self.done.append(asked)
            kept = {name: value for name, value in got.headers.items() if name.lower() not in _HOP}
            response = web.StreamResponse(status=got.status, headers=kept)
            if self.lost(asked):
                await got.read()
                request.transport.abort()  # type: ignore[union-attr]
                return response
            if asked.lists:
                self.lists[asked.path] = await got.read()
            self._streams.add(response)
            try:
                await response.prepare(request)
                if asked.lists:
                    await response.write(self.lists[asked.path])
                async for data in got.content.iter_any():
                    if not (asked.watches and self.silence(asked)):
                        await response.write(data)
                await response.write_eof()
            except (ConnectionError, asyncio.CancelledError):
                pass
            finally:
                self._streams.discard(response)
            return response


class ProxyThread:
    """A proxy in a thread of its own, for an operator that outlives one test's event loop."""

    def __init__(self, directory: Path, kubeconfig: Path) -> None:
        self.proxy = FaultProxy(directory)
        self._started = threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=[self._run(kubeconfig)], daemon=True)
        self._thread.start()
        assert self._started.wait(30)

    def break_streams(self) -> None:
        """Ends all watches."""
        self._loop.call_soon_threadsafe(self.proxy.break_streams)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def _run(self, kubeconfig: Path) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._loop.set_exception_handler(lambda *_: None)
        async with self.proxy.before(kubeconfig):
            self._started.set()
            await self._stop.wait()


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
