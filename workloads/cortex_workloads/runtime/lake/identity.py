"""Which Lake this process began with. Shields the services from another database that takes its place at the same
address: an empty one after a loss, or one that was restored. What a process prepared in the first is not in the second.
"""

from __future__ import annotations

import asyncio

import psycopg

from cortex_workloads.runtime.errors import Unavailable

Connection = psycopg.AsyncConnection[tuple[object, ...]]


class Identity:
    """Unknown until it is learned; another one once it was seen to be, for as long as the process lives."""

    def __init__(self) -> None:
        self._first = ""
        self._now = ""
        self._changed = asyncio.Event()

    @property
    def error(self) -> Unavailable | None:
        """What to answer, and to end with, once the Lake is another one."""
        return _another(self._first, self._now) if self._changed.is_set() else None

    async def learn(self, connection: Connection) -> None:
        """To be called when the schema is there; the first Lake stays the one to compare with. Raises psycopg.Error."""
        if not self._first:
            self._first = await _read(connection)

    async def compare(self, connection: Connection) -> None:
        """Raises Unavailable when the Lake at the connection's other end is another one; psycopg.Error."""
        if self._first and self.error is None and (now := await _read(connection)) != self._first:
            self._now = now
            self._changed.set()
        self._check()

    async def changed(self) -> None:
        """Raises Unavailable once the Lake is another one; never returns."""
        await self._changed.wait()
        self._check()

    def _check(self) -> None:
        if (error := self.error) is not None:
            raise error


async def _read(connection: Connection) -> str:
    """The Lake's id; empty when it has none."""
    try:
        found = await (await connection.execute("SELECT id FROM lake_identity")).fetchone()
    except psycopg.errors.UndefinedTable:
        return ""
    return str(found[0]) if found is not None else ""


def _another(first: str, now: str) -> Unavailable:
    return Unavailable(
        "the Lake behind CORTEX_LAKE_DSN is another one than this pod started with"
        f" ({first}, now {now or 'empty'}): the pod ends, to begin anew with it",
        remedy="restore the Lake that was there before, or write its documents again",
        reason="LakeReplaced",
    )
