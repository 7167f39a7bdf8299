"""A plan names what an apply changes, and nothing else: held against what the reconcilers then do."""

from __future__ import annotations

from typing import Any

import pytest
from builders import a_cortex_index_manifest, a_cortex_workflow_manifest
from cortex_operator.cluster import MemoryCluster, Object, ObjectKey
from objects import a_secret
from previews import content, differing, key_of, planned, reconciled

SUSPENDED = {"spec__suspend": True}
AUTOSCALING = {"minReplicas": 2, "maxReplicas": 4, "metrics": [{"type": "CPU", "target": "70"}]}
GPU = {"count": 2, "products": ["NVIDIA-L4"]}
CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "nothing": ({}, {}),
    "metadata only": ({}, {"metadata__labels": {"team": "a"}}),
    "scale up": ({"spec__replicas": 1}, {"spec__replicas": 3}),
    "scale down": ({"spec__replicas": 3}, {"spec__replicas": 1}),
    "to zero": ({"spec__replicas": 2}, {"spec__replicas": 0}),
    "image": ({}, {"spec__image": "registry.invalid/own:2"}),
    "env": ({"spec__env": [{"name": "A", "value": "1"}]}, {"spec__env": [{"name": "B", "value": "2"}]}),
    "resources": ({}, {"spec__resources": {"limits": {"cpu": "3"}}}),
    "gpu on": ({}, {"spec__gpu": GPU}),
    "gpu off": ({"spec__gpu": GPU}, {}),
    "autoscaling on": ({"spec__replicas": 2}, {"spec__autoscaling": AUTOSCALING}),
    "autoscaling off": ({"spec__autoscaling": AUTOSCALING}, {"spec__replicas": 2}),
    "suspend": ({"spec__replicas": 2}, {"spec__replicas": 2, "spec__suspend": True}),
    "resume": ({"spec__replicas": 2, "spec__suspend": True}, {"spec__replicas": 2}),
    "suspend autoscaled": ({"spec__autoscaling": AUTOSCALING}, {"spec__autoscaling": AUTOSCALING, **SUSPENDED}),
    "resume autoscaled": ({"spec__autoscaling": AUTOSCALING, **SUSPENDED}, {"spec__autoscaling": AUTOSCALING}),
    "account": ({}, {"spec__serviceAccountName": "team"}),
    "an unknown pool": ({}, {"spec__gpu": {**GPU, "pool": "nowhere"}}),
}
BUILDERS = {"index": a_cortex_index_manifest, "workflow": a_cortex_workflow_manifest}


async def a_cluster(*manifests: Object) -> MemoryCluster:
    cluster = MemoryCluster()
    for secret in (a_secret("cortex-lake", dsn="postgresql://h/d"), a_secret("cortex-state", url="redis://h")):
        await cluster.apply(secret)
    for manifest in manifests:
        await cluster.apply(manifest, field_manager="author")
    await reconciled(cluster, *map(key_of, manifests))
    return cluster


@pytest.mark.parametrize("kind", BUILDERS)
@pytest.mark.parametrize("change", CHANGES)
async def test_the_objects_that_change_are_those_of_the_plan(kind: str, change: str) -> None:
    before, after = (BUILDERS[kind](**overrides) for overrides in CHANGES[change])
    cluster = await a_cluster(before)
    was = content(cluster)

    (plan,) = await planned(cluster, after)
    assert content(cluster) == was

    await cluster.apply(after, field_manager="author")
    await reconciled(cluster, key_of(after))
    assert {change.key: str(change.action) for change in plan.objects} == differing(was, content(cluster))
    assert plan.changes is (before != after)


@pytest.mark.parametrize("kind", BUILDERS)
async def test_all_objects_of_a_new_resource_are_created(kind: str) -> None:
    cluster = await a_cluster()
    manifest = BUILDERS[kind](spec__autoscaling=AUTOSCALING)

    (plan,) = await planned(cluster, manifest)

    was = content(cluster)
    await cluster.apply(manifest, field_manager="author")
    await reconciled(cluster, key_of(manifest))
    assert {change.key: str(change.action) for change in plan.objects} == differing(was, content(cluster))
    assert plan.action == "Create"


async def test_what_somebody_else_changed_is_drift_unless_the_plan_changes_it_too() -> None:
    index = a_cortex_index_manifest()
    cluster = await a_cluster(index)
    service = ObjectKey("v1", "Service", "default", "papers-search")
    drifted = await cluster.get(service)
    drifted["spec"]["ports"][0]["targetPort"] = "elsewhere"
    await cluster.apply(drifted, field_manager="somebody")

    (plan,) = await planned(cluster, a_cortex_index_manifest(spec__replicas=2))

    found = {change.key.kind: change for change in plan.objects}
    assert found["Service"].drift
    assert [(c.path, c.before, c.after) for c in found["Service"].fields] == [
        ("spec.ports[50052,TCP].targetPort", "elsewhere", "grpc")
    ]
    assert not found["Deployment"].drift
    assert [(c.path, c.before, c.after) for c in found["Deployment"].fields] == [("spec.replicas", 1, 2)]


async def test_references_are_named_unless_the_plan_brings_them() -> None:
    cluster = MemoryCluster()
    workflow = a_cortex_workflow_manifest()

    (alone,) = await planned(cluster, workflow)
    assert [(one.kind, one.name) for one in alone.missing] == [
        ("Secret", "cortex-lake"),
        ("Secret", "cortex-state"),
        ("CortexIndex", "papers"),
    ]
    assert [one.key.kind for one in alone.objects] == ["NetworkPolicy"]

    _, together = await planned(await a_cluster(), a_cortex_index_manifest(), workflow)
    assert together.missing == ()


async def test_what_belongs_to_somebody_else_blocks() -> None:
    cluster = await a_cluster()
    theirs = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "papers-search"}, "data": {"a": "b"}}
    await cluster.apply(theirs, field_manager="somebody")

    (plan,) = await planned(cluster, a_cortex_index_manifest())

    (blocked,) = plan.blocked
    assert blocked.reason == "ApplyRefused"
    assert "ConfigMap default/papers-search is there already" in blocked.message
