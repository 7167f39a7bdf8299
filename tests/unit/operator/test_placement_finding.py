"""The condition Schedulable over pods and nodes."""

from __future__ import annotations

from typing import Any

import pytest
from builders import a_cortex_index
from cortex_kinds.common import CommonSpec
from cortex_operator.cluster import Object
from cortex_operator.cluster.packed import pack, unpack
from cortex_operator.manifests import ReleaseSettings, index_objects
from cortex_operator.manifests.gpupool import GPUPool
from cortex_operator.reconcile.gpus import Room
from cortex_operator.reconcile.placement import Nodes, placement, wants_nodes

RELEASE = ReleaseSettings("registry.invalid/search:1", "registry.invalid/graph:1")
ROOM = {"cpu": "96", "memory": "1Ti", "pods": "110"}
SAID = "0/9 nodes are available: 9 Insufficient nvidia.com/gpu."


def a_spec(gpu: dict[str, Any] | None = None, replicas: int | None = None) -> CommonSpec:
    return a_cortex_index(spec__gpu=gpu, spec__replicas=replicas).spec


def a_pod(name: str = "papers-search-1", **status: Any) -> Object:
    resources = {"requests": {"cpu": "2"}, "limits": {"cpu": "4", "nvidia.com/gpu": "1"}}
    return {"metadata": {"name": name}, "spec": {"containers": [{"resources": resources}]}, "status": status}


def waiting(gpu: dict[str, Any]) -> Object:
    """A pod as the Deployment makes it, that the scheduler refused."""
    template = index_objects(a_cortex_index(spec__gpu=gpu), RELEASE)[-1]["spec"]["template"]
    meta = {**template["metadata"], "name": "papers-search-1", "namespace": "default"}
    return {"metadata": meta, "spec": template["spec"], "status": scheduled("False", "Unschedulable", SAID)}


def scheduled(status: str, reason: str = "", message: str = "") -> dict[str, Any]:
    return {
        "phase": "Pending",
        "conditions": [{"type": "PodScheduled", "status": status, "reason": reason, "message": message}],
    }


def on_a_node(name: str = "papers-search-1") -> Object:
    pod = a_pod(name, **scheduled("True"))
    return {**pod, "spec": {**pod["spec"], "nodeName": "node-1"}}


def a_node(name: str, offers: dict[str, str], **labels: str) -> Object:
    found = {f"nvidia.com/gpu.{key}": value for key, value in labels.items()}
    return {"metadata": {"name": name, "labels": found}, "status": {"allocatable": {**ROOM, **offers}}}


UNPLACED = a_pod(**scheduled("False", "Unschedulable", SAID))
A100 = a_node("a100", {"nvidia.com/gpu": "8"}, product="NVIDIA-A100-SXM4-80GB", memory="81920")
L4 = a_node("l4", {"nvidia.com/gpu": "4"}, product="NVIDIA-L4", memory="23034")
T4 = a_node(
    "t4", {"nvidia.com/gpu": "40"}, product="Tesla-T4-SHARED", memory="15360", **{"sharing-strategy": "time-slicing"}
)
SLICED = a_node("mig", {"nvidia.com/gpu": "56"}, product="NVIDIA-A100-MIG-1g.10gb", memory="9728", **{"slices.gi": "1"})
CPU = a_node("cpu", {"cpu": "64"})
ALL = Nodes(Room((A100, L4, T4, SLICED, CPU)))
HOLDS_ALL = {
    "metadata": {"name": "train", "namespace": "other"},
    "spec": {"nodeName": "a100", "containers": [{"resources": {"limits": {"nvidia.com/gpu": "8"}}}]},
}
UNREADABLE = Nodes(unreadable="the operator may not list Nodes")

