"""Revisions of a workflow that do not compile: rows that say why, and never answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from cortex_workloads.runtime.lake import revisions
from cortex_workloads.runtime.lake.pool import Connection
from cortex_workloads.runtime.lake.revisions import Resource


async def refuse(
    connection: Connection, resource: Resource, revision: str, definition: Mapping[str, Any], message: str
) -> None:
    """Writes the row as Failed, in the caller's transaction; one that answers goes on answering."""
    row = await revisions.ensure_resource(connection, resource)
    await revisions.lock(connection, row)
    await connection.execute(
        "INSERT INTO revisions (resource_id, revision, definition, phase, message) VALUES (%s, %s, %s, 'Failed', %s)"
        " ON CONFLICT (resource_id, revision) DO UPDATE SET phase = 'Failed', message = excluded.message,"
        " changed_at = now() WHERE revisions.phase IN ('Building', 'Ready', 'Retained', 'Failed')",
        (row, revision, json.dumps(definition), message),
    )
    await revisions.trim(connection, row)


async def pardon(connection: Connection, resource: Resource, revision: str) -> None:
    """Forgets that a revision failed, when it compiles after all (a newer release knows more)."""
    row = await revisions.ensure_resource(connection, resource)
    await connection.execute(
        "DELETE FROM revisions WHERE resource_id = %s AND revision = %s AND phase = 'Failed'", (row, revision)
    )
