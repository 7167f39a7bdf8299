"""A proxy before a TCP server that can stop to pass anything on, as a machine without power: no connection ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class StallingProxy:
    """`port` leads to it. While it stalls, new connections are taken, and nothing is passed on in either direction."""

    def __init__(self) -> None:
        self.port = 0
        self._flowing = asyncio.Event()
        self._flowing.set()

    def stall(self) -> None:
        self._flowing.clear()

    def flow(self) -> None:
        self._flowing.set()

    @asynccontextmanager
    async def before(self, host: str, port: int) -> AsyncIterator[StallingProxy]:
        """Runs before the server."""

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(ConnectionError, asyncio.CancelledError):
                there, back = await asyncio.open_connection(host, port)
                await asyncio.gather(self._pass_on(reader, back), self._pass_on(there, writer))

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            self.flow()
            server.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()
        writer.close()
