"""Passes over resources of a real API server: what the conditions say of the scheduler's decisions, and that a status
comes back as it was written."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cortex_kinds.common import RevisionStatus
from cortex_kinds.events import Notice
from cortex_kube.client import Api
from cortex_operator.cluster import EVERYWHERE, Cache, Conflict, Object, ObjectKey, Selection
from cortex_operator.cluster.kubernetes import KubernetesCluster
from cortex_operator.dataplane import Description, ResourceKey
from cortex_operator.reconcile import Reconciler, World
from cortex_testbed.kubectl import Kubectl
from passes import RELEASE, Lake, NoPods, Passes, is_so


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
        ({"products": ["NVIDIA-B200"]}, "NoMatchingNode", ["NVIDIA-B200", "nvidia.com/gpu.product is", "add a node"]),
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


async def test_of_three_that_want_two_gpus_the_one_that_is_refused_never_says_that_it_fits(passes: Passes) -> None:
    """All were looked at while both were free. Pods of other tests may have them, too, and leave them meanwhile."""
    told: list[str] = []

    def record(_: Object, notices: Sequence[Notice]) -> None:
        told.extend(notice.note for notice in notices if notice.reason == "Unschedulable")

    reconcile = Reconciler(World(passes.cluster, NoPods(), RELEASE, record=record))
    names = ("z1", "z2", "z3")
    for name in names:
        await passes.apply(metadata__name=name, spec__gpu={"products": ["NVIDIA-L4"]})
    async with asyncio.timeout(60):
        while not told:
            for name in names:
                with suppress(Conflict):
                    await reconcile(ResourceKey("CortexIndex", passes.namespace, name))
            await asyncio.sleep(0.1)
    assert "asks for 1 nvidia.com/gpu of NVIDIA-L4: node" in told[0]
    assert "held by" in told[0] or "free now, and the scheduler is expected to try again" in told[0]


async def test_more_than_is_free_is_said_in_the_schedulers_words(passes: Passes) -> None:
    await passes.apply(spec__resources={"requests": {"cpu": "500"}})
    index = await passes.until(is_so("Schedulable", "False", "Unschedulable"), NoPods())
    (ready,) = [c for c in index["status"]["conditions"] if c["type"] == "Ready"]
    assert ready["reason"] == "Unschedulable"
    assert "Insufficient cpu" in ready["message"]
    assert "500 cpu" in ready["message"]


async def test_pods_that_a_quota_refuses_are_named_with_the_clusters_words(passes: Passes, kubectl: Kubectl) -> None:
    kubectl("create", "quota", "none", "--hard=pods=0", f"--namespace={passes.namespace}")
    # Before its controller has counted it refuses pods in other words.
    kubectl("wait", "--for=jsonpath={.status.hard.pods}=0", "quota/none", f"--namespace={passes.namespace}")
    await passes.apply()
    index = await passes.until(is_so("Ready", "False", "PodsRefused"), NoPods())
    (ready,) = [c for c in index["status"]["conditions"] if c["type"] == "Ready"]
    assert "exceeded quota: none" in ready["message"]


class Builds(Lake):
    """A data plane whose revision waits for its Job."""

    async def describe(self, key: ResourceKey) -> Description:
        return replace(await super().describe(key), current_revision="")

    async def ensure_revision(
        self, key: ResourceKey, revision: str, definition: dict[str, Any], retain: int
    ) -> RevisionStatus:
        self.revision = RevisionStatus(id=revision, phase="Building", documents=0, waiting=3)
        return self.revision


async def test_an_ingest_job_whose_pod_a_quota_refuses_is_told(
    passes: Passes, kubectl: Kubectl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cortex_operator.reconcile.index.ingest._MAKES_PODS_IN", timedelta(seconds=2))
    kubectl("create", "quota", "one", "--hard=pods=1", f"--namespace={passes.namespace}")
    kubectl("wait", "--for=jsonpath={.status.hard.pods}=1", "quota/one", f"--namespace={passes.namespace}")
    await passes.apply()
    refused = " does not get on: the cluster makes no pod for it; see the quotas"
    index = await passes.until(lambda found: refused in found.get("IndexReady", {}).get("message", ""), Builds())
    (said,) = [c["message"] for c in index["status"]["conditions"] if c["type"] == "IndexReady"]
    job = said.partition(" describe job ")[2].partition(" tells")[0]
    assert "exceeded quota: one" in kubectl("describe", "job", job, f"--namespace={passes.namespace}")


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
    kubectl("wait", *budget, "--for=jsonpath={.status.disruptionsAllowed}=1", "--timeout=55s")
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
