"""Follows a resource's changes from any position, without a gap: through Valkey's stream, and through the Lake where
the stream does not reach, or while Valkey or the relay is away.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, Final

import orjson
from redis.exceptions import RedisError

from cortex_workloads.runtime.errors import StateSyncFailed
from cortex_workloads.runtime.lake import revisions
from cortex_workloads.runtime.lake.pool import Lake
from cortex_workloads.runtime.lake.revisions import Resource
from cortex_workloads.runtime.progress import connect
from cortex_workloads.runtime.state import feed
from cortex_workloads.runtime.state.aggregates import Change, key

_BLOCK_MS: Final = 1_000
"""After so long without a change, the Lake is asked whether there is one."""
_MOST: Final = 500


class Watch:
    """Of one resource. To be closed."""

    def __init__(self, lake: Lake, url: str, resource: Resource) -> None:
        self._lake = lake
        self._resource = resource
        self._stream = key(resource, "events")
        self._client = connect(url, _BLOCK_MS / 1000 + 1) if url else None

    async def close(self) -> None:
        """Closes the connections."""
        if self._client is not None:
            await self._client.aclose()

    async def changes(self, after: int | None = None) -> AsyncIterator[Change]:
        """Every change behind a position (None: from now on), then each new one; ends by cancellation only, or by
        Unavailable when the Lake is needed and does not answer: go on from the last position. Raises StateSyncFailed
        (`PositionUnknown`) for a position that the feed has not reached."""
        if after is None:
            after = (await self._from_lake(None))[0]
        while True:
            found = await self._from_stream(after)
            if not found or found[0].position != after + 1:
                # Silence may be a relay that stands still; a gap, a stream that was trimmed or begun anew.
                _, found = await self._from_lake(after)
            for change in found:
                yield change
                after = change.position

    async def _from_stream(self, after: int) -> list[Change]:
        if self._client is None:
            await asyncio.sleep(_BLOCK_MS / 1000)
            return []
        try:
            reply: Any = await self._client.xread({self._stream: f"{after}-0"}, block=_BLOCK_MS, count=_MOST)
        except (RedisError, OSError, TimeoutError):
            await asyncio.sleep(_BLOCK_MS / 1000)
            return []
        return [_change(*entry) for _, entries in reply or () for entry in entries]

    async def _from_lake(self, after: int | None) -> tuple[int, list[Change]]:
        async with self._lake.connection() as connection:
            row = await revisions.resource_row(connection, self._resource)
            if row is None:
                return 0, []
            last = (await feed.number(connection, row, _MOST)).position
            if after is None:
                return last, []
            if after > last:
                raise StateSyncFailed(
                    f"the feed of {'/'.join(self._resource)} ends at {last}, before the position {after} that was asked"
                    " for: the Lake was restored, or the resource was made anew",
                    remedy="read the states again and follow from position 0 or from now on",
                    reason="PositionUnknown",
                )
            return last, await feed.after(connection, row, after, _MOST)


def _change(entry: bytes, fields: dict[bytes, bytes]) -> Change:
    return Change(
        int(entry.partition(b"-")[0]),
        fields[b"aggregate"].decode(),
        int(fields[b"version"]),
        fields[b"type"].decode(),
        orjson.loads(fields[b"data"]),
        datetime.fromisoformat(fields[b"at"].decode()),
        fields[b"by"].decode(),
    )
