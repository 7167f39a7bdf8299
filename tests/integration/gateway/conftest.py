"""A real gateway before real gRPC servers: doubles of the search and graph services that a test can steer."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from cortex_workloads.gateway.main import gateway
from cortex_workloads.runtime.errors import InvalidInput, NotFound
from cortex_workloads.runtime.server import Server
from cortex_workloads.runtime.settings import GatewaySettings, SearchSettings
from datapunk.cortex import (
    common_pb2,
    control_pb2,
    control_pb2_grpc,
    graph_pb2,
    graph_pb2_grpc,
    search_pb2,
    search_pb2_grpc,
    state_pb2,
    state_pb2_grpc,
)
from google.protobuf.struct_pb2 import Struct
from patience import with_the_state

INDEX = {"apiVersion": "cortex.datapunk.io/v1alpha1", "kind": "CortexIndex", "metadata": {"name": "papers"}}
WORKFLOW = {
    "apiVersion": "cortex.datapunk.io/v1alpha1",
    "kind": "CortexWorkflow",
    "metadata": {"name": "helpdesk"},
    "spec": {
        "input": {
            "schema": {
                "type": "object",
                "properties": {"question": {"type": "string", "maxLength": 50}, "depth": {"type": "integer"}},
                "required": ["question"],
                "additionalProperties": False,
            }
        },
        "nodes": [{"name": "say", "type": "Transform", "transform": {"set": {"answer": "'yes'"}}}],
        "edges": [{"from": "START", "to": "say"}, {"from": "say", "to": "END"}],
        "limits": {"duration": "1m"},
    },
}


class Haystack(search_pb2_grpc.HaystackServiceServicer):
    """Keeps documents in memory; refuses, by name, those whose id begins with `bad`."""

    def __init__(self) -> None:
        self.documents: dict[str, common_pb2.Document] = {}
        self.batches: list[int] = []
        self.searches: list[search_pb2.SearchRequest] = []
        self.seconds_left: list[float] = []
        self.traceparents: list[str] = []
        self.fail: Exception | None = None
        self.hold: asyncio.Event | None = None
        self.hold_search: asyncio.Event | None = None
        self.cancels = 0
        """Searches that are to end as if the pod were being stopped."""
        self.holding = asyncio.Event()
        self.wrote = asyncio.Event()

    async def Search(self, request: search_pb2.SearchRequest, context: Any) -> search_pb2.SearchResponse:
        self.searches.append(request)
        self.seconds_left.append(context.time_remaining())
        self.traceparents += [value for key, value in context.invocation_metadata() if key == "traceparent"]
        if self.cancels:
            self.cancels -= 1
            await context.abort(grpc.StatusCode.CANCELLED)
        if self.hold_search:
            await self.hold_search.wait()
        if self.fail:
            raise self.fail
        hits = [
            common_pb2.Hit(id=key, title=document.title, passage=document.content, score=0.5, meta=document.meta)
            for key, document in self.documents.items()
            if request.query in document.content
        ]
        coverage = common_pb2.Coverage(documents=len(self.documents), embedded=1)
        result = common_pb2.SearchResult(hits=hits, revision="0123456789", mode="SEARCH_MODE_TEXT", coverage=coverage)
        result.took.FromMilliseconds(12)
        return search_pb2.SearchResponse(result=result)

    async def UpdateIndex(self, request: search_pb2.UpdateRequest, _: Any) -> search_pb2.UpdateResponse:
        if self.hold:
            self.holding.set()
            await self.hold.wait()
        if self.fail:
            raise self.fail
        if bad := [n for n, d in enumerate(request.documents) if d.id.startswith("bad")]:
            raise InvalidInput("refused", violations=[(f"documents[{n}].id", "is bad") for n in bad])
        same = sum(self.documents.get(d.id) == d for d in request.documents)
        self.documents |= {document.id: document for document in request.documents}
        self.batches.append(len(request.documents))
        self.wrote.set()
        deleted = sum(self.documents.pop(key, None) is not None for key in request.delete_ids)
        return search_pb2.UpdateResponse(
            written=len(request.documents) - same, unchanged=same, deleted=deleted, waiting=len(self.documents)
        )


class Control(control_pb2_grpc.ControlServiceServicer):
    """Describes an index of five documents, with the further revisions that a test adds."""

    def __init__(self) -> None:
        self.more: list[control_pb2.Revision] = []

    async def Describe(self, _: control_pb2.DescribeRequest, __: Any) -> control_pb2.DescribeResponse:
        revision = control_pb2.Revision(id="0123456789", documents=3, waiting=2)
        return control_pb2.DescribeResponse(
            revisions=[revision, *self.more], current_revision="0123456789", documents=5, lake_read=True
        )

    async def Command(self, _: Any, __: Any) -> Any:
        raise NotImplementedError


class States(state_pb2_grpc.StateServiceServicer):
    """The state of both resources: one run, and a feed that a test adds to."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.events: list[state_pb2.StateEvent] = []
        self.change = asyncio.Condition()
        self.watching = asyncio.Event()
        self.fail: Exception | None = None
        self.hangs = False
        self.runs: dict[str, dict[str, Any]] = {}
        """The fields of further runs, by aggregate."""
        self.report = state_pb2.StateReport(position=7, problem="the shared state does not answer")

    async def add(self, type: str, **data: Any) -> None:
        async with self.change:
            number = len(self.events) + 1
            event = state_pb2.StateEvent(position=number, aggregate="run/r", version=number, type=type, by="pod-1")
            event.data.update(data)
            event.at.FromSeconds(1_700_000_000)
            self.events.append(event)
            self.change.notify_all()

    async def ReadState(self, request: state_pb2.ReadStateRequest, _: Any) -> state_pb2.ReadStateResponse:
        self._note(request)
        if self.hangs:
            await asyncio.Event().wait()
        if request.aggregate in self.runs:
            response = state_pb2.ReadStateResponse(source="STATE_SOURCE_LAKE")
            response.state.aggregate, response.state.version = request.aggregate, 3
            response.state.fields.update(self.runs[request.aggregate])
            return response
        if request.aggregate != "run/r":
            return state_pb2.ReadStateResponse(source="STATE_SOURCE_LAKE")
        response = state_pb2.ReadStateResponse(source="STATE_SOURCE_COPY")
        response.age.FromMilliseconds(250)
        response.state.aggregate, response.state.version = "run/r", 3
        response.state.fields.update({"status": "Running", "steps": 2, "output": None})
        return response

    async def StateHistory(self, request: state_pb2.StateHistoryRequest, _: Any) -> state_pb2.StateHistoryResponse:
        self._note(request)
        page = [event for event in self.events if event.aggregate == request.aggregate]
        page = page[request.after_version :][: request.limit]
        return state_pb2.StateHistoryResponse(events=page, more=bool(page and page[-1].version < len(self.events)))

    async def WatchState(
        self, request: state_pb2.WatchStateRequest, _: Any
    ) -> AsyncIterator[state_pb2.WatchStateResponse]:
        self._note(request)
        after = request.after if request.HasField("after") else len(self.events)
        yield state_pb2.WatchStateResponse(position=after)
        self.watching.set()
        for at in itertools.count(after):
            async with self.change:
                await self.change.wait_for(lambda: len(self.events) > at)  # noqa: B023
            yield state_pb2.WatchStateResponse(position=at + 1, event=self.events[at])

    async def ExamineState(self, request: Any, _: Any) -> state_pb2.ExamineStateResponse:
        self._note(request)
        return state_pb2.ExamineStateResponse(report=self.report)

    async def RebuildState(self, request: Any, _: Any) -> state_pb2.RebuildStateResponse:
        self._note(request)
        return state_pb2.RebuildStateResponse(report=self.report)

    def _note(self, request: Any) -> None:
        self.requests.append(request)
        if self.fail:
            raise self.fail


