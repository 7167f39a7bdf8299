"""What `spec.gpu` makes of a Deployment."""

from __future__ import annotations

from typing import Any

import pytest
from builders import a_cortex_index, a_cortex_workflow
from cortex_operator.cluster import Object
from cortex_operator.manifests import ReleaseSettings, index_objects, ingest_job, workflow_objects
from cortex_operator.manifests.gpupool import GPUPool

RELEASE = ReleaseSettings("registry.invalid/search:1", "registry.invalid/graph:1")
WHOLE = [
    {"key": "nvidia.com/gpu.sharing-strategy", "operator": "NotIn", "values": ["mps", "time-slicing"]},
    {"key": "nvidia.com/gpu.slices.gi", "operator": "DoesNotExist"},
]


def built(gpu: dict[str, Any] | None, **spec: Any) -> Object:
    fields = {f"spec__{name}": value for name, value in spec.items()}
    return index_objects(a_cortex_index(spec__gpu=gpu, **fields), RELEASE)[-1]


def pod_spec(deployment: Object) -> dict[str, Any]:
    found: dict[str, Any] = deployment["spec"]["template"]["spec"]
    return found


def limits(deployment: Object) -> dict[str, str]:
    found: dict[str, str] = pod_spec(deployment)["containers"][0]["resources"]["limits"]
    return found


def required(deployment: Object) -> list[dict[str, Any]]:
    node_affinity = pod_spec(deployment).get("affinity", {}).get("nodeAffinity", {})
    terms = node_affinity.get("requiredDuringSchedulingIgnoredDuringExecution", {"nodeSelectorTerms": [{}]})
    (term,) = terms["nodeSelectorTerms"]
    found: list[dict[str, Any]] = term.get("matchExpressions", [])
    return found


CASES: list[tuple[str, dict[str, Any], str, list[dict[str, Any]], list[str]]] = [
    ("any", {}, "nvidia.com/gpu", WHOLE, ["nvidia.com/gpu"]),
    (
        "products",
        {"products": ["NVIDIA-H100-80GB-HBM3", "NVIDIA-L4"]},
        "nvidia.com/gpu",
        [{"key": "nvidia.com/gpu.product", "operator": "In", "values": ["NVIDIA-H100-80GB-HBM3", "NVIDIA-L4"]}],
        ["nvidia.com/gpu"],
    ),
    (
        "memory",
        {"memory": "40Gi"},
        "nvidia.com/gpu",
        [*WHOLE, {"key": "nvidia.com/gpu.memory", "operator": "Gt", "values": ["38911"]}],
        ["nvidia.com/gpu"],
    ),
    (
        "a MIG profile",
        {"partition": {"profile": "1g.10gb"}},
        "nvidia.com/mig-1g.10gb",
        [{"key": "nvidia.com/mig-1g.10gb.sharing-strategy", "operator": "NotIn", "values": ["mps", "time-slicing"]}],
        ["nvidia.com/mig-1g.10gb", "nvidia.com/gpu"],
    ),
    (
        "a MIG profile with media engines on one product",
        {"partition": {"profile": "1g.10gb+me"}, "products": ["NVIDIA-A100-SXM4-80GB"]},
        "nvidia.com/mig-1g.10gb.me",
        [{"key": "nvidia.com/gpu.product", "operator": "In", "values": ["NVIDIA-A100-SXM4-80GB"]}],
        ["nvidia.com/mig-1g.10gb.me", "nvidia.com/gpu"],
    ),
    (
        "a share by turns",
        {"sharing": "TimeSliced", "count": 1},
        "nvidia.com/gpu",
        [{"key": "nvidia.com/gpu.sharing-strategy", "operator": "In", "values": ["time-slicing"]}, WHOLE[1]],
        ["nvidia.com/gpu"],
    ),
    ("shared or not", {"sharing": "Any", "count": 1}, "nvidia.com/gpu", WHOLE[1:], ["nvidia.com/gpu"]),
    (
        "a product that is not shared",
        {"sharing": "Exclusive", "products": ["NVIDIA-L4"]},
        "nvidia.com/gpu",
        [{"key": "nvidia.com/gpu.product", "operator": "In", "values": ["NVIDIA-L4"]}, WHOLE[0]],
        ["nvidia.com/gpu"],
    ),
    (
        "an Intel product",
        {"vendor": "Intel", "products": ["Flex_170"]},
        "gpu.intel.com/i915",
        [{"key": "gpu.intel.com/product", "operator": "In", "values": ["Flex_170"]}],
        ["gpu.intel.com/i915"],
    ),
    ("Intel's newer driver", {"vendor": "Intel", "driver": "xe"}, "gpu.intel.com/xe", [], ["gpu.intel.com/xe"]),
    ("AMD", {"vendor": "AMD"}, "amd.com/gpu", [], ["amd.com/gpu"]),
    (
        "an AMD product",
        {"vendor": "AMD", "products": ["AMD_Instinct_MI300X_OAM"]},
        "amd.com/gpu",
        [{"key": "amd.com/gpu.product-name", "operator": "In", "values": ["AMD_Instinct_MI300X_OAM"]}],
        ["amd.com/gpu"],
    ),
]


