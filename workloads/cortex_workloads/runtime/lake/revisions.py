"""Revisions: the one state machine of both kinds, as compare-and-set SQL.

Every function takes a connection inside the caller's transaction, so that what belongs to a change of phase is
committed together with it. Changes of one resource are serial (an advisory lock until the end of the transaction);
who writes what revisions are made of takes the same lock shared.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, NamedTuple

from cortex_workloads.runtime.errors import Unavailable
from cortex_workloads.runtime.lake.pool import Connection


class Phase(StrEnum):
    """Where a revision is in its life."""

    BUILDING = "Building"
    READY = "Ready"
    RAMPING = "Ramping"
    CURRENT = "Current"
    DRAINING = "Draining"
    RETAINED = "Retained"
    FAILED = "Failed"


class Resource(NamedTuple):
    """Names a custom resource. `kind` is CortexIndex or CortexWorkflow."""

    kind: str
    namespace: str
    name: str


@dataclass(frozen=True)
class Revision:
    """A row. `row` is its key in the Lake, `resource` that of its resource's row."""

    row: int
    resource: int
    id: str
    phase: Phase
    definition: dict[str, Any]
    message: str
    created_at: datetime
    changed_at: datetime


_SELECT: Final = (
    "SELECT r.id, r.resource_id, r.revision, r.phase, r.definition, r.message, r.created_at, r.changed_at"
    " FROM revisions r JOIN resources s ON s.id = r.resource_id"
)
_LOCK_SPACE: Final = 0x636F7274


async def resource_row(connection: Connection, resource: Resource) -> int | None:
    """The key of the resource's row, if there is one."""
    found = await connection.execute(
        "SELECT id FROM resources WHERE kind = %s AND namespace = %s AND name = %s", tuple(resource)
    )
    row = await found.fetchone()
    return None if row is None else int(row[0])


async def ensure_resource(connection: Connection, resource: Resource) -> int:
    """The key of the resource's row, made when it is not there."""
    await connection.execute(
        "INSERT INTO resources (kind, namespace, name) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING", tuple(resource)
    )
    row = await resource_row(connection, resource)
    if row is None:
        raise Unavailable("the resource was dropped from the Lake just now", remedy="try again", reason="Dropped")
    return row


async def lock(connection: Connection, resource: int, *, shared: bool = False) -> None:
    """Takes the resource's lock until the transaction ends: `shared` to write what its revisions are made of."""
    function = "pg_advisory_xact_lock_shared" if shared else "pg_advisory_xact_lock"
    await connection.execute(f"SELECT {function}(%s, %s)", (_LOCK_SPACE, resource % 2**31))


async def ensure(
    connection: Connection, resource: Resource, revision: str, definition: Mapping[str, Any], retain: int
) -> Revision:
    """Sees that a revision is on its way to be Current, and returns it as it stands.

    Of a resource without a current revision it becomes Current at once. Else a new one, and one that was Retained, is
    Building; others that were still on their way (Building, Ready) are superseded: removed. One that Failed stays so.
    """
    row = await ensure_resource(connection, resource)
    if (settled := await _settled(connection, row, revision, retain)) is not None:
        return settled
    await lock(connection, row)
    await connection.execute("UPDATE resources SET retain = %s WHERE id = %s AND retain <> %s", (retain, row, retain))
    await connection.execute(
        "DELETE FROM revisions WHERE resource_id = %s AND revision <> %s AND phase IN ('Building', 'Ready')",
        (row, revision),
    )
    await connection.execute(
        "INSERT INTO revisions (resource_id, revision, definition, phase) VALUES (%s, %s, %s, 'Building')"
        " ON CONFLICT (resource_id, revision) DO UPDATE SET phase = 'Building', message = '', changed_at = now()"
        " WHERE revisions.phase = 'Retained'",
        (row, revision, json.dumps(definition)),
    )
    await connection.execute(
        "UPDATE revisions SET phase = 'Current', changed_at = now()"
        " WHERE resource_id = %s AND revision = %s AND phase IN ('Building', 'Ready') AND NOT EXISTS"
        " (SELECT FROM revisions c WHERE c.resource_id = %s AND c.phase = 'Current')",
        (row, revision, row),
    )
    await trim(connection, row)
    found = await get(connection, row, revision)
    assert found is not None
    return found


async def _settled(connection: Connection, resource: int, revision: str, retain: int) -> Revision | None:
    # Asked again and again by the operator: what is as it should be takes no lock.
    found = await connection.execute(
        _SELECT + " WHERE s.id = %s AND s.retain = %s AND r.revision = %s AND r.phase <> 'Retained'"  # noqa: S608
        " AND NOT EXISTS (SELECT FROM revisions o WHERE o.resource_id = s.id AND o.id <> r.id"
        " AND o.phase IN ('Building', 'Ready')) AND (r.phase = 'Failed' OR EXISTS"
        " (SELECT FROM revisions c WHERE c.resource_id = s.id AND c.phase = 'Current'))",
        (resource, retain, revision),
    )
    row = await found.fetchone()
    return None if row is None else _revision(row)


