"""Marks of a feed's positions: whether the history that a follower goes on in is still the one that it left.

A feed that was restored, or begun anew, may reach any position again, with another event there.
"""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from typing import Final

from cortex_workloads.runtime.errors import StateSyncFailed
from cortex_workloads.runtime.lake import revisions
from cortex_workloads.runtime.lake.pool import Connection, Lake
from cortex_workloads.runtime.lake.revisions import Resource
from cortex_workloads.runtime.state import feed
from cortex_workloads.runtime.state.aggregates import Change

MARK: Final = re.compile(r"[0-9a-f]{8}")


class Marks:
    """Of one resource's feed."""

    def __init__(self, lake: Lake, resource: Resource) -> None:
        self._lake = lake
        self._resource = resource

    async def at(self, position: int, expected: str = "") -> str:
        """The mark of a position. Raises Unavailable, StateSyncFailed (`PositionUnknown`) when it is not the one that
        is expected (empty: any is)."""
        async with self._lake.connection() as connection:
            row = await revisions.resource_row(connection, self._resource)
            return await checked(connection, self._resource, row, position, expected)


def mark(change: Change) -> str:
    """The mark of a change's position."""
    return of(change.aggregate, change.version, change.at)


def of(aggregate: str, version: int, at: datetime) -> str:
    """The mark of an event's position."""
    return _short(feed.name(aggregate, version, at))


async def checked(
    connection: Connection, resource: Resource, row: int | None, position: int, expected: str = ""
) -> str:
    """See `Marks.at`; `row` is the resource's in the Lake."""
    found = _short(await feed.which(connection, row, position)) if row is not None else ""
    if expected not in ("", found):
        raise StateSyncFailed(
            f"the history of {'/'.join(resource)} is another one: the event at position {position} has the mark"
            f" {found or 'of none'}, not {expected}: the Lake was restored, or the resource was made anew",
            remedy="read the states again and follow from position 0 or from now on",
            reason="PositionUnknown",
        )
    return found


def _short(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:8] if name else ""