class Runs:
    """What the Lake and the shared state hold of runs: every pod serves the same."""

    def __init__(self) -> None:
        self.events: dict[str, list[common_pb2.RunEvent]] = {}
        self.change = asyncio.Condition()
        self.requests: list[graph_pb2.WorkflowRequest] = []
        self.started: asyncio.Queue[str] = asyncio.Queue()
        self.left = asyncio.Event()
        self.ids = True
        """Whether there is live progress."""
        self.silent: Callable[[], bool] = lambda: False
        """Whether a call is to get no answer."""

    async def add(self, run_id: str, **event: Any) -> None:
        async with self.change:
            events = self.events.setdefault(run_id, [])
            event_id = f"{1000 + len(events)}-0" if self.ids else ""
            events.append(common_pb2.RunEvent(event_id=event_id, run_id=run_id, **event))
            self.change.notify_all()

    async def say(self, run_id: str, *nodes: str) -> None:
        for node in nodes:
            await self.add(run_id, step=common_pb2.StepEvent(node=node, type="Transform", phase="PHASE_SUCCEEDED"))

    async def complete(self, run_id: str, **output: Any) -> None:
        state = Struct()
        state.update(output)
        await self.add(run_id, completed=common_pb2.RunCompleted(output=state, steps=2))


class Graph(graph_pb2_grpc.GraphServiceServicer):
    """Streams a run's events as a test adds them."""

    def __init__(self, runs: Runs) -> None:
        self.runs = runs

    async def ExecuteWorkflow(
        self, request: graph_pb2.WorkflowRequest, _: Any
    ) -> AsyncIterator[graph_pb2.WorkflowResponse]:
        self.runs.requests.append(request)
        if self.runs.silent():
            await asyncio.Event().wait()
        if request.run_id not in self.runs.events:
            if request.attach_only:
                raise NotFound(f"there is no run {request.run_id}", reason="RunNotFound")
            await self.runs.add(
                request.run_id, started=common_pb2.RunStarted(thread_id="t1", revision="abc", attempt=1)
            )
            self.runs.started.put_nowait(request.run_id)
        events = self.runs.events[request.run_id]
        after = request.after_event_id
        position = next((n + 1 for n, e in enumerate(events) if after and e.event_id == after), 0)
        if position == len(events) and events[-1].HasField("completed"):
            position -= 1
        try:
            for at in itertools.count(position):
                async with self.runs.change:
                    await self.runs.change.wait_for(lambda: len(events) > at)  # noqa: B023
                yield graph_pb2.WorkflowResponse(event=events[at])
                if events[at].WhichOneof("event") in ("completed", "failed"):
                    return
        finally:
            self.runs.left.set()

    async def ManageAgents(self, _: Any, __: Any) -> Any:
        raise NotImplementedError


