"""Whether what is read is what happened: events against read models, and read models against copies.

A read model can be made again from its events, and copies from the read models.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cortex_workloads.runtime.lake.pool import Connection
from cortex_workloads.runtime.state import feed
from cortex_workloads.runtime.state.aggregates import State
from cortex_workloads.runtime.state.copies import Copies

MOST: Final = 100
"""Differences that are told."""
# A row that is ahead of its events is the only witness of what these lack: it is kept.
_COMPARED: Final = """
SELECT coalesce(r.aggregate, s.aggregate),
       CASE WHEN r.aggregate IS NULL THEN 'it has a row and no event'
            WHEN r.first <> 1 OR r.events <> r.version
                THEN format('%%s of its %%s events are missing', r.version - r.events, r.version)
            WHEN s.version > r.version
                THEN format('its row has version %%s, its events end at %%s: some are missing', s.version, r.version)
            WHEN r.removed THEN 'it has a row and was removed'
            WHEN s.aggregate IS NULL THEN 'its row is missing'
            WHEN r.version <> s.version THEN format('its row has version %%s, its events %%s', s.version, r.version)
            ELSE format('its row differs from its events in: %%s', (
                SELECT string_agg(k, ', ' ORDER BY k) FROM jsonb_object_keys(r.state || s.state) AS k
                WHERE r.state -> k IS DISTINCT FROM s.state -> k)) END,
       coalesce(r.first = 1 AND r.events = r.version AND coalesce(s.version, 0) <= r.version, false)
FROM replay(%(resource)s) r FULL JOIN states_of(%(resource)s) s ON s.aggregate = r.aggregate
WHERE (s.aggregate IS NULL AND NOT r.removed) OR r.aggregate IS NULL OR (s.aggregate IS NOT NULL AND r.removed)
   OR r.first <> 1 OR r.events <> r.version
   OR (NOT r.removed AND (r.version <> s.version OR r.state IS DISTINCT FROM s.state))
ORDER BY 1 LIMIT %(most)s
"""
_TABLES: Final[dict[str, tuple[str, str]]] = {
    "resource": ("resources", ""),
    "revision": ("revisions", "revision"),
    "thread": ("threads", "thread"),
    "run": ("runs", "run_id"),
}
# In an order in which each finds the rows that it refers to.
_KINDS: Final = ("resource", "revision", "thread", "run")


_MISSING: Final = """
SELECT f.position - count(e.position), (
    SELECT min(p.position) + 1 FROM (
        SELECT position, lead(position) OVER (ORDER BY position) AS next FROM (
            SELECT 0 AS position UNION ALL SELECT position FROM events WHERE resource_id = %(resource)s) AS given
        WHERE position IS NOT NULL) AS p
    WHERE p.next IS DISTINCT FROM p.position + 1)
FROM feeds f LEFT JOIN events e ON e.resource_id = f.resource_id AND e.position <= f.position
WHERE f.resource_id = %(resource)s GROUP BY f.position
"""


@dataclass(frozen=True)
class Difference:
    """An aggregate (or `feed`), and what is wrong with it; `mendable`: its events are all there, to make it again."""

    aggregate: str
    message: str
    mendable: bool = True


async def rows_against_events(connection: Connection, resource: int) -> list[Difference]:
    """Where read models are not what replaying their events makes, at most MOST, and whether the feed lacks events."""
    found = await connection.execute(_COMPARED, {"resource": resource, "most": MOST})
    wrong = [_difference(*row) for row in await found.fetchall()]
    missing = await (await connection.execute(_MISSING, {"resource": resource})).fetchone()
    if missing is not None and missing[0]:
        count, first = missing
        wrong.append(_difference("feed", f"{count} of its events are missing, the first at position {first}", False))
    return wrong


def _difference(aggregate: str, message: str, mendable: bool) -> Difference:
    end = "a rebuild makes it again from its events" if mendable else "nothing is changed: only a backup has them"
    return Difference(aggregate, f"{message}; {end}", mendable)


async def copies_against_rows(connection: Connection, resource: int, copies: Copies) -> list[Difference]:
    """Copies that differ from what the Lake has; those that are missing differ from nothing, and those that are older
    only when the feed in Valkey has passed what made them so. What changes meanwhile is looked at again. Raises
    Unavailable."""
    wrong: list[Difference] = []
    for aggregate in await copies.aggregates():
        if (await _copy_against_row(connection, resource, copies, aggregate))[1]:
            # Before the copy is: what the feed has reached then is in it.
            reached = (await copies.standing()).position
            version, message = await _copy_against_row(connection, resource, copies, aggregate)
            if message and not await feed.is_beyond(connection, resource, aggregate, version + 1, reached):
                wrong.append(Difference(aggregate, message))
    return wrong[:MOST]


async def _copy_against_row(connection: Connection, resource: int, copies: Copies, aggregate: str) -> tuple[int, str]:
    """The copy's version, and what is wrong with it; empty when nothing is."""
    copy, _ = await copies.find(aggregate)
    if copy is None:
        return 0, ""
    there = (await feed.states(connection, resource, [aggregate])).get(aggregate)
    return copy.version, _compared(copy.state, there)


