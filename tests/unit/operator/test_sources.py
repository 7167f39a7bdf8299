"""Which objects of others concern the operator: an owner is what anybody wrote."""

from __future__ import annotations

import asyncio
import logging

import pytest
from builders import a_cortex_index_manifest
from cortex_kinds.base import API_VERSION
from cortex_operator.cluster import Event, EventType, MemoryCluster, Object, ObjectKey
from cortex_operator.dataplane import ResourceKey
from cortex_operator.dataplane_grpc import GrpcDataPlane
from cortex_operator.engine import Pass, watch_feed
from cortex_operator.manifests import ReleaseSettings
from cortex_operator.operator import make_engine
from cortex_operator.reconcile.sources import of_owned
from objects import a_config_map, a_deployment

RELEASE = ReleaseSettings("registry.invalid/search:1", "registry.invalid/graph:1")
INDEX = ObjectKey(API_VERSION, "CortexIndex", "default", "papers")
PAPERS = ResourceKey("CortexIndex", "default", "papers")
MANAGED = {"app.kubernetes.io/managed-by": "cortex-operator"}


def owned(obj: Object, uid: str = "u", **labels: str) -> Object:
    """An object that looks as if it were the operator's, but for the kind of its owner."""
    owner = {"apiVersion": API_VERSION, "kind": "CortexOther", "name": "theirs", "uid": uid}
    return {**obj, "metadata": {**obj["metadata"], "labels": {**MANAGED, **labels}, "ownerReferences": [owner]}}


def keys(obj: Object) -> list[ResourceKey]:
    return list(of_owned(Event(EventType.ADDED, obj)))


@pytest.mark.parametrize("obj", [a_deployment("theirs-search"), a_config_map("theirs-search")])
def test_an_owner_of_another_kind_is_no_resource_of_ours_whatever_its_group(obj: Object) -> None:
    assert keys(owned(obj)) == []
    assert keys(owned(obj, **{"cortex.datapunk.io/index": "papers"})) == [PAPERS]


async def test_an_object_with_such_an_owner_keeps_nobody_waiting(caplog: pytest.LogCaptureFixture) -> None:
    cluster, stop, passes = MemoryCluster(), asyncio.Event(), asyncio.Queue[Pass]()
    await cluster.apply(a_cortex_index_manifest())
    uid = (await cluster.get(INDEX))["metadata"]["uid"]
    for obj in (a_deployment("theirs-search"), a_config_map("theirs")):
        await cluster.apply(owned(obj, uid), field_manager="somebody")
    engine = make_engine(cluster, GrpcDataPlane(cluster), RELEASE, hooks=[passes.put_nowait])
    running = asyncio.create_task(engine.run(stop, watch_feed(cluster)))
    async with asyncio.timeout(60):
        done = await passes.get()
    assert (done.key, done.error) == (PAPERS, None)
    assert engine.unready() == ""
    stop.set()
    await asyncio.wait_for(running, 60)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
