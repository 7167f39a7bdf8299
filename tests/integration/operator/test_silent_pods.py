"""Pods that take connections and say nothing, as behind a network that drops what is sent."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
from builders import a_cortex_index_manifest
from cortex_operator.cluster import MemoryCluster, Object, ObjectKey
from cortex_operator.dataplane_grpc import GrpcDataPlane
from cortex_operator.engine import Pace, watch_feed
from cortex_operator.manifests import ReleaseSettings
from cortex_operator.operator import make_engine
from cortex_operator.reconcile import Timing
from doubles import ControllersDouble, cancelled
from objects import a_secret, until

RELEASE = ReleaseSettings("registry.invalid/search:1", "registry.invalid/graph:1")
SILENT = [f"silent-{number}" for number in range(20)]


def deployment(name: str) -> ObjectKey:
    return ObjectKey("apps/v1", "Deployment", "default", f"{name}-search")


def an_index(name: str, **spec: object) -> Object:
    return a_cortex_index_manifest(metadata__name=name, **{f"spec__{key}": value for key, value in spec.items()})


@pytest.fixture
async def cluster(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[MemoryCluster]:
    """With an operator of two workers and twenty indexes, whose pods let every question take as long as it may."""
    monkeypatch.setattr("cortex_operator.dataplane_grpc.DEADLINE", 3600.0)
    monkeypatch.setattr("cortex_operator.questions.MOMENT", 0.02)
    cluster, stop = MemoryCluster(), asyncio.Event()
    for secret in (a_secret("cortex-lake", dsn="postgresql://h/d"), a_secret("cortex-state", url="redis://h")):
        await cluster.apply(secret)
    with socket.create_server(("127.0.0.1", 0)) as hole:
        controllers, dataplane = ControllersDouble(cluster, hole.getsockname()[1]), GrpcDataPlane(cluster)
        timing, pace = Timing(moving=0.02, idle=0.1, missing=0.02), Pace(workers=2)
        engine = make_engine(cluster, dataplane, RELEASE, timing=timing, pace=pace)
        making = asyncio.create_task(controllers.run())
        running = asyncio.create_task(engine.run(stop, watch_feed(cluster)))
        for name in SILENT:
            await cluster.apply(an_index(name))
        for name in SILENT:
            await until(cluster, deployment(name), lambda obj: obj.get("status", {}).get("readyReplicas") == 1)
        yield cluster
        stop.set()
        async with asyncio.timeout(60):
            await running
        await cancelled(making)
        await dataplane.close()


async def test_pods_that_never_answer_keep_no_other_resource_waiting(cluster: MemoryCluster) -> None:
    await cluster.apply(an_index("papers"))
    made = await until(cluster, deployment("papers"), lambda _: True)
    assert made["spec"]["replicas"] == 1
    await cluster.apply(an_index(SILENT[1], suspend=True))
    await until(cluster, deployment(SILENT[1]), lambda obj: obj["spec"]["replicas"] == 0)
