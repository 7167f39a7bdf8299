"""Which of the fake GPU nodes the real scheduler gives our pods, and where it refuses. Every case asks each pool apart,
so that a pool is not left out merely because the scheduler liked another one better."""

from __future__ import annotations

import time
from typing import Any

import pytest
from builders import a_cortex_index_manifest
from cortex_kinds.index import CortexIndex
from cortex_operator.manifests import ReleaseSettings, index_objects
from cortex_operator.manifests.gpupool import GPUPool
from cortex_testbed.errors import BedError
from cortex_testbed.kubectl import Kubectl
from cortex_testbed.pools import POOL_LABEL

POOL = GPUPool(name="research", node_selector={"node.kubernetes.io/instance-type": "gpu-1x-l4"})
RELEASE = ReleaseSettings("registry.invalid/search:1", "registry.invalid/graph:1", gpu_pools=(POOL,))
WHOLE = {"a100", "h100", "l4", "a100-mig-mixed"}
NVIDIA_LARGE = {"a100", "h100", "a100-mig-mixed"}
SLICE = "NVIDIA-A100-SXM4-80GB-MIG-1g.10gb"

CASES: list[tuple[str, dict[str, Any] | None, set[str]]] = [
    ("no GPU: only nodes without a taint", None, {"cpu"}),
    ("any GPU: neither a shared nor a cut one", {}, WHOLE),
    ("more than one node has", {"count": 9}, set()),
    ("as many as a large node has", {"count": 8}, {"a100", "h100"}),
    ("memory, as the vendor calls it", {"memory": "80G"}, NVIDIA_LARGE),
    ("memory that the driver keeps a little of", {"memory": "80Gi"}, NVIDIA_LARGE),
    ("memory of an L4", {"memory": "24G"}, WHOLE),
    ("more memory than any has", {"memory": "94G"}, set()),
    ("a product", {"products": ["NVIDIA-H100-80GB-HBM3"]}, {"h100"}),
    ("one of two products", {"products": ["NVIDIA-H100-80GB-HBM3", "NVIDIA-L4"]}, {"h100", "l4"}),
    ("a product that is not there", {"products": ["NVIDIA-B200"]}, set()),
    ("a product with too little memory", {"products": ["NVIDIA-L4"], "memory": "80G"}, set()),
    ("a share, by its name", {"products": ["Tesla-T4-SHARED"]}, {"t4-shared"}),
    ("a slice, by its name", {"products": [SLICE], "count": 2}, {"a100-mig-single"}),
    ("a slice, by its profile", {"partition": {"profile": "1g.10gb"}, "count": 2}, {"a100-mig-mixed"}),
    ("a profile that no node is cut into", {"partition": {"profile": "2g.20gb"}}, set()),
    ("a share by turns", {"sharing": "TimeSliced"}, {"t4-shared"}),
    ("a share at the same time", {"sharing": "MPS"}, {"l40s-mps"}),
    ("shared or not", {"sharing": "Any"}, WHOLE | {"t4-shared", "l40s-mps"}),
    ("a share with memory enough", {"sharing": "Any", "memory": "40G"}, NVIDIA_LARGE | {"l40s-mps"}),
    ("a product, and not shared", {"products": ["Tesla-T4-SHARED", "NVIDIA-L4"], "sharing": "Exclusive"}, {"l4"}),
    ("Intel", {"vendor": "Intel"}, {"flex170"}),
    ("an Intel product", {"vendor": "Intel", "products": ["Flex_170"], "count": 2}, {"flex170"}),
    ("an Intel product that is not there", {"vendor": "Intel", "products": ["Max_1550"]}, set()),
    ("Intel by its newer driver", {"vendor": "Intel", "driver": "xe"}, {"arc-xe"}),
    ("a pool of the release's", {"pool": "research"}, {"l4"}),
    ("a pool that has no such GPU", {"pool": "research", "memory": "80G"}, set()),
    ("AMD", {"vendor": "AMD", "count": 2}, {"mi300x"}),
    ("an AMD product", {"vendor": "AMD", "products": ["AMD_Instinct_MI300X_OAM"]}, {"mi300x"}),
    ("an AMD product that is not there", {"vendor": "AMD", "products": ["AMD_Instinct_MI250X"]}, set()),
]


