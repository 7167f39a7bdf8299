"""Circuits around calls of a real server that fails and heals."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import pytest
from cortex_workloads.runtime import channels as channels_module
from cortex_workloads.runtime.catalogue import Endpoint, Snapshot, valid
from cortex_workloads.runtime.channels import Channels
from cortex_workloads.runtime.errors import CortexError, DeadlineExceeded, FailedPrecondition, Overloaded, Unavailable
from cortex_workloads.runtime.resilience.breaker import State
from cortex_workloads.runtime.resilience.circuits import Circuit
from cortex_workloads.runtime.resilience.policies import BreakerPolicy
from cortex_workloads.runtime.server import Server
from cortex_workloads.runtime.settings import GatewaySettings, SearchSettings
from cortex_workloads.runtime.targets import target
from cortex_workloads.runtime.telemetry import REGISTRY
from datapunk.cortex import common_pb2, graph_pb2, graph_pb2_grpc, search_pb2, search_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

TARGET = target("papers", "CortexIndex", "default")
NAME = TARGET.removeprefix("dns:///")
POLICY = BreakerPolicy(minimum_calls=4, open_seconds=600, probe_seconds=600, slow_seconds=30, window_seconds=600)
QUICK = POLICY.model_copy(update={"slow_seconds": 0.1})
DOWN = Unavailable("the Lake is gone", reason="LakeUnreachable")


class Pod(search_pb2_grpc.HaystackServiceServicer, graph_pb2_grpc.GraphServiceServicer):
    """Answers, raises `fail`, or holds every call."""

    def __init__(self) -> None:
        self.fail: CortexError | None = None
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.asked = 0

    async def Search(self, _: Any, __: Any) -> search_pb2.SearchResponse:
        self.asked += 1
        await self.go_on.wait()
        if self.fail:
            raise self.fail
        return search_pb2.SearchResponse()

    async def UpdateIndex(self, _: Any, __: Any) -> Any:
        raise NotImplementedError

    async def ExecuteWorkflow(self, _: Any, __: Any) -> AsyncIterator[graph_pb2.WorkflowResponse]:
        await self.go_on.wait()
        yield graph_pb2.WorkflowResponse(event=common_pb2.RunEvent(run_id="first"))
        if self.fail:
            raise self.fail

    async def ManageAgents(self, _: Any, __: Any) -> Any:
        raise NotImplementedError


class OnePod(Snapshot):
    """A catalogue of one resource with one pod, which may become another."""

    def __init__(self, port: int) -> None:
        item = {"apiVersion": "cortex.datapunk.io/v1alpha1", "kind": "CortexIndex", "metadata": {"name": "papers"}}
        index = valid(item)
        assert index is not None
        super().__init__({index.key: index})
        self.version, self.port = 0, port

    def endpoints(self, _: str, __: str) -> tuple[Endpoint, ...]:
        return (Endpoint("127.0.0.1", {"grpc": self.port}),) if self.resources else ()

    def move(self, port: int) -> None:
        self.version, self.port = self.version + 1, port

    async def changed(self, version: int) -> None:
        while version == self.version:  # noqa: ASYNC110 - a test's double
            await asyncio.sleep(0.01)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - nothing says when a circuit half-opens
            await asyncio.sleep(0.01)


class World:
    """Pods, a catalogue of one of them, and channels over it; `pod` is the one that is shown. Its circuits are open for
    longer than a test takes, and `skip` is how far their clock is ahead."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self.skip = 0.0

    async def start(self) -> tuple[Pod, int]:
        settings = SearchSettings(listen_host="127.0.0.1", port_grpc=0, port_metrics=0, port_control=0, drain_seconds=0)
        server = await self._stack.enter_async_context(Server(settings, "search"))
        pod = Pod()
        server.add(search_pb2_grpc.add_HaystackServiceServicer_to_server, pod)
        server.add(graph_pb2_grpc.add_GraphServiceServicer_to_server, pod)
        await server.start()
        return pod, server.ports["grpc"]

    async def open(self) -> None:
        self.pod, port = await self.start()
        self.catalogue = OnePod(port)
        channels = Channels(GatewaySettings(breaker=POLICY), self.catalogue)
        self.channels = await self._stack.enter_async_context(channels)
        self.channel = self.channels.channel(TARGET, retries=False)

    def clock(self) -> float:
        return time.monotonic() + self.skip

    async def search(self, timeout: float = 60) -> None:
        stub = search_pb2_grpc.HaystackServiceStub(self.channel)
        await stub.Search(search_pb2.SearchRequest(query="x"), timeout=timeout)

    async def fail(self, kind: type[CortexError] = Unavailable, *, timeout: float = 60) -> None:
        """As many failing calls as the circuit needs to open."""
        for _ in range(POLICY.minimum_calls):
            with pytest.raises(kind):
                await self.search(timeout)

    async def refused(self) -> Unavailable:
        with pytest.raises(Unavailable) as raised:
            await self.search()
        assert raised.value.reason == "CircuitOpen"
        return raised.value

    @property
    def state(self) -> State:
        circuit = self.channels.circuit(TARGET)
        assert circuit is not None
        return circuit.state

    async def heard(self, calls: int) -> None:
        """Until the pod was asked so often."""
        await until(lambda: self.pod.asked == calls)

    def half_open(self) -> None:
        """The time is over for which the circuit is open."""
        assert self.state is State.OPEN
        self.skip += POLICY.open_seconds
        assert self.state is State.HALF_OPEN


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        made = World(stack)
        monkeypatch.setattr(channels_module, "Circuit", partial(Circuit, clock=made.clock))
        await made.open()
        yield made


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, {"target": NAME, **labels}) or 0.0


