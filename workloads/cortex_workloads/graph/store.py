"""Runs and threads in the Lake. A change is one transaction; a run is changed by the holder of its lease only."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import psycopg

from cortex_workloads.graph import checkpoints
from cortex_workloads.graph.failures import RunFailure
from cortex_workloads.runtime.errors import CortexError, FailedPrecondition, InvalidInput, NotFound
from cortex_workloads.runtime.lake import revisions
from cortex_workloads.runtime.lake.deadline import ANSWER_SECONDS, within
from cortex_workloads.runtime.lake.pool import Connection, Lake
from cortex_workloads.runtime.lake.revisions import Resource
from cortex_workloads.runtime.preconditions import not_prepared

LEASE_SECONDS: Final = 6.0
_SELECT: Final = (
    "SELECT r.run_id, r.thread, r.revision, r.input, r.status, r.output, r.failure, r.steps, r.attempts, r.crashes,"
    " r.created_at, r.finished_at, extract(epoch FROM coalesce(r.finished_at, now()) - r.created_at)::float8, t.state"
    " FROM runs r JOIN threads t ON (t.resource_id, t.thread) = (r.resource_id, r.thread)"
)


@dataclass(frozen=True)
class Run:
    """A row. `seconds`: its age, or how long it took; `state`: what its thread's last successful run left."""

    id: str
    thread: str
    revision: str
    input: dict[str, Any]
    status: str
    output: dict[str, Any] | None
    failure: dict[str, str] | None
    steps: int
    attempts: int
    crashes: int
    created_at: datetime
    finished_at: datetime | None
    seconds: float
    state: dict[str, Any]

    @property
    def finished(self) -> bool:
        """Whether nothing happens to it any more."""
        return self.status != "Running"


