"""What `spec.placement` and `spec.update` make of a Deployment and of an ingest Job, with and without GPUs."""

from __future__ import annotations

from typing import Any

import pytest
from builders import a_cortex_index, a_cortex_workflow
from cortex_operator.cluster import Object
from cortex_operator.manifests import ReleaseSettings, index_objects, ingest_job, workflow_objects

RELEASE = ReleaseSettings("registry.invalid/search:1", "registry.invalid/graph:1")
QUEUE = "kueue.x-k8s.io/queue-name"
ZONES = {"key": "topology.kubernetes.io/zone", "operator": "In", "values": ["a"]}
SSD = {"key": "disk", "operator": "In", "values": ["ssd"]}
PRODUCT = {"key": "nvidia.com/gpu.product", "operator": "In", "values": ["NVIDIA-L4"]}
L4 = {"products": ["NVIDIA-L4"]}
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def deployment(**spec: Any) -> Object:
    return index_objects(a_cortex_index(spec=spec), RELEASE)[-1]


def pod(obj: Object) -> dict[str, Any]:
    found: dict[str, Any] = obj["spec"]["template"]["spec"]
    return found


def job_pod(**spec: Any) -> dict[str, Any]:
    return pod(ingest_job(a_cortex_index(spec=spec), "0" * 10, RELEASE))


def rolling(surge: int | str, unavailable: int | str) -> dict[str, Any]:
    return {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}


RECREATE = {"type": "Recreate"}
STRATEGIES: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    # update, without a GPU, one pod with a GPU
    ({}, rolling(1, 0), RECREATE),
    ({"strategy": "Rolling"}, rolling(1, 0), rolling(0, 1)),
    ({"strategy": "Recreate"}, RECREATE, RECREATE),
    ({"maxSurge": 2}, rolling(2, 0), rolling(2, 1)),
    ({"maxSurge": "0%"}, rolling("0%", 1), rolling("0%", 1)),
    ({"maxUnavailable": 0}, rolling(1, 0), rolling(1, 0)),
    ({"maxUnavailable": "50%"}, rolling(1, "50%"), rolling(0, "50%")),
    ({"maxSurge": "25%", "maxUnavailable": 1}, rolling("25%", 1), rolling("25%", 1)),
]


@pytest.mark.parametrize(("update", "without", "with_gpu"), STRATEGIES)
def test_what_an_update_costs(update: dict[str, Any], without: dict[str, Any], with_gpu: dict[str, Any]) -> None:
    assert deployment(update=update)["spec"]["strategy"] == without
    assert deployment(update=update, gpu={})["spec"]["strategy"] == with_gpu


def test_several_pods_with_gpus_make_room_one_at_a_time() -> None:
    assert deployment(gpu={}, replicas=2)["spec"]["strategy"] == rolling(0, 1)


def test_pods_are_spread_over_hosts_and_zones_and_scaling_does_not_replace_them() -> None:
    for objects in (index_objects(a_cortex_index(), RELEASE), workflow_objects(a_cortex_workflow(), RELEASE)):
        constraints = pod(objects[-1])["topologySpreadConstraints"]
        assert [(c["topologyKey"], c["whenUnsatisfiable"], c["maxSkew"]) for c in constraints] == [
            ("kubernetes.io/hostname", "ScheduleAnyway", 1),
            ("topology.kubernetes.io/zone", "ScheduleAnyway", 1),
        ]
        selector = objects[-1]["spec"]["selector"]
        assert all(c["labelSelector"] == selector for c in constraints)
    assert deployment(replicas=1)["spec"]["template"] == deployment(replicas=9)["spec"]["template"]


def test_an_own_spread_takes_the_place_of_ours_and_counts_the_own_pods() -> None:
    zone = {"maxSkew": 2, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule"}
    other = {**zone, "topologyKey": "rack", "labelSelector": {"matchLabels": {"tier": "search"}}, "minDomains": 3}
    built = deployment(placement={"topologySpreadConstraints": [zone, other]})
    assert pod(built)["topologySpreadConstraints"] == [{**zone, "labelSelector": built["spec"]["selector"]}, other]
    assert "topologySpreadConstraints" not in pod(deployment(placement={"topologySpreadConstraints": []}))


def test_what_a_gpu_needs_of_nodes_goes_into_each_alternative() -> None:
    terms = [{"matchExpressions": [ZONES]}, {"matchExpressions": [SSD]}]
    near = [{"topologyKey": "rack", "labelSelector": {"matchLabels": {"a": "b"}}}]
    placement = {
        "affinity": {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": terms}}, "podAffinity": {REQUIRED: near}}
    }
    affinity = pod(deployment(placement=placement, gpu=L4))["affinity"]
    assert affinity["nodeAffinity"][REQUIRED]["nodeSelectorTerms"] == [
        {"matchExpressions": [ZONES, PRODUCT]},
        {"matchExpressions": [SSD, PRODUCT]},
    ]
    assert affinity["podAffinity"] == {REQUIRED: near}
    assert pod(deployment(placement=placement))["affinity"] == placement["affinity"]
    alone = pod(deployment(gpu=L4))["affinity"]
    assert alone == {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [{"matchExpressions": [PRODUCT]}]}}}


def test_preferred_nodes_stay_beside_what_a_gpu_needs() -> None:
    preferred = [{"weight": 5, "preference": {"matchExpressions": [SSD]}}]
    affinity = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}
    found = pod(deployment(placement={"affinity": affinity}, gpu=L4))["affinity"]["nodeAffinity"]
    assert found["preferredDuringSchedulingIgnoredDuringExecution"] == preferred
    assert found[REQUIRED] == {"nodeSelectorTerms": [{"matchExpressions": [PRODUCT]}]}


def test_tolerations_are_those_of_the_gpu_and_the_own_ones() -> None:
    ours = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    own = {"key": "team", "operator": "Equal", "value": "research", "effect": "NoExecute", "tolerationSeconds": 60}
    assert pod(deployment(placement={"tolerations": [own, ours]}, gpu={}))["tolerations"] == [ours, own]
    assert pod(deployment(placement={"tolerations": [own]}))["tolerations"] == [own]


def test_an_ingest_job_goes_where_the_pods_go_but_for_gpus_and_spread() -> None:
    placement = {
        "nodeSelector": {"pool": "a"},
        "tolerations": [{"operator": "Exists"}],
        "priorityClassName": "low",
        "runtimeClassName": "gvisor",
    }
    found = job_pod(placement=placement, gpu=L4)
    assert {name: found[name] for name in placement} == placement
    assert not {"affinity", "topologySpreadConstraints"} & found.keys()


def test_a_queue_is_named_on_what_kueue_admits_and_never_in_a_selector() -> None:
    placement = {"queueName": "research"}
    built = deployment(placement=placement)
    job = ingest_job(a_cortex_index(spec__placement=placement), "0" * 10, RELEASE)
    for labels in (built["metadata"], built["spec"]["template"]["metadata"], job["metadata"]):
        assert labels["labels"][QUEUE] == "research"
    assert QUEUE not in built["spec"]["selector"]["matchLabels"]
    assert QUEUE not in deployment()["metadata"]["labels"]
