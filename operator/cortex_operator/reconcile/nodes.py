"""The look at the cluster's nodes and all that is on them, which those who wait for a GPU share."""

from __future__ import annotations

import asyncio
from typing import Final

from cortex_kinds.common import CommonSpec

from cortex_operator.cluster import EVERYWHERE, Cluster, Forbidden, Object
from cortex_operator.manifests.gpupool import GPUPool
from cortex_operator.reconcile.gpus import Room
from cortex_operator.reconcile.model import World
from cortex_operator.reconcile.placement import Nodes, is_outdated, wants_nodes

_SETTLES: Final = 0.5
"""Seconds before a look that the one before made necessary: pods that the scheduler has a node for are bound by then,
and of a thousand that it refused at once all share that look."""


async def find_nodes(world: World, spec: CommonSpec, pods: tuple[Object, ...]) -> Nodes:
    """The nodes and all that is on them, where they tell something about the resource's pods: lists of all of them are
    not cheap, so those who wait share what was read a moment ago; not what the scheduler knew better since."""
    if not wants_nodes(spec, pods):
        return Nodes(pools=world.release.gpu_pools)

    async def look() -> Nodes:
        return await _all_nodes(world.cluster, world.release.gpu_pools)

    async def look_again() -> Nodes:
        await asyncio.sleep(_SETTLES)
        return await look()

    found = await world.nodes.get("all", look)
    return await world.nodes.get_after("all", found, look_again) if is_outdated(spec, pods, found) else found


async def _all_nodes(cluster: Cluster, pools: tuple[GPUPool, ...] | None) -> Nodes:
    try:
        nodes = await cluster.list("v1", "Node")
    except Forbidden as error:
        return Nodes(unreadable=str(error), pools=pools)
    try:
        return Nodes(Room(nodes, await cluster.list("v1", "Pod", namespace=EVERYWHERE)), pools=pools)
    except Forbidden as error:
        return Nodes(Room(nodes, unseen=str(error)), pools=pools)
