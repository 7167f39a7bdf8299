"""What the supervisor answers on its socket: status, get, apply, plan, delete, shutdown."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from cortex_operator.cluster.port import Cluster

from cortex_cli.local.applied import Sources
from cortex_cli.local.store import Store
from cortex_cli.local.wire import LINE_BYTES, Message, short_path

log: Final = logging.getLogger("cortex.local.api")


class Api:
    """Answers one request a connection."""

    def __init__(
        self,
        cluster: Cluster,
        store: Store,
        status: Callable[[], Awaitable[Any]],
        plan: Callable[[Sources], Awaitable[Any]],
        shutdown: Callable[[], None],
    ) -> None:
        self._cluster = cluster
        self._store = store
        self._status = status
        self._plan = plan
        self._shutdown = shutdown

    @asynccontextmanager
    async def serve(self, directory: Path) -> AsyncIterator[None]:
        """Listens while the context is open; only the owner of the directory can ask."""
        with short_path(directory) as path:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)  # of a supervisor that was killed; the lock says that it is gone
            server = await asyncio.start_unix_server(self._answer, path, limit=LINE_BYTES)
            os.chmod(path, 0o600)
            try:
                yield
            finally:
                server.close()
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            line = await reader.readline()
            if line:
                writer.write(json.dumps(await self._reply(line)).encode() + b"\n")
                await writer.drain()
        writer.close()

    async def _reply(self, line: bytes) -> Message:
        try:
            return {"result": await self._carry_out(json.loads(line))}
        except Exception as error:
            log.exception("a request failed")
            return {"error": f"{type(error).__name__}: {error}"}

    async def _carry_out(self, request: Message) -> Any:
        match request["verb"]:
            case "status":
                return await self._status()
            case "get":
                return await self._cluster.list(request["apiVersion"], request["kind"], namespace=request["namespace"])
            case "apply":
                return await self._store.apply(request["sources"], request["gateway"])
            case "plan":
                return await self._plan(request["sources"])
            case "delete":
                return await self._store.delete(request["objects"])
            case "shutdown":
                self._shutdown()
                return "stopping"
        raise ValueError(f"there is no verb {request['verb']!r}")
