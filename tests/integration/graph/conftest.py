"""A graph pod in this process, over real PostgreSQL and Valkey, and an index that is a real gRPC service."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from builders import a_cortex_workflow_manifest
from cortex_kinds.revision import revision_id, workflow_definition
from cortex_kinds.workflow import CortexWorkflow
from cortex_workloads.graph import attach, runner, store
from cortex_workloads.graph.input import to_struct
from cortex_workloads.graph.pod import Pod
from cortex_workloads.runtime import errors
from cortex_workloads.runtime.settings import GraphSettings
from datapunk.cortex import common_pb2, control_pb2, graph_pb2, search_pb2, search_pb2_grpc
from datapunk.cortex.control_pb2_grpc import ControlServiceStub
from datapunk.cortex.graph_pb2_grpc import GraphServiceStub
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from patience import with_the_state

WORKFLOW = common_pb2.ResourceRef(namespace="default", name="helpdesk")
DOCUMENTS = [
    ("whale", "Whales", "Whales are mammals. They breathe air. A blue whale weighs up to 150 tonnes."),
    ("bread", "Bread", "Bread is baked from flour and water. Sourdough needs a starter. It rises overnight."),
]


class IndexDouble(search_pb2_grpc.HaystackServiceServicer):
    """Finds the two documents; `failures` are raised first, one a call.

    While `gate` is closed it answers nobody; a query that it holds waits for its release."""

    def __init__(self) -> None:
        self.requests: list[search_pb2.SearchRequest] = []
        self.seconds_left: list[float | None] = []
        self.failures: list[errors.CortexError] = []
        self.documents = list(DOCUMENTS)
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = asyncio.Event()
        self.held = asyncio.Event()
        self._held_query = ""
        self._released = asyncio.Event()
        self.port = 0

    def hold(self, query: str) -> None:
        self._held_query = query

    def release(self) -> None:
        self._released.set()

    async def Search(self, request: search_pb2.SearchRequest, context: Any) -> search_pb2.SearchResponse:
        self.requests.append(request)
        self.seconds_left.append(context.time_remaining())
        self.asked.set()
        await self.gate.wait()
        if request.query == self._held_query:
            self.held.set()
            await self._released.wait()
        if self.failures:
            error = self.failures.pop(0)
            status = errors.to_status(error)
            trailers = ((errors.DETAILS_KEY, status.SerializeToString()),)
            await context.abort(errors.row(type(error)).code, status.message, trailers)
        hits = [
            common_pb2.Hit(id=i, title=t, passage=c, score=1 / n, meta=to_struct({"n": n}))
            for n, (i, t, c) in enumerate(self.documents, 1)
        ]
        return search_pb2.SearchResponse(result=common_pb2.SearchResult(hits=hits))


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    with_the_state(monkeypatch)


@pytest.fixture
async def index() -> AsyncIterator[IndexDouble]:
    double = IndexDouble()
    server = grpc.aio.server()
    search_pb2_grpc.add_HaystackServiceServicer_to_server(double, server)
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    await servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    double.port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield double
    double.gate.set()
    double.release()
    await server.stop(None)


@pytest.fixture
def catalogue_file(index: IndexDouble, tmp_path: Path) -> Path:
    """Says where the index `papers` is."""
    piece = {
        "metadata": {"namespace": "default", "labels": {"kubernetes.io/service-name": "papers-search-headless"}},
        "ports": [{"name": "grpc", "port": index.port}],
        "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": True}}],
    }
    item = {
        "apiVersion": "cortex.datapunk.io/v1alpha1",
        "kind": "CortexIndex",
        "metadata": {"name": "papers"},
        "spec": {},
    }
    path = tmp_path / "catalogue.json"
    path.write_text(json.dumps({"items": [item], "endpointSlices": [piece]}))
    return path


def environment(lake: str, state: str, catalogue: Path, **more: Any) -> dict[str, Any]:
    """Settings of a pod on free ports of the loopback address."""
    return {
        "listen_host": "127.0.0.1",
        "port_grpc": 0,
        "port_control": 0,
        "port_metrics": 0,
        "drain_seconds": 1.0,
        "resource_name": "helpdesk",
        "lake_dsn": lake,
        "state_url": state,
        "catalogue_file": catalogue,
        "indexes": {"papers": "dns:///papers-search-headless.default.svc:50052"},
        **more,
    }


def definition_of(spec: dict[str, Any] | None = None, **overrides: Any) -> dict[str, Any]:
    """The definition of the builder's workflow; `spec` replaces fields of its spec."""
    manifest = a_cortex_workflow_manifest(**overrides)
    manifest["spec"].update(spec or {})
    return workflow_definition(CortexWorkflow.model_validate(manifest).spec)


