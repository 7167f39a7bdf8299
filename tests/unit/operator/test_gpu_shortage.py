"""What is said of a pod that waits for a GPU, over the nodes of the test bed's pools."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from builders import a_cortex_index
from cortex_kinds.gpu import GPU
from cortex_operator.cluster import Object
from cortex_operator.manifests import ReleaseSettings, index_objects
from cortex_operator.reconcile.gpus import Room, shortage
from cortex_testbed.pools import nodes as pool_nodes

RELEASE = ReleaseSettings("registry.invalid/search:1", "registry.invalid/graph:1")
NODES = {node["metadata"]["name"]: node for node in pool_nodes()}
A100S = ("a100-0", "a100-1")
L4S = ("l4-0", "l4-1")


def asking(gpu: dict[str, Any] | None, **spec: Any) -> Object:
    """A pod of the index papers, as its Deployment makes it."""
    template = index_objects(a_cortex_index(spec__gpu=gpu), RELEASE)[-1]["spec"]["template"]
    pod = {**template["spec"], **spec}
    return {"metadata": {**template["metadata"], "name": "papers-1", "namespace": "default"}, "spec": pod}


def holding(node: str, count: int, name: str, resource: str = "nvidia.com/gpu", **labels: str) -> Object:
    found = {f"cortex.datapunk.io/{key}": value for key, value in labels.items()}
    spec = {"nodeName": node, "containers": [{"resources": {"limits": {resource: str(count)}}}]}
    return {"metadata": {"name": name, "namespace": "other", "labels": found}, "spec": spec}


def changed(name: str, **spec: Any) -> Object:
    node = copy.deepcopy(NODES[name])
    return {**node, "spec": {**node["spec"], **spec}}


def some(*names: str) -> list[Object]:
    return [NODES[name] for name in names]


ALL_A100_HELD = [holding("a100-0", 8, "train"), holding("a100-1", 8, "papers-search-1", index="papers")]
HELD = (
    "asks for 1 nvidia.com/gpu with 80G: nodes a100-0, a100-1 match and their 16 GPUs are held by pod other/train (8), "
    "index other/papers (8)"
)

CASES: list[tuple[str, dict[str, Any], list[Object], list[Object], list[str]]] = [
    ("it fits", {}, some("a100-0", "cpu-0"), [], ["asks for 1 nvidia.com/gpu: fits now on a100-0"]),
    (
        "all that match are held",
        {"memory": "80G"},
        some(*A100S, *L4S),
        ALL_A100_HELD,
        [HELD, "; free one, or set spec.gpu.memory to 24G to fit l4-0 or l4-1"],
    ),
    (
        "the same, and nothing smaller is free",
        {"memory": "80G"},
        some(*A100S, "l4-0"),
        [*ALL_A100_HELD, holding("l4-0", 1, "chat", workflow="helpdesk")],
        [
            HELD,
            "node l4-0 lacks: nvidia.com/gpu.memory is 23034 (at least 72480 asked), its 1 GPU is held by workflow "
            "other/helpdesk (1); free one",
        ],
    ),
    (
        "some are free, but too few",
        {"count": 4},
        some("a100-0"),
        [holding("a100-0", 6, "train")],
        ["6 of its 8 GPUs are held by pod other/train (6); free 2 on one node, or set spec.gpu.count to 2 to fit"],
    ),
    (
        "more than a node has",
        {"count": 9},
        some(*A100S),
        [],
        [
            "nodes a100-0, a100-1 lack: 8 nvidia.com/gpu (9 asked); add a node that has it",
            "or set spec.gpu.count to 8 to fit a100-0 or a100-1",
        ],
    ),
    (
        "another product",
        {"products": ["NVIDIA-B200"]},
        some(*L4S),
        [],
        ["of NVIDIA-B200", "gpu.product is NVIDIA-L4 (NVIDIA-B200 asked)", "add NVIDIA-L4 to spec.gpu.products to fit"],
    ),
    (
        "only a shared one is there",
        {},
        some("t4-shared-0"),
        [],
        [
            "exclusive GPUs (these are shared: nvidia.com/gpu.sharing-strategy is time-slicing)",
            "set spec.gpu.products to [Tesla-T4-SHARED]",
        ],
    ),
    (
        "only slices are there",
        {},
        some("a100-mig-single-0"),
        [],
        ["node a100-mig-single-0 lacks: whole GPUs (only MIG slices are offered)"],
    ),
    (
        "a shared one is asked for, and none is shared",
        {"sharing": "MPS"},
        some("l4-0"),
        [],
        ["node l4-0 lacks: GPUs shared by mps (these are not shared)"],
    ),
    (
        "a shared one is asked for, and those there are shared otherwise",
        {"sharing": "MPS"},
        some("t4-shared-0"),
        [],
        ["GPUs shared by mps (nvidia.com/gpu.sharing-strategy is time-slicing)"],
    ),
    (
        "a product with too little memory",
        {"products": ["NVIDIA-L4"], "memory": "80G"},
        some("l4-0", "a100-0"),
        [],
        ["node a100-0 lacks: nvidia.com/gpu.product is", "node l4-0 lacks: nvidia.com/gpu.memory is 23034"],
    ),
    (
        "a profile that no node is cut into",
        {"partition": {"profile": "2g.20gb"}},
        some("a100-mig-mixed-0"),
        [],
        ["no node offers nvidia.com/mig-2g.20gb; there are 4 nvidia.com/mig-1g.10gb, 1 nvidia.com/"],
    ),
    (
        "no GPU anywhere",
        {"vendor": "AMD"},
        some("cpu-0"),
        [],
        ["no node offers any GPU: is the vendor's device plugin"],
    ),
    (
        "a slice that is held",
        {"partition": {"profile": "3g.40gb"}},
        some("a100-mig-mixed-0"),
        [holding("a100-mig-mixed-0", 1, "train", "nvidia.com/mig-3g.40gb")],
        ["asks for 1 nvidia.com/mig-3g.40gb: node a100-mig-mixed-0 matches and its 1 GPU is held by pod other/train"],
    ),
    (
        "what runs on nodes that will never do hides no other kind of node",
        {"products": ["NVIDIA-B200"]},
        [*NODES.values()],
        [holding("a100-0", 8, "train"), holding("h100-0", 3, "other"), holding("h100-1", 8, "more")],
        ["nodes a100-1, a100-mig-mixed-0, a100-0 lack: ", "NVIDIA-H100-80GB-HBM3", "NVIDIA-L4"],
    ),
    (
        "the node is cordoned",
        {},
        [changed("a100-0", unschedulable=True)],
        [],
        ["node a100-0 matches, but is cordoned", "; let it in (cordon, taints)"],
    ),
    (
        "a taint that nobody tolerates",
        {},
        [changed("a100-0", taints=[{"key": "team", "value": "research", "effect": "NoSchedule"}])],
        [],
        ["node a100-0 matches, but has the taint team=research:NoSchedule"],
    ),
    (
        "the GPU is free, but not the memory",
        {},
        some("l4-0"),
        [
            {
                **holding("l4-0", 62, "big", "memory"),
                "spec": {"nodeName": "l4-0", "containers": [{"resources": {"requests": {"memory": "62Gi"}}}]},
            }
        ],
        ["node l4-0 matches, but has 2Gi memory free (4Gi asked); free or lower spec.resources.requests"],
    ),
    (
        "a pod that has ended holds nothing",
        {},
        some("l4-0"),
        [{**holding("l4-0", 1, "done"), "status": {"phase": "Succeeded"}}],
        ["fits now on l4-0"],
    ),
    (
        "a pod that is on its way holds already",
        {},
        some("l4-0"),
        [{**holding("", 1, "urgent"), "status": {"phase": "Pending", "nominatedNodeName": "l4-0"}}],
        ["its 1 GPU is held by pod other/urgent (1)"],
    ),
]


@pytest.mark.parametrize(
    ("gpu", "nodes", "pods", "parts"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_it_is_said_what_was_asked_what_is_closest_who_holds_it_and_what_to_do(
    gpu: dict[str, Any], nodes: list[Object], pods: list[Object], parts: list[str]
) -> None:
    found = shortage(asking(gpu), GPU.model_validate(gpu), Room(nodes, pods))
    for part in parts:
        assert part in found.message
    assert bool(found.fits) == ("fits now" in found.message)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"schedulingGates": [{"name": "kueue.x-k8s.io/admission"}]}, "held back by the scheduling gate kueue"),
        ({"topologySpreadConstraints": [{"whenUnsatisfiable": "DoNotSchedule"}]}, "its topology spread"),
        (
            {"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{}]}}},
            "others near or away",
        ),
        ({"volumes": [{"persistentVolumeClaim": {"claimName": "models"}}]}, "where its volumes are"),
        ({"containers": [{"ports": [{"hostPort": 80}]}]}, "the ports of the nodes"),
    ],
)
def test_nothing_fits_for_certain_where_something_decides_that_is_not_looked_at(
    spec: dict[str, Any], words: str
) -> None:
    pod = {"metadata": {"name": "a", "namespace": "b"}, "spec": {"containers": [], **spec}}
    found = shortage(pod, None, Room(some("cpu-0")))
    assert found.fits == ()
    assert words in found.message


def test_without_the_pods_nobody_is_named_and_nothing_fits_for_certain() -> None:
    found = shortage(asking({}), GPU(), Room(some(*A100S), unseen="the operator may not list Pods"))
    assert found.fits == ()
    assert (
        "a100-0, a100-1 may have room; what decides there is what other pods take (the operator may not list Pods)"
        in (found.message)
    )


def test_a_message_has_at_most_1024_characters_and_what_unblocks_is_in_it() -> None:
    """300 nodes, each lacking something of its own, with holders of long names."""
    nodes, pods = [], []
    for number in range(300):
        node = copy.deepcopy(NODES["a100-0"])
        node["metadata"]["name"] = f"a-node-with-quite-a-long-name-in-some-cloud-{number:04}.internal"
        node["status"]["allocatable"]["nvidia.com/gpu"] = str(8 + number % 3)
        nodes.append(node)
        pods.append(holding(node["metadata"]["name"], 8, f"{'holder-' * 8}{number}"))
    gpu = {"count": 8, "products": [f"NVIDIA-A100-SXM4-80GB-{'X' * 39}{n}" for n in range(15)]}
    found = shortage(asking(gpu), GPU.model_validate(gpu), Room(nodes, pods))
    assert len(found.message) <= 1024
    assert "nodes a-node-with" in found.message
    assert found.message.endswith("; add a node that has it")
