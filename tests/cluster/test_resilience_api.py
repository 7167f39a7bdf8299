"""spec.resilience before a real API server: what it takes and refuses, and that a change of it replaces no pod."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cortex_kinds.index import CortexIndex
from cortex_kinds.workflow import CortexWorkflow
from cortex_kube.client import Api
from cortex_operator.cluster import ApplyResult, Object, ObjectKey
from cortex_operator.cluster.kubernetes import KubernetesCluster
from cortex_operator.manifests import ReleaseSettings, index_objects, workflow_objects
from cortex_testbed.errors import BedError
from cortex_testbed.kubectl import Kubectl
from objects import Place

RELEASE = ReleaseSettings("registry.invalid/search:1", "registry.invalid/graph:1")
LIMITS = {"limits": {"search": {"concurrent": 3, "wait": "1m"}}}
BREAKER = {"circuitBreaker": {"failureRatio": "0.25", "window": "100ms", "open": "1h"}}


@pytest.fixture
async def cluster(api_server: Path) -> AsyncIterator[KubernetesCluster]:
    async with await Api.connect(kubeconfig=api_server) as api:
        yield KubernetesCluster(api)


async def applied(cluster: KubernetesCluster, manifest: Object) -> dict[str, Object]:
    """The objects of the resource as the API server has them, once nothing is written any more."""
    await cluster.apply(manifest, field_manager="author")
    stored = await cluster.get(ObjectKey.of(manifest))
    if manifest["kind"] == "CortexIndex":
        objects = index_objects(CortexIndex.model_validate(stored), RELEASE)
    else:
        objects = workflow_objects(CortexWorkflow.model_validate(stored), RELEASE)
    for obj in objects:
        await cluster.apply(obj)
    assert [await cluster.apply(obj) for obj in objects] == [ApplyResult.UNCHANGED] * len(objects)
    return {obj["kind"]: await cluster.get(ObjectKey.of(obj)) for obj in objects}


@pytest.mark.parametrize(
    ("kind", "resilience", "policies"),
    [
        ("index", LIMITS, {"limits": {"search": {"concurrent": 3, "waitSeconds": 60}}}),
        ("workflow", BREAKER, {"breaker": {"failureRatio": 0.25, "windowSeconds": 0.1, "openSeconds": 3600}}),
    ],
)
async def test_a_change_reaches_the_config_map_and_replaces_no_pod(
    cluster: KubernetesCluster, namespace: str, kind: str, resilience: dict[str, Any], policies: dict[str, Any]
) -> None:
    place = Place(namespace)
    make = place.index if kind == "index" else place.workflow
    before = await applied(cluster, make(spec__replicas=0))
    given = await applied(cluster, make(spec__replicas=0, spec__resilience=resilience))
    again = await applied(cluster, make(spec__replicas=0))
    assert json.loads(given["ConfigMap"]["data"]["policies.json"]) == policies
    assert before["ConfigMap"]["data"] == again["ConfigMap"]["data"]
    assert "policies.json" not in before["ConfigMap"]["data"]
    generations = {found["Deployment"]["metadata"]["generation"] for found in (before, given, again)}
    assert generations == {before["Deployment"]["metadata"]["generation"]}


@pytest.mark.parametrize(
    ("kind", "resilience", "words"),
    [
        ("index", {"limits": {"search": {"wait": "61s"}}}, "wait is at most 60s"),
        ("index", {"limits": {"writing": {"concurrent": 0}}}, "greater than or equal to 1"),
        ("index", {"circuitBreaker": {}}, "unknown field"),
        ("workflow", {"circuitBreaker": {"window": "99ms"}}, "window is at least 100ms"),
        ("workflow", {"circuitBreaker": {"slow": "61m"}}, "slow is at most 3600s"),
        ("workflow", {"circuitBreaker": {"failureRatio": 0.5}}, "expected string"),
        ("workflow", {"circuitBreaker": {"failureRatio": "0.0"}}, "should match"),
    ],
)
def test_the_api_server_refuses_what_cannot_work(
    kubectl: Kubectl, namespace: str, kind: str, resilience: dict[str, Any], words: str
) -> None:
    place = Place(namespace)
    make = place.index if kind == "index" else place.workflow
    with pytest.raises(BedError, match=words):
        kubectl.apply([make(spec__resilience=resilience)], f"--namespace={namespace}")
