"""The look at the nodes that those who wait for a GPU share: never older than what the scheduler says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from builders import a_cortex_index_manifest
from cortex_kinds.base import API_VERSION
from cortex_kinds.events import Notice
from cortex_operator.cluster import EVERYWHERE, MemoryCluster, Object, ObjectKey
from cortex_operator.dataplane import ResourceKey
from cortex_operator.dataplane_grpc import GrpcDataPlane
from cortex_operator.manifests import ReleaseSettings
from cortex_operator.reconcile import Reconciler, Timing, World
from objects import a_secret

RELEASE = ReleaseSettings("registry.invalid/search:1", "registry.invalid/graph:1")
NAMES = ("z1", "z2", "z3")
SAID = "0/14 nodes are available: 2 Insufficient nvidia.com/gpu"


class Bed(MemoryCluster):
    """A cluster with two nodes of one L4 each, which the test gives to pods; counts the looks at everything."""

    looks = 0

    async def list(self, api_version: str, kind: str, **options: Any) -> list[Object]:
        if kind == "Node":
            return [a_node(name) for name in ("l4-0", "l4-1")]
        self.looks += kind == "Pod" and options.get("namespace") == EVERYWHERE
        return await super().list(api_version, kind, **options)

    async def asks(self, name: str) -> None:
        """Makes the pod of the index."""
        deployment = await self.get(ObjectKey("apps/v1", "Deployment", "default", f"{name}-search"))
        template = deployment["spec"]["template"]
        meta = {**template["metadata"], "name": f"{name}-pod", "namespace": "default"}
        await self.apply({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": template["spec"]})

    async def places(self, name: str, node: str) -> None:
        """What the scheduler does."""
        pod = await self.get(a_pod(name))
        await self.apply({**pod, "spec": {**pod["spec"], "nodeName": node}})
        await self._verdict(name, status="True")

    async def refuses(self, name: str, said: str = SAID) -> None:
        """What the scheduler says when it finds no node."""
        await self._verdict(name, status="False", reason="Unschedulable", message=said)

    async def _verdict(self, name: str, **said: str) -> None:
        await self.patch_status(a_pod(name), {"phase": "Pending", "conditions": [{"type": "PodScheduled", **said}]})


def a_pod(name: str) -> ObjectKey:
    return ObjectKey("v1", "Pod", "default", f"{name}-pod")


def a_node(name: str) -> Object:
    labels = {"nvidia.com/gpu.product": "NVIDIA-L4", "nvidia.com/gpu.memory": "23034"}
    offers = {"cpu": "96", "memory": "1Ti", "pods": "110", "nvidia.com/gpu": "1"}
    return {"metadata": {"name": name, "labels": labels}, "status": {"allocatable": offers}}


def key(name: str) -> ResourceKey:
    return ResourceKey("CortexIndex", "default", name)


async def said(bed: Bed, name: str) -> str:
    status = (await bed.get(ObjectKey(API_VERSION, "CortexIndex", "default", name)))["status"]
    return str(next(c["message"] for c in status["conditions"] if c["type"] == "Schedulable"))


@pytest.fixture
def told() -> list[str]:
    """The notes of the Events."""
    return []


@pytest.fixture
async def bed() -> Bed:
    """Indexes that each want one L4."""
    bed = Bed()
    for secret in (a_secret("cortex-lake", dsn="postgresql://h/d"), a_secret("cortex-state", url="redis://h")):
        await bed.apply(secret)
    for name in NAMES:
        await bed.apply(a_cortex_index_manifest(metadata__name=name, spec__gpu={"products": ["NVIDIA-L4"]}))
    return bed


@pytest.fixture
async def reconcile(bed: Bed, told: list[str]) -> Callable[..., Any]:
    """Passes over indexes at once; their Deployments are there, and the nodes were looked at while all GPUs were
    free."""

    def record(_: Object, notices: Iterable[Notice]) -> None:
        told.extend(notice.note for notice in notices)

    reconciler = Reconciler(World(bed, GrpcDataPlane(bed), RELEASE, Timing(details=0.0), record=record))

    async def passes(*names: str) -> None:
        await asyncio.gather(*(reconciler(key(name)) for name in names))

    await passes(*NAMES)
    for name in NAMES:
        await bed.asks(name)
    assert bed.looks == 1
    return passes


async def test_a_look_from_before_the_refusal_is_taken_anew_and_nothing_stale_is_told(
    bed: Bed, reconcile: Callable[..., Any], told: list[str]
) -> None:
    await bed.places("z1", "l4-0")
    await bed.places("z2", "l4-1")
    await bed.refuses("z3")
    await reconcile("z3")
    message = await said(bed, "z3")
    assert "nodes l4-0, l4-1 match and their 2 GPUs are held by index default/z1 (1), index default/z2 (1)" in message
    assert SAID in message
    assert [note for note in told if "l4-0" in note] == [message]
    assert bed.looks == 2


async def test_what_is_free_now_is_said_so_and_looked_at_once_for_all_that_were_refused(
    bed: Bed, reconcile: Callable[..., Any]
) -> None:
    for name in NAMES:
        await bed.refuses(name)
    await reconcile(*NAMES)
    for name in NAMES:
        message = await said(bed, name)
        assert ": nodes l4-0, l4-1 look free now, and the scheduler is expected to try again; pod " in message
        assert "fits now" not in message
    assert bed.looks == 2
    await reconcile(*NAMES)
    assert bed.looks == 2


async def test_the_scheduler_says_something_new_and_the_nodes_are_looked_at_again(
    bed: Bed, reconcile: Callable[..., Any]
) -> None:
    await bed.refuses("z3")
    await reconcile("z3")
    await bed.places("z1", "l4-0")
    await bed.places("z2", "l4-1")
    await bed.refuses("z3", "0/15 nodes are available: 2 Insufficient nvidia.com/gpu")
    await reconcile("z3")
    assert "held by index default/z1 (1), index default/z2 (1)" in await said(bed, "z3")


async def test_who_lacks_what_no_later_look_could_show_is_content_with_the_one_before(
    bed: Bed, reconcile: Callable[..., Any]
) -> None:
    pod = await bed.get(a_pod("z3"))
    await bed.apply({**pod, "spec": {**pod["spec"], "nodeSelector": {"zone": "b"}}})
    await bed.refuses("z3")
    await reconcile("z3")
    assert "zone is not there (b asked)" in await said(bed, "z3")
    assert bed.looks == 1
