"""ControlService of a workflow: what the Lake holds about it, and the orders of the operator."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from cortex_kinds.cel import ExpressionError
from cortex_kinds.graph import graph_mistakes
from cortex_kinds.nodes import NodeType
from cortex_kinds.revision import revision_id
from cortex_kinds.workflow import CortexWorkflowSpec
from datapunk.cortex import control_pb2, control_pb2_grpc
from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import ValidationError

from cortex_workloads.graph.compile import compile_workflow
from cortex_workloads.graph.input import from_struct
from cortex_workloads.graph.model import Model
from cortex_workloads.graph.nodes.base import Tools
from cortex_workloads.graph.searcher import IndexSearcher
from cortex_workloads.graph.store import Store
from cortex_workloads.runtime.errors import CortexError, InvalidInput, Unavailable
from cortex_workloads.runtime.lake import revisions
from cortex_workloads.runtime.lake.pool import Lake
from cortex_workloads.runtime.lake.revisions import Phase, Resource, Revision
from cortex_workloads.runtime.preconditions import check_resource
from cortex_workloads.runtime.progress import ProgressStream

_CHECK_SECONDS: Final = 1.0
_MESSAGE_CHARACTERS: Final = 1024


class Control(control_pb2_grpc.ControlServiceServicer):
    """Of one workflow."""

    def __init__(
        self,
        pod: str,
        resource: Resource,
        lake: Lake,
        store: Store,
        searcher: IndexSearcher,
        model: Model,
        progress: ProgressStream,
        tools: Tools,
    ) -> None:
        self._pod = pod
        self._resource = resource
        self._lake = lake
        self._store = store
        self._searcher = searcher
        self._model = model
        self._progress = progress
        self._tools = tools

    async def Describe(self, request: control_pb2.DescribeRequest, context: Any) -> control_pb2.DescribeResponse:
        """Revisions and dependencies. Raises FailedPrecondition."""
        check_resource(self._resource, request.resource)
        found, dependencies = await asyncio.gather(self._revisions(), self._dependencies())
        response = control_pb2.DescribeResponse(pod=self._pod, lake_read=found is not None, dependencies=dependencies)
        if found is not None:
            response.revisions.extend(_message(revision) for revision in found)
            current = revisions.current(found)
            response.current_revision = current.id if current is not None else ""
        return response

    async def Command(self, request: control_pb2.CommandRequest, context: Any) -> control_pb2.CommandResponse:
        """Carries out a verb. Raises InvalidInput, FailedPrecondition, Unavailable."""
        check_resource(self._resource, request.resource)
        if request.WhichOneof("verb") != "ensure_revision":
            raise InvalidInput("the command has no verb", remedy="set ensure_revision")
        self._store.check_prepared()
        verb = request.ensure_revision
        definition = from_struct(verb.definition)
        if verb.id != revision_id(definition):
            raise InvalidInput(
                f"the revision {verb.id} does not match its definition, whose id is {revision_id(definition)}",
                remedy="compute the id with cortex_kinds.revision.revision_id",
                violations=[("ensure_revision.id", "does not match the definition")],
            )
        problem = await asyncio.to_thread(self._problem, verb.id, definition)
        revision = await (
            self._refuse(verb.id, definition, problem) if problem else self._promote(verb.id, definition, verb.retain)
        )
        return control_pb2.CommandResponse(revision=_message(revision))

    def _problem(self, revision: str, definition: dict[str, Any]) -> str:
        """Why a definition cannot run; empty when it can."""
        try:
            mistakes = graph_mistakes(CortexWorkflowSpec.model_validate(definition))
            if mistakes:
                return "; ".join(str(mistake) for mistake in mistakes)
            compile_workflow(revision, definition, self._tools)
        except ValidationError as error:
            return "; ".join(f"spec.{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        except (ExpressionError, CortexError) as error:
            return str(error)
        return ""

    async def _promote(self, revision: str, definition: dict[str, Any], retain: int) -> Revision:
        async with self._lake.transaction() as connection:
            await revisions.pardon(connection, self._resource, revision)
            row = await revisions.ensure(connection, self._resource, revision, definition, retain)
            if row.phase in (Phase.BUILDING, Phase.READY):
                await revisions.promote(connection, row)
            promoted = await self._row(connection, revision)
        if any(node["type"] == NodeType.EXTRACT for node in definition["nodes"]):
            self._model.load()
        return promoted

    async def _refuse(self, revision: str, definition: dict[str, Any], problem: str) -> Revision:
        """The row says why, and what answers goes on answering."""
        async with self._lake.transaction() as connection:
            message = problem[:_MESSAGE_CHARACTERS]
            return await revisions.refuse(connection, self._resource, revision, definition, message)

    async def _row(self, connection: Any, revision: str) -> Revision:
        found = await revisions.describe(connection, self._resource)
        return next(row for row in found if row.id == revision)

    async def _revisions(self) -> list[Revision] | None:
        try:
            self._store.check_prepared()
            async with self._lake.connection() as connection:
                return await revisions.describe(connection, self._resource)
        except Unavailable:
            return None

    async def _dependencies(self) -> list[control_pb2.Dependency]:
        return [
            _dependency("Lake", None if self._lake.reachable else self._lake.unavailable()),
            _dependency("State", await self._state()),
            _dependency("Model", self._model.error),
            *await asyncio.gather(*map(self._index, self._searcher.indexes)),
        ]

    async def _index(self, name: str) -> control_pb2.Dependency:
        return _dependency(name, await self._searcher.check(name, _CHECK_SECONDS))

    async def _state(self) -> CortexError | None:
        try:
            await self._progress.ping()
        except Unavailable as error:
            return error
        return None


def _dependency(name: str, error: CortexError | None) -> control_pb2.Dependency:
    if error is None:
        return control_pb2.Dependency(name=name, reachable=True)
    return control_pb2.Dependency(name=name, reachable=False, reason=error.reason, message=str(error))


def _message(revision: Revision) -> control_pb2.Revision:
    created = Timestamp()
    created.FromDatetime(revision.created_at)
    return control_pb2.Revision(
        id=revision.id,
        phase=control_pb2.RevisionPhase.Value(f"REVISION_PHASE_{revision.phase.upper()}"),
        created_at=created,
        message=revision.message,
    )
