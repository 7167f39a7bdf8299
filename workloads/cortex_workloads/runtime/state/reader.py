"""Reads of state, each as true as its caller needs it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from prometheus_client import Counter

from cortex_workloads.runtime.errors import CortexError
from cortex_workloads.runtime.lake import revisions
from cortex_workloads.runtime.lake.pool import Connection, Lake
from cortex_workloads.runtime.lake.revisions import Resource
from cortex_workloads.runtime.state import feed
from cortex_workloads.runtime.state.aggregates import Consistency, Reply, Source, State
from cortex_workloads.runtime.state.copies import Copies, Copy
from cortex_workloads.runtime.telemetry import REGISTRY

_READS: Final = Counter(
    "cortex_state_reads_total", "States read, by where they were found", ("consistency", "source"), registry=REGISTRY
)

T = TypeVar("T")


class Reader:
    """Of one resource."""

    def __init__(self, lake: Lake, copies: Copies, resource: Resource) -> None:
        self._lake = lake
        self._copies = copies
        self._resource = resource
        self._row: int | None = None

    async def read(self, aggregate: str, consistency: Consistency = Consistency.LATEST, bound: float = 1.0) -> Reply:
        """The state of an aggregate. `bound`: seconds, of BOUNDED. Valkey's absence costs time, never the answer;
        raises Unavailable when the Lake is needed and does not answer."""
        match consistency:
            case Consistency.DURABLE:
                reply = await self._from_lake(aggregate)
            case Consistency.LATEST:
                reply = await self._latest(aggregate)
            case Consistency.BOUNDED:
                reply = await self._bounded(aggregate, bound)
        _READS.labels(consistency.value, reply.source.value).inc()
        return reply

    async def _bounded(self, aggregate: str, bound: float) -> Reply:
        copy = await self._copy(aggregate)
        if copy is not None and copy.lag is not None and copy.lag < bound:
            return Reply(copy.state, Source.COPY, copy.lag)
        return await self._latest(aggregate)

    async def _latest(self, aggregate: str) -> Reply:
        copy, version = await asyncio.gather(self._copy(aggregate), self._version(aggregate))
        if version is None:
            return Reply(None, Source.LAKE, 0.0)
        if copy is not None and copy.state is not None and copy.version == version:
            return Reply(copy.state, Source.COPY, 0.0)
        return await self._from_lake(aggregate)

    async def _copy(self, aggregate: str) -> Copy | None:
        try:
            return (await self._copies.find(aggregate))[0]
        except CortexError:
            return None

    async def _version(self, aggregate: str) -> int | None:
        return await self._asked(lambda connection, row: feed.version(connection, row, aggregate))

    async def _from_lake(self, aggregate: str) -> Reply:
        async def ask(connection: Connection, row: int) -> State | None:
            return (await feed.states(connection, row, [aggregate])).get(aggregate)

        return Reply(await self._asked(ask), Source.LAKE, 0.0)

    async def _asked(self, ask: Callable[[Connection, int], Awaitable[T | None]]) -> T | None:
        async with self._lake.connection() as connection:
            before = self._row
            if before is not None and (found := await ask(connection, before)) is not None:
                return found
            # Dropped and made again it has another row; another read may know it by now.
            row = self._row = await revisions.resource_row(connection, self._resource)
            return await ask(connection, row) if row is not None and row != before else None