async def test_a_target_that_fails_is_not_asked_until_it_heals(world: World) -> None:
    failures = metric("cortex_circuit_failures_total", reason="Unavailable")
    opened, refused = metric("cortex_circuit_opened_total"), metric("cortex_circuit_refused_total")
    world.pod.fail = DOWN
    await world.fail()
    told = await world.refused()
    assert "CortexIndex default/papers" in told.message
    assert "the Lake is gone" in told.message
    assert told.retry_after is not None
    assert 0 < told.retry_after <= POLICY.open_seconds
    assert world.pod.asked == POLICY.minimum_calls
    assert metric("cortex_circuit_state") == State.OPEN
    assert metric("cortex_circuit_opened_total") == opened + 1
    assert metric("cortex_circuit_refused_total") == refused + 1
    assert metric("cortex_circuit_failures_total", reason="Unavailable") == failures + POLICY.minimum_calls
    world.half_open()
    with pytest.raises(Unavailable, match="the Lake is gone"):
        await world.search()
    await world.refused()
    world.pod.fail = None
    world.half_open()
    await world.search()
    assert metric("cortex_circuit_state") == State.CLOSED


async def test_of_many_callers_one_is_the_probe(world: World) -> None:
    world.pod.fail = DOWN
    await world.fail()
    world.half_open()
    world.pod.fail, before = None, world.pod.asked
    world.pod.go_on.clear()
    calls = [asyncio.create_task(world.search()) for _ in range(20)]
    await until(lambda: sum(call.done() for call in calls) == 19)
    world.pod.go_on.set()
    ends = await asyncio.gather(*calls, return_exceptions=True)
    refused = [end for end in ends if isinstance(end, Unavailable)]
    assert {error.reason for error in refused} == {"CircuitOpen"}
    assert (len(refused), world.pod.asked - before, world.state) == (19, 1, State.CLOSED)


async def test_a_cancelled_probe_lets_the_next_call_try(world: World) -> None:
    world.pod.fail = DOWN
    await world.fail()
    world.half_open()
    world.pod.fail, before = None, world.pod.asked
    world.pod.go_on.clear()
    probe = asyncio.create_task(world.search())
    await world.heard(before + 1)
    await world.refused()
    probe.cancel()
    await asyncio.wait([probe])
    world.pod.go_on.set()
    await world.search()
    assert world.state is State.CLOSED


async def test_a_target_that_is_too_slow_is_not_asked(world: World) -> None:
    world.channels.change(QUICK)
    world.pod.go_on.clear()
    await world.fail(DeadlineExceeded, timeout=2 * QUICK.slow_seconds)
    await world.refused()


async def test_a_caller_in_a_hurry_says_nothing_of_the_target(world: World) -> None:
    world.pod.go_on.clear()
    await world.fail(DeadlineExceeded, timeout=0.01)
    assert world.state is State.CLOSED


@pytest.mark.parametrize(
    "error",
    [
        FailedPrecondition("not like this"),
        Overloaded("shed"),
        Unavailable("no revision yet", reason="NoRevision"),
        Unavailable("no space left", reason="LakeFull"),
    ],
    ids=lambda error: error.reason,
)
async def test_what_is_not_the_targets_failure_does_not_count(world: World, error: CortexError) -> None:
    world.pod.fail = error
    for _ in range(3):
        await world.fail(type(error))
    assert world.state is State.CLOSED


