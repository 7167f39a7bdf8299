"""Counts in the shared state that many processes add to; where that is away, there are none.

One sorted set for each hour: additions of several processes add up without a transaction, and what is old expires.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from redis import asyncio as redis

from cortex_workloads.runtime.cache.far import Far

HOUR_SECONDS: Final = 3600
_FORMER: Final = 0.5
"""Of a count of the hour before this one."""


class Tally:
    """Counts of the `most` keys that are asked for most, of this hour and of the one before, below keys that begin with
    `beginning`; an empty `url`: none. Raises InvalidInput when the URL cannot be read."""

    def __init__(self, url: str, beginning: str, most: int) -> None:
        self._far = Far(url if most else "")
        self._beginning = beginning
        self._most = most

    async def add(self, counts: Mapping[bytes, int]) -> None:
        """Adds to this hour's; lost where nothing answers."""
        if counts:
            await self._far.ask(lambda client: self._add(client, counts))

    async def top(self, most: int) -> list[bytes]:
        """The keys with the highest counts, the first one highest; none where nothing answers."""
        return await self._far.ask(lambda client: self._top(client, most)) or []

    async def close(self) -> None:
        """Closes the connections."""
        await self._far.close()

    async def _add(self, client: redis.Redis, counts: Mapping[bytes, int]) -> None:
        key = self._key(0)
        async with client.pipeline(transaction=False) as pipe:
            for one, count in counts.items():
                pipe.zincrby(key, count, one)
            pipe.zremrangebyrank(key, 0, -self._most - 1)
            pipe.expire(key, 2 * HOUR_SECONDS)
            await pipe.execute()

    async def _top(self, client: redis.Redis, most: int) -> list[bytes]:
        sums: Counter[bytes] = Counter()
        for before, weight in ((0, 1.0), (1, _FORMER)):
            found: Any = await client.zrange(self._key(before), 0, -1, withscores=True)
            for key, count in found:
                sums[key] += count * weight
        return [key for key, _ in sums.most_common(most)]

    def _key(self, hours_ago: int) -> str:
        return f"{self._beginning}{int(time.time() // HOUR_SECONDS) - hours_ago}"