class Pod:
    """A process of a service, as far as the gateway can tell."""

    def __init__(self, service: str, server: Server) -> None:
        self.service, self.server = service, server

    async def die(self) -> None:
        for grpc_server in self.server._grpc.values():
            await grpc_server.stop(None)


class World:
    """The gateway, the catalogue file and the pods. `http` is a client of the gateway."""

    def __init__(self, stack: AsyncExitStack, directory: Path, state_url: str) -> None:
        self._stack, self._file = stack, directory / "catalogue.json"
        self.haystack, self.runs, self.control = Haystack(), Runs(), Control()
        self.states = States()
        self.items: list[dict[str, Any]] = [INDEX, WORKFLOW]
        self.pods: list[Pod] = []
        self.state_url = state_url
        self.http: httpx.AsyncClient
        self.ports: dict[str, int] = {}

    async def open(self, **more: Any) -> None:
        self.write()
        settings = GatewaySettings(
            catalogue_file=self._file, state_url=self.state_url, port_http=0, port_grpc=0, port_metrics=0,
            drain_seconds=0.5, **more,
        )  # fmt: skip
        self.ports = (await self._stack.enter_async_context(gateway(settings))).ports
        client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.ports['http']}", timeout=60, trust_env=False)
        self.http = await self._stack.enter_async_context(client)

    async def pod(self, service: str, *, states: bool = True) -> Pod:
        """Starts a pod of papers-search or helpdesk-graph and puts it into the catalogue. `states`: it tells them."""
        settings = SearchSettings(
            listen_host="127.0.0.1", port_grpc=0, port_control=0, port_metrics=0, drain_seconds=0.1
        )
        server = await self._stack.enter_async_context(Server(settings, service))
        if service == "papers-search":
            server.add(search_pb2_grpc.add_HaystackServiceServicer_to_server, self.haystack)
        else:
            server.add(graph_pb2_grpc.add_GraphServiceServicer_to_server, Graph(self.runs))
        server.add(control_pb2_grpc.add_ControlServiceServicer_to_server, self.control, port="control")
        if states:
            server.add(state_pb2_grpc.add_StateServiceServicer_to_server, self.states, port="control")
        await server.start()
        pod = Pod(service, server)
        self.pods.append(pod)
        self.write()
        return pod

    async def lose(self, pod: Pod) -> None:
        """The pod dies; the catalogue learns of it."""
        await pod.die()
        self.pods.remove(pod)
        self.write()

    def write(self) -> None:
        slices = [self._slice(pod) for pod in self.pods]
        temporary = self._file.with_suffix(".new")
        temporary.write_text(json.dumps({"items": self.items, "endpointSlices": slices}))
        os.replace(temporary, self._file)

    def _slice(self, pod: Pod) -> dict[str, Any]:
        labels = {"kubernetes.io/service-name": f"{pod.service}-headless"}
        ports = [{"name": name, "port": port} for name, port in pod.server.ports.items()]
        return {
            "metadata": {"namespace": "default", "labels": labels},
            "ports": ports,
            "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": True}}],
        }


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    with_the_state(monkeypatch)


@pytest.fixture
async def world(tmp_path: Path, state_url: str) -> AsyncIterator[World]:
    """A gateway; nothing behind it yet."""
    async with AsyncExitStack() as stack:
        made = World(stack, tmp_path, state_url)
        await made.open()
        yield made


@pytest.fixture
def worlds() -> type[World]:
    """Makes gateways with settings of one's own."""
    return World


@pytest.fixture
async def papers(world: World) -> World:
    """A gateway with one pod of the index `papers`."""
    await world.pod("papers-search")
    return world


@pytest.fixture
async def helpdesk(world: World) -> World:
    """A gateway with one pod of the workflow `helpdesk`."""
    await world.pod("helpdesk-graph")
    return world
