"""The ledger over the nodes of the test bed's pools."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from cortex_operator.cluster import Object
from cortex_operator.reconcile.gpus import Holder, ledger
from cortex_testbed.pools import POOL_LABEL
from cortex_testbed.pools import nodes as pool_nodes

NODES = {node["metadata"]["name"]: node for node in pool_nodes()}
GPU = "nvidia.com/gpu"


def a_pod(name: str, node: str = "", *, namespace: str = "default", **fields: Any) -> Object:
    """`labels`, `status`, `limits` and other fields of the one container or of the pod."""
    meta = {"name": name, "namespace": namespace, "labels": fields.pop("labels", {})}
    status = fields.pop("status", {"phase": "Running" if node else "Pending"})
    container = {"name": "main", "resources": {"limits": fields.pop("limits", {GPU: "1"})}}
    spec = {"containers": [container], **({"nodeName": node} if node else {}), **fields}
    return {"metadata": meta, "spec": spec, "status": status}


def cortex(kind: str, name: str) -> dict[str, str]:
    return {f"cortex.datapunk.io/{kind}": name}


def test_each_gpu_resource_of_each_node_is_a_row_with_its_kind_and_product() -> None:
    found = ledger([*NODES.values()], [], (POOL_LABEL,))
    rows = {(s.node, s.resource): (s.pool, s.kind, s.product, s.capacity, s.free) for s in found.supplies}
    assert rows == {
        ("a100-0", GPU): ("a100", "Whole", "NVIDIA-A100-SXM4-80GB", 8, 8),
        ("a100-1", GPU): ("a100", "Whole", "NVIDIA-A100-SXM4-80GB", 8, 8),
        ("h100-0", GPU): ("h100", "Whole", "NVIDIA-H100-80GB-HBM3", 8, 8),
        ("l4-0", GPU): ("l4", "Whole", "NVIDIA-L4", 1, 1),
        ("l4-1", GPU): ("l4", "Whole", "NVIDIA-L4", 1, 1),
        ("a100-mig-single-0", GPU): ("a100-mig-single", "MIG", "NVIDIA-A100-SXM4-80GB-MIG-1g.10gb", 14, 14),
        ("a100-mig-mixed-0", GPU): ("a100-mig-mixed", "Whole", "NVIDIA-A100-SXM4-80GB", 1, 1),
        ("a100-mig-mixed-0", "nvidia.com/mig-1g.10gb"): (
            "a100-mig-mixed",
            "MIG",
            "NVIDIA-A100-SXM4-80GB-MIG-1g.10gb",
            4,
            4,
        ),
        ("a100-mig-mixed-0", "nvidia.com/mig-3g.40gb"): (
            "a100-mig-mixed",
            "MIG",
            "NVIDIA-A100-SXM4-80GB-MIG-3g.40gb",
            1,
            1,
        ),
        ("t4-shared-0", GPU): ("t4-shared", "TimeSliced", "Tesla-T4-SHARED", 4, 4),
        ("l40s-mps-0", GPU): ("l40s-mps", "MPS", "NVIDIA-L40S-SHARED", 2, 2),
        ("flex170-0", "gpu.intel.com/i915"): ("flex170", "Whole", "Flex_170", 2, 2),
        ("arc-xe-0", "gpu.intel.com/xe"): ("arc-xe", "Whole", "", 1, 1),
        ("mi300x-0", "amd.com/gpu"): ("mi300x", "Whole", "AMD_Instinct_MI300X_OAM", 8, 8),
    }
    assert [s.node for s in found.supplies] == sorted(s.node for s in found.supplies)
    assert found.waiting == ()


INIT = [{"resources": {"limits": {GPU: "3"}}}]
SIDECAR = [{"restartPolicy": "Always", "resources": {"limits": {GPU: "2"}}}]

HOLDERS: list[tuple[str, Object, Holder | None]] = [
    ("a pod", a_pod("train", "h100-0"), Holder("default", "train", "pod", "train", 1)),
    (
        "an index's pod",
        a_pod("papers-1", "h100-0", labels=cortex("index", "papers"), limits={GPU: "2"}),
        Holder("default", "papers-1", "index", "papers", 2),
    ),
    (
        "a workflow's pod",
        a_pod("help-1", "h100-0", labels=cortex("workflow", "helpdesk"), namespace="team"),
        Holder("team", "help-1", "workflow", "helpdesk", 1),
    ),
    (
        "an init container that takes more",
        a_pod("a", "h100-0", initContainers=INIT),
        Holder("default", "a", "pod", "a", 3),
    ),
    ("a sidecar beside", a_pod("a", "h100-0", initContainers=SIDECAR), Holder("default", "a", "pod", "a", 3)),
    ("one that has ended", a_pod("a", "h100-0", status={"phase": "Succeeded"}), None),
    ("one that failed", a_pod("a", "h100-0", status={"phase": "Failed"}), None),
    (
        "one that still goes",
        a_pod("a", "h100-0", terminationGracePeriodSeconds=30),
        Holder("default", "a", "pod", "a", 1),
    ),
    ("one without a GPU", a_pod("a", "h100-0", limits={"cpu": "500m", "memory": "1e3"}), None),
    ("one on another node", a_pod("a", "l4-0"), None),
]


@pytest.mark.parametrize(("pod", "holder"), [case[1:] for case in HOLDERS], ids=[case[0] for case in HOLDERS])
def test_who_holds_how_many(pod: Object, holder: Holder | None) -> None:
    (supply,) = ledger([NODES["h100-0"]], [pod]).supplies
    assert supply.holders == ((holder,) if holder else ())
    assert supply.free == 8 - (holder.count if holder else 0)


def test_what_waits_is_told_with_the_reason() -> None:
    pods = [
        a_pod("train", "l4-0", namespace="other"),
        a_pod("b", labels=cortex("index", "papers"), tolerations=[{"operator": "Exists"}]),
        a_pod("a", limits={"amd.com/gpu": "1"}),
        a_pod("no-gpu", limits={"cpu": "1"}),
    ]
    found = ledger([NODES["l4-0"]], pods).waiting
    assert [(w.holder.pod, str(w.holder), w.resource) for w in found] == [
        ("a", "pod default/a", "amd.com/gpu"),
        ("b", "index default/papers", GPU),
    ]
    assert "no node offers amd.com/gpu; there are 1 nvidia.com/gpu" in found[0].why
    assert "node l4-0 matches and its 1 GPU is held by pod other/train (1); free one" in found[1].why


def test_a_device_that_was_lost_while_a_pod_holds_it_stays_in_the_ledger() -> None:
    node = copy.deepcopy(NODES["l4-0"])
    node["status"]["allocatable"][GPU] = "0"
    (supply,) = ledger([node], [a_pod("train", "l4-0")]).supplies
    assert (supply.capacity, supply.free) == (0, -1)
    assert ledger([node], []).supplies == ()


def test_a_cordoned_node_is_told_and_its_pool_is_what_the_first_label_says() -> None:
    node = copy.deepcopy(NODES["l4-0"])
    node["spec"]["unschedulable"] = True
    node["metadata"]["labels"] |= {"cloud.google.com/gke-nodepool": "cloud", "team": "research"}
    assert [(s.pool, s.schedulable) for s in ledger([node], []).supplies] == [("cloud", False)]
    assert [s.pool for s in ledger([node], [], ("team", "cloud.google.com/gke-nodepool")).supplies] == ["research"]