class Client:
    """Speaks to one pod."""

    def __init__(self, grpc_port: int, control_port: int) -> None:
        self._channels = [grpc.aio.insecure_channel(f"127.0.0.1:{port}") for port in (grpc_port, control_port)]
        self.graph = GraphServiceStub(self._channels[0])
        self.control = ControlServiceStub(self._channels[1])

    async def ensure(self, definition: dict[str, Any], **call: Any) -> control_pb2.Revision:
        verb = control_pb2.EnsureRevision(id=revision_id(definition), definition=to_struct(definition), retain=3)
        request = control_pb2.CommandRequest(resource=WORKFLOW, operation_id="1", ensure_revision=verb)
        while True:
            try:
                return (await self.control.Command(request, **call)).revision
            except grpc.aio.AioRpcError as error:
                told = errors.from_rpc_error(error)
                if not (call.get("wait_for_ready") and told.reason == "Starting"):
                    raise told from error
            await asyncio.sleep(0.05)

    async def events(
        self, given: dict[str, Any] | None = None, *, wait_for_ready: bool = False, **fields: Any
    ) -> AsyncIterator[common_pb2.RunEvent]:
        request = graph_pb2.WorkflowRequest(workflow=WORKFLOW, **fields)
        if given is not None:
            request.input.CopyFrom(to_struct(given))
        while True:
            try:
                async for response in self.graph.ExecuteWorkflow(request, wait_for_ready=wait_for_ready):
                    yield response.event
                return
            except grpc.aio.AioRpcError as error:
                told = errors.from_rpc_error(error)
                # Said before anything else is: what came before it would come twice.
                if not (wait_for_ready and told.reason == "Starting"):
                    raise told from error
            await asyncio.sleep(0.05)

    async def run(self, given: dict[str, Any] | None = None, **fields: Any) -> list[common_pb2.RunEvent]:
        return [event async for event in self.events(given, **fields)]

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close()


async def until(condition: Callable[[], Any], within: float = 60.0) -> None:
    """Returns when the condition holds."""
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)


class Harness:
    """Starts pods; `client` speaks to the first."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self._stack = AsyncExitStack()
        self.pods: list[Pod] = []

    async def start(self, **more: Any) -> Client:
        pod = await self._stack.enter_async_context(Pod(GraphSettings(**{**self.settings, **more})))
        self.pods.append(pod)
        client = Client(pod.server.ports["grpc"], pod.server.ports["control"])
        self._stack.push_async_callback(client.close)
        return client

    async def ready(self, pod: Pod) -> None:
        await until(lambda: pod.server.health.ready)

    async def close(self) -> None:
        await self._stack.aclose()


@pytest.fixture
async def harness(lake_dsn: str, state_url: str, catalogue_file: Path) -> AsyncIterator[Harness]:
    harness = Harness(environment(lake_dsn, state_url, catalogue_file))
    yield harness
    await harness.close()


@pytest.fixture
def short_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pods of this process notice sooner that another is gone."""
    for module in (store, runner):
        monkeypatch.setattr(module, "LEASE_SECONDS", 2.0)
    quick(monkeypatch)


@pytest.fixture
def quick_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pods of this process soon go on with runs that were given back, or whose lease a test ended. No lease ends by
    itself, nor is a run let go for it: this process may stand still for seconds."""
    for module in (store, runner):
        monkeypatch.setattr(module, "LEASE_SECONDS", 600.0)
    quick(monkeypatch)


def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "SWEEP_SECONDS", 0.2)
    monkeypatch.setattr(attach, "_SILENCE_SECONDS", 0.2)


@pytest.fixture
async def client(harness: Harness) -> Client:
    """A pod that is ready, without a revision."""
    client = await harness.start()
    await harness.ready(harness.pods[0])
    return client


@pytest.fixture
def define() -> Callable[..., dict[str, Any]]:
    """`define(spec={...}, spec__limits={...})`: a definition."""
    return definition_of


@pytest.fixture
def wait_until() -> Iterator[Callable[..., Any]]:
    """`await wait_until(condition)`."""
    return until  # type: ignore[return-value]


@pytest.fixture
async def connect() -> AsyncIterator[Callable[[int, int], Client]]:
    """`connect(grpc_port, control_port)`: a client of any pod."""
    clients: list[Client] = []

    def make(grpc_port: int, control_port: int) -> Client:
        clients.append(Client(grpc_port, control_port))
        return clients[-1]

    yield make
    for client in clients:
        await client.close()