@pytest.mark.parametrize(("gpu", "resource", "labels", "taints"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_a_gpu_becomes_a_limit_labels_of_the_node_and_tolerations(
    gpu: dict[str, Any], resource: str, labels: list[dict[str, Any]], taints: list[str]
) -> None:
    deployment = built({"count": 2, **gpu})
    assert {name: n for name, n in limits(deployment).items() if "/" in name} == {resource: str(gpu.get("count", 2))}
    assert required(deployment) == labels
    assert pod_spec(deployment)["tolerations"] == [
        {"key": key, "operator": "Exists", "effect": "NoSchedule"} for key in taints
    ]


def test_a_pool_is_its_labels_and_its_taints_beside_those_of_the_gpu() -> None:
    team = {"key": "team", "value": "research", "effect": "NoSchedule"}
    pools = (GPUPool(name="research", node_selector={"team": "research", "rack": "4"}, tolerations=[team]),)
    release = ReleaseSettings("registry.invalid/search:1", "registry.invalid/graph:1", gpu_pools=pools)
    for pool, labels, tolerated in (("research", [("rack", "4"), ("team", "research")], [team]), (None, [], [])):
        deployment = index_objects(a_cortex_index(spec__gpu={"pool": pool}), release)[-1]
        assert required(deployment) == [*WHOLE, *({"key": k, "operator": "In", "values": [v]} for k, v in labels)]
        assert pod_spec(deployment)["tolerations"][1:] == tolerated


@pytest.mark.parametrize(
    ("asked", "enough", "too_little"),
    [("80G", 72480, 72479), ("80Gi", 77824, 77823), ("24G", 21744, 21743), ("10M", 10, 9)],
)
def test_a_gpu_matches_from_95_percent_of_the_memory_on(asked: str, enough: int, too_little: int) -> None:
    (bound,) = [int(r["values"][0]) for r in required(built({"memory": asked})) if r["operator"] == "Gt"]
    assert enough > bound
    assert not too_little > bound


@pytest.mark.parametrize(
    ("gpu", "replicas", "strategy"),
    [
        (None, 1, {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}),
        (None, 3, {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}),
        ({}, None, {"type": "Recreate"}),
        ({}, 0, {"type": "Recreate"}),
        ({}, 2, {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}),
    ],
)
def test_an_update_never_needs_a_gpu_more_than_the_pods_have(
    gpu: dict[str, Any] | None, replicas: int | None, strategy: dict[str, Any]
) -> None:
    assert built(gpu, replicas=replicas)["spec"]["strategy"] == strategy


def test_without_gpu_a_pod_is_placed_anywhere() -> None:
    assert not {"affinity", "tolerations"} & pod_spec(built(None)).keys()
    assert not [name for name in limits(built(None)) if "/" in name]


def test_a_workflow_gets_its_gpu_and_an_ingest_job_none() -> None:
    deployment = workflow_objects(a_cortex_workflow(spec__gpu={"count": 4}), RELEASE)[-1]
    assert limits(deployment)["nvidia.com/gpu"] == "4"
    job = ingest_job(a_cortex_index(spec__gpu={"count": 4}), "0" * 10, RELEASE)
    assert "nvidia" not in str(job)
