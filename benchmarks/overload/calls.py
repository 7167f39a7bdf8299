"""What breaker, deadline, bulkhead and their metrics cost a gRPC call: the same call with and without, in turns."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, AsyncExitStack, nullcontext
from statistics import median
from typing import Any, Final

from cortex_workloads.runtime.catalogue import Endpoint, Snapshot
from cortex_workloads.runtime.channels import Channels, _Channel
from cortex_workloads.runtime.resilience.policies import LimitPolicy, RetryPolicy
from cortex_workloads.runtime.resilience.shedding import Gate
from cortex_workloads.runtime.server import Server
from cortex_workloads.runtime.settings import GatewaySettings, SearchSettings
from cortex_workloads.runtime.targets import target
from datapunk.cortex import search_pb2, search_pb2_grpc

RATIO: Final = "with / without, time of a call"
_TARGET: Final = target("papers", "CortexIndex", "default")
_CALLS: Final = 2_048
_AT_ONCE: Final = 32
_ROUNDS: Final = 10


class _Pod(search_pb2_grpc.HaystackServiceServicer):
    async def Search(self, _: Any, __: Any) -> search_pb2.SearchResponse:
        return search_pb2.SearchResponse()


class _At(Snapshot):
    """A catalogue that knows one pod."""

    version = 0

    def __init__(self, port: int) -> None:
        super().__init__({})
        self._port = port

    def endpoints(self, _: str, __: str) -> tuple[Endpoint, ...]:
        return (Endpoint("127.0.0.1", {"grpc": self._port}),)

    async def changed(self, version: int) -> None:
        await asyncio.Event().wait()


class _Bare(_Channel):
    """A channel without a circuit."""

    def _guard(self, method: str, *, stream: bool = False) -> AbstractContextManager[Callable[[], None]]:
        return nullcontext(lambda: None)


async def measure() -> dict[str, float]:
    """Microseconds of a call with and without, as medians of rounds that alternate, and the median of their ratios."""
    async with AsyncExitStack() as stack:
        gate = Gate("Search", "searches", LimitPolicy(concurrent=2 * _AT_ONCE, waiting=0))
        guarded = await _stub(stack, gates={"Search": gate})
        bare = await _stub(stack)
        await _round(guarded, 30.0)
        await _round(bare, None)
        ways = [(await _round(guarded, 30.0), await _round(bare, None)) for _ in range(_ROUNDS)]
    return {
        RATIO: median(one / other for one, other in ways),
        "with, µs": median(one for one, _ in ways) / _CALLS * 1e6,
        "without, µs": median(other for _, other in ways) / _CALLS * 1e6,
    }


async def _stub(stack: AsyncExitStack, **gates: Any) -> Any:
    settings = SearchSettings(listen_host="127.0.0.1", port_grpc=0, port_metrics=0, drain_seconds=0)
    server = await stack.enter_async_context(Server(settings, "search"))
    server.add(search_pb2_grpc.add_HaystackServiceServicer_to_server, _Pod(), **gates)
    await server.start()
    catalogue = _At(server.ports["grpc"])
    channels = await stack.enter_async_context(Channels(GatewaySettings(), catalogue))
    if gates:
        return search_pb2_grpc.HaystackServiceStub(channels.channel(_TARGET))
    bare = _Bare(_TARGET, catalogue, RetryPolicy(), channels._circuit(_TARGET))
    stack.push_async_callback(bare.close)
    return search_pb2_grpc.HaystackServiceStub(bare)  # type: ignore[call-overload]


async def _round(stub: Any, timeout: float | None) -> float:
    request, began = search_pb2.SearchRequest(query="x"), time.perf_counter()

    async def client() -> None:
        for _ in range(_CALLS // _AT_ONCE):
            await stub.Search(request, timeout=timeout)

    await asyncio.gather(*(client() for _ in range(_AT_ONCE)))
    return time.perf_counter() - began