async def test_cancelled_calls_do_not_count(world: World) -> None:
    world.pod.go_on.clear()
    calls = [asyncio.create_task(world.search()) for _ in range(3 * POLICY.minimum_calls)]
    await world.heard(len(calls))
    for call in calls:
        call.cancel()
    await asyncio.wait(calls)
    assert world.state is State.CLOSED


async def test_a_stream_counts_by_its_first_answer(world: World) -> None:
    failures = metric("cortex_circuit_failures_total", reason="Unavailable")
    world.pod.fail = DOWN
    graph = graph_pb2_grpc.GraphServiceStub(world.channel)
    for _ in range(2 * POLICY.minimum_calls):
        stream = aiter(graph.ExecuteWorkflow(graph_pb2.WorkflowRequest(), timeout=60))
        assert (await anext(stream)).event.run_id == "first"
        with pytest.raises(Unavailable, match="the Lake is gone"):
            await anext(stream)
    assert world.state is State.CLOSED
    assert metric("cortex_circuit_failures_total", reason="Unavailable") == failures


async def test_a_stream_may_be_silent_for_long(world: World) -> None:
    world.channels.change(QUICK)
    world.pod.go_on.clear()
    graph = graph_pb2_grpc.GraphServiceStub(world.channel)
    for _ in range(POLICY.minimum_calls):
        stream = aiter(graph.ExecuteWorkflow(graph_pb2.WorkflowRequest(), timeout=2 * QUICK.slow_seconds))
        with pytest.raises(DeadlineExceeded):
            await anext(stream)
    assert world.state is State.CLOSED


async def test_channels_of_one_target_share_its_circuit(world: World) -> None:
    world.pod.fail = DOWN
    await world.fail()
    world.channel = world.channels.channel(TARGET)
    await world.refused()
    assert metric("cortex_circuit_state") == State.OPEN


async def test_other_pods_are_tried_at_once(world: World) -> None:
    world.pod.fail = DOWN
    await world.fail()
    _, port = await world.start()
    world.catalogue.move(port)
    await world.search()
    assert world.state is State.CLOSED


async def test_a_target_whose_resource_is_gone_is_forgotten(world: World) -> None:
    world.pod.fail = DOWN
    await world.fail()
    other = target("others", "CortexIndex", "default")
    world.channels.channel(other)
    shown = (
        ("cortex_circuit_state", {}),
        ("cortex_circuit_opened_total", {}),
        ("cortex_circuit_refused_total", {}),
        ("cortex_circuit_failures_total", {"reason": "Unavailable"}),
    )

    def told() -> list[bool]:
        return [REGISTRY.get_sample_value(name, {"target": NAME, **labels}) is not None for name, labels in shown]

    assert all(told())
    resources = dict(world.catalogue.resources)
    world.catalogue.resources.clear()
    world.catalogue.move(world.catalogue.port)
    await until(lambda: world.channels.circuit(other) is None)
    assert (world.channels.circuit(TARGET) is None, any(told())) == (True, False)
    # One of the same name that comes later is another one.
    world.catalogue.resources.update(resources)
    world.pod.fail, world.channel = None, world.channels.channel(TARGET)
    await world.search()
    assert (world.state, metric("cortex_circuit_opened_total")) == (State.CLOSED, 0)


async def test_circuits_change_while_they_are_used(world: World) -> None:
    world.pod.fail = DOWN
    await world.fail()
    world.channels.change(POLICY.model_copy(update={"open_seconds": 3600}))
    assert (await world.refused()).retry_after == pytest.approx(3600, abs=60)
    world.channels.change(POLICY.model_copy(update={"open_seconds": 0.001, "minimum_calls": 1}))
    await until(lambda: world.state is State.HALF_OPEN)
    world.pod.fail = None
    await world.search()
    world.pod.fail = DOWN
    with pytest.raises(Unavailable):
        await world.search()
    assert metric("cortex_circuit_opened_total") >= 2


async def test_who_asks_for_health_is_told_how_it_is(world: World) -> None:
    world.pod.fail = DOWN
    await world.fail()
    stub: Any = health_pb2_grpc.HealthStub(world.channel)
    assert (await stub.Check(health_pb2.HealthCheckRequest(), timeout=60)).status
    await world.refused()
