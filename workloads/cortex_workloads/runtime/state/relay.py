"""Brings the events of a resource from the Lake to Valkey. Any number of processes may do it at once, and any of them
may die at any point: an event is applied once, in order, and Valkey itself knows how far it is.

Shields everybody else from a Valkey that lost what it had (its end: applied again; more, or all: begun anew) and from a
Lake that was restored.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from itertools import takewhile
from typing import Final

import psycopg
from prometheus_client import Counter, Gauge

from cortex_workloads.runtime.errors import CortexError, Unavailable
from cortex_workloads.runtime.lake import revisions
from cortex_workloads.runtime.lake.pool import Connection, Lake, cancelled
from cortex_workloads.runtime.lake.revisions import Resource
from cortex_workloads.runtime.state import feed
from cortex_workloads.runtime.state.copies import WINDOW, Copies, Standing
from cortex_workloads.runtime.state.feed import Numbered
from cortex_workloads.runtime.telemetry import REGISTRY

LOOK_SECONDS: Final = 0.5
"""How often it looks when nobody wakes it."""
_MOST: Final = 1_000
_SENT: Final = 250
_RELAYED: Final = Counter("cortex_state_events_relayed_total", "Events brought to the shared state", registry=REGISTRY)
_RESETS: Final = Counter("cortex_state_resets_total", "Copies that were begun anew", ("cause",), registry=REGISTRY)
_LAG: Final = Gauge(
    "cortex_state_relay_lag_seconds", "Time since this process last saw the copy complete", registry=REGISTRY
)

_log = logging.getLogger("cortex.state")


class Relay:
    """Of one resource."""

    def __init__(self, lake: Lake, copies: Copies, resource: Resource) -> None:
        self._lake = lake
        self._copies = copies
        self._resource = resource
        self._woken = asyncio.Event()
        self._row: int | None = None
        self._complete_at = time.monotonic()
        _LAG.set_function(lambda: time.monotonic() - self._complete_at)

    def wake(self) -> None:
        """Something was committed."""
        self._woken.set()

    async def run(self) -> None:
        """Ends by cancellation only. What a round raises is logged once, until one succeeds."""
        failing = False
        while not cancelled():
            self._woken.clear()
            try:
                more, failing = await self.round(), False
            except Unavailable:
                more = False
            except Exception:
                # Nobody waits for this task: without it the copies would stand still, and nobody would be told.
                if not failing:
                    _log.exception("a round of the relay failed; it goes on, and says so again after one that succeeds")
                more, failing = False, True
            if not more and not cancelled():
                await self._rest()

    async def round(self) -> bool:
        """Numbers what was committed and brings it over; whether there is more. Raises Unavailable, psycopg.Error."""
        standing: Standing | None
        try:
            standing = await self._copies.standing()
        except CortexError:
            standing = None
        async with self._lake.connection() as connection:
            row = await self._known(connection)
            if row is None:
                return False
            try:
                numbered = await feed.number(connection, row, _MOST)
            except psycopg.errors.ForeignKeyViolation:
                # Dropped since it was looked up.
                self._row = None
                return False
            if numbered.position == 0:
                # A resource that is there has an event: it was dropped.
                self._row = None
                return False
            if standing is None:
                return not numbered.complete
            brought = await self._bring(connection, row, standing, numbered)
        if brought and numbered.complete:
            self._complete_at = time.monotonic()
        return not numbered.complete

    async def _bring(self, connection: Connection, row: int, standing: Standing, numbered: Numbered) -> bool:
        """Whether the copy is as far as the feed now."""
        epoch, have, position = standing.epoch, standing.position, numbered.position
        if cause := await self._void(connection, row, standing, position):
            epoch, have = await self._begin_anew(connection, row, standing.epoch, position, cause), position
        most = _SENT
        while have < position:
            changes = await feed.after(connection, row, have, most)
            if not changes:
                # The feed's end is missing (docs/state.md, "doctor and rebuild").
                return False
            states = await feed.states(connection, row, list(dict.fromkeys(change.aggregate for change in changes)))
            changes = [*takewhile(lambda change: change.aggregate in states, changes)]  # noqa: B023 - used at once
            most = min(_SENT, 2 * len(changes))
            before, have = have, await self._copies.apply(epoch, changes, states)
            if have <= before:
                # Another process began anew in the meantime: the next round sees where it is. Or an event is missing.
                return False
            _RELAYED.inc(have - before)
        if numbered.complete:
            await self._copies.mark(epoch, position, standing.now)
        return True

    async def _void(self, connection: Connection, row: int, standing: Standing, position: int) -> str:
        """Why the copies cannot be gone on with; empty when they can."""
        if not standing.epoch:
            return "Empty"
        if standing.position > position:
            return "LakeRestored"
        if position - standing.position > WINDOW:
            return "FarBehind"
        # In every round: a Lake that was restored may be as far again, and a Valkey that lost its end have an earlier
        # epoch again, and be as far in it.
        if await feed.which(connection, row, standing.position) != standing.last:
            return "LakeRestored"
        return ""

    async def _begin_anew(self, connection: Connection, row: int, former: str, position: int, cause: str) -> str:
        epoch = secrets.token_hex(8)
        if not await self._copies.reset(former, epoch, position, await feed.which(connection, row, position)):
            return former
        _RESETS.labels(cause).inc()
        _log.info("the copy of the state begins anew", extra={"cause": cause, "resource": "/".join(self._resource)})
        await fill(connection, row, self._copies, epoch)
        return epoch

    async def _known(self, connection: Connection) -> int | None:
        if self._row is None:
            self._row = await revisions.resource_row(connection, self._resource)
        return self._row

    async def _rest(self) -> None:
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                await self._woken.wait()
        except TimeoutError:
            return


async def fill(connection: Connection, row: int, copies: Copies, epoch: str) -> int:
    """Copies the working set; returns how many. What is not in it is copied when it changes. Raises Unavailable."""
    names = await feed.working_set(connection, row)
    rest = names
    while rest:
        found = await feed.states(connection, row, rest[:_SENT])
        for state in found.values():
            if state is not None:
                await copies.restore(epoch, state)
        rest = rest[len(found) :]
    return len(names)
