"""Pods, GPUs and revisions of a plan."""

from __future__ import annotations

from typing import Any

import pytest
from builders import a_cortex_index_manifest, a_cortex_workflow_manifest
from cortex_kinds.common import RevisionStatus
from cortex_kinds.index import CortexIndex
from cortex_kinds.revision import index_definition, revision_id
from cortex_operator.cluster import MemoryCluster, Object, ObjectKey
from cortex_operator.dataplane import Description
from cortex_operator.manifests.gpupool import GPUPool
from cortex_operator.preview.gpus import Fits
from cortex_operator.preview.pods import PodsChange, Way
from cortex_operator.preview.report import ResourcePlan
from objects import a_secret
from previews import RELEASE, key_of, own, planned, reconciled

L4 = {"nvidia.com/gpu.product": "NVIDIA-L4", "nvidia.com/gpu.memory": "23034"}


def a_node(name: str, gpus: int) -> Object:
    amounts = {"nvidia.com/gpu": str(gpus), "cpu": "64", "memory": "512Gi", "pods": "110"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": L4},
        "spec": {},
        "status": {"allocatable": amounts, "capacity": amounts},
    }


async def a_cluster(*manifests: Object, nodes: dict[str, int] | None = None) -> MemoryCluster:
    cluster = MemoryCluster()
    for obj in (a_secret("cortex-lake", dsn="postgresql://h/d"), a_secret("cortex-state", url="redis://h")):
        await cluster.apply(obj)
    for name, gpus in (nodes or {}).items():
        cluster.adopt({**a_node(name, gpus), "metadata": {**a_node(name, gpus)["metadata"], "uid": name}}, {})
    for manifest in manifests:
        await cluster.apply(manifest, field_manager="author")
        await reconciled(cluster, key_of(manifest))
        await _run_pods(cluster, manifest["metadata"]["name"])
    return cluster


async def _run_pods(cluster: MemoryCluster, name: str) -> None:
    """The pods of an index, each on a node of its own."""
    deployment = await cluster.get(ObjectKey("apps/v1", "Deployment", "default", f"{name}-search"))
    nodes = [node["metadata"]["name"] for node in await cluster.list("v1", "Node")]
    for number in range(deployment["spec"]["replicas"]):
        template = deployment["spec"]["template"]
        meta = {**template["metadata"], "name": f"{name}-{number}", "namespace": "default", "uid": f"{name}-{number}"}
        spec = {**template["spec"], **({"nodeName": nodes[number]} if nodes else {})}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec, "status": {"phase": "Running"}}
        cluster.adopt(pod, {})


def index(name: str = "papers", **overrides: Any) -> Object:
    return a_cortex_index_manifest(metadata__name=name, **overrides)


def with_gpus(name: str = "papers", count: int = 1, **overrides: Any) -> Object:
    return index(name, spec__gpu={"count": count, "products": ["NVIDIA-L4"]}, **overrides)


async def the_plan(cluster: MemoryCluster, manifest: Object, **described: Description) -> ResourcePlan:
    (plan,) = await planned(cluster, manifest, **described)
    return plan


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"spec__replicas": 2}, {"spec__replicas": 4}, PodsChange(2, 4)),
        ({"spec__replicas": 2}, {"spec__replicas": 0}, PodsChange(2, 0)),
        (
            {"spec__replicas": 2},
            {"spec__replicas": 3, "spec__image": "registry.invalid/own:2"},
            PodsChange(2, 3, 2, Way.ROLLING, 1, 0),
        ),
        (
            {"spec__replicas": 4},
            {"spec__replicas": 4, "spec__image": "registry.invalid/own:2", "spec__update__maxSurge": "30%"},
            PodsChange(4, 4, 4, Way.ROLLING, 2, 0),
        ),
        (
            {"spec__gpu": {"count": 1}},
            {"spec__gpu": {"count": 2}},
            PodsChange(1, 1, 1, Way.RECREATE, 0, 1),
        ),
    ],
)
async def test_pods_are_counted_and_how_they_are_replaced_is_told(
    before: dict[str, Any], after: dict[str, Any], expected: PodsChange
) -> None:
    assert (await the_plan(await a_cluster(index(**before)), index(**after))).pods == expected


async def test_gpus_that_the_plan_frees_are_free_for_it() -> None:
    cluster = await a_cluster(with_gpus("old"), nodes={"l4-0": 1})

    (kept,) = await planned(cluster, with_gpus("new"))
    assert kept.placement is not None
    assert kept.placement.fits is Fits.NO
    assert "its 1 GPU is held by index default/old (1)" in kept.placement.message

    gone, new = await planned(cluster, with_gpus("old", spec__replicas=0), with_gpus("new"))
    assert [(line.resource, line.before, line.after) for line in gone.gpus] == [("nvidia.com/gpu", 1, 0)]
    assert [(line.resource, line.before, line.after) for line in new.gpus] == [("nvidia.com/gpu", 0, 1)]
    assert new.placement is not None
    assert new.placement.message == "fits now on l4-0 (1)"