CASES: list[tuple[str, CommonSpec, list[Object], Nodes, tuple[str, str], list[str]]] = [
    ("all have a node", a_spec(), [on_a_node()], Nodes(), ("True", "PodsScheduled"), ["the pod is placed"]),
    (
        "all have one",
        a_spec(replicas=2),
        [on_a_node()] * 2,
        Nodes(),
        ("True", "PodsScheduled"),
        ["all 2 pods are placed"],
    ),
    (
        "one is missing",
        a_spec(replicas=2),
        [on_a_node()],
        Nodes(),
        ("Unknown", "Pending"),
        ["has not seen every pod"],
    ),
    ("none is wanted", a_spec(replicas=0), [], Nodes(), ("True", "ScaledToZero"), ["nothing to place"]),
    ("none was made yet", a_spec(), [], Nodes(), ("Unknown", "Pending"), []),
    ("the scheduler has not seen it", a_spec(), [a_pod(phase="Pending")], Nodes(), ("Unknown", "Pending"), []),
    (
        "no room, and no GPU is asked for",
        a_spec(),
        [UNPLACED],
        Nodes(),
        ("False", "Unschedulable"),
        [SAID, "papers-search-1", "2 cpu"],
    ),
    (
        "one of two has no room",
        a_spec(replicas=2),
        [on_a_node("a"), UNPLACED],
        Nodes(),
        ("False", "Unschedulable"),
        ["papers-search-1"],
    ),
    (
        "pods that wait behind a gate",
        a_spec(),
        [a_pod(**scheduled("False", "SchedulingGated", "Scheduling is blocked due to non-empty scheduling gates"))],
        Nodes(),
        ("False", "SchedulingGated"),
        ["gates"],
    ),
    (
        "the scheduler failed for a moment",
        a_spec(),
        [a_pod(**scheduled("False", "SchedulerError", "the namespace is going"))],
        Nodes(),
        ("False", "Unschedulable"),
        ["the namespace is going"],
    ),
    (
        "the GPUs are taken",
        a_spec({}),
        [waiting({})],
        Nodes(Room((A100,), (HOLDS_ALL,))),
        ("False", "Unschedulable"),
        ["asks for 1 nvidia.com/gpu: node a100 matches and its 8 GPUs are held by pod other/train (8)", SAID],
    ),
    (
        "the nodes may not be read, but the scheduler tells",
        a_spec({}),
        [waiting({})],
        UNREADABLE,
        ("Unknown", "NodesNotReadable"),
        [
            "1 nvidia.com/gpu; pod papers-search-1; whether any node could take it cannot be said: the operator",
            f"; the scheduler says: {SAID}",
        ],
    ),
    (
        "the nodes may not be read, but nothing of them is asked",
        a_spec(),
        [UNPLACED],
        Nodes(),
        ("False", "Unschedulable"),
        [SAID],
    ),
    (
        "the nodes may not be read and there is no pod",
        a_spec({}),
        [],
        UNREADABLE,
        ("Unknown", "NodesNotReadable"),
        ["may not list Nodes"],
    ),
    (
        "the nodes may not be read but the pods run",
        a_spec({}),
        [on_a_node()],
        UNREADABLE,
        ("True", "PodsScheduled"),
        [],
    ),
    (
        "no node offers it",
        a_spec({"vendor": "AMD"}),
        [waiting({"vendor": "AMD"})],
        ALL,
        ("False", "NoMatchingNode"),
        ["no node offers amd.com/gpu", SAID],
    ),
    (
        "no pod was made yet, and no node could take it",
        a_spec({"memory": "140G"}),
        [],
        ALL,
        ("False", "NoMatchingNode"),
        ["nvidia.com/gpu.memory is 81920 (at least 126839 asked)"],
    ),
    ("no pod was made yet, and a node could take it", a_spec({}), [], ALL, ("Unknown", "Pending"), []),
    (
        "a slice that is named",
        a_spec({"products": ["NVIDIA-A100-MIG-1g.10gb"]}),
        [waiting({"products": ["NVIDIA-A100-MIG-1g.10gb"]})],
        Nodes(Room((SLICED,))),
        ("False", "Unschedulable"),
        ["node mig looks free now, and the scheduler is expected to try again; pod papers-search-1; the sch", SAID],
    ),
]


@pytest.mark.parametrize(
    ("spec", "pods", "nodes", "value", "parts"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_the_condition_says_whether_there_is_a_node_and_what_is_missing(
    spec: CommonSpec, pods: list[Object], nodes: Nodes, value: tuple[str, str], parts: list[str]
) -> None:
    kept = [unpack(pack({"kind": "Pod", **pod})) for pod in pods]
    found = placement(spec, kept, nodes)
    assert (str(found.status), str(found.reason)) == value
    for part in parts:
        assert part in found.message


def test_without_nodes_a_pod_that_runs_is_placed_and_it_is_said_that_the_gpu_is_not_enforced() -> None:
    running = a_pod(phase="Running", conditions=[{"type": "PodScheduled", "status": "True"}])
    found = placement(a_spec({}), [running], Nodes(Room(())))
    assert found.holds
    assert "not enforced" in found.message
    assert "not enforced" not in placement(a_spec(), [running], Nodes()).message


def test_without_nodes_it_is_said_which_fields_are_not_enforced() -> None:
    spec = a_cortex_index(spec__placement={"nodeSelector": {"a": "b"}}, spec__serviceAccountName="team").spec
    running = a_pod(phase="Running")
    message = placement(spec, [running], Nodes()).message
    assert message.endswith("so spec.placement, spec.serviceAccountName are kept but not enforced")
    assert "not enforced" not in placement(spec, [on_a_node()], Nodes()).message
    assert "not enforced" not in placement(a_spec(), [running], Nodes()).message


RESEARCH = GPUPool(name="research", node_selector={"team": "research"})


@pytest.mark.parametrize(
    ("pools", "words"),
    [((RESEARCH,), "no pool of this release: there are research (chart value"), ((), "the release names none")],
)
def test_a_pool_that_nobody_named_is_said_with_those_that_there_are(pools: tuple[GPUPool, ...], words: str) -> None:
    found = placement(a_spec({"pool": "other"}), [on_a_node()], Nodes(pools=pools))
    assert (str(found.status), str(found.reason)) == ("False", "UnknownGPUPool")
    assert words in found.message
    assert placement(a_spec({"pool": "other"}), [on_a_node()], Nodes()).holds


def test_before_there_is_a_pod_the_nodes_of_the_pool_are_looked_at() -> None:
    found = placement(a_spec({"pool": "research"}), [], Nodes(Room((A100,)), pools=(RESEARCH,)))
    assert found.reason == "NoMatchingNode"
    assert "asks for 1 nvidia.com/gpu in pool research: node a100 lacks: team is not there (research asked)" in (
        found.message
    )


def test_a_pod_that_is_going_does_not_count() -> None:
    going = {**UNPLACED, "metadata": {"name": "old", "deletionTimestamp": "2026-01-01T00:00:00Z"}}
    assert placement(a_spec(), [going, on_a_node()], Nodes()).holds


def test_the_nodes_are_looked_at_only_while_a_pod_waits_for_a_gpu() -> None:
    assert wants_nodes(a_spec({}), [UNPLACED])
    assert wants_nodes(a_spec({}), [])
    assert not wants_nodes(a_spec({}), [on_a_node()])
    assert not wants_nodes(a_spec({}, replicas=0), [])
    assert not wants_nodes(a_spec(), [UNPLACED])
    going = on_a_node()
    assert wants_nodes(a_spec({}), [{**going, "metadata": {**going["metadata"], "deletionTimestamp": "now"}}, UNPLACED])
