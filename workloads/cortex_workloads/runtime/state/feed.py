"""A resource's feed in the Lake: its events in one order, without gaps (migrations/0006_events.sql).

Shields readers from the order in which transactions commit: an event has its place when it is numbered, which any
process may do, and nothing is ever put in between afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import orjson

from cortex_workloads.runtime.lake.pool import Connection
from cortex_workloads.runtime.state.aggregates import Change, State

_BYTES: Final = 4 * 2**20
"""About as much as is read at once; one event or state always is."""
_PAGED: Final = """
SELECT coalesce(position, 0), aggregate, version, type, data, at, by FROM (
    SELECT *, sum(size) OVER (ORDER BY {order}) - size AS before FROM (
        SELECT *, octet_length(data::text) AS size FROM events WHERE {where} ORDER BY {order} LIMIT %s) AS e) AS page
WHERE before < %s ORDER BY {order}
"""
_AFTER: Final = _PAGED.format(order="position", where="resource_id = %s AND position > %s")
_HISTORY: Final = _PAGED.format(order="version", where="resource_id = %s AND aggregate = %s AND version > %s")


class Numbered(NamedTuple):
    """The last position of a feed. `complete`: everything committed before it was asked for has a position."""

    position: int
    complete: bool


async def number(connection: Connection, resource: int, most: int) -> Numbered:
    """Gives positions to at most `most` events that have none."""
    found = await connection.execute("SELECT last, complete FROM number_events(%s, %s)", (resource, most))
    row = await found.fetchone()
    assert row is not None
    return Numbered(*row)


async def after(connection: Connection, resource: int, position: int, most: int) -> list[Change]:
    """At most `most` events behind a position, in the feed's order; fewer, when they are large."""
    found = await connection.execute(_AFTER, (resource, position, most, _BYTES))
    return [Change(*row) for row in await found.fetchall()]


async def history(connection: Connection, resource: int, aggregate: str, version: int, most: int) -> list[Change]:
    """At most `most` events of an aggregate behind a version, in order, numbered or not; fewer, when they are large."""
    found = await connection.execute(_HISTORY, (resource, aggregate, version, most, _BYTES))
    return [Change(*row) for row in await found.fetchall()]


async def which(connection: Connection, resource: int, position: int) -> str:
    """Which event stands at a position, in words that no other one has; empty where none does."""
    found = await connection.execute(
        "SELECT aggregate, version, at FROM events WHERE resource_id = %s AND position = %s", (resource, position)
    )
    row = await found.fetchone()
    return "" if row is None else name(*row)


def name(aggregate: str, version: int, at: datetime) -> str:
    """An event, in words that no other one has, in whichever Lake."""
    return f"{aggregate}@{version}@{at.timestamp():.6f}"


async def states(connection: Connection, resource: int, aggregates: Sequence[str]) -> dict[str, State | None]:
    """What is there now of some aggregates, None for nothing. Of the first of them only when they are long: the others
    are not in it."""
    found = await connection.execute(
        "SELECT name, version, state FROM (SELECT *, sum(coalesce(octet_length(state::text), 0)) OVER (ORDER BY n)"
        " - coalesce(octet_length(state::text), 0) AS ahead FROM unnest(%s::text[]) WITH ORDINALITY AS asked(name, n)"
        " LEFT JOIN LATERAL state_of(%s, name) ON true) AS weighed WHERE ahead < %s ORDER BY n",
        (list(aggregates), resource, _BYTES),
    )
    return {row[0]: None if row[1] is None else State(*row) for row in await found.fetchall()}


async def version(connection: Connection, resource: int, aggregate: str) -> int | None:
    """The version of an aggregate; None when it is not there."""
    found = await connection.execute("SELECT version_of(%s, %s)", (resource, aggregate))
    row = await found.fetchone()
    return None if row is None else row[0]


async def is_beyond(connection: Connection, resource: int, aggregate: str, version: int, position: int) -> bool:
    """Whether an event is there, and stands behind a position or has none yet."""
    found = await connection.execute(
        "SELECT position IS NULL OR position > %s FROM events"
        " WHERE resource_id = %s AND aggregate = %s AND version = %s",
        (position, resource, aggregate, version),
    )
    row = await found.fetchone()
    return row is not None and bool(row[0])


async def working_set(connection: Connection, resource: int) -> list[str]:
    """The aggregates that are likely to be read: the pointer, revisions, runs under way and their threads."""
    found = await connection.execute(
        "SELECT 'resource' UNION ALL SELECT 'revision/' || revision FROM revisions WHERE resource_id = %(r)s"
        " UNION ALL SELECT 'run/' || run_id FROM runs WHERE resource_id = %(r)s AND status = 'Running'"
        " UNION ALL SELECT 'thread/' || thread FROM runs WHERE resource_id = %(r)s AND status = 'Running'",
        {"r": resource},
    )
    return [row[0] for row in await found.fetchall()]


def packed(fields: Any) -> list[bytes]:
    """Fields of a state as a hash has them: name, JSON, name, JSON, ..."""
    flat: list[bytes] = []
    for field, value in fields.items():
        flat += (field.encode(), orjson.dumps(value))
    return flat
