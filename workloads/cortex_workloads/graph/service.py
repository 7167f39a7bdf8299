"""GraphService: starts runs, streams their events, speaks about agents."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final

from datapunk.cortex import common_pb2, graph_pb2, graph_pb2_grpc

from cortex_workloads.graph import events
from cortex_workloads.graph.attach import Attachment, check_event_id
from cortex_workloads.graph.input import from_struct
from cortex_workloads.graph.library import Library
from cortex_workloads.graph.runner import Live, Runner
from cortex_workloads.graph.store import Run, Store
from cortex_workloads.runtime.errors import (
    InvalidInput,
    NotFound,
    Unavailable,
    Unimplemented,
)
from cortex_workloads.runtime.lake.revisions import Resource
from cortex_workloads.runtime.preconditions import check_resource

_THREAD_CHARACTERS: Final = 128


class GraphService(graph_pb2_grpc.GraphServiceServicer):
    """Of one workflow."""

    def __init__(
        self, resource: Resource, store: Store, library: Library, runner: Runner, attachment: Attachment
    ) -> None:
        self._resource = resource
        self._store = store
        self._library = library
        self._runner = runner
        self._attachment = attachment

    async def ExecuteWorkflow(
        self, request: graph_pb2.WorkflowRequest, context: Any
    ) -> AsyncGenerator[graph_pb2.WorkflowResponse, None]:
        """Starts a run, or goes on streaming one. Raises CortexError."""
        check_resource(self._resource, request.workflow)
        check_event_id(request.after_event_id)
        run_id, thread = _run_id(request), _thread(request)
        self._store.check_prepared()
        run = await self._store.find(run_id) if request.run_id else None
        if run is None and request.attach_only:
            raise NotFound(
                f"workflow {self._resource.name!r} has no run {run_id}",
                remedy="check the id, or start the run without attach_only",
            )
        live: Live | None = None
        if run is None:
            run, live = await self._begin(run_id, thread, from_struct(request.input))
        if live is None and not request.attach_only:
            _same(run, request, thread)
        async with aclosing(self._events(run, live, request.after_event_id)) as stream:
            async for event in stream:
                yield graph_pb2.WorkflowResponse(event=event)

    async def ManageAgents(self, request: graph_pb2.AgentRequest, context: Any) -> graph_pb2.AgentResponse:
        """Lists none: the catalogue has no Agent nodes. Raises NotFound, Unimplemented, InvalidInput."""
        check_resource(self._resource, request.workflow)
        match request.WhichOneof("action"):
            case "list":
                return graph_pb2.AgentResponse()
            case "get":
                raise NotFound(
                    f"workflow {self._resource.name!r} has no agent {request.get.id!r}",
                    remedy="agents come from Agent nodes, which this release does not have",
                )
            case None:
                raise InvalidInput("the request has no action", remedy="set one, for example `list`")
            case action:
                raise Unimplemented(
                    f"{action} needs an Agent node, which this release does not have",
                    remedy="declare what it should do with the nodes Search, Route, Transform and Extract",
                )

    async def _begin(self, run_id: str, thread: str, given: dict[str, Any]) -> tuple[Run, Live | None]:
        with self._runner.place():
            revision = await self._store.revision_for(thread)
            workflow = await self._library.get(revision)
            workflow.input.check(given)
            run, mine = await self._store.begin(run_id, thread or str(uuid.uuid4()), revision, given)
            if not mine:
                return run, None
            live = await self._runner.begin(run)
        if live is None:
            raise _goes_on_elsewhere(run)
        return run, live

    async def _events(self, run: Run, live: Live | None, after: str) -> AsyncGenerator[common_pb2.RunEvent, None]:
        if live is not None:
            async with aclosing(live.journal.follow()) as stream:
                async for event in stream:
                    yield event
                    after = event.event_id or after
                    if events.is_last(event):
                        return
            # The journal ended before the run: the run was interrupted, and goes on somewhere.
            if self._runner.draining:
                raise _goes_on_elsewhere(run)
            run = await self._store.get(run.id)
        async with aclosing(self._attachment.follow(run, after)) as stream:
            async for event in stream:
                yield event


def _goes_on_elsewhere(run: Run) -> Unavailable:
    return Unavailable(
        "this pod is ending; the run goes on in another",
        remedy=f"ask again with the run id {run.id} and the last event id",
        reason="Draining",
    )


def _run_id(request: graph_pb2.WorkflowRequest) -> str:
    if not request.run_id:
        if request.attach_only:
            raise InvalidInput("attach_only needs a run_id", remedy="set run_id", violations=[("run_id", "missing")])
        return str(uuid.uuid4())
    try:
        return str(uuid.UUID(request.run_id))
    except ValueError as error:
        raise InvalidInput(
            f"the run id {request.run_id[:64]!r} is not a UUID",
            remedy="choose one like 6f1c1e5e-0d1a-4a53-9a3b-0f6f3f6f8f10, or none",
            violations=[("run_id", "not a UUID")],
        ) from error


def _thread(request: graph_pb2.WorkflowRequest) -> str:
    thread: str = request.thread_id
    if len(thread) > _THREAD_CHARACTERS or not (thread.isprintable() or not thread):
        raise InvalidInput(
            f"the thread id is not 1 to {_THREAD_CHARACTERS} printable characters",
            remedy="use the one that a run's `started` event gave, or none",
            violations=[("thread_id", f"not 1 to {_THREAD_CHARACTERS} printable characters")],
        )
    return thread


def _same(run: Run, request: graph_pb2.WorkflowRequest, thread: str) -> None:
    """The same id twice is the same run only when it asks for the same."""
    violations = []
    if request.HasField("input") and from_struct(request.input) != run.input:
        violations.append(("input", "another one than the run was started with"))
    if thread and thread != run.thread:
        violations.append(("thread_id", f"the run belongs to thread {run.thread!r}"))
    if violations:
        raise InvalidInput(
            f"run {run.id} exists and was started otherwise: " + "; ".join(f"{f}: {m}" for f, m in violations),
            remedy="choose a new run id, or attach to the run with attach_only",
            violations=violations,
        )
