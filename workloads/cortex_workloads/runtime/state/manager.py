"""The state of one resource, for its pods: what they read, follow, announce and repair (docs/state.md)."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from cortex_workloads.runtime import tasks
from cortex_workloads.runtime.errors import CortexError, NotFound
from cortex_workloads.runtime.lake import revisions
from cortex_workloads.runtime.lake.pool import Connection, Lake
from cortex_workloads.runtime.lake.revisions import Resource
from cortex_workloads.runtime.preconditions import not_prepared
from cortex_workloads.runtime.state import feed, history
from cortex_workloads.runtime.state.aggregates import Change, Consistency, Reply, Source, State
from cortex_workloads.runtime.state.copies import Copies, Standing
from cortex_workloads.runtime.state.functions import Functions
from cortex_workloads.runtime.state.history import Difference
from cortex_workloads.runtime.state.names import REPLICA
from cortex_workloads.runtime.state.presence import Presence, replicas
from cortex_workloads.runtime.state.reader import Reader
from cortex_workloads.runtime.state.relay import Relay, fill
from cortex_workloads.runtime.state.volatile import Volatile
from cortex_workloads.runtime.state.watch import Watch

_PAGE: Final = 500


@dataclass(frozen=True)
class Report:
    """How the state of a resource is. `standing` is None while Valkey does not answer: `problem` says why, and copies
    were not looked at. `position`: of the feed in the Lake."""

    position: int
    standing: Standing | None
    problem: str
    rows: list[Difference]
    copies: list[Difference]
    replicas: list[State]


class StateManager:
    """`start` once the Lake's schema is there; `close` ends it."""

    def __init__(self, lake: Lake, url: str, resource: Resource) -> None:
        self._lake = lake
        self._resource = resource
        self._functions = Functions(url)
        self._copies = Copies(self._functions, resource)
        self._reader = Reader(lake, self._copies, resource)
        self._relay = Relay(lake, self._copies, resource)
        self._watch = Watch(lake, url, resource)
        self.volatile = Volatile(self._functions, resource)
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, pod: str, load: Callable[[], Mapping[str, Any]]) -> None:
        """Relays what is committed, and says that this pod is there."""
        presence = Presence(self.volatile, pod, load)
        self._tasks = [
            asyncio.create_task(self._relay.run(), name="state-relay"),
            asyncio.create_task(presence.run(), name="presence"),
        ]

    def check_started(self) -> None:
        """Raises Unavailable (`LakeUnreachable`, `Starting`) before `start`."""
        if not self._tasks:
            raise not_prepared(self._lake)

    async def close(self) -> None:
        """Ends the relay and closes the connections."""
        await tasks.end(*self._tasks)
        await self._watch.close()
        await self._functions.close()

    def committed(self) -> None:
        """Something was written to the Lake: it is relayed at once."""
        self._relay.wake()

    async def read(self, aggregate: str, consistency: Consistency = Consistency.LATEST, bound: float = 1.0) -> Reply:
        """See `Reader.read`; `replica/POD` is read in Valkey, whatever the consistency. Raises Unavailable."""
        if aggregate.startswith(REPLICA):
            return Reply(await self.volatile.read(aggregate), Source.COPY, 0.0)
        return await self._reader.read(aggregate, consistency, bound)

    async def begin(self, after: int | None) -> int:
        """See `Watch.begin`."""
        return await self._watch.begin(after)

    def watch(self, after: int | None = None, mark: str = "") -> AsyncIterator[Change]:
        """See `Watch.changes`."""
        return self._watch.changes(after, mark)

    async def history(self, aggregate: str, version: int = 0, most: int = _PAGE) -> list[Change]:
        """The events of an aggregate behind a version. Raises Unavailable."""
        async with self._lake.connection() as connection:
            row = await self._row(connection)
            return await feed.history(connection, row, aggregate, version, most)

    async def examine(self) -> Report:
        """Compares events, rows and copies. Raises Unavailable without the Lake."""
        async with self._lake.connection() as connection:
            row = await self._row(connection)
            position = (await feed.number(connection, row, _PAGE)).position
            wrong = await history.rows_against_events(connection, row)
            try:
                standing = await self._copies.standing()
                copies = await history.copies_against_rows(connection, row, self._copies)
                there = await replicas(self.volatile)
            except CortexError as error:
                return Report(position, None, str(error), wrong, [], [])
        return Report(position, standing, "", wrong, copies, there)

    async def rebuild(self) -> Report:
        """Makes read models again where they differ from their events, and every copy anew; then examines them: that
        tells, too, when Valkey did not answer. Raises Unavailable without the Lake."""
        async with self._lake.transaction() as connection:
            row = await self._row(connection)
            await history.restore_rows(connection, row)
        with suppress(CortexError):
            await self._renew(row)
        self._relay.wake()
        return await self.examine()

    async def _renew(self, row: int) -> None:
        async with self._lake.connection() as connection:
            standing, numbered = await self._copies.standing(), await feed.number(connection, row, _PAGE)
            epoch = secrets.token_hex(8)
            last = await feed.which(connection, row, numbered.position)
            old = await self._copies.aggregates()
            if await self._copies.reset(standing.epoch, epoch, numbered.position, last):
                await self._copies.forget(old)
                await fill(connection, row, self._copies, epoch)

    async def _row(self, connection: Connection) -> int:
        row = await revisions.resource_row(connection, self._resource)
        if row is None:
            raise NotFound(
                f"the Lake knows no {'/'.join(self._resource)} yet",
                remedy="wait until its first revision was ordered",
                reason="ResourceUnknown",
            )
        return row
