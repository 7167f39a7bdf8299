"""`python -m cortex_workloads.search`: serves a CortexIndex."""

from __future__ import annotations

import asyncio

from cortex_workloads.runtime import tasks
from cortex_workloads.runtime.errors import CortexError
from cortex_workloads.runtime.server import Server, run
from cortex_workloads.runtime.settings import SearchSettings
from cortex_workloads.search.wiring import Search


async def serve(settings: SearchSettings) -> None:
    """Listens at once, is ready when the Lake and the model are there, works until it is told to end.

    Raises CortexError, never a group of them."""
    refused: CortexError | None = None
    try:
        async with Server(settings, "search") as server:
            search = Search(settings, server)
            await server.start()
            try:
                await _until_told(search, server)
            finally:
                await server.stop()
                await search.close()
    except* CortexError as errors:
        refused = next(error for error in errors.exceptions if isinstance(error, CortexError))
    if refused is not None:
        raise refused


async def _until_told(search: Search, server: Server) -> None:
    working, told = asyncio.create_task(search.run()), asyncio.create_task(server.wait())
    await asyncio.wait((working, told), return_when=asyncio.FIRST_COMPLETED)
    await tasks.end(told)
    if working.done():
        await working
    # Calls in progress end before what they use is closed.
    await server.stop()
    await tasks.end(working)


if __name__ == "__main__":
    run(serve, SearchSettings)
