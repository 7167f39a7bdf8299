"""Spans go to the collector when there is one; a stream has the trace of its caller from its beginning to its end."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import AsyncIterator
from concurrent import futures
from typing import Any

import grpc
import pytest
from cortex_workloads.runtime import telemetry
from cortex_workloads.runtime.errors import from_rpc_error
from cortex_workloads.runtime.resilience.policies import LimitPolicy
from cortex_workloads.runtime.resilience.shedding import Gate
from cortex_workloads.runtime.server import Server
from cortex_workloads.runtime.settings import SearchSettings
from datapunk.cortex import graph_pb2, graph_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self) -> None:
        self.got = threading.Event()
        self.resource: dict[str, str] = {}
        self.names: list[str] = []

    def Export(self, request: Any, _: Any) -> Any:
        for spans in request.resource_spans:
            self.resource |= {item.key: item.value.string_value for item in spans.resource.attributes}
            self.names += [span.name for scope in spans.scope_spans for span in scope.spans]
        self.got.set()
        return trace_service_pb2.ExportTraceServiceResponse()


def test_spans_are_sent_with_service_and_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    collector = Collector()
    server = grpc.server(futures.ThreadPoolExecutor(1))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    monkeypatch.setattr(telemetry, "_provider", telemetry._provider)
    try:
        telemetry._export(SearchSettings(otlp_endpoint=f"http://127.0.0.1:{port}", pod="pod-7"), "search")
        with telemetry.tracer().start_as_current_span("embed"):
            pass
        telemetry.flush()
        assert collector.got.wait(60)
    finally:
        telemetry._provider.shutdown()
        server.stop(None)
    assert collector.names == ["embed"]
    assert (collector.resource["service.name"], collector.resource["k8s.pod.name"]) == ("search", "pod-7")


TRACE = "0af7651916cd43dd8448eb211c80319c"
_OF_A_CALL = ("asyncio", "cortex", "grpc", "opentelemetry")
METADATA = (("traceparent", f"00-{TRACE}-b7ad6b7169203331-01"),)


class Graph(graph_pb2_grpc.GraphServiceServicer):
    """Streams until its caller leaves, or as many as the run id says; notes the trace of each step and of its end."""

    def __init__(self) -> None:
        self.traces: list[str] = []
        self.ended = asyncio.Event()

    async def ExecuteWorkflow(self, request: Any, _: Any) -> AsyncIterator[Any]:
        try:
            for _step in range(int(request.run_id or 1_000_000)):
                self.traces.append(telemetry.trace_id())
                yield graph_pb2.WorkflowResponse()
                await asyncio.sleep(0)
            if request.thread_id == "defect":
                raise RuntimeError("a secret")
        finally:
            self.traces.append(telemetry.trace_id())
            self.ended.set()


@pytest.fixture(params=["as it is", "with a gate"])
async def streams(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Graph, Any]]:
    gates = {"ExecuteWorkflow": Gate("Runs", "runs", LimitPolicy(concurrent=64, waiting=0))}
    settings, graph = SearchSettings(listen_host="127.0.0.1", port_grpc=0, port_metrics=0, drain_seconds=5), Graph()
    async with Server(settings, "graph") as server:
        adder = graph_pb2_grpc.add_GraphServiceServicer_to_server
        server.add(adder, graph, gates=gates if request.param == "with a gate" else {})
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.ports['grpc']}") as channel:
            yield graph, graph_pb2_grpc.GraphServiceStub(channel)


async def test_a_stream_that_ends_in_order_has_one_trace(
    streams: tuple[Graph, Any], caplog: pytest.LogCaptureFixture
) -> None:
    graph, stub = streams
    gc.collect()  # what other tests left
    caplog.clear()
    call = stub.ExecuteWorkflow(graph_pb2.WorkflowRequest(run_id="3"), metadata=METADATA)
    assert len([response async for response in call]) == 3
    assert graph.traces == [TRACE] * 4
    assert errors_in(caplog) == []


async def test_a_defect_of_a_stream_is_told_by_the_callers_trace(streams: tuple[Graph, Any]) -> None:
    graph, stub = streams
    call = stub.ExecuteWorkflow(graph_pb2.WorkflowRequest(run_id="2", thread_id="defect"), metadata=METADATA)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        [response async for response in call]
    assert raised.value.code() is grpc.StatusCode.INTERNAL
    assert TRACE in from_rpc_error(raised.value).remedy
    assert graph.traces == [TRACE] * 3


async def test_callers_who_leave_a_stream_early_leave_no_errors(
    streams: tuple[Graph, Any], caplog: pytest.LogCaptureFixture
) -> None:
    graph, stub = streams
    gc.collect()  # what other tests left
    caplog.clear()
    for read in range(1, 20):
        graph.ended.clear()
        call = stub.ExecuteWorkflow(graph_pb2.WorkflowRequest(), metadata=METADATA)
        for _ in range(read):
            await call.read()
        call.cancel()
        async with asyncio.timeout(30):
            await graph.ended.wait()
    await asyncio.sleep(0.1)
    gc.collect()
    await asyncio.sleep(0.1)
    assert set(graph.traces) == {TRACE}
    assert errors_in(caplog) == []


def errors_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Of what a call goes through. Another test's threads and calls may end meanwhile: gRPC polls for all loops of a
    process at once, and what it has for a loop that is closed it tells by the one that runs."""
    ours = [record for record in caplog.records if record.name.partition(".")[0] in _OF_A_CALL]
    return [
        record.getMessage()
        for record in ours
        if record.levelno >= logging.ERROR and "Event loop is closed" not in str((record.exc_info or (None, None))[1])
    ]