class Store:
    """The runs of one workflow, as the pod `owner` sees and changes them. Every method raises Unavailable.
    `committed()` is called after each change."""

    def __init__(
        self, lake: Lake, resource: Resource, owner: str, committed: Callable[[], None] = lambda: None
    ) -> None:
        self._lake = lake
        self._resource = resource
        self._owner = owner
        self._committed = committed
        self._row: int | None = None
        self.prepared = False
        """Whether the schema is known to be there."""

    def check_prepared(self) -> None:
        """Raises Unavailable (`LakeUnreachable`, `Starting`) before the schema is there."""
        if not self.prepared:
            raise not_prepared(self._lake)

    async def find(self, run_id: str) -> Run | None:
        """The run of an id, if this workflow has it."""
        async with self._lake.connection() as connection:
            return await self._find(connection, run_id)

    async def get(self, run_id: str) -> Run:
        """The run of an id. Raises NotFound."""
        run = await self.find(run_id)
        if run is None:
            raise NotFound(f"workflow {self._resource.name!r} has no run {run_id}", remedy="start it, or check the id")
        return run

    async def revision_for(self, thread: str) -> str:
        """The revision that a run of the thread uses: the thread's, or the current one ("" or an unknown thread).

        Raises FailedPrecondition (`NoRevision`)."""
        async with self._lake.connection() as connection:
            found = await connection.execute(
                "SELECT coalesce((SELECT revision FROM threads WHERE resource_id = s.id AND thread = %s),"
                " (SELECT revision FROM revisions WHERE resource_id = s.id AND phase = 'Current'))"
                " FROM resources s WHERE s.kind = %s AND s.namespace = %s AND s.name = %s",
                (thread, *self._resource),
            )
            row = await found.fetchone()
        if row is None or row[0] is None:
            raise self._no_revision()
        return str(row[0])

    async def begin(self, run_id: str, thread: str, revision: str, given: Mapping[str, Any]) -> tuple[Run, bool]:
        """Makes a run that this pod holds; True. When there is one of this id already: that one; False.

        Raises FailedPrecondition (`ThreadBusy`, `NoRevision`), InvalidInput when the id is used by another workflow."""
        try:
            begun = await self._begin(run_id, thread, revision, given)
        except psycopg.errors.ForeignKeyViolation as error:
            # The workflow was dropped from the Lake since this pod looked it up.
            self._row = None
            raise self._no_revision() from error
        self._committed()
        return begun

    async def _begin(self, run_id: str, thread: str, revision: str, given: Mapping[str, Any]) -> tuple[Run, bool]:
        async with self._lake.transaction() as connection:
            resource = await self._resource_row(connection)
            await connection.execute(
                "INSERT INTO threads (resource_id, thread, revision) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
                (resource, thread, revision),
            )
            while True:
                inserted = await connection.execute(
                    "INSERT INTO runs (run_id, resource_id, thread, revision, input, owner, lease_until)"
                    " VALUES (%s, %s, %s, %s, %s, %s, now() + make_interval(secs => %s)) ON CONFLICT DO NOTHING",
                    (run_id, resource, thread, revision, json.dumps(given), self._owner, LEASE_SECONDS),
                )
                if (run := await self._find(connection, run_id)) is not None:
                    return run, inserted.rowcount == 1
                if (refusal := await self._why_not(connection, resource, run_id, thread)) is not None:
                    raise refusal
                # What was in the way ended between two statements.

    async def renew(self, run_ids: Collection[str]) -> set[str]:
        """Prolongs the leases that this pod still holds; returns their ids."""
        async with self._lake.connection() as connection:
            with within(connection, ANSWER_SECONDS):
                renewed = await connection.execute(
                    "UPDATE runs SET lease_until = now() + make_interval(secs => %s)"
                    " WHERE run_id = ANY(%s::uuid[]) AND owner = %s AND status = 'Running' RETURNING run_id",
                    (LEASE_SECONDS, list(run_ids), self._owner),
                )
            return {str(row[0]) for row in await renewed.fetchall()}

    async def take_over(self, at_most: int, but: Collection[str] = ()) -> list[Run]:
        """Takes runs that nobody holds any more, oldest first; none of `but`, which is read when its turn comes."""
        async with self._lake.transaction() as connection:
            resource = await self._resource_row(connection)
            taken = await connection.execute(
                "UPDATE runs SET owner = %s, lease_until = now() + make_interval(secs => %s),"
                " attempts = attempts + 1, crashes = crashes + (owner <> '')::int"
                " WHERE run_id IN (SELECT run_id FROM runs WHERE resource_id = %s AND status = 'Running'"
                " AND lease_until < now() AND run_id <> ALL(%s::uuid[])"
                " ORDER BY created_at LIMIT %s FOR UPDATE SKIP LOCKED) RETURNING run_id",
                (self._owner, LEASE_SECONDS, resource, list(but), at_most),
            )
            ids = [row[0] for row in await taken.fetchall()]
            rows = await connection.execute(_SELECT + " WHERE r.run_id = ANY(%s) ORDER BY r.created_at", (ids,))
            runs = [_run(row) for row in await rows.fetchall()]
        if runs:
            self._committed()
        return runs

    async def release(self, run_ids: Collection[str]) -> None:
        """Gives leases back: another pod goes on at once."""
        async with self._lake.connection() as connection:
            await connection.execute(
                "UPDATE runs SET owner = '', lease_until = now() WHERE run_id = ANY(%s::uuid[]) AND owner = %s"
                " AND status = 'Running'",
                (list(run_ids), self._owner),
            )

    async def succeed(self, run: Run, output: Mapping[str, Any], steps: int) -> Run | None:
        """Ends a run well; its thread keeps the state. None: this pod does not hold it any more."""
        return await self._finish(run, "Succeeded", steps, output=output)

    async def fail(self, run: Run, failure: RunFailure, steps: int) -> Run | None:
        """Ends a run badly; its thread stays as it was before. None: this pod does not hold it any more."""
        told = {"code": failure.code.value, "message": failure.message, "node": failure.node}
        return await self._finish(run, "Failed", steps, failure=told)

    async def _finish(
        self,
        run: Run,
        status: str,
        steps: int,
        *,
        output: Mapping[str, Any] | None = None,
        failure: Mapping[str, str] | None = None,
    ) -> Run | None:
        ended = await self._end(run, status, steps, output=output, failure=failure)
        self._committed()
        return ended

    async def _end(
        self,
        run: Run,
        status: str,
        steps: int,
        *,
        output: Mapping[str, Any] | None = None,
        failure: Mapping[str, str] | None = None,
    ) -> Run | None:
        async with self._lake.transaction() as connection:
            ended = await connection.execute(
                "UPDATE runs SET status = %s, output = %s, failure = %s, steps = %s, finished_at = clock_timestamp(),"
                " owner = '' WHERE run_id = %s AND owner = %s AND status = 'Running'",
                (status, _json(output), _json(failure), steps, run.id, self._owner),
            )
            if ended.rowcount == 0:
                return None
            if output is not None:
                await connection.execute(
                    "UPDATE threads SET state = %s, changed_at = now() WHERE resource_id = %s AND thread = %s",
                    (_json(output), await self._resource_row(connection), run.thread),
                )
            await checkpoints.forget(connection, [run.id])
            return await self._find(connection, run.id)

    async def _find(self, connection: Connection, run_id: str) -> Run | None:
        found = await connection.execute(
            _SELECT + " WHERE r.run_id = %s AND r.resource_id = %s",
            (run_id, await self._resource_row(connection)),
        )
        row = await found.fetchone()
        return None if row is None else _run(row)

    async def _why_not(self, connection: Connection, resource: int, run_id: str, thread: str) -> CortexError | None:
        found = await connection.execute(
            "SELECT run_id FROM runs WHERE resource_id = %s AND thread = %s AND status = 'Running'", (resource, thread)
        )
        running = await found.fetchone()
        if running is not None:
            return FailedPrecondition(
                f"run {running[0]} of thread {thread!r} is still running",
                remedy="wait for it: a thread has one run at a time",
                reason="ThreadBusy",
            )
        found = await connection.execute("SELECT FROM runs WHERE run_id = %s", (run_id,))
        if await found.fetchone() is None:
            return None
        return InvalidInput(
            f"the run id {run_id} is used by another workflow",
            remedy="choose a new UUID",
            violations=[("run_id", "used by another workflow")],
        )

    def _no_revision(self) -> FailedPrecondition:
        return FailedPrecondition(
            f"workflow {self._resource.name!r} has no current revision",
            remedy="wait until its condition GraphValid is True, or see what it says",
            reason="NoRevision",
        )

    async def _resource_row(self, connection: Connection) -> int:
        """0, which no row has, while the Lake does not know the workflow: only an order of the operator makes it one,
        so that a pod that ends late brings nothing back."""
        if self._row is None:
            self._row = await revisions.resource_row(connection, self._resource)
        return self._row or 0


def _run(row: tuple[Any, ...]) -> Run:
    run_id: UUID = row[0]
    return Run(str(run_id), *row[1:])


def _json(value: Mapping[str, Any] | None) -> str | None:
    return None if value is None else json.dumps(value)