async def promote(connection: Connection, revision: Revision) -> bool:
    """Building or Ready -> Current; the one before -> Retained; trims. False when it is in another phase (or gone):
    somebody else was first."""
    await lock(connection, revision.resource)
    ready = await connection.execute(
        "UPDATE revisions SET phase = 'Ready', changed_at = now() WHERE id = %s AND phase IN ('Building', 'Ready')"
        " RETURNING id",
        (revision.row,),
    )
    if await ready.fetchone() is None:
        return False
    await connection.execute(
        "UPDATE revisions SET phase = 'Retained', changed_at = now() WHERE resource_id = %s AND phase = 'Current'",
        (revision.resource,),
    )
    await connection.execute(
        "UPDATE revisions SET phase = 'Current', changed_at = now() WHERE id = %s AND phase = 'Ready'", (revision.row,)
    )
    await trim(connection, revision.resource)
    return True


async def fail(connection: Connection, revision: Revision, message: str) -> bool:
    """Building or Ready -> Failed, with the reason. False when it is in another phase."""
    await lock(connection, revision.resource)
    failed = await connection.execute(
        "UPDATE revisions SET phase = 'Failed', message = %s, changed_at = now()"
        " WHERE id = %s AND phase IN ('Building', 'Ready') RETURNING id",
        (message, revision.row),
    )
    return await failed.fetchone() is not None


async def refuse(
    connection: Connection, resource: Resource, revision: str, definition: Mapping[str, Any], message: str
) -> Revision:
    """A revision that cannot be built at all: Failed, with the reason. What answers goes on answering."""
    row = await ensure_resource(connection, resource)
    await lock(connection, row)
    await connection.execute(
        "INSERT INTO revisions (resource_id, revision, definition, phase, message) VALUES (%s, %s, %s, 'Failed', %s)"
        " ON CONFLICT (resource_id, revision) DO UPDATE SET phase = 'Failed', message = excluded.message,"
        " changed_at = now() WHERE revisions.phase IN ('Building', 'Ready', 'Retained', 'Failed')"
        # Said again, and it is the last one that failed: nothing changes.
        " AND ((revisions.phase, revisions.message) <> ('Failed', excluded.message) OR EXISTS (SELECT FROM revisions n"
        "  WHERE n.resource_id = revisions.resource_id AND n.id <> revisions.id AND n.phase = 'Failed'"
        "  AND n.changed_at >= revisions.changed_at))",
        (row, revision, json.dumps(definition), message),
    )
    await trim(connection, row)
    found = await get(connection, row, revision)
    assert found is not None  # the newest Failed one is never trimmed
    return found


async def pardon(connection: Connection, resource: Resource, revision: str) -> None:
    """Forgets that a revision failed: it can be built after all (a newer release knows more)."""
    row = await ensure_resource(connection, resource)
    await lock(connection, row)
    await connection.execute(
        "DELETE FROM revisions WHERE resource_id = %s AND revision = %s AND phase = 'Failed'", (row, revision)
    )


async def trim(connection: Connection, resource: int) -> list[str]:
    """Removes the oldest Retained and Failed revisions beyond the resource's `retain`, but none that a run under way
    needs; returns their ids."""
    gone = await connection.execute(
        "DELETE FROM revisions WHERE id IN ("
        " SELECT r.id FROM revisions r JOIN resources s ON s.id = r.resource_id"
        " WHERE s.id = %s AND r.phase IN ('Retained', 'Failed') AND NOT EXISTS (SELECT FROM runs u"
        "  WHERE u.resource_id = s.id AND u.revision = r.revision AND u.status = 'Running')"
        " AND (SELECT count(*) FROM revisions n WHERE n.resource_id = s.id AND n.phase = r.phase"
        "      AND (n.changed_at, n.id) > (r.changed_at, r.id)) >= greatest(s.retain, (r.phase = 'Failed')::int))"
        " RETURNING revision",
        (resource,),
    )
    return [row[0] for row in await gone.fetchall()]


async def get(connection: Connection, resource: int, revision: str) -> Revision | None:
    """One revision of a resource."""
    found = await connection.execute(_SELECT + " WHERE s.id = %s AND r.revision = %s", (resource, revision))
    row = await found.fetchone()
    return None if row is None else _revision(row)


async def describe(connection: Connection, resource: Resource) -> list[Revision]:
    """Every revision of a resource, newest first; none when the resource is unknown."""
    found = await connection.execute(
        _SELECT + " WHERE s.kind = %s AND s.namespace = %s AND s.name = %s ORDER BY r.created_at DESC, r.id DESC",
        tuple(resource),
    )
    return [_revision(row) for row in await found.fetchall()]


def current(revisions: Collection[Revision]) -> Revision | None:
    """The one that answers."""
    return next((revision for revision in revisions if revision.phase is Phase.CURRENT), None)


def _revision(row: tuple[Any, ...]) -> Revision:
    return Revision(row[0], row[1], row[2], Phase(row[3]), row[4], row[5], row[6], row[7])
