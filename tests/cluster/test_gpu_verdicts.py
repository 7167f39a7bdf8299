"""What is said of a pod with GPUs, held against the verdict of the real scheduler: pods by chance, on nodes that only
they may have. A seed that fails replays."""

from __future__ import annotations

import asyncio
import copy
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from builders import a_cortex_index
from cortex_kinds.gpu import GPU
from cortex_kube.client import Api
from cortex_kube.resources import path
from cortex_operator.cluster import Object
from cortex_operator.manifests import ReleaseSettings, index_objects
from cortex_operator.reconcile.gpus import Room, shortage
from cortex_testbed.pools import POOL_LABEL
from cortex_testbed.pools import nodes as pool_nodes

RELEASE = ReleaseSettings("registry.invalid/search:1", "registry.invalid/graph:1")
OURS = "testbed.cortex.datapunk.io/verdicts"
PODS = 40
LACKING = (" lack", " held by ", "matches, but", "match, but", "no node offers")

ASKED: list[dict[str, Any]] = [
    {}, {"count": 4}, {"count": 8}, {"count": 9}, {"memory": "24G"}, {"memory": "80G"}, {"memory": "94G"},
    {"products": ["NVIDIA-L4"]}, {"products": ["NVIDIA-L4"], "memory": "80G"}, {"products": ["NVIDIA-B200"]},
    {"products": ["Tesla-T4-SHARED"]}, {"products": ["NVIDIA-A100-SXM4-80GB-MIG-1g.10gb"], "count": 5},
    {"partition": {"profile": "1g.10gb"}, "count": 2}, {"partition": {"profile": "3g.40gb"}},
    {"partition": {"profile": "2g.20gb"}}, {"vendor": "AMD"}, {"vendor": "AMD", "count": 5},
    {"sharing": "Any"}, {"sharing": "MPS"}, {"vendor": "Intel"}, {"vendor": "Intel", "driver": "xe"},
]  # fmt: skip


class World:
    """Nodes of the test's own, like those of the pools but for chance, and the pods that it makes."""

    def __init__(self, api: Api, namespace: str, seed: int) -> None:
        self._api, self._namespace = api, namespace
        self.chance = random.Random(seed)

    async def add_nodes(self) -> None:
        """Returns when all are ready: until then they have a taint."""
        for node in pool_nodes():
            await self._api.request("POST", path("v1", "Node", None), body=self._node(node))
        async with asyncio.timeout(60):
            while True:
                if not any("not-ready" in str(node["spec"].get("taints")) for node in await self._nodes()):
                    return
                await asyncio.sleep(0.1)

    async def _nodes(self) -> list[Object]:
        return (await self._api.list(path("v1", "Node", None), query={"labelSelector": self._label}))[0]

    async def remove_nodes(self) -> None:
        await self._api.request("DELETE", path("v1", "Node", None), query={"labelSelector": self._label})

    async def room(self) -> Room:
        nodes, _ = await self._api.list(path("v1", "Node", None))
        pods, _ = await self._api.list(path("v1", "Pod", None))
        return Room(nodes, pods)

    def pod(self, name: str, gpu: dict[str, Any]) -> Object:
        resources = {"requests": {"cpu": self.chance.choice(["1", "14", "40"]), "memory": "8Gi"}}
        index = a_cortex_index(metadata__namespace=self._namespace, spec__gpu=gpu, spec__resources=resources)
        template = index_objects(index, RELEASE)[-1]["spec"]["template"]
        tolerations = [*template["spec"]["tolerations"], {"key": OURS, "operator": "Exists"}]
        spec = {**template["spec"], "nodeSelector": {OURS: self._namespace}, "tolerations": tolerations}
        spec["serviceAccountName"] = "default"
        meta = {"name": name, "namespace": self._namespace}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}

    async def verdict(self, pod: Object, *, fits: bool) -> tuple[str, str]:
        """The node that the scheduler gives the pod, or its words. A pod without a node is taken away again. One that
        is said to fit may be refused first, while the scheduler has not heard yet that a node is ready."""
        words, end = "", time.monotonic() + (30 if fits else 0)
        where = path("v1", "Pod", self._namespace)
        await self._api.request("POST", where, body=pod)
        where = path("v1", "Pod", self._namespace, pod["metadata"]["name"])
        async with asyncio.timeout(60):
            while True:
                found = await self._api.request("GET", where)
                if found["spec"].get("nodeName"):
                    return found["spec"]["nodeName"], ""
                for each in found["status"].get("conditions", ()):
                    if each["type"] == "PodScheduled" and each.get("reason") == "Unschedulable":
                        words = each["message"]
                if words and time.monotonic() > end:
                    await self._api.request("DELETE", where, query={"gracePeriodSeconds": "0"})
                    return "", words
                await asyncio.sleep(0.02)

    @property
    def _label(self) -> str:
        return f"{OURS}={self._namespace}"

    def _node(self, node: Object) -> Object:
        node = copy.deepcopy(node)
        meta, spec = node["metadata"], node["spec"]
        meta["name"] = f"{self._namespace}-{meta['name']}"
        meta["labels"] = {**meta["labels"], "kubernetes.io/hostname": meta["name"], OURS: self._namespace}
        del meta["labels"][POOL_LABEL]
        spec["taints"] = [*spec["taints"], {"key": OURS, "effect": "NoSchedule"}]
        if self.chance.random() < 0.2:
            spec["unschedulable"] = True
        elif self.chance.random() < 0.2:
            spec["taints"].append({"key": "team", "value": "research", "effect": "NoSchedule"})
        return node


@pytest.fixture
async def world(
    api_server: Path, pools: dict[str, list[str]], namespace: str, request: pytest.FixtureRequest
) -> AsyncIterator[World]:
    assert pools
    async with await Api.connect(kubeconfig=api_server) as api:
        world = World(api, namespace, request.param)
        await world.add_nodes()
        yield world
        await world.remove_nodes()


@pytest.mark.parametrize("world", [1, 2], indirect=True)
async def test_what_is_said_to_fit_is_placed_and_what_the_scheduler_refuses_lacks_something(world: World) -> None:
    placed = 0
    for number in range(PODS):
        gpu = world.chance.choice(ASKED)
        pod = world.pod(f"pod-{number}", gpu)
        said = shortage(pod, GPU.model_validate(gpu), await world.room())
        node, words = await world.verdict(pod, fits=bool(said.fits))
        assert bool(said.fits) == bool(node), (
            f"pod {number}, {gpu}: {said.message!r}, but the scheduler: {node or words}"
        )
        assert not node or node in said.fits
        assert node or any(lack in said.message for lack in LACKING), said.message
        assert len(said.message) <= 1024
        placed += bool(node)
    assert 0 < placed < PODS
