"""GPUs by resource claims (DRA): the template, the pod, what is refused, and which templates may go."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from builders import a_cortex_index, a_cortex_index_manifest, a_cortex_workflow
from cortex_kinds.base import API_VERSION
from cortex_kinds.index import CortexIndex
from cortex_operator.cluster import MemoryCluster, Object, ObjectKey
from cortex_operator.dataplane import ResourceKey
from cortex_operator.dataplane_grpc import GrpcDataPlane
from cortex_operator.manifests import ReleaseSettings, index_objects, workflow_objects
from cortex_operator.manifests.claim import template_name, unclaimable
from cortex_operator.manifests.gpupool import GPUPool
from cortex_operator.manifests.labels import Part
from cortex_operator.manifests.optional import CLAIM_TEMPLATE
from cortex_operator.reconcile import Reconciler, World
from cortex_operator.reconcile.claims import find_old_templates
from cortex_operator.reconcile.gpus import ledger
from cortex_operator.reconcile.pods import condition
from objects import Place
from pydantic import ValidationError

BARE = ReleaseSettings("registry.invalid/search:1", "registry.invalid/graph:1")
SERVED = replace(BARE, served=frozenset({CLAIM_TEMPLATE}))
LOCAL = replace(BARE, gpu_pools=None)
DRA = {"allocation": "DRA"}


def built(release: ReleaseSettings = SERVED, **gpu: Any) -> dict[str, Object]:
    objects = index_objects(a_cortex_index(metadata__uid="u", spec__gpu={**DRA, **gpu}), release)
    return {obj["kind"]: obj for obj in objects}


def request(**gpu: Any) -> dict[str, Any]:
    (found,) = built(**gpu)["ResourceClaimTemplate"]["spec"]["spec"]["devices"]["requests"]
    return dict(found["exactly"])


def selectors(**gpu: Any) -> list[str]:
    return [each["cel"]["expression"] for each in request(**gpu).get("selectors", ())]


MEMORY = "device.capacity['gpu.nvidia.com'].memory.compareTo(quantity('72480Mi')) >= 0"
PRODUCTS = "device.attributes['gpu.nvidia.com'].productName.replace(' ', '-') in ['NVIDIA-L4', 'NVIDIA-H100-80GB-HBM3']"


@pytest.mark.parametrize(
    ("gpu", "device_class", "asked"),
    [
        ({}, "gpu.nvidia.com", []),
        ({"memory": "80G"}, "gpu.nvidia.com", [MEMORY]),
        ({"products": ["NVIDIA-L4", "NVIDIA-H100-80GB-HBM3"]}, "gpu.nvidia.com", [PRODUCTS]),
        (
            {"partition": {"profile": "1g.10gb"}},
            "mig.nvidia.com",
            ["device.attributes['gpu.nvidia.com'].profile == '1g.10gb'"],
        ),
    ],
)
def test_what_is_asked_of_the_devices(gpu: dict[str, Any], device_class: str, asked: list[str]) -> None:
    assert (request(**gpu)["deviceClassName"], selectors(**gpu)) == (device_class, asked)
    assert (request(count=4, **gpu)["count"], request(**gpu)["count"]) == (4, 1)


def test_the_pod_has_its_claim_in_place_of_a_limit_and_of_the_labels_of_nodes() -> None:
    objects = built(memory="80G", products=["NVIDIA-L4"])
    pod = objects["Deployment"]["spec"]["template"]["spec"]
    name = objects["ResourceClaimTemplate"]["metadata"]["name"]
    assert pod["resourceClaims"] == [{"name": "gpu", "resourceClaimTemplateName": name}]
    resources = pod["containers"][0]["resources"]
    assert resources["claims"] == [{"name": "gpu"}]
    assert set(resources["limits"]) == {"cpu", "memory"}
    assert "affinity" not in pod
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in pod["tolerations"]
    assert objects["Deployment"]["spec"]["strategy"] == {"type": "Recreate"}
    assert [*objects].index("ResourceClaimTemplate") < [*objects].index("Deployment")
    workflow = workflow_objects(a_cortex_workflow(spec__gpu=DRA), SERVED)
    assert "ResourceClaimTemplate" in [obj["kind"] for obj in workflow]


def test_a_pool_is_still_one_of_nodes() -> None:
    pool = GPUPool(name="research", node_selector={"team": "research"})
    pod = built(replace(SERVED, gpu_pools=(pool,)), pool="research")["Deployment"]["spec"]["template"]["spec"]
    required = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert required["nodeSelectorTerms"] == [
        {"matchExpressions": [{"key": "team", "operator": "In", "values": ["research"]}]}
    ]


def test_another_demand_has_another_template_and_the_same_the_same() -> None:
    def name(**gpu: Any) -> str:
        return str(built(**gpu)["ResourceClaimTemplate"]["metadata"]["name"])

    assert name(memory="80G") == name(memory="80G") != name(memory="40G")
    assert len({name(), name(count=2), name(products=["NVIDIA-L4"]), name(partition={"profile": "1g.10gb"})}) == 4
    long = a_cortex_index(metadata__name="a" * 40, spec__gpu=DRA)
    assert len(index_objects(long, SERVED)[-2]["metadata"]["name"]) <= 63


@pytest.mark.parametrize(
    ("gpu", "message"),
    [
        ({"vendor": "AMD"}, "allocation DRA is for vendor NVIDIA only"),
        ({"vendor": "Intel", "driver": "xe"}, "allocation DRA is for vendor NVIDIA only"),
        ({"sharing": "TimeSliced"}, "each pod has its devices to itself"),
        ({"count": 33}, "count is at most 32"),
        ({"products": ["Tesla-T4-SHARED"]}, "products are those of whole GPUs"),
        ({"products": ["NVIDIA-A100-SXM4-80GB-MIG-1g.10gb"]}, "a slice is asked for by partition"),
    ],
)
def test_what_the_driver_does_not_give_is_refused(gpu: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        a_cortex_index(spec__gpu={**DRA, **gpu})
    a_cortex_index(spec__gpu={"allocation": "DRA", "sharing": "Exclusive", "count": 32})


@pytest.mark.parametrize(
    ("gpu", "release", "refused"),
    [
        (DRA, BARE, True),
        (DRA, SERVED, False),
        (DRA, LOCAL, False),
        ({"allocation": "ExtendedResource"}, BARE, False),
        (None, BARE, False),
    ],
)
async def test_without_claims_no_pod_is_made_and_the_conditions_say_why(
    gpu: dict[str, Any] | None, release: ReleaseSettings, refused: bool
) -> None:
    cluster, place = MemoryCluster(), Place("default")
    for obj in (
        place.secret("cortex-lake", dsn="postgresql://h/d"),
        place.secret("cortex-state", url="redis://h"),
        place.index(**({"spec__gpu": gpu} if gpu else {})),
    ):
        await cluster.apply(obj)
    reconcile = Reconciler(World(cluster, GrpcDataPlane(cluster), release))
    await reconcile(ResourceKey("CortexIndex", "default", "papers"))
    index = await cluster.get(place.papers)
    assert bool(unclaimable(a_cortex_index(spec__gpu=gpu).spec.gpu if gpu else None, release)) is refused
    assert (await cluster.list("apps/v1", "Deployment") == []) is refused
    for type, status in (("Ready", "False"), ("Schedulable", "False"), ("Stalled", "True")):
        said = condition(index, type)
        assert (said.get("reason") == "ResourceClaimsNotServed") is refused
        if refused:
            assert said["status"] == status
            assert "Kubernetes 1.34 or newer" in said["message"]


@pytest.mark.parametrize(
    ("rolled_out", "pod_has_it", "gone"), [(True, False, True), (False, False, False), (True, True, False)]
)
async def test_a_template_goes_when_no_pod_can_need_it(rolled_out: bool, pod_has_it: bool, gone: bool) -> None:
    cluster = MemoryCluster()
    await cluster.apply(a_cortex_index_manifest(spec__gpu={**DRA, "memory": "40G"}))
    key = ObjectKey(API_VERSION, "CortexIndex", "default", "papers")
    index = CortexIndex.model_validate(await cluster.get(key))
    before = index_objects(index, SERVED)
    await cluster.apply(a_cortex_index_manifest(spec__gpu={**DRA, "memory": "80G"}))
    index = CortexIndex.model_validate(await cluster.get(key))
    for obj in (*before, *index_objects(index, SERVED)):
        if obj["kind"] == "ResourceClaimTemplate":
            await cluster.apply(obj)
    deployment = next(obj for obj in index_objects(index, SERVED) if obj["kind"] == "Deployment")
    deployment["metadata"]["generation"] = 2
    updated = 1 if rolled_out else 0
    deployment["status"] = {"observedGeneration": 2, "replicas": 1, "updatedReplicas": updated}
    old = next(obj for obj in before if obj["kind"] == "Deployment")["spec"]["template"]
    pods = [old] if pod_has_it else []
    found = await find_old_templates(cluster, Part(index, "search"), "papers-search", SERVED, deployment, pods)
    (template,) = [obj for obj in before if obj["kind"] == "ResourceClaimTemplate"]
    assert [key.name for key, _ in found] == ([template["metadata"]["name"]] if gone else [])
    assert index.spec.gpu is not None
    assert template_name("papers-search", index.spec.gpu) != template["metadata"]["name"]


def test_the_ledger_names_pods_with_claims_and_says_that_it_does_not_count_their_devices() -> None:
    template = built()["Deployment"]["spec"]["template"]
    pod = {"metadata": {**template["metadata"], "name": "p", "namespace": "default"}, "spec": template["spec"]}
    found = ledger([], [pod, {**pod, "status": {"phase": "Succeeded"}}])
    assert [(str(each), each.pod, each.count) for each in found.claimants] == [("index default/papers", "p", 1)]
    assert (found.supplies, found.waiting) == ((), ())
