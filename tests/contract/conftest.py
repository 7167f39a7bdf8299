from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from cortex_kinds.base import API_VERSION
from cortex_kube.client import Api
from cortex_operator.cluster import Cache, Cluster, MemoryCluster, ObjectKey, Selection
from cortex_operator.cluster.kubernetes import KubernetesCluster
from cortex_operator.engine import Engine, Pace, Source, watch_feed
from objects import Place

CACHED = (
    ("v1", "ConfigMap"),
    ("apps/v1", "Deployment"),
    ("batch/v1", "Job"),
    (API_VERSION, "CortexIndex"),
    (API_VERSION, "CortexWorkflow"),
)


@pytest.fixture(params=["memory", "kubernetes", "cached"])
async def cluster(request: pytest.FixtureRequest) -> AsyncIterator[Cluster]:
    """Every implementation of the port; the suite knows none of them."""
    if request.param == "memory":
        yield MemoryCluster()
        return
    async with await Api.connect(kubeconfig=request.getfixturevalue("api_server")) as api:
        if request.param == "kubernetes":
            yield KubernetesCluster(api)
            return
        async with _cached(api) as cached:
            yield cached


@asynccontextmanager
async def _cached(api: Api) -> AsyncIterator[Cluster]:
    """One that reads from a cache, which an engine without anything to do feeds."""
    cache, stop = Cache(dict.fromkeys(CACHED, Selection())), asyncio.Event()
    cluster = KubernetesCluster(api, cache=cache)
    sources = [Source[str](*kind, lambda _: ()) for kind in CACHED]
    # Of an object that comes and goes at once this feed tells nothing: that it went is found by looking.
    engine = Engine(cluster, sources, _nothing, pace=Pace(resync=1.0), cache=cache)
    task = asyncio.create_task(engine.run(stop, watch_feed(cluster)))
    async with asyncio.timeout(60):
        await engine.filled.wait()
    yield cluster
    stop.set()
    await task


async def _nothing(key: str) -> None:
    raise AssertionError(key)


@pytest.fixture
async def place(cluster: Cluster) -> AsyncIterator[Place]:
    """A fresh namespace."""
    async with _namespace(cluster, "a") as place:
        yield place


@pytest.fixture
async def other(cluster: Cluster, place: Place) -> AsyncIterator[Place]:
    """Another one, whose name sorts behind that of `place`."""
    async with _namespace(cluster, "b") as other:
        yield other


@asynccontextmanager
async def _namespace(cluster: Cluster, letter: str) -> AsyncIterator[Place]:
    name = f"contract-{letter}-{secrets.token_hex(4)}"
    await cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield Place(name)
    await cluster.delete(ObjectKey("v1", "Namespace", "", name))