@pytest.mark.parametrize(("gpu", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_pods_get_the_nodes_that_have_what_they_ask_for_and_no_others(
    pools: dict[str, list[str]], kubectl: Kubectl, namespace: str, gpu: dict[str, Any] | None, expected: set[str]
) -> None:
    assert expected < pools.keys()
    *others, deployment = index_objects(_stored_index(kubectl, namespace, gpu), RELEASE)
    kubectl.apply([*others, *(_pinned(deployment, pool) for pool in sorted(pools))], f"--namespace={namespace}")
    placed = _placed(kubectl, namespace, expected)
    assert {pool: node for pool, node in placed.items() if node and node not in pools[pool]} == {}


def test_an_update_needs_no_gpu_more_than_the_pods_have(
    pools: dict[str, list[str]], kubectl: Kubectl, namespace: str
) -> None:
    """All eight GPUs of the only node are taken: the one pod makes room for its successor."""
    gpu = {"vendor": "AMD", "count": 8}
    for level in ("INFO", "DEBUG"):
        release = ReleaseSettings(RELEASE.search_image, RELEASE.graph_image, log_level=level)
        kubectl.apply(index_objects(_stored_index(kubectl, namespace, gpu), release), f"--namespace={namespace}")
        kubectl("rollout", "status", "deployment/papers-search", f"--namespace={namespace}", "--timeout=60s")
    (pod,) = kubectl.get("pods", f"--namespace={namespace}")["items"]
    assert pod["spec"]["nodeName"] in pools["mi300x"]
    kubectl("delete", "cortexindex/papers", f"--namespace={namespace}")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"gpu": {"vendor": "AMD", "memory": "80G"}}, "name products"),
        ({"gpu": {"vendor": "AMD", "partition": {"profile": "1g.10gb"}}}, "partition is for vendor NVIDIA only"),
        ({"gpu": {"memory": "10G", "partition": {"profile": "1g.10gb"}}}, "the profile says how much memory there is"),
        ({"gpu": {"vendor": "Other"}}, 'supported values: "NVIDIA", "AMD", "Intel"'),
        ({"gpu": {"vendor": "AMD", "sharing": "Any"}}, "sharing is for vendor NVIDIA only"),
        ({"gpu": {"sharing": "MPS", "count": 2}}, "two shares can be of the same GPU"),
        ({"gpu": {"driver": "xe"}}, "driver is for vendor Intel only"),
        ({"resources": {"limits": {"nvidia.com/gpu": "1"}}}, "GPUs are asked for by spec.gpu"),
        ({"resources": {"requests": {"amd.com/gpu": "1"}}}, "GPUs are asked for by spec.gpu"),
        ({"resources": {"requests": {"gpu.intel.com/i915": "1"}}}, "GPUs are asked for by spec.gpu"),
    ],
)
def test_the_api_server_refuses_what_cannot_work_in_our_words(
    kubectl: Kubectl, namespace: str, spec: dict[str, Any], words: str
) -> None:
    with pytest.raises(BedError, match=words):
        kubectl.apply([a_cortex_index_manifest(metadata__namespace=namespace, spec=spec)], f"--namespace={namespace}")


def _stored_index(kubectl: Kubectl, namespace: str, gpu: dict[str, Any] | None) -> CortexIndex:
    """The index as the API server has it: objects whose owner is not there are collected."""
    spec = {"gpu": gpu} if gpu is not None else {}
    kubectl.apply([a_cortex_index_manifest(metadata__namespace=namespace, spec=spec)], f"--namespace={namespace}")
    return CortexIndex.model_validate(kubectl.get("cortexindex/papers", f"--namespace={namespace}"))


def _pinned(deployment: dict[str, Any], pool: str) -> dict[str, Any]:
    """A pod of the Deployment that only this pool may have."""
    template = deployment["spec"]["template"]
    spec = {**template["spec"], "nodeSelector": {POOL_LABEL: pool}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {**template["metadata"], "name": pool}, "spec": spec}


def _placed(kubectl: Kubectl, namespace: str, expected: set[str], seconds: float = 60) -> dict[str, str]:
    """Pool -> node of its pod, empty when refused; as soon as all is as expected. Pods of other tests may be in the
    way for a while."""
    end = time.monotonic() + seconds
    while True:
        pods = kubectl.get("pods", f"--namespace={namespace}")["items"]
        placed = {pod["metadata"]["name"]: pod["spec"].get("nodeName", "") for pod in pods}
        refused = {pod["metadata"]["name"] for pod in pods if _is_refused(pod)}
        taken = {pool for pool, node in placed.items() if node}
        if taken == expected and taken | refused == placed.keys():
            return placed
        assert time.monotonic() < end, f"placed on {sorted(taken)}, refused by {sorted(refused)}"
        assert taken <= expected, f"placed on {sorted(taken - expected)} as well"
        time.sleep(0.1)


def _is_refused(pod: dict[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", ())
    return any(c["type"] == "PodScheduled" and c.get("reason") == "Unschedulable" for c in conditions)
