"""A small API server whose answers a test chooses."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cortex_kube.client import Api
from kubeconfig import kubeconfig

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """Answers by `answer`; `requests` has all that came."""

    def __init__(self) -> None:
        self.requests: list[web.Request] = []
        self.answer: Answer = self.refuse
        self.url, self.port = "", 0
        self.tls: ssl.SSLContext | None = None
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self.tls)
        await site.start()
        self.port = int(self._runner.addresses[0][1])
        self.url = f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def refuse(self, request: web.Request) -> web.StreamResponse:
        raise AssertionError(f"{request.path} was not expected")

    def says(self, body: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        async def answer(_: web.Request) -> web.StreamResponse:
            text = body if isinstance(body, str) else json.dumps(body)
            return web.Response(text=text, status=status, headers=headers)

        self.answer = answer

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        await request.read()
        self.requests.append(request)
        return await self.answer(request)


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as made:
        yield made


@pytest.fixture
async def server(stack: AsyncExitStack) -> Server:
    made = Server()
    await made.start()
    stack.push_async_callback(made.stop)
    return made


@pytest.fixture
async def api(stack: AsyncExitStack, server: Server, tmp_path: Path) -> Api:
    return await stack.enter_async_context(await Api.connect(kubeconfig=kubeconfig(tmp_path / "config", server.url)))
