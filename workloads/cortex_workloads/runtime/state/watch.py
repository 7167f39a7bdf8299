"""Follows a resource's changes from any position, without a gap: through Valkey's stream, and through the Lake where
the stream does not reach, or while Valkey or the relay is away.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import datetime
from itertools import takewhile
from typing import Any, Final, NamedTuple

import orjson
from redis.exceptions import RedisError

from cortex_workloads.runtime.cache.flights import Flights
from cortex_workloads.runtime.errors import StateSyncFailed
from cortex_workloads.runtime.lake import revisions
from cortex_workloads.runtime.lake.pool import Connection, Lake, cancelled
from cortex_workloads.runtime.lake.revisions import Resource
from cortex_workloads.runtime.progress import connect
from cortex_workloads.runtime.state import feed, marks
from cortex_workloads.runtime.state.aggregates import Change, key

_BLOCK_MS: Final = 1_000
"""After so long without a change, the Lake is asked whether there is one."""
_SHARED: Final = 0.5
"""Of that silence, how long what the Lake answered is good for every follower."""
_MOST: Final = 500
_READ: Final = 50
"""Of the stream at once: their length is not known before."""


class _End(NamedTuple):
    """Of a feed in the Lake, when it was asked for: its last position, with its mark."""

    position: int
    mark: str
    asked: float


class Watch:
    """Of one resource, for any number of followers. To be closed."""

    def __init__(self, lake: Lake, url: str, resource: Resource) -> None:
        self._lake = lake
        self._resource = resource
        self._stream = key(resource, "events")
        self._client = connect(url, _BLOCK_MS / 1000 + 1) if url else None
        self._ends = Flights[_End]()
        self._end = _End(0, "", float("-inf"))

    async def close(self) -> None:
        """Closes the connections."""
        if self._client is not None:
            await self._client.aclose()

    async def begin(self, after: int | None) -> int:
        """The position behind which a watch begins: `after`, or with None what was committed last. Raises Unavailable,
        StateSyncFailed (`PositionUnknown`) for a position that the feed has not reached."""
        async with self._lake.connection() as connection:
            _, last = await self._reached(connection, after or 0)
        return last if after is None else after

    async def changes(self, after: int | None = None, mark: str = "") -> AsyncIterator[Change]:
        """Every change behind a position (None: from now on), then each new one; `mark` is that of the position (empty:
        any). Ends by cancellation only, or by Unavailable when the Lake is needed and does not answer: go on from the
        last position. Raises StateSyncFailed (`PositionUnknown`) for a position that the feed has not reached, or where
        another event is than was told."""
        if after is None:
            after = await self.begin(None)
        last = mark
        while not cancelled():
            found = await self._from_stream(after)
            if not found and await self._is_end(after, last):
                continue
            if not found or found[0].position != after + 1 or not await self._goes_on(after, last):
                # Silence may be a relay that stands still; a gap, a stream that was trimmed or begun anew.
                gap, found = bool(found), await self._from_lake(after, last)
                if gap and not found:
                    # The stream is of a Lake that is no more, and nobody began it anew yet.
                    await asyncio.sleep(_BLOCK_MS / 1000)
            for change in found:
                yield change
                after, last = change.position, marks.mark(change)

    async def _from_stream(self, after: int) -> list[Change]:
        if self._client is None:
            await asyncio.sleep(_BLOCK_MS / 1000)
            return []
        try:
            reply: Any = await self._client.xread({self._stream: f"{after}-0"}, block=_BLOCK_MS, count=_READ)
        except (RedisError, OSError, TimeoutError):
            await asyncio.sleep(_BLOCK_MS / 1000)
            return []
        found = [entry for _, entries in reply or () for entry in entries]
        # What an event changed may be too large for the stream: the Lake has it.
        return [_change(*entry) for entry in takewhile(lambda entry: entry[1][b"data"], found)]

    async def _goes_on(self, after: int, mark: str) -> bool:
        """Whether the stream still has the event that was told last. To be asked after what follows was read: a stream
        that is begun anew in between has it no more, or another one there."""
        if not mark:
            return True
        assert self._client is not None
        try:
            entries: Any = await self._client.xrange(self._stream, f"{after}-0", f"{after}-0")
        except (RedisError, OSError, TimeoutError):
            return False
        return any(marks.of(*_named(fields)) == mark for _, fields in entries)

    async def _is_end(self, after: int, mark: str) -> bool:
        """Whether the Lake had nothing behind that event half a second ago. Thousands may follow and hear nothing."""
        if time.monotonic() - self._end.asked > _SHARED * _BLOCK_MS / 1000:
            self._end = await self._ends.once(b"", self._ask_end)
        return self._end[:2] == (after, mark or self._end.mark)

    async def _ask_end(self) -> _End:
        asked = time.monotonic()
        async with self._lake.connection() as connection:
            row, last = await self._reached(connection, 0)
            return _End(last, await marks.checked(connection, self._resource, row, last), asked)

    async def _from_lake(self, after: int, mark: str) -> list[Change]:
        async with self._lake.connection() as connection:
            row, _ = await self._reached(connection, after)
            if row is None:
                return []
            await marks.checked(connection, self._resource, row, after, mark)
            return await feed.after(connection, row, after, _MOST)

    async def _reached(self, connection: Connection, position: int) -> tuple[int | None, int]:
        """The resource's row and the end of its feed, which is not before the position."""
        row = await revisions.resource_row(connection, self._resource)
        if row is None:
            return None, 0
        last = (await feed.number(connection, row, _MOST)).position
        if position > last:
            raise StateSyncFailed(
                f"the feed of {'/'.join(self._resource)} ends at {last}, before the position {position} that was asked"
                " for: the Lake was restored, or the resource was made anew",
                remedy="read the states again and follow from position 0 or from now on",
                reason="PositionUnknown",
            )
        return row, last


def _change(entry: bytes, fields: dict[bytes, bytes]) -> Change:
    aggregate, version, at = _named(fields)
    position, data = int(entry.partition(b"-")[0]), orjson.loads(fields[b"data"])
    return Change(position, aggregate, version, fields[b"type"].decode(), data, at, fields[b"by"].decode())


def _named(fields: dict[bytes, bytes]) -> tuple[str, int, datetime]:
    at = datetime.fromisoformat(fields[b"at"].decode())
    return fields[b"aggregate"].decode(), int(fields[b"version"]), at
