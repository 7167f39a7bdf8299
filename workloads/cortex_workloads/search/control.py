"""ControlService of an index: what the Lake holds about it, and the operator's orders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import psycopg
from cortex_kinds.revision import revision_id
from datapunk.cortex import control_pb2, control_pb2_grpc

from cortex_workloads.runtime.errors import FailedPrecondition, InvalidInput, Unavailable, Unimplemented
from cortex_workloads.runtime.health import Health
from cortex_workloads.runtime.lake import revisions
from cortex_workloads.runtime.lake.pool import Connection, Lake
from cortex_workloads.runtime.lake.revisions import Phase, Resource, Revision
from cortex_workloads.runtime.preconditions import check_resource
from cortex_workloads.runtime.progress import ProgressStream
from cortex_workloads.search import definition, queue, tables
from cortex_workloads.search.documents import from_struct
from cortex_workloads.search.encoders import Encoders
from cortex_workloads.search.tables import Counts

_PHASES: Final = {phase: control_pb2.RevisionPhase.Value(f"REVISION_PHASE_{phase.name}") for phase in Phase}
_NOTHING: Final = Counts(0, 0, 0, 0)
_LOAD_SECONDS: Final = 1.5
"""Less than the operator waits."""
_MODEL_REASONS: Final = frozenset({"ModelMissing", "ModelInvalid", "ModelChanged"})


class Control(control_pb2_grpc.ControlServiceServicer):
    """Answers from the Lake, so that any pod of the index can be asked. `ready` raises what is still missing;
    `ordered` is called after each order."""

    def __init__(
        self,
        lake: Lake,
        resource: Resource,
        pod: str,
        health: Health,
        state: ProgressStream,
        ready: Callable[[], object],
        ordered: Callable[[], None],
        encoders: Encoders,
    ) -> None:
        self._lake = lake
        self._resource = resource
        self._pod = pod
        self._health = health
        self._state = state
        self._ready = ready
        self._ordered = ordered
        self._encoders = encoders

    async def Describe(self, request: control_pb2.DescribeRequest, context: Any) -> control_pb2.DescribeResponse:
        """Says what the Lake holds; while it does not answer, says that instead of failing."""
        check_resource(self._resource, request.resource)
        response = control_pb2.DescribeResponse(pod=self._pod)
        try:
            await self._read_again(response)
        except Unavailable:
            response.lake_read = False
        for name, check in self._health.checks.items():
            response.dependencies.add(name=name, reachable=check.ok, reason=check.reason, message=check.message)
        await self._ask_state(response.dependencies.add(name="State", reachable=True))
        return response

    async def Command(self, request: control_pb2.CommandRequest, context: Any) -> control_pb2.CommandResponse:
        """Carries out one verb; each is a wish about a state, so that asking twice does it once."""
        check_resource(self._resource, request.resource)
        if request.WhichOneof("verb") != "ensure_revision":
            raise Unimplemented("this release knows the verb ensure_revision only", remedy="set ensure_revision")
        order = request.ensure_revision
        wanted = from_struct(order.definition)
        self._ready()
        _check(order.id, wanted, order.retain)
        try:
            message = await self._ensure(order.id, wanted, order.retain)
        except FailedPrecondition as error:
            if error.reason not in _MODEL_REASONS:
                raise
            raise _refused(error) from error
        self._ordered()
        return control_pb2.CommandResponse(revision=message)

    async def _ensure(self, identity: str, wanted: dict[str, Any], retain: int) -> control_pb2.Revision:
        loaded = await self._encoders.load(definition.read(wanted).model, _LOAD_SECONDS)
        async with self._lake.transaction() as connection:
            found = await revisions.ensure(connection, self._resource, identity, wanted, retain)
            await tables.prepare(connection, found, loaded.queries.dimensions)
            await self._encoders.agree(connection, found, loaded)
            return await _message(connection, found)

    async def _ask_state(self, answer: control_pb2.Dependency) -> None:
        try:
            await self._state.ping()
        except Unavailable as error:
            answer.reachable, answer.reason, answer.message = False, error.reason, str(error)

    async def _read_again(self, response: control_pb2.DescribeResponse) -> None:
        try:
            await self._read(response)
        except psycopg.errors.UndefinedTable:
            # A revision went away between the list and its sums.
            await self._read(response)

    async def _read(self, response: control_pb2.DescribeResponse) -> None:
        self._ready()
        async with self._lake.connection() as connection:
            every = await revisions.describe(connection, self._resource)
            messages = [await _message(connection, one, self._encoders.failure(one)) for one in every]
            if (current := revisions.current(every)) is not None:
                response.current_revision = current.id
                response.documents = (await tables.counts(connection, current.row)).documents
        response.revisions.extend(messages)
        response.lake_read = True


def _check(identity: str, wanted: dict[str, Any], retain: int) -> None:
    if (expected := revision_id(wanted)) != identity:
        raise InvalidInput(
            f"the revision's id is {identity!r}, but its definition makes it {expected}",
            remedy="send the definition that the id was made of",
            violations=[("ensure_revision.id", f"does not match the definition, which makes {expected}")],
        )
    if retain < 0:
        raise InvalidInput(
            f"retain is {retain}", remedy="0 or more is expected", violations=[("ensure_revision.retain", "is below 0")]
        )
    definition.read(wanted)


def _refused(error: FailedPrecondition) -> InvalidInput:
    violation = ("ensure_revision.definition.embedding.local", str(error))
    # The status alone is what the operator shows.
    return InvalidInput(str(error), reason=error.reason, violations=[violation])


async def _message(connection: Connection, revision: Revision, failure: str = "") -> control_pb2.Revision:
    there = await (await connection.execute("SELECT to_regclass(%s)", (f"queue_{revision.row}",))).fetchone()
    counts, waiting, poison = _NOTHING, 0, ""
    if there is not None and there[0] is not None:
        counts = await tables.counts(connection, revision.row)
        waiting = await queue.waiting(connection, revision.row)
        poison = await queue.poison(connection, revision.row)
    message = control_pb2.Revision(
        id=revision.id,
        phase=_PHASES[revision.phase],
        documents=counts.embedded,
        chunks=counts.chunks,
        waiting=waiting,
        message=revision.message or failure or poison,
    )
    message.created_at.FromDatetime(revision.created_at)
    return message
