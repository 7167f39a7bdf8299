"""Spans go to the collector when there is one."""

from __future__ import annotations

import threading
from concurrent import futures
from typing import Any

import grpc
import pytest
from cortex_workloads.runtime import telemetry
from cortex_workloads.runtime.settings import SearchSettings
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
        assert collector.got.wait(5)
    finally:
        telemetry._provider.shutdown()
        server.stop(None)
    assert collector.names == ["embed"]
    assert (collector.resource["service.name"], collector.resource["k8s.pod.name"]) == ("search", "pod-7")
