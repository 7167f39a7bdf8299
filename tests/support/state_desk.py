"""A workflow in a Lake, with what its pods use: events, copies, relay."""

from __future__ import annotations

import uuid
from typing import Any

from cortex_workloads.graph.store import Run, Store
from cortex_workloads.runtime.lake import revisions
from cortex_workloads.runtime.lake.pool import Lake
from cortex_workloads.runtime.lake.revisions import Resource
from cortex_workloads.runtime.state.copies import Copies
from cortex_workloads.runtime.state.functions import Functions
from cortex_workloads.runtime.state.reader import Reader
from cortex_workloads.runtime.state.relay import Relay
from cortex_workloads.runtime.state.watch import Watch

DESK = Resource("CortexWorkflow", "default", "desk")
A, B, C = "aaaaaaaaaa", "bbbbbbbbbb", "cccccccccc"


class Desk:
    """A workflow with one revision, and all that a pod of it has."""

    def __init__(self, lake: Lake, url: str, resource: Resource = DESK) -> None:
        self.lake = lake
        self.url = url
        self.resource = resource
        self.functions = Functions(url)
        self.copies = Copies(self.functions, resource)
        self.relay = Relay(lake, self.copies, resource)
        self.reader = Reader(lake, self.copies, resource)
        self.store = Store(lake, resource, "one")
        self.watching = Watch(lake, url, resource)

    async def ensure(self, revision: str = A, retain: int = 2) -> revisions.Revision:
        async with self.lake.transaction() as connection:
            return await revisions.ensure(connection, self.resource, revision, {"of": revision}, retain)

    async def run(self, thread: str = "t", **given: Any) -> Run:
        return (await self.store.begin(str(uuid.uuid4()), thread, A, given))[0]

    async def rows(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        async with self.lake.connection() as connection:
            return await (await connection.execute(statement, parameters)).fetchall()

    async def row(self) -> int:
        return int((await self.rows("SELECT id FROM resources"))[0][0])

    async def relayed(self) -> None:
        while await self.relay.round():
            pass

    async def elsewhere(self) -> None:
        """The Lake as one that was restored, and went another way since: another event at the last position."""
        async with self.lake.transaction() as connection:
            await connection.execute("SET LOCAL cortex.dropping = 'on'")
            await connection.execute(
                "WITH gone AS (DELETE FROM events WHERE position = (SELECT max(position) FROM events) RETURNING *)"
                " INSERT INTO events (resource_id, aggregate, version, type, data, position)"
                " SELECT resource_id, 'thread/else', 9, 'ThreadAdvanced', '{}', position FROM gone"
            )

    async def close(self) -> None:
        await self.watching.close()
        await self.functions.close()
