"""The condition Schedulable: whether every pod has a node, and if not what it asks for that no node gives. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cortex_kinds.common import CommonSpec
from cortex_kinds.conditions import ConditionType, Reason
from cortex_kinds.gpu import GPU
from cortex_kinds.network import Network
from cortex_kinds.placement import Placement

from cortex_operator.cluster import Object
from cortex_operator.manifests.claim import claim_words, is_claimed
from cortex_operator.manifests.gpu import gpu_limits
from cortex_operator.manifests.gpupool import GPUPool, unknown_pool
from cortex_operator.manifests.placement import job_scheduling
from cortex_operator.reconcile.finding import Finding, false, true, unknown
from cortex_operator.reconcile.gpus import Room, Shortage, shortage
from cortex_operator.reconcile.pods import condition, is_terminating
from cortex_operator.reconcile.words import every

_TYPE = ConditionType.SCHEDULABLE
_GATED: Final = "SchedulingGated"


@dataclass(frozen=True)
class Nodes:
    """The cluster's nodes and what is on them, as far as they were looked at. `unreadable`: why they could not be."""

    room: Room | None = None
    unreadable: str = ""
    pools: tuple[GPUPool, ...] | None = None
    """Those of the release."""


def wants_nodes(spec: CommonSpec, pods: Iterable[Object]) -> bool:
    """Whether the nodes can tell something that the pods do not: only about GPUs that a pod still waits for; not of
    devices that are claimed, which the scheduler alone knows."""
    if is_claimed(spec.gpu):
        return False
    placed = [pod for pod in pods if not is_terminating(pod) and is_placed(pod)]
    return spec.gpu is not None and len(placed) < spec.desired_replicas


def is_outdated(spec: CommonSpec, pods: Iterable[Object], nodes: Nodes) -> bool:
    """Whether the nodes seem to have room for a pod that the scheduler has refused since they were looked at."""
    refused, room = _first_refused(pods), nodes.room
    if refused is None or spec.gpu is None or room is None or room.unseen or room.knows(refused):
        return False
    return shortage(refused, spec.gpu, room).roomy


def placement(spec: CommonSpec, pods: Iterable[Object], nodes: Nodes) -> Finding:
    """Schedulable, by what the scheduler said of the pods, and by the nodes where it tells more."""
    if unknown_gpu_pool := unknown_pool(spec.gpu, nodes.pools):
        return false(_TYPE, Reason.UNKNOWN_GPU_POOL, unknown_gpu_pool)
    living = [pod for pod in pods if not is_terminating(pod)]
    if (refused := _first_refused(living)) is not None:
        return _refused(refused, spec.gpu, nodes)
    if not living and spec.desired_replicas == 0:
        return true(_TYPE, Reason.SCALED_TO_ZERO, "spec.replicas is 0: there is nothing to place")
    if len(living) >= spec.desired_replicas and all(map(is_placed, living)):
        return true(_TYPE, Reason.PODS_SCHEDULED, _placed(spec, living))
    if (
        spec.gpu is not None
        and nodes.room is not None
        and (short := shortage(_first(spec, nodes.pools), spec.gpu, nodes.room)).never
    ):
        return false(_TYPE, Reason.NO_MATCHING_NODE, short.message)
    if nodes.unreadable:
        message = f"whether a node fits shows once there is a pod: {nodes.unreadable}"
        return unknown(_TYPE, Reason.NODES_NOT_READABLE, message)
    return unknown(_TYPE, Reason.PENDING, "the scheduler has not seen every pod yet")


def is_placed(pod: Object) -> bool:
    """Whether the pod has a node. A pod that got further than Pending has one, whoever runs it."""
    status = pod.get("status") or {}
    far = status.get("phase", "Pending") != "Pending"
    return far or bool((pod.get("spec") or {}).get("nodeName")) or _verdict(pod).get("status") == "True"


def _first_refused(pods: Iterable[Object]) -> Object | None:
    waiting = (pod for pod in pods if not is_terminating(pod) and not is_placed(pod))
    return next((pod for pod in waiting if _verdict(pod).get("status") == "False"), None)


def _verdict(pod: Object) -> dict[str, str]:
    return condition(pod, "PodScheduled")


def _placed(spec: CommonSpec, pods: Sequence[Object]) -> str:
    said = f"{every(len(pods), 'pod is', 'pods are')} placed"
    kept = [] if any((pod.get("spec") or {}).get("nodeName") for pod in pods) else _of_a_cluster(spec)
    if not kept:
        return said
    verb = "is" if len(kept) == 1 else "are"
    return f"{said}; there are no nodes here, so {', '.join(kept)} {verb} kept but not enforced"


def _of_a_cluster(spec: CommonSpec) -> list[str]:
    """Fields that only a cluster with nodes, registries, ServiceAccounts and a network of its own can carry out."""
    asked = {
        "spec.gpu": spec.gpu is not None,
        "spec.placement": spec.placement != Placement(),
        "spec.serviceAccountName": spec.service_account_name is not None,
        "spec.imagePullSecrets": bool(spec.image_pull_secrets),
        "spec.network": spec.network != Network(),
    }
    return [field for field, given in asked.items() if given]


def _refused(pod: Object, gpu: GPU | None, nodes: Nodes) -> Finding:
    said = _verdict(pod)
    short = shortage(pod, gpu, nodes.room) if gpu is not None and nodes.room is not None else Shortage(_asked(pod, gpu))
    # The scheduler's words come last: they can be long, and a message is cut at its end.
    words = [short.message, f"pod {pod['metadata']['name']}"]
    words += [f"whether any node could take it cannot be said: {nodes.unreadable}"] if nodes.unreadable else []
    words += [f"the scheduler says: {said.get('message') or 'nothing'}"]
    if nodes.unreadable:
        return unknown(_TYPE, Reason.NODES_NOT_READABLE, "; ".join(words))
    return false(_TYPE, Reason.NO_MATCHING_NODE if short.never else _reason(said), "; ".join(words))


def _reason(verdict: Mapping[str, str]) -> str:
    """Held back by a gate, or without a node: what else the scheduler calls it changes with each try."""
    return _GATED if verdict.get("reason") == _GATED else Reason.UNSCHEDULABLE


def _first(spec: CommonSpec, pools: Sequence[GPUPool] | None) -> Object:
    """A pod as there will be one, as far as its GPUs and its placement go."""
    container = {"resources": {"limits": gpu_limits(spec.gpu)}}
    scheduling = job_scheduling(spec.placement, spec.gpu, pools)
    return {"metadata": {"name": ""}, "spec": {"containers": [container], **scheduling}}


def _asked(pod: Object, gpu: GPU | None) -> str:
    wanted: dict[str, str] = {}
    for container in (pod.get("spec") or {}).get("containers") or ():
        resources = container.get("resources") or {}
        wanted |= {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
    amounts = ", ".join(f"{amount} {name}" for name, amount in sorted(wanted.items())) or "nothing in particular"
    return f"asks for {amounts}" + (f" and claims {claim_words(gpu)}" if gpu is not None and is_claimed(gpu) else "")
