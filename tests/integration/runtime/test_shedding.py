"""Load that a real server sheds: by class of method, before the request is read, with the time of the next try."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from cortex_workloads.runtime import errors
from cortex_workloads.runtime.channels import Channels
from cortex_workloads.runtime.errors import Malformed, Overloaded
from cortex_workloads.runtime.resilience.breaker import State
from cortex_workloads.runtime.resilience.policies import BreakerPolicy, LimitPolicy
from cortex_workloads.runtime.resilience.shedding import Gate
from cortex_workloads.runtime.server import Server
from cortex_workloads.runtime.settings import GatewaySettings, SearchSettings
from cortex_workloads.runtime.targets import target
from cortex_workloads.runtime.telemetry import REGISTRY
from datapunk.cortex import common_pb2, graph_pb2, graph_pb2_grpc, search_pb2, search_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

TARGET = target("papers", "CortexIndex", "default")
SEARCH = "/datapunk.cortex.HaystackService/Search"


class Pod(search_pb2_grpc.HaystackServiceServicer, graph_pb2_grpc.GraphServiceServicer):
    """Holds searches and runs until they may go on."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.searches = 0

    async def Search(self, _: Any, __: Any) -> search_pb2.SearchResponse:
        self.searches += 1
        await self.go_on.wait()
        return search_pb2.SearchResponse()

    async def UpdateIndex(self, _: Any, __: Any) -> search_pb2.UpdateResponse:
        return search_pb2.UpdateResponse(written=1)

    async def ExecuteWorkflow(self, _: Any, __: Any) -> AsyncIterator[graph_pb2.WorkflowResponse]:
        yield graph_pb2.WorkflowResponse(event=common_pb2.RunEvent(run_id="first"))
        await self.go_on.wait()

    async def ManageAgents(self, _: Any, __: Any) -> Any:
        raise NotImplementedError


class World:
    """A server with one place and one in the line for searches, one place for runs; channels and a bare connection."""

    async def open(self, stack: AsyncExitStack) -> None:
        settings = SearchSettings(listen_host="127.0.0.1", port_grpc=0, port_metrics=0, drain_seconds=0)
        server = await stack.enter_async_context(Server(settings, "search"))
        self.pod = Pod()
        self.search_gate = Gate("Search", "searches", LimitPolicy(concurrent=1, waiting=1, wait_seconds=60.0))
        writing = Gate("Writing", "writes", LimitPolicy(concurrent=1, waiting=0))
        runs = Gate("Runs", "runs", LimitPolicy(concurrent=1, waiting=0))
        add = search_pb2_grpc.add_HaystackServiceServicer_to_server
        server.add(add, self.pod, gates={"Search": self.search_gate, "UpdateIndex": writing})
        server.add(graph_pb2_grpc.add_GraphServiceServicer_to_server, self.pod, gates={"ExecuteWorkflow": runs})
        await server.start()
        self.port = server.ports["grpc"]
        self.bare = await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{self.port}"))
        self.haystack: Any = search_pb2_grpc.HaystackServiceStub(self.bare)
        self.graph: Any = graph_pb2_grpc.GraphServiceStub(self.bare)
        stack.callback(self.pod.go_on.set)

    async def full(self) -> list[asyncio.Future[Any]]:
        """One search runs and one waits."""
        calls = [asyncio.ensure_future(self.search()) for _ in range(2)]
        async with asyncio.timeout(30):
            while (self.search_gate.bulkhead.running, self.search_gate.bulkhead.waiting) != (1, 1):  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        return calls

    async def search(self, timeout: float = 60) -> Any:
        return await self.haystack.Search(search_pb2.SearchRequest(query="x"), timeout=timeout)

    async def refused(self, timeout: float = 60) -> Overloaded:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await self.search(timeout)
        assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        told = errors.from_rpc_error(raised.value)
        assert isinstance(told, Overloaded)
        return told


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        made = World()
        await made.open(stack)
        yield made


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_a_full_class_refuses_with_a_time_and_the_others_go_on(world: World) -> None:
    shed = metric("cortex_shed_total", **{"class": "Search"}, reason="Full")
    calls = await world.full()
    told = await world.refused()
    assert told.reason == "Overloaded"
    assert "1 run and 1 wait" in told.message
    assert told.retry_after is not None
    assert told.retry_after > 0
    assert metric("cortex_shed_total", **{"class": "Search"}, reason="Full") == shed + 1
    assert metric("cortex_limit_running", **{"class": "Search"}) == 1
    assert metric("cortex_limit_waiting", **{"class": "Search"}) == 1
    assert metric("cortex_limit", **{"class": "Search"}) == 1
    assert (await world.haystack.UpdateIndex(search_pb2.UpdateRequest(), timeout=60)).written == 1
    health: Any = health_pb2_grpc.HealthStub(world.bare)
    assert (await health.Check(health_pb2.HealthCheckRequest(service="liveness"), timeout=60)).status
    world.pod.go_on.set()
    await asyncio.gather(*calls)
    await world.search()
    assert world.pod.searches == 3