async def test_resources_of_one_plan_compete() -> None:
    cluster = await a_cluster(nodes={"l4-0": 4})

    one, two = await planned(cluster, with_gpus("one", 1), with_gpus("two", 4))

    assert one.placement is not None
    assert two.placement is not None
    assert (one.placement.fits, two.placement.fits) == (Fits.NO, Fits.YES)
    assert "index default/two (4)" in one.placement.message


async def test_a_pod_that_must_run_beside_the_old_one_needs_a_gpu_more() -> None:
    cluster = await a_cluster(with_gpus(spec__update={"maxSurge": "1", "maxUnavailable": "0"}), nodes={"l4-0": 1})
    surge = await the_plan(
        cluster, with_gpus(spec__update={"maxSurge": "1", "maxUnavailable": "0"}, spec__image="registry.invalid/own:2")
    )
    assert surge.placement is not None
    assert surge.placement.fits is Fits.NO

    room_first = await the_plan(cluster, with_gpus(spec__image="registry.invalid/own:2"))
    assert room_first.placement is not None
    assert room_first.placement.fits is Fits.YES


async def test_pods_that_stay_need_no_node_and_another_pool_is_another_line() -> None:
    release = RELEASE.__class__(
        RELEASE.search_image, RELEASE.graph_image, gpu_pools=(GPUPool(name="research", node_selector=L4),)
    )
    cluster = await a_cluster(with_gpus(), nodes={"l4-0": 1})

    same = await the_plan(cluster, with_gpus())
    assert same.placement is not None
    assert same.placement.fits is Fits.NOT_NEEDED

    pooled = with_gpus()
    pooled["spec"]["gpu"]["pool"] = "research"
    (moved,) = await planned(cluster, pooled, release=release)
    lines = [(line.pool, line.before, line.after) for line in moved.gpus]
    assert lines == [("", 1, 0), ("research", 0, 1)]


def id_of(manifest: Object) -> str:
    return revision_id(index_definition(CortexIndex.model_validate(manifest).spec))


async def described(cluster: MemoryCluster, manifest: Object, *revisions: RevisionStatus, documents: int) -> None:
    """Puts into the status what a pod said."""
    key = own(key_of(manifest))
    status = (await cluster.get(key))["status"]
    current = next((r.id for r in revisions if r.phase == "Current"), "")
    told = {"currentRevision": current, "documents": documents, "revisions": [r.to_manifest() for r in revisions]}
    await cluster.patch_status(key, {**status, **told})


async def test_another_definition_is_a_revision_with_all_documents_to_embed_and_a_job() -> None:
    before, after = index(), index(spec__chunking__splitLength=4)
    cluster = await a_cluster(before)
    current = RevisionStatus(id=id_of(before), phase="Current", documents=70, waiting=0)
    await described(cluster, before, current, documents=70)
    said = Description("pod-a", True, id_of(before), (current,), 70)

    plan = await the_plan(cluster, after, papers=said)

    assert plan.revision is not None
    assert (plan.revision.before, plan.revision.after) == (id_of(before), id_of(after))
    assert (plan.revision.cause, plan.revision.documents, plan.revision.to_embed) == ("Changed", 70, 70)
    assert [(str(c.action), c.key.name) for c in plan.objects] == [("Create", f"papers-ingest-{id_of(after)}")]
    assert plan.pods == PodsChange(1, 1)


async def test_a_revision_that_the_lake_still_has_needs_only_what_came_since() -> None:
    before, after = index(), index(spec__chunking__splitLength=4)
    cluster = await a_cluster(before)
    current = RevisionStatus(id=id_of(before), phase="Current", documents=70, waiting=0)
    kept = RevisionStatus(id=id_of(after), phase="Retained", documents=60)
    await described(cluster, before, current, kept, documents=70)

    plan = await the_plan(cluster, after)

    assert plan.revision is not None
    assert (plan.revision.cause, plan.revision.to_embed) == ("Restored", 10)


async def test_a_first_build_and_no_revision_are_told_apart() -> None:
    cluster = await a_cluster()
    first = await the_plan(cluster, index())
    assert first.revision is not None
    assert (first.revision.cause, first.revision.after, first.revision.to_embed) == ("First", id_of(index()), None)
    workflow = await the_plan(cluster, a_cortex_workflow_manifest())
    assert workflow.revision is not None
    assert (workflow.revision.cause, workflow.revision.documents) == ("First", None)

    assert (await the_plan(cluster, index(spec__suspend=True))).revision is None
    assert (await the_plan(await a_cluster(index()), index(spec__replicas=2))).revision is None
