"""L2: bytes in the shared state, for all pods; where that is away, nothing is kept."""

from __future__ import annotations

from typing import cast

from redis import asyncio as redis

from cortex_workloads.runtime.cache.far import Far
from cortex_workloads.runtime.cache.memory import jittered
from cortex_workloads.runtime.cache.metrics import Requests


class Shared:
    """A cache `name` at a redis:// or rediss:// URL (empty: keeps nothing), whose entries of at most `limit` bytes (0:
    keeps nothing) live `seconds` at most. How many there are is bounded by the server's own memory. Raises InvalidInput
    when the URL cannot be read."""

    def __init__(self, name: str, url: str, limit: int, seconds: float) -> None:
        self._far = Far(url if limit else "")
        self._limit = limit
        self._seconds = seconds
        self.requests = Requests(name, "shared")

    async def find(self, key: str) -> bytes | None:
        """What is kept, uncounted (`requests`); None where nothing is, or nothing answers."""

        async def get(client: redis.Redis) -> bytes | None:
            return cast("bytes | None", await client.get(key))

        return await self._far.ask(get)

    async def keep(self, key: str, value: bytes, seconds: float | None = None) -> None:
        """Keeps a value in the place of what was kept, unless it is too large or nothing answers; for `seconds` where
        they are given, else for the cache's own."""
        if len(value) <= self._limit:
            life = max(round((jittered(self._seconds) if seconds is None else seconds) * 1000), 1)
            await self._far.ask(lambda client: client.set(key, value, px=life))

    async def close(self) -> None:
        """Closes the connections."""
        await self._far.close()
