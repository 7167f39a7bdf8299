"""Asks the indexes of a workflow. Shields the Search node from gRPC and from where the pods are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc
from datapunk.cortex import common_pb2, search_pb2
from datapunk.cortex.search_pb2_grpc import HaystackServiceStub
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cortex_workloads.graph.input import from_struct
from cortex_workloads.runtime.channels import Channels
from cortex_workloads.runtime.errors import CortexError, FailedPrecondition, Unavailable
from cortex_workloads.runtime.resilience.breaker import State


class IndexSearcher:
    """`indexes`: name -> gRPC target, and `elsewhere`: name -> namespace, where it is another than `namespace`; as in
    GraphSettings."""

    def __init__(
        self, channels: Channels, namespace: str, indexes: Mapping[str, str], elsewhere: Mapping[str, str]
    ) -> None:
        self._channels = channels
        self._namespace = namespace
        self._elsewhere = elsewhere
        self.indexes = indexes

    async def search(
        self, index: str, query: str, *, top_k: int | None, mode: str | None, timeout: float | None
    ) -> list[dict[str, Any]]:
        """`[{id, title, content, score, meta, index}]`, best first. `timeout` in seconds. Raises CortexError."""
        request = search_pb2.SearchRequest(
            index=common_pb2.ResourceRef(namespace=self._elsewhere.get(index, self._namespace), name=index),
            query=query,
            mode=common_pb2.SearchMode.Value(f"SEARCH_MODE_{mode.upper()}" if mode else "SEARCH_MODE_UNSPECIFIED"),
            top_k=top_k or 0,
        )
        response = await HaystackServiceStub(self._channel(index)).Search(request, timeout=timeout)
        return [_document(hit, index) for hit in response.result.hits]

    def target(self, index: str) -> str:
        """Where the index is asked. Raises FailedPrecondition (`IndexUnknown`)."""
        if index not in self.indexes:
            raise FailedPrecondition(
                f"this pod knows no address of index {index!r}, only of: {', '.join(self.indexes) or 'none'}",
                remedy="list the index in spec.indexes; the pods are restarted with its address when it lets them in "
                "(see the workflow's condition IndexReady)",
                reason="IndexUnknown",
            )
        return self.indexes[index]

    async def check(self, index: str, timeout: float) -> CortexError | None:
        """What is wrong with an index's service; None when it answers, and this pod asks it."""
        try:
            stub: Any = health_pb2_grpc.HealthStub(self._channel(index))
            reply = await stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout)
        except CortexError as error:
            return error
        if reply.status != health_pb2.HealthCheckResponse.SERVING:
            return Unavailable(f"index {index!r} is not ready", remedy="see its condition Ready", reason="NotReady")
        circuit = self._channels.circuit(self.indexes[index])
        return circuit.refusal() if circuit is not None and circuit.state is State.OPEN else None

    def _channel(self, index: str) -> grpc.aio.Channel:
        # A node says itself how often it is tried again.
        return self._channels.channel(self.target(index), retries=False)


def _document(hit: common_pb2.Hit, index: str) -> dict[str, Any]:
    return {
        "id": hit.id,
        "title": hit.title,
        "content": hit.passage,
        "score": hit.score,
        "meta": from_struct(hit.meta),
        "index": index,
    }
