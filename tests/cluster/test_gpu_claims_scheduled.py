"""Claims of GPUs before the real scheduler: devices as NVIDIA's driver publishes them, on nodes of a test's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cortex_kube.client import Api, Conflict
from cortex_kube.resources import path
from cortex_operator.cluster import Conflict as Stale
from cortex_operator.cluster import Object, ObjectKey
from cortex_operator.cluster.kubernetes import KubernetesCluster
from cortex_operator.dataplane import ResourceKey
from cortex_operator.manifests.optional import CLAIM_TEMPLATE
from cortex_operator.reconcile import Reconciler, World
from cortex_testbed.pools import FAKE
from doubles import CountingCluster
from objects import Place
from passes import RELEASE, Lake, is_so

OURS = "testbed.cortex.datapunk.io/claims"
DRIVER = "gpu.nvidia.com"
CLASSES = {"gpu.nvidia.com": "gpu", "mig.nvidia.com": "mig"}
SMALL = ("small", [("NVIDIA L4", "23034Mi", ""), ("NVIDIA L4", "23034Mi", "")])
LARGE = ("large", [("NVIDIA A100-SXM4-80GB", "80Gi", ""), ("NVIDIA A100-SXM4-80GB", "80Gi", "")])
SLICED = ("sliced", [("NVIDIA A100-SXM4-80GB", "9856Mi", "1g.10gb")])


def a_device(number: int, product: str, memory: str, profile: str) -> dict[str, Any]:
    told = {"type": "mig" if profile else "gpu", "productName": product, **({"profile": profile} if profile else {})}
    attributes = {name: {"string": value} for name, value in told.items()}
    return {"name": f"gpu-{number}", "attributes": attributes, "capacity": {"memory": {"value": memory}}}


class Claims:
    """An index in a namespace of its own, on nodes that only its pods may have."""

    def __init__(self, api: Api, namespace: str) -> None:
        self._api, self.place = api, Place(namespace)
        self.cluster = CountingCluster(KubernetesCluster(api))
        served = frozenset({CLAIM_TEMPLATE})
        self._reconcile = Reconciler(World(self.cluster, Lake(), replace(RELEASE, served=served)))

    @asynccontextmanager
    async def devices(self, *nodes: tuple[str, list[tuple[str, str, str]]]) -> AsyncIterator[None]:
        """Nodes with these devices."""
        for name, type in CLASSES.items():
            await self._add_class(name, type)
        for name, devices in nodes:
            await self._api.request("POST", path("v1", "Node", None), body=self._node(name))
            where = path("resource.k8s.io/v1", "ResourceSlice", None)
            await self._api.request("POST", where, body=self._slice(name, devices))
        yield
        for kind in (("resource.k8s.io/v1", "ResourceSlice"), ("v1", "Node")):
            selector = {"labelSelector": f"{OURS}={self.place.namespace}"}
            await self._api.request("DELETE", path(*kind, None), query=selector)

    async def apply(self, *, replicas: int = 1, **gpu: Any) -> None:
        tolerations = [{"key": OURS, "operator": "Exists"}]
        placement = {"nodeSelector": {OURS: self.place.namespace}, "tolerations": tolerations}
        spec = {"gpu": {"allocation": "DRA", **gpu}, "placement": placement, "replicas": replicas}
        await self.cluster.apply(self.place.index(spec={**spec, "resources": {"requests": {"cpu": "1"}}}))

    async def until(self, type: str, status: str, reason: str, seconds: float = 60) -> dict[str, Any]:
        """Passes until the condition is so; all conditions then."""
        found: dict[str, Any] = {}
        try:
            async with asyncio.timeout(seconds):
                while not is_so(type, status, reason)(found):
                    with suppress(Stale):
                        await self._reconcile(ResourceKey("CortexIndex", self.place.namespace, "papers"))
                        index = await self.cluster.get(self.place.papers)
                        found = {c["type"]: c for c in index["status"].get("conditions", ())}
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise AssertionError(f"not in {seconds} s; it is {found}") from None
        return found

    async def until_templates(self, count: int) -> None:
        """Passes until there are so many templates of claims."""

        async def found() -> int:
            return len(await self.cluster.list(*CLAIM_TEMPLATE, namespace=self.place.namespace))

        async with asyncio.timeout(60):
            while await found() != count:
                await self.until("Ready", "True", "Ready")
                await asyncio.sleep(0.1)

    async def pods(self) -> list[Object]:
        found = await self.cluster.list("v1", "Pod", namespace=self.place.namespace)
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    async def nodes(self) -> list[str]:
        """Those of the pods."""
        names = [pod["spec"].get("nodeName", "") for pod in await self.pods()]
        return [name.removeprefix(f"{self.place.namespace}-") for name in names]

    async def _add_class(self, name: str, type: str) -> None:
        """As the driver's chart makes it; all tests share it, and it stays."""
        expression = f"device.driver == '{DRIVER}' && device.attributes['{DRIVER}'].type == '{type}'"
        meta, spec = {"name": name}, {"selectors": [{"cel": {"expression": expression}}]}
        made = {"apiVersion": "resource.k8s.io/v1", "kind": "DeviceClass", "metadata": meta, "spec": spec}
        try:
            await self._api.request("POST", path("resource.k8s.io/v1", "DeviceClass", None), body=made)
        except Conflict:
            return

    def _meta(self, name: str) -> dict[str, Any]:
        labels = {OURS: self.place.namespace}
        return {"name": f"{self.place.namespace}-{name}", "labels": labels, "annotations": dict([FAKE])}

    def _node(self, name: str) -> Object:
        capacity = {"cpu": "16", "memory": "64Gi", "pods": "110", "nvidia.com/gpu": "2"}
        taints = [{"key": OURS, "effect": "NoSchedule"}, {"key": "nvidia.com/gpu", "effect": "NoSchedule"}]
        status = {"capacity": capacity, "allocatable": capacity}
        node = {"apiVersion": "v1", "kind": "Node", "metadata": self._meta(name), "spec": {"taints": taints}}
        return {**node, "status": status}

    def _slice(self, name: str, devices: list[tuple[str, str, str]]) -> Object:
        node = f"{self.place.namespace}-{name}"
        spec = {
            "driver": DRIVER,
            "nodeName": node,
            "pool": {"name": node, "generation": 1, "resourceSliceCount": 1},
            "devices": [a_device(number, *device) for number, device in enumerate(devices)],
        }
        meta = self._meta(name)
        return {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": meta, "spec": spec}


@pytest.fixture
async def claims(api_server: Path, pools: dict[str, list[str]], namespace: str) -> AsyncIterator[Claims]:
    assert pools  # whoever looks after these nodes looks after ours
    async with await Api.connect(kubeconfig=api_server) as api:
        claims = Claims(api, namespace)
        place = claims.place
        for secret in (
            place.secret("cortex-lake", dsn="postgresql://h/d"),
            place.secret("cortex-state", url="redis://h"),
        ):
            await claims.cluster.apply(secret)
        yield claims


@pytest.mark.parametrize(
    ("gpu", "node"),
    [
        ({"memory": "80G"}, "large"),
        ({"memory": "24G", "products": ["NVIDIA-L4"]}, "small"),
        ({"products": ["NVIDIA-A100-SXM4-80GB"], "count": 2}, "large"),
        ({"partition": {"profile": "1g.10gb"}}, "sliced"),
    ],
)
async def test_a_pod_gets_the_node_whose_devices_match(claims: Claims, gpu: dict[str, Any], node: str) -> None:
    async with claims.devices(SMALL, LARGE, SLICED):
        await claims.apply(**gpu)
        await claims.until("Schedulable", "True", "PodsScheduled")
        assert await claims.nodes() == [node]
        (claim,) = await claims.cluster.list("resource.k8s.io/v1", "ResourceClaim", namespace=claims.place.namespace)
        assert len(claim["status"]["allocation"]["devices"]["results"]) == gpu.get("count", 1)

        await claims.until("Ready", "True", "Ready")
        claims.cluster.writes.clear()
        await claims.until("Ready", "True", "Ready")
        assert claims.cluster.writes == []


@pytest.mark.parametrize(
    ("gpu", "words"),
    [
        ({"memory": "40G"}, "claims 1 gpu.nvidia.com device with 40G"),
        ({"products": ["NVIDIA-B200"]}, "claims 1 gpu.nvidia.com device of NVIDIA-B200"),
        ({"partition": {"profile": "1g.10gb"}}, "claims 1 mig.nvidia.com device of profile 1g.10gb"),
    ],
)
async def test_no_device_that_matches_is_said_in_the_scheduler_s_words(
    claims: Claims, gpu: dict[str, Any], words: str
) -> None:
    async with claims.devices(SMALL):
        await claims.apply(**gpu)
        found = (await claims.until("Schedulable", "False", "Unschedulable"))["Schedulable"]
        assert words in found["message"]
        assert "cannot allocate all claims" in found["message"]
        assert await claims.nodes() == [""]


async def test_an_update_to_claims_replaces_the_pod_without_a_gpu_more_and_old_templates_go(claims: Claims) -> None:
    """One node with two devices: from the device plugin to a claim, and from one claim to another."""
    deployment = ObjectKey("apps/v1", "Deployment", claims.place.namespace, "papers-search")
    seen: set[str] = set()
    async with claims.devices(LARGE):
        for gpu, templates in (({"allocation": "ExtendedResource"}, 0), ({}, 1), ({"memory": "80G"}, 1)):
            await claims.apply(**{"count": 2, **gpu})
            await claims.until("Ready", "True", "Ready")
            assert (await claims.cluster.get(deployment))["spec"]["strategy"] == {"type": "Recreate"}
            (pod,) = await claims.pods()
            assert pod["metadata"]["uid"] not in seen
            seen.add(pod["metadata"]["uid"])
            await claims.until_templates(templates)
        assert await claims.nodes() == ["large"]
