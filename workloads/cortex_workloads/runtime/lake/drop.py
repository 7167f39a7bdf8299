"""Drops all that the Lake holds of one resource, in steps that may be killed and begun anew at any point.

Shields the steps of each kind from who still works on the resource. First its revisions fail: from then on nothing is
written for it. Its row goes last, and only when nothing is left that names it; after that no row can.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import psycopg

from cortex_workloads.runtime.errors import DeadlineExceeded
from cortex_workloads.runtime.lake import revisions
from cortex_workloads.runtime.lake.migrate import migrate
from cortex_workloads.runtime.lake.patience import persistently
from cortex_workloads.runtime.lake.pool import Connection, Lake
from cortex_workloads.runtime.lake.revisions import Resource
from cortex_workloads.runtime.settings import DropSettings

# No statement goes on for long after `drop_before`.
_LIMITS: Final = "SET LOCAL statement_timeout = '30s'; SET LOCAL lock_timeout = '2s'"
_AGAIN_SECONDS: Final = 0.2
_BUSY: Final = (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)

_log = logging.getLogger("cortex.drop")

_EVENTS: Final = """
DELETE FROM events WHERE resource_id = %s AND (aggregate, version) IN
    (SELECT aggregate, version FROM events WHERE resource_id = %s LIMIT %s)
"""
_EVENTS_AT_ONCE: Final = 5000
_MOST_PARTS: Final = 4096

Batch = Callable[[Connection, int, int], Awaitable[bool]]
"""One bounded piece of work on the resource of that row, in a transaction: one of so many parts (`part`) of what it
does at once where the Lake is quick enough. False when there was nothing to do."""


def part(many: int, parts: int) -> int:
    """One of `parts` of so many, at least 1."""
    return max(1, many // parts)


class Drop:
    """The drop of one resource. `batches`: the steps of its kind, each repeated until it finds nothing."""

    def __init__(self, lake: Lake, resource: Resource, batches: Sequence[Batch], before: float = 0.0) -> None:
        self._lake = lake
        self._resource = resource
        self._batches = batches
        self._before = before
        self._parts = 1

    async def run(self) -> bool:
        """Returns whether there was anything. Raises DeadlineExceeded after `before` (seconds since 1970, 0: never),
        Unavailable."""
        row = await self._in_turn(self._retire)
        if row is None:
            return False
        while not await self._in_turn(_remove, row):
            for batch in (*self._batches, _drop_events):
                while await self._in_parts(batch, row):
                    pass
        return True

    async def _in_parts(self, batch: Batch, row: int) -> bool:
        """In halves from then on when the Lake gave it up for taking too long."""
        while True:
            try:
                return bool(await self._in_turn(batch, row, self._parts))
            except DeadlineExceeded as error:
                if not isinstance(error.__cause__, psycopg.errors.QueryCanceled) or self._parts >= _MOST_PARTS:
                    raise
                self._parts *= 2
                _log.warning("what is dropped at once takes too long, and is halved: %s", error)

    async def _retire(self, connection: Connection) -> int | None:
        row = await revisions.resource_row(connection, self._resource)
        if row is not None:
            await revisions.lock(connection, row)
            await connection.execute(
                "UPDATE revisions SET phase = 'Failed', message = 'it is being dropped', changed_at = now()"
                " WHERE resource_id = %s AND phase <> 'Failed'",
                (row,),
            )
        return row

    async def _in_turn(self, work: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        """In a transaction of its own, again while somebody holds what it needs."""
        while True:
            if self._before and time.time() > self._before:
                raise DeadlineExceeded("the time of this drop is over: the name may be in use again", reason="TooLate")
            try:
                async with self._lake.transaction() as connection:
                    await connection.execute(_LIMITS)
                    return await work(connection, *arguments)
            except _BUSY:
                await asyncio.sleep(_AGAIN_SECONDS)


async def _remove(connection: Connection, row: int) -> bool:
    """Removes the resource's row with its revisions; False while anything else is left of it."""
    # Who adds something that names the row waits for this lock.
    await connection.execute("SELECT FROM resources WHERE id = %s FOR UPDATE", (row,))
    left = await connection.execute(
        "SELECT EXISTS (SELECT FROM documents WHERE resource_id = %(row)s)"
        " OR EXISTS (SELECT FROM threads WHERE resource_id = %(row)s)"
        " OR EXISTS (SELECT FROM revisions r JOIN resources s ON s.id = r.resource_id"
        "  WHERE s.id = %(row)s AND s.kind = 'CortexIndex')",
        {"row": row},
    )
    found = await left.fetchone()
    if found is not None and found[0]:
        return False
    await connection.execute("DELETE FROM resources WHERE id = %s", (row,))
    return True


async def _drop_events(connection: Connection, row: int, parts: int) -> bool:
    await connection.execute("SET LOCAL cortex.dropping = 'on'")
    return (await connection.execute(_EVENTS, (row, row, part(_EVENTS_AT_ONCE, parts)))).rowcount > 0


async def _nothing(_: Lake) -> None:
    return


async def drop(
    settings: DropSettings,
    kind: str,
    batches: Sequence[Batch],
    afterwards: Callable[[Lake], Awaitable[object]] = _nothing,
) -> None:
    """A Job's whole work on the Lake; `afterwards` also when nothing is left. Raises CortexError."""
    lake = Lake(settings.lake_dsn.get_secret_value(), 2, name=f"cortex-drop {settings.pod}")
    resource = Resource(kind, settings.resource_namespace, settings.resource_name)
    await lake.open()
    doing = Drop(lake, resource, batches, settings.drop_before)

    async def work() -> bool:
        if not await _is_a_lake(lake):
            return False
        await migrate(lake)
        found = await doing.run()
        await afterwards(lake)
        return found

    try:
        found = await persistently(lake, work)
    finally:
        await lake.close()
    _log.info("dropped" if found else "the Lake holds nothing of it", extra={"resource": "/".join(resource)})


async def _is_a_lake(lake: Lake) -> bool:
    """A database that no release has worked on holds nothing, and stays as it is."""
    async with lake.connection() as connection:
        found = await (await connection.execute("SELECT to_regclass('schema_migrations') IS NOT NULL")).fetchone()
    return found is not None and bool(found[0])