async def restore_rows(connection: Connection, resource: int) -> list[Difference]:
    """Makes read models again from their events where they differ and all events are there, in the caller's
    transaction; returns what was wrong and mended. Of a run that is under way its lease is over, so that a pod takes
    it."""
    wrong = [one for one in await rows_against_events(connection, resource) if one.mendable]
    if not wrong:
        return []
    # Who writes one of them now is waited for, and its event counts.
    for kind, (table, key) in _TABLES.items():
        names = [name for one in wrong for prefix, _, name in [one.aggregate.partition("/")] if prefix == kind]
        condition = f"t.resource_id = %(resource)s AND t.{key}::text = ANY(%(names)s)" if key else "t.id = %(resource)s"
        await connection.execute(
            f"SELECT FROM {table} t WHERE {condition} AND %(names)s <> '{{}}' FOR UPDATE",
            {"resource": resource, "names": names},
        )
    await connection.execute("SET LOCAL cortex.restoring = 'on'")
    found = await connection.execute(
        # What was written while these locks were waited for may have changed that.
        "SELECT aggregate, version, state, removed FROM replay(%s) WHERE aggregate = ANY(%s)"
        " AND first = 1 AND events = version",
        (resource, [one.aggregate for one in wrong]),
    )
    for aggregate, version, state, removed in sorted(await found.fetchall(), key=_turn):
        await _restore(connection, resource, aggregate, version, state, removed)
    await connection.execute("SET LOCAL cortex.restoring = 'off'")
    return wrong


def _turn(row: tuple[str, int, Mapping[str, Any], bool]) -> tuple[int, bool]:
    """By kinds, and of each those last of which there is one at a time: the former one has to be another by then."""
    aggregate, _, state, removed = row
    alone = not removed and (state.get("phase") == "Current" or state.get("status") == "Running")
    return _KINDS.index(aggregate.partition("/")[0]), alone


async def _restore(
    connection: Connection, resource: int, aggregate: str, version: int, state: Mapping[str, Any], removed: bool
) -> None:
    kind, _, name = aggregate.partition("/")
    table, key = _TABLES[kind]
    values: dict[str, Any] = {**state, "version": version}
    where: dict[str, Any] = {"id": resource} if kind == "resource" else {"resource_id": resource, key: name}
    condition = " AND ".join(f"t.{column} = k.{column}" for column in where)
    known = f"jsonb_populate_record(NULL::{table}, %(key)s) AS k"
    parameters = {"key": json.dumps(where), "values": json.dumps({**values, **where})}
    if removed:
        await connection.execute(f"DELETE FROM {table} t USING {known} WHERE {condition}", parameters)  # noqa: S608
        return
    columns = ", ".join(f'"{column}"' for column in values if column != "id")
    new = f"jsonb_populate_record(NULL::{table}, %(values)s) AS v"
    updated = await connection.execute(
        f"UPDATE {table} t SET ({columns}) = (SELECT {columns} FROM {new}) FROM {known} WHERE {condition}",  # noqa: S608
        parameters,
    )
    if updated.rowcount == 0 and kind != "resource":
        leased = (', "owner", "lease_until"', ", '', now()") if kind == "run" else ("", "")
        every = ", ".join(f'"{column}"' for column in {**values, **where})
        await connection.execute(
            f"INSERT INTO {table} ({every}{leased[0]}) OVERRIDING SYSTEM VALUE SELECT {every}{leased[1]} FROM {new}",  # noqa: S608
            parameters,
        )


def _compared(copy: State | None, there: State | None) -> str:
    if copy is None or there is None:
        return "" if copy is there else "a copy is there and no row" if there is None else "it is removed in the copy"
    if copy.version != there.version:
        return f"its copy has version {copy.version}, its row {there.version}"
    return "" if copy.fields == there.fields else f"its copy differs at version {copy.version}"
