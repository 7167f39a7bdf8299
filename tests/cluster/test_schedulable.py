"""Passes over resources of a real API server: what the conditions say of the scheduler's decisions, and that a status
comes back as it was written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from builders import a_cortex_index_manifest
from cortex_kinds.base import API_VERSION
from cortex_kinds.common import RevisionStatus
from cortex_kube.client import Api
from cortex_operator.cluster import EVERYWHERE, Cache, Object, ObjectKey, Selection
from cortex_operator.cluster.kubernetes import KubernetesCluster
from cortex_operator.dataplane import DataPlaneUnreachable, Description, ResourceKey
from cortex_operator.manifests import ReleaseSettings
from cortex_operator.reconcile import Reconciler, World
from cortex_testbed.kubectl import Kubectl
from doubles import CountingCluster
from objects import a_secret

RELEASE = ReleaseSettings("registry.invalid/search:1", "registry.invalid/graph:1")


class Lake:
    """A data plane whose one revision is the one that is asked for."""

    def __init__(self) -> None:
        self.revision: RevisionStatus | None = None

    async def describe(self, key: ResourceKey) -> Description:
        revisions = (self.revision,) if self.revision else ()
        return Description("pod-a", True, self.revision.id if self.revision else "", revisions, documents=3)

    async def ensure_revision(
        self, key: ResourceKey, revision: str, definition: dict[str, Any], retain: int
    ) -> RevisionStatus:
        self.revision = RevisionStatus(id=revision, phase="Current", documents=3, waiting=0)
        return self.revision

    async def forget(self, key: ResourceKey) -> None:
        return None


class NoPods(Lake):
    """A data plane that nobody reaches."""

    async def describe(self, key: ResourceKey) -> Description:
        raise DataPlaneUnreachable("no pod answers")


@dataclass
class Passes:
    """An index in a namespace of its own, and passes over it."""

    cluster: CountingCluster
    namespace: str

    @property
    def index(self) -> ObjectKey:
        return ObjectKey(API_VERSION, "CortexIndex", self.namespace, "papers")

    async def apply(self, **overrides: Any) -> None:
        await self.cluster.apply(a_cortex_index_manifest(metadata__namespace=self.namespace, **overrides))

    async def until(self, holds: Callable[[dict[str, Any]], bool], dataplane: Lake, seconds: float = 30) -> Object:
        """Passes until the conditions are so; the index then."""
        reconcile = Reconciler(World(self.cluster, dataplane, RELEASE))
        found: dict[str, Any] = {}
        try:
            async with asyncio.timeout(seconds):
                while True:
                    await reconcile(ResourceKey("CortexIndex", self.namespace, "papers"))
                    index = await self.cluster.get(self.index)
                    found = {c["type"]: c for c in index["status"].get("conditions", ())}
                    if holds(found):
                        return dict(index)
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise AssertionError(f"not in {seconds} s; it is {found}") from None


@pytest.fixture
async def passes(api_server: Path, namespace: str, pools: dict[str, list[str]]) -> AsyncIterator[Passes]:
    async with await Api.connect(kubeconfig=api_server) as api:
        cluster = CountingCluster(KubernetesCluster(api))
        for secret in (a_secret("cortex-lake", dsn="postgresql://h/d"), a_secret("cortex-state", url="redis://h")):
            secret["metadata"]["namespace"] = namespace
            await cluster.apply(secret)
        yield Passes(cluster, namespace)


def is_so(type: str, status: str, reason: str) -> Callable[[dict[str, Any]], bool]:
    return lambda found: (found[type]["status"], found[type]["reason"]) == (status, reason) if type in found else False


async def test_an_index_with_a_gpu_gets_ready_and_a_pass_without_news_writes_nothing(
    passes: Passes, pools: dict[str, list[str]]
) -> None:
    await passes.apply(spec__gpu={"vendor": "AMD"}, spec__replicas=2)
    lake = Lake()
    index = await passes.until(is_so("Ready", "True", "Ready"), lake)
    conditions = {c["type"]: (c["status"], c["reason"]) for c in index["status"]["conditions"]}
    assert conditions["Schedulable"] == ("True", "PodsScheduled")
    assert index["status"]["replicas"] == index["status"]["readyReplicas"] == 2
    assert index["status"]["revisions"] == [
        {"id": index["status"]["currentRevision"], "phase": "Current", "documents": 3, "waiting": 0}
        | {"createdAt": "", "message": ""}
    ]
    pods = await passes.cluster.list("v1", "Pod", namespace=passes.namespace)
    assert {pod["spec"]["nodeName"] for pod in pods} <= set(pools["mi300x"])

    passes.cluster.writes.clear()
    await passes.until(is_so("Ready", "True", "Ready"), lake)
    assert passes.cluster.writes == []


@pytest.mark.parametrize(
    ("gpu", "reason", "parts"),
    [
        ({"count": 64}, "NoMatchingNode", ["lack: 8 nvidia.com/gpu (64 asked)", "the scheduler says"]),
        ({"products": ["NVIDIA-B200"]}, "NoMatchingNode", ["NVIDIA-B200", "NVIDIA-H100-80GB-HBM3", "NVIDIA-L4"]),
        ({"memory": "94G"}, "NoMatchingNode", ["nvidia.com/gpu.memory is 81920 (at least 85164 asked)"]),
        ({"pool": "nowhere"}, "UnknownGPUPool", ["nowhere, which is no pool of this release: the release names none"]),
        ({"partition": {"profile": "2g.20gb"}}, "NoMatchingNode", ["no node offers nvidia.com/mig-2g.20gb"]),
    ],
)
async def test_ready_and_schedulable_say_what_no_node_has(
    passes: Passes, gpu: dict[str, Any], reason: str, parts: list[str]
) -> None:
    await passes.apply(spec__gpu=gpu)
    index = await passes.until(is_so("Ready", "False", reason), NoPods())
    for type in ("Ready", "Schedulable"):
        (found,) = [c for c in index["status"]["conditions"] if c["type"] == type]
        assert found["status"] == "False"
        for part in parts:
            assert part in found["message"]


async def test_more_than_is_free_is_said_in_the_schedulers_words(passes: Passes) -> None:
    await passes.apply(spec__resources={"requests": {"cpu": "500"}})
    index = await passes.until(is_so("Schedulable", "False", "Unschedulable"), NoPods())
    (ready,) = [c for c in index["status"]["conditions"] if c["type"] == "Ready"]
    assert ready["reason"] == "Unschedulable"
    assert "Insufficient cpu" in ready["message"]
    assert "500 cpu" in ready["message"]


async def test_pods_that_a_quota_refuses_are_named_with_the_clusters_words(passes: Passes, kubectl: Kubectl) -> None:
    kubectl("create", "quota", "none", "--hard=pods=0", f"--namespace={passes.namespace}")
    await passes.apply()
    index = await passes.until(is_so("Ready", "False", "PodsRefused"), NoPods())
    (ready,) = [c for c in index["status"]["conditions"] if c["type"] == "Ready"]
    assert "exceeded quota: none" in ready["message"]


async def test_a_gpu_that_comes_and_goes_changes_how_the_deployment_is_updated(passes: Passes) -> None:
    """An API server refuses a strategy Recreate that still has the fields of a rolling update."""
    deployment = ObjectKey("apps/v1", "Deployment", passes.namespace, "papers-search")
    lake, found = Lake(), []
    for gpu, replicas in ((None, 1), ({"vendor": "AMD"}, 1), ({"vendor": "AMD"}, 2), (None, 2)):
        await passes.apply(spec={"replicas": replicas, **({"gpu": gpu} if gpu else {})})
        await passes.until(is_so("Ready", "True", "Ready"), lake)
        found.append((await passes.cluster.get(deployment))["spec"]["strategy"])
    assert found == [
        {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        {"type": "Recreate"},
        {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
        {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
    ]


async def test_one_of_two_pods_may_be_evicted_and_the_budget_goes_with_the_second(
    passes: Passes, kubectl: Kubectl
) -> None:
    await passes.apply(spec__replicas=2)
    lake = Lake()
    await passes.until(is_so("Ready", "True", "Ready"), lake)
    budget = ("pdb/papers-search", f"--namespace={passes.namespace}")
    kubectl("wait", *budget, "--for=jsonpath={.status.disruptionsAllowed}=1", "--timeout=30s")
    status = kubectl.get(*budget)["status"]
    assert (status["expectedPods"], status["desiredHealthy"]) == (2, 1)

    await passes.apply(spec__replicas=1)
    await passes.until(is_so("Ready", "True", "Ready"), lake)
    assert await passes.cluster.list("policy/v1", "PodDisruptionBudget", namespace=passes.namespace) == []


async def test_a_cluster_limited_to_namespaces_lists_everywhere_when_it_is_asked_to(
    api_server: Path, namespace: str, kubectl: Kubectl
) -> None:
    far = f"far-{namespace}"
    kubectl("create", "configmap", far, "--namespace=default", f"--from-literal=of={namespace}")
    try:
        async with await Api.connect(kubeconfig=api_server) as api:
            cache = Cache({("v1", "ConfigMap"): Selection()})
            cluster = KubernetesCluster(api, (namespace,), cache)
            cache.listed("v1", "ConfigMap", {}, set())
            for place, found in ((None, False), (EVERYWHERE, True)):
                there = await cluster.list("v1", "ConfigMap", namespace=place)
                assert found is any(each["metadata"]["name"] == far for each in there)
    finally:
        kubectl("delete", "configmap", far, "--namespace=default")
