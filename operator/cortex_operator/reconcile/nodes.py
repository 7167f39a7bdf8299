"""The look at the cluster's nodes and all that is on them, which those who wait for a GPU share."""

from __future__ import annotations

from cortex_kinds.common import CommonSpec

from cortex_operator.cluster import EVERYWHERE, Cluster, Forbidden, Object
from cortex_operator.manifests.gpupool import GPUPool
from cortex_operator.reconcile.gpus import Room
from cortex_operator.reconcile.model import World
from cortex_operator.reconcile.placement import Nodes, wants_nodes


async def find_nodes(world: World, spec: CommonSpec, pods: tuple[Object, ...]) -> Nodes:
    """The nodes and all that is on them, where they tell something about the resource's pods: lists of all of them are
    not cheap, so those who wait share what was read a moment ago."""
    if not wants_nodes(spec, pods):
        return Nodes(pools=world.release.gpu_pools)
    return await world.nodes.get("all", lambda: _all_nodes(world.cluster, world.release.gpu_pools))


async def _all_nodes(cluster: Cluster, pools: tuple[GPUPool, ...] | None) -> Nodes:
    try:
        nodes = await cluster.list("v1", "Node")
    except Forbidden as error:
        return Nodes(unreadable=str(error), pools=pools)
    try:
        return Nodes(Room(nodes, await cluster.list("v1", "Pod", namespace=EVERYWHERE)), pools=pools)
    except Forbidden as error:
        return Nodes(Room(nodes, unseen=str(error)), pools=pools)
