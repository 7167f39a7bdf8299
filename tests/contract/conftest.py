from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from cortex_kube.client import Api
from cortex_operator.cluster import Cluster, MemoryCluster, ObjectKey
from cortex_operator.cluster.kubernetes import KubernetesCluster
from objects import Place


@pytest.fixture(params=["memory", "kubernetes"])
async def cluster(request: pytest.FixtureRequest) -> AsyncIterator[Cluster]:
    """Every implementation of the port; the suite knows none of them."""
    if request.param == "memory":
        yield MemoryCluster()
        return
    async with await Api.connect(kubeconfig=request.getfixturevalue("api_server")) as api:
        yield KubernetesCluster(api)


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
