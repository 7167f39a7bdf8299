"""`python -m cortex_workloads.graph.drop`: a Job that drops all data of one CortexWorkflow, then ends.

Killed, it goes on where it was when it is started again. Exit code 0: nothing is left in the Lake; 1: one line on
stderr says why. State keys expire by themselves within a day where the shared state does not answer.
"""

from __future__ import annotations

import asyncio
from typing import Final

from cortex_workloads.graph import checkpoints, store
from cortex_workloads.runtime.lake.drop import drop, part
from cortex_workloads.runtime.lake.pool import Connection
from cortex_workloads.runtime.lake.revisions import Resource
from cortex_workloads.runtime.progress import ProgressStream, run_key
from cortex_workloads.runtime.server import run
from cortex_workloads.runtime.settings import DropSettings
from cortex_workloads.runtime.state.forget import forget

_OWNER: Final = "(being dropped)"
_RUNS_AT_ONCE: Final = 100
_THREADS_AT_ONCE: Final = 1000


class Runs:
    """Removes a workflow's runs with their checkpoints and live events, then its threads."""

    def __init__(self, state: ProgressStream) -> None:
        self._state = state
        self._waited = False

    async def take(self, connection: Connection, resource: int, _: int) -> bool:
        """Takes the leases of runs under way; once that is committed, waits until pods that still held some have
        noticed and write no checkpoint any more."""
        taken = await connection.execute(
            "UPDATE runs SET owner = %s, lease_until = 'infinity'"
            " WHERE resource_id = %s AND status = 'Running' AND owner <> %s",
            (_OWNER, resource, _OWNER),
        )
        if taken.rowcount:
            self._waited = False
            return True
        running = await connection.execute(
            "SELECT FROM runs WHERE resource_id = %s AND status = 'Running' LIMIT 1", (resource,)
        )
        if running.rowcount and not self._waited:
            await asyncio.sleep(store.LEASE_SECONDS)
        self._waited = True
        return False

    async def remove(self, connection: Connection, resource: int, parts: int) -> bool:
        """A hundred runs."""
        found = await connection.execute(
            "SELECT run_id FROM runs WHERE resource_id = %s AND (status <> 'Running' OR owner = %s) LIMIT %s",
            (resource, _OWNER, part(_RUNS_AT_ONCE, parts)),
        )
        ids = [str(row[0]) for row in await found.fetchall()]
        if not ids:
            return False
        await self._state.forget(map(run_key, ids))
        await checkpoints.forget(connection, ids)
        await connection.execute("DELETE FROM runs WHERE run_id = ANY(%s::uuid[])", (ids,))
        return True

    async def remove_threads(self, connection: Connection, resource: int, parts: int) -> bool:
        """A thousand threads that have no run; who begins one in the meantime waits, and finds no thread."""
        found = await connection.execute(
            "SELECT thread FROM threads WHERE resource_id = %s LIMIT %s FOR UPDATE",
            (resource, part(_THREADS_AT_ONCE, parts)),
        )
        threads = [row[0] for row in await found.fetchall()]
        gone = await connection.execute(
            "DELETE FROM threads t WHERE t.resource_id = %s AND t.thread = ANY(%s)"
            " AND NOT EXISTS (SELECT FROM runs r WHERE (r.resource_id, r.thread) = (t.resource_id, t.thread))",
            (resource, threads),
        )
        return gone.rowcount > 0


async def drop_workflow(settings: DropSettings) -> None:
    """Runs the Job. Raises CortexError."""
    async with ProgressStream(settings.state_url.get_secret_value()) as state:
        runs = Runs(state)
        await drop(settings, "CortexWorkflow", (runs.take, runs.remove, runs.remove_threads))
    resource = Resource("CortexWorkflow", settings.resource_namespace, settings.resource_name)
    await forget(settings.state_url.get_secret_value(), resource)


if __name__ == "__main__":
    run(drop_workflow, DropSettings)
