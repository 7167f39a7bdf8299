"""All who wait for a GPU share one look at the nodes."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from builders import a_cortex_index, a_cortex_index_manifest
from cortex_operator.cluster import Forbidden, MemoryCluster, Object
from cortex_operator.dataplane import ResourceKey
from cortex_operator.dataplane_grpc import GrpcDataPlane
from cortex_operator.manifests import ReleaseSettings
from cortex_operator.reconcile import Reconciler, World
from cortex_operator.reconcile.nodes import find_nodes
from cortex_operator.reconcile.recent import Recent
from objects import a_secret

RELEASE = ReleaseSettings("registry.invalid/search:1", "registry.invalid/graph:1")
WAITING = 200


class Counting(MemoryCluster):
    """Counts the lists of everything, which an API server answers with all Nodes, and with all Pods."""

    def __init__(self, forbidden: str = "") -> None:
        super().__init__()
        self.lists: Counter[str] = Counter()
        self.forbidden = forbidden

    async def list(self, api_version: str, kind: str, *, namespace: str | None = None, **options: Any) -> list[Object]:
        if kind == "Node" or namespace == "*":
            self.lists[kind] += 1
            await asyncio.sleep(0)  # the others come while this one waits for its answer
            if kind == self.forbidden:
                raise Forbidden(f"may not list {kind}s in all namespaces")
        return await super().list(api_version, kind, namespace=namespace, **options)


async def test_two_hundred_that_wait_cost_one_list_each_of_nodes_and_pods() -> None:
    cluster = Counting()
    for secret in (a_secret("cortex-lake", dsn="postgresql://h/d"), a_secret("cortex-state", url="redis://h")):
        await cluster.apply(secret)
    names = [f"papers-{number:03}" for number in range(WAITING)]
    for name in names:
        await cluster.apply(a_cortex_index_manifest(metadata__name=name, spec__gpu={}))
    reconcile = Reconciler(World(cluster, GrpcDataPlane(cluster), RELEASE, nodes=Recent(60)))
    await asyncio.gather(*(reconcile(ResourceKey("CortexIndex", "default", name)) for name in names))
    assert cluster.lists == {"Node": 1, "Pod": 1}
    status = (await cluster.list("cortex.datapunk.io/v1alpha1", "CortexIndex"))[-1]["status"]
    (schedulable,) = [c for c in status["conditions"] if c["type"] == "Schedulable"]
    assert schedulable["reason"] == "NoMatchingNode"


async def test_a_refusal_is_shared_too() -> None:
    for forbidden, lists in (("Node", {"Node": 1}), ("Pod", {"Node": 1, "Pod": 1})):
        cluster = Counting(forbidden)
        world = World(cluster, GrpcDataPlane(cluster), RELEASE, nodes=Recent(60))
        spec = a_cortex_index(spec__gpu={}).spec
        found = await asyncio.gather(*(find_nodes(world, spec, ()) for _ in range(WAITING)))
        assert cluster.lists == lists
        assert (found[0].room is None) is bool(found[0].unreadable) is (forbidden == "Node")


async def test_who_does_not_wait_asks_nobody() -> None:
    cluster = Counting()
    world = World(cluster, GrpcDataPlane(cluster), RELEASE)
    assert (await find_nodes(world, a_cortex_index().spec, ())).room is None
    assert cluster.lists == {}
