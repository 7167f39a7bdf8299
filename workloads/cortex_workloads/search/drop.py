"""`python -m cortex_workloads.search.drop`: a Job that drops all data of one CortexIndex, then ends.

Killed, it goes on where it was when it is started again. Exit code 0: nothing is left in the Lake; 1: one line on
stderr says why. State keys expire by themselves within two hours where the shared state does not answer.
"""

from __future__ import annotations

from typing import Final

from cortex_workloads.runtime.lake.drop import drop, part
from cortex_workloads.runtime.lake.pool import Connection
from cortex_workloads.runtime.lake.revisions import Resource
from cortex_workloads.runtime.server import run
from cortex_workloads.runtime.settings import DropSettings
from cortex_workloads.runtime.state.forget import forget
from cortex_workloads.search import tables

_DOCUMENTS: Final = """
DELETE FROM documents WHERE id IN (SELECT id FROM documents WHERE resource_id = %s LIMIT %s)
"""
_DOCUMENTS_AT_ONCE: Final = 1000


async def drop_index(settings: DropSettings) -> None:
    """Runs the Job. Raises CortexError."""
    # Tables of revisions that were superseded: the pods that would have swept them are gone.
    await drop(settings, "CortexIndex", (_drop_revision, _drop_documents), tables.sweep)
    resource = Resource("CortexIndex", settings.resource_namespace, settings.resource_name)
    await forget(settings.state_url.get_secret_value(), resource)


async def _drop_revision(connection: Connection, resource: int, _: int) -> bool:
    """One revision with its tables: both are gone, or neither."""
    found = await connection.execute("SELECT id FROM revisions WHERE resource_id = %s ORDER BY id LIMIT 1", (resource,))
    row = await found.fetchone()
    if row is None:
        return False
    await tables.drop(connection, row[0])
    await connection.execute("DELETE FROM revisions WHERE id = %s", (row[0],))
    return True


async def _drop_documents(connection: Connection, resource: int, parts: int) -> bool:
    return (await connection.execute(_DOCUMENTS, (resource, part(_DOCUMENTS_AT_ONCE, parts)))).rowcount > 0


if __name__ == "__main__":
    run(drop_index, DropSettings)