async def test_a_refused_request_is_not_read(world: World) -> None:
    calls = await world.full()
    raw: Any = world.bare.unary_unary(SEARCH)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await raw(b"\xff\xff\xff", timeout=60)
    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    world.pod.go_on.set()
    await asyncio.gather(*calls)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await raw(b"\xff\xff\xff", timeout=60)
    assert isinstance(errors.from_rpc_error(raised.value), Malformed)


async def test_whose_deadline_is_too_near_is_refused_while_there_is_room_in_the_line(world: World) -> None:
    world.search_gate.bulkhead.seconds = 30.0
    running = asyncio.ensure_future(world.search())
    async with asyncio.timeout(30):
        while not world.search_gate.bulkhead.running:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    told = await world.refused(timeout=45)
    assert "your deadline" in told.message
    assert told.retry_after is not None
    assert 30.0 <= told.retry_after <= 60.0
    world.pod.go_on.set()
    await running


async def test_streams_hold_a_place_until_they_end(world: World) -> None:
    first = aiter(world.graph.ExecuteWorkflow(graph_pb2.WorkflowRequest(), timeout=60))
    assert (await anext(first)).event.run_id == "first"
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await anext(aiter(world.graph.ExecuteWorkflow(graph_pb2.WorkflowRequest(), timeout=60)))
    assert isinstance(errors.from_rpc_error(raised.value), Overloaded)
    world.pod.go_on.set()
    assert [event async for event in first] == []
    assert (await anext(aiter(world.graph.ExecuteWorkflow(graph_pb2.WorkflowRequest(), timeout=60)))).event.run_id


async def test_shed_load_opens_no_circuit_and_is_not_asked_again(world: World, tmp_path: Path) -> None:
    catalogue = tmp_path / "catalogue.json"
    catalogue.write_text(json.dumps({"items": [], "endpointSlices": [endpoints(world.port)]}))
    settings = GatewaySettings(catalogue_file=catalogue, breaker=BreakerPolicy(minimum_calls=2))
    calls = await world.full()
    shed = metric("cortex_shed_total", **{"class": "Search"}, reason="Full")
    async with Channels(settings) as channels:
        # With gRPC's retries, as the gateway asks.
        stub: Any = search_pb2_grpc.HaystackServiceStub(channels.channel(TARGET))
        for _ in range(8):
            with pytest.raises(Overloaded) as raised:
                await stub.Search(search_pb2.SearchRequest(query="x"), timeout=60)
        assert raised.value.retry_after is not None
        circuit = channels.circuit(TARGET)
        assert circuit is not None
        assert circuit.state is State.CLOSED
    assert metric("cortex_shed_total", **{"class": "Search"}, reason="Full") == shed + 8
    world.pod.go_on.set()
    await asyncio.gather(*calls)


def endpoints(port: int) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "default", "labels": {"kubernetes.io/service-name": "papers-search-headless"}},
        "ports": [{"name": "grpc", "port": port}],
        "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": True}}],
    }
