"""A real API server takes the pods of every field, in a namespace that enforces the restricted standard; each field
changes the Deployment, nothing is sent twice, and taking a field back restores what was there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cortex_kinds.index import CortexIndex
from cortex_kube.client import Api
from cortex_operator.cluster import ApplyResult, Object, ObjectKey
from cortex_operator.cluster.kubernetes import KubernetesCluster
from cortex_operator.manifests import ReleaseSettings, index_objects, ingest_job
from cortex_testbed.errors import BedError
from cortex_testbed.kubectl import Kubectl
from objects import Place, until
from podfields import FIELDS, cluster_objects, every_field, named_objects

RELEASE = ReleaseSettings("registry.invalid/search:1", "registry.invalid/graph:1")


@pytest.fixture
async def cluster(api_server: Path) -> AsyncIterator[KubernetesCluster]:
    async with await Api.connect(kubeconfig=api_server) as api:
        yield KubernetesCluster(api)


@pytest.fixture
def classes(kubectl: Kubectl) -> None:
    """They stay for tests beside this one and go with the cluster."""
    kubectl.apply(cluster_objects())


async def stored(cluster: KubernetesCluster, place: Place, spec: dict[str, Any]) -> CortexIndex:
    await cluster.apply(place.index(spec=spec), field_manager="author")
    return CortexIndex.model_validate(await cluster.get(place.papers))


def deployment_key(place: Place) -> ObjectKey:
    return ObjectKey("apps/v1", "Deployment", place.namespace, "papers-search")


def is_made(obj: Object) -> bool:
    status = obj.get("status", {})
    failed = [c for c in status.get("conditions", ()) if c["type"] == "ReplicaFailure"]
    assert failed == []
    return bool(status.get("replicas", 0) == 1)


async def test_pods_of_every_field_are_accepted_and_nothing_is_written_twice(
    cluster: KubernetesCluster, namespace: str, classes: None
) -> None:
    place = Place(namespace)
    for obj in named_objects(namespace):
        await cluster.apply(obj)
    index = await stored(cluster, place, every_field())
    assert index.spec.to_manifest() == CortexIndex.model_validate(place.index(spec=every_field())).spec.to_manifest()

    objects = [*index_objects(index, RELEASE), ingest_job(index, "0" * 10, RELEASE)]
    for obj in objects:
        assert await cluster.apply(obj) is not ApplyResult.UNCHANGED
    assert [await cluster.apply(obj) for obj in objects] == [ApplyResult.UNCHANGED] * len(objects)
    await until(cluster, deployment_key(place), is_made)
    job = ObjectKey("batch/v1", "Job", namespace, objects[-1]["metadata"]["name"])
    # Its pod may have succeeded by now.
    await until(cluster, job, lambda obj: any(obj.get("status", {}).get(n) == 1 for n in ("active", "succeeded")))


async def test_each_field_changes_the_deployment_and_goes_again(
    cluster: KubernetesCluster, namespace: str, classes: None
) -> None:
    place, key = Place(namespace), deployment_key(Place(namespace))

    async def applied(spec: dict[str, Any]) -> dict[str, Any]:
        index = await stored(cluster, place, {"replicas": 0, **spec})
        deployment = index_objects(index, RELEASE)[-1]
        await cluster.apply(deployment)
        assert await cluster.apply(deployment) is ApplyResult.UNCHANGED, spec
        found = await cluster.get(key)
        return {"spec": found["spec"], "labels": found["metadata"]["labels"]}

    before = await applied({})
    unchanged = {field for field in FIELDS if await applied(FIELDS[field]) == before}
    assert unchanged == set()
    assert await applied({}) == before
    # The one restores what it was when the other was there before: no field leaves anything behind.
    for field in ("update.strategy", "placement.affinity", "env.value", "caBundle.configMapRef"):
        await applied(every_field())
        one = await applied(FIELDS[field])
        await applied({})
        assert await applied(FIELDS[field]) == one


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"update": {"maxSurge": 0, "maxUnavailable": "0%"}}, "cannot both be 0"),
        ({"update": {"strategy": "Recreate", "maxSurge": 1}}, "for strategy Rolling only"),
        ({"placement": {"tolerations": [{"value": "a"}]}}, "needs operator Exists"),
        ({"template": {"labels": {"app.kubernetes.io/name": "a"}}}, "labels below app.kubernetes.io/"),
        ({"template": {"annotations": {"cortex.datapunk.io/a": "a"}}}, "annotations below cortex.datapunk.io/"),
        ({"env": [{"name": "CORTEX_LOG_LEVEL", "value": "DEBUG"}]}, "begin with CORTEX_ are the operator's"),
        ({"env": [{"name": "A"}, {"name": "A"}]}, "Duplicate value|duplicate entries"),
        ({"env": [{"name": "A", "valueFrom": {}}]}, "exactly one of secretKeyRef"),
        ({"envFrom": [{"prefix": "A_"}]}, "exactly one of secretRef and configMapRef"),
        ({"caBundle": {}}, "exactly one of configMapRef and secretRef"),
    ],
)
def test_the_api_server_refuses_what_cannot_work(
    kubectl: Kubectl, namespace: str, spec: dict[str, Any], words: str
) -> None:
    with pytest.raises(BedError, match=words):
        kubectl.apply([Place(namespace).index(spec=spec)], f"--namespace={namespace}")
