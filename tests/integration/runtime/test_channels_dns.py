"""Channels in a cluster, for who has no catalogue: pods are found by DNS, and a rolling update loses no call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import tinydns
from cortex_workloads.runtime import server as server_module
from cortex_workloads.runtime.channels import Channels
from cortex_workloads.runtime.errors import Unavailable
from cortex_workloads.runtime.server import Server
from cortex_workloads.runtime.settings import GraphSettings, SearchSettings
from datapunk.cortex import common_pb2, search_pb2, search_pb2_grpc

HEADLESS = "papers-search-headless.default.svc"
SERVICE = "papers-search.default.svc"
SOON = 20.0
"""Seconds, of what takes about one: gRPC by itself asks DNS again after 30."""


class Pod(search_pb2_grpc.HaystackServiceServicer):
    def __init__(self, name: str) -> None:
        self.name = name

    async def Search(self, request: search_pb2.SearchRequest, context: Any) -> search_pb2.SearchResponse:
        await asyncio.sleep(0.02)
        return search_pb2.SearchResponse(result=common_pb2.SearchResult(revision=self.name))


class Place:
    """Pods on addresses of their own with the same port, DNS, and a stub."""

    def __init__(self, stack: AsyncExitStack, names: tinydns.Dns, channels: Channels) -> None:
        self._stack, self.dns, self._channels = stack, names, channels
        self.port = 0
        self.pods: dict[str, Server] = {}

    async def start(self, address: str) -> None:
        settings = SearchSettings(
            listen_host=address, port_grpc=self.port, port_metrics=0, port_control=0, drain_seconds=5
        )
        server = await self._stack.enter_async_context(Server(settings, "search"))
        server.add(search_pb2_grpc.add_HaystackServiceServicer_to_server, Pod(address))
        await server.start()
        self.port = server.ports["grpc"]
        self.pods[address] = server

    def stub(self) -> Any:
        target = f"dns://127.0.0.1:{self.dns.port}/{HEADLESS}:{self.port}"
        return search_pb2_grpc.HaystackServiceStub(self._channels.channel(target))


@pytest.fixture
async def place(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    # A pod that comes is waited for, however busy this machine is.
    monkeypatch.setattr("cortex_workloads.runtime.channels._WAIT_SECONDS", SOON)
    async with AsyncExitStack() as stack:
        names = await stack.enter_async_context(tinydns.serving())
        channels = await stack.enter_async_context(Channels(GraphSettings()))
        yield Place(stack, names, channels)


async def asked(stub: Any) -> str:
    reply = await stub.Search(search_pb2.SearchRequest(), timeout=60)
    return str(reply.result.revision)


class Load:
    """Callers that never stop; the first call that fails ends them."""

    def __init__(self, stub: Any, callers: int = 4) -> None:
        self._stub, self.seen, self.calls = stub, set[str](), 0
        self._slowest = 0.0
        self._tasks = [asyncio.create_task(self._call()) for _ in range(callers)]

    async def _call(self) -> None:
        while True:
            begun = time.monotonic()
            self.seen.add(await asked(self._stub))
            self._slowest = max(self._slowest, time.monotonic() - begun)
            self.calls += 1

    async def answered_by(self, *addresses: str) -> None:
        """Until these have answered, and only they."""
        self.seen.clear()
        async with asyncio.timeout(60):
            while not self.seen.issuperset(addresses):
                self._raise()
                await asyncio.sleep(0.01)

    async def stop(self) -> float:
        """Seconds that the slowest call took. Raises what a call raised."""
        self._raise()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        return self._slowest

    def _raise(self) -> None:
        for task in self._tasks:
            if task.done():
                task.result()


async def test_calls_are_spread_over_the_addresses(place: Place) -> None:
    for address in ("127.0.0.2", "127.0.0.3"):
        await place.start(address)
    place.dns.records[HEADLESS] = ["127.0.0.2", "127.0.0.3"]
    load = Load(place.stub())
    await load.answered_by("127.0.0.2", "127.0.0.3")
    await load.stop()


async def test_a_rolling_update_of_the_only_pod_fails_no_call(place: Place) -> None:
    await place.start("127.0.0.2")
    place.dns.records[HEADLESS] = ["127.0.0.2"]
    load = Load(place.stub())
    await load.answered_by("127.0.0.2")
    await place.start("127.0.0.3")
    place.dns.records[HEADLESS] = ["127.0.0.3"]
    await place.pods["127.0.0.2"].stop()
    await load.answered_by("127.0.0.3")
    assert await load.stop() < SOON


async def test_a_dns_that_still_names_the_old_pod_fails_no_call(place: Place) -> None:
    """Caches of DNS may be older than the pod: the address of the ClusterIP Service is not."""
    await place.start("127.0.0.2")
    place.dns.records[HEADLESS] = ["127.0.0.2"]
    load = Load(place.stub())
    await load.answered_by("127.0.0.2")
    await place.start("127.0.0.3")
    place.dns.records[SERVICE] = ["127.0.0.3"]
    await place.pods["127.0.0.2"].stop()
    await load.answered_by("127.0.0.3")
    assert SERVICE in place.dns.asked
    assert await load.stop() < SOON


async def test_new_pods_get_calls_although_nothing_broke(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    short = {"grpc.max_connection_age_ms": 300}
    options = tuple((key, short.get(key, value)) for key, value in server_module.OPTIONS)
    assert options != server_module.OPTIONS
    monkeypatch.setattr(server_module, "OPTIONS", options)
    await place.start("127.0.0.2")
    place.dns.records[HEADLESS] = ["127.0.0.2"]
    load = Load(place.stub())
    await load.answered_by("127.0.0.2")
    await place.start("127.0.0.3")
    place.dns.records[HEADLESS] = ["127.0.0.2", "127.0.0.3"]
    await load.answered_by("127.0.0.2", "127.0.0.3")
    await load.stop()


async def test_no_pod_at_all_is_told_soon(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cortex_workloads.runtime.channels._WAIT_SECONDS", 2.0)
    place.port = 1
    begun = time.monotonic()
    with pytest.raises(Unavailable, match="CortexIndex default/papers does not answer"):
        await asked(place.stub())
    assert time.monotonic() - begun < 30
