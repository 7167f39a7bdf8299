"""Where pods may run: what `spec.placement` says, together with what `spec.gpu` asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from cortex_kinds.affinity import Affinity
from cortex_kinds.gpu import GPU
from cortex_kinds.placement import Placement

from cortex_operator.manifests.gpu import Requirement, gpu_tolerations, node_requirements
from cortex_operator.manifests.gpupool import GPUPool
from cortex_operator.manifests.labels import Part

QUEUE_LABEL: Final = "kueue.x-k8s.io/queue-name"
"""Kueue admits what has it."""
_SPREAD_OVER: Final = ("kubernetes.io/hostname", "topology.kubernetes.io/zone")
_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"


def pod_scheduling(part: Part, pools: Sequence[GPUPool] | None) -> dict[str, Any]:
    """Fields of a pod that serves. They do not follow `replicas`: scaling must not replace pods."""
    spec = part.resource.spec
    return {**job_scheduling(spec.placement, spec.gpu, pools), **_spread(part)}


def job_scheduling(
    placement: Placement, gpu: GPU | None = None, pools: Sequence[GPUPool] | None = None
) -> dict[str, Any]:
    """The same of a pod that is alone: it is spread over nothing."""
    fields = {
        "affinity": _affinity(placement.affinity, node_requirements(gpu, pools)),
        "tolerations": _tolerations(placement, gpu_tolerations(gpu, pools)),
        "nodeSelector": placement.node_selector,
        "priorityClassName": placement.priority_class_name,
        "runtimeClassName": placement.runtime_class_name,
    }
    return {name: value for name, value in fields.items() if value}


def queue_labels(placement: Placement) -> dict[str, str]:
    """Of the object that Kueue is to admit, and of its pods."""
    return {QUEUE_LABEL: placement.queue_name} if placement.queue_name else {}


def _affinity(own: Affinity | None, of_gpu: list[Requirement]) -> dict[str, Any]:
    """Terms are alternatives, so what a GPU needs goes into each of them."""
    affinity = own.to_manifest() if own is not None else {}
    if of_gpu:
        node_affinity = affinity.setdefault("nodeAffinity", {})
        terms = node_affinity.get(_REQUIRED, {"nodeSelectorTerms": [{"matchExpressions": []}]})["nodeSelectorTerms"]
        both = [{"matchExpressions": [*term["matchExpressions"], *of_gpu]} for term in terms]
        node_affinity[_REQUIRED] = {"nodeSelectorTerms": both}
    return affinity


def _tolerations(placement: Placement, needed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    own = [toleration.to_manifest() for toleration in placement.tolerations or ()]
    return [*needed, *(toleration for toleration in own if toleration not in needed)]


def _spread(part: Part) -> dict[str, Any]:
    asked = part.resource.spec.placement.topology_spread_constraints
    constraints = [_evenly(key) for key in _SPREAD_OVER] if asked is None else [one.to_manifest() for one in asked]
    for constraint in constraints:
        constraint.setdefault("labelSelector", {"matchLabels": part.selector})
    return {"topologySpreadConstraints": constraints} if constraints else {}


def _evenly(topology_key: str) -> dict[str, Any]:
    return {
        "maxSkew": 1,
        "topologyKey": topology_key,
        "whenUnsatisfiable": "ScheduleAnyway",
        # Pods of the template before do not count: they are about to go.
        "matchLabelKeys": ["pod-template-hash"],
    }
