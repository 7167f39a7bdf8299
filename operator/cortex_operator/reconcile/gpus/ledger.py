"""The ledger: which GPUs the nodes have, who holds how many, what is free and what waits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from cortex_operator.cluster import Object
from cortex_operator.manifests.gpu import is_gpu, kind_of, product_of
from cortex_operator.reconcile.gpus.demand import allocatable
from cortex_operator.reconcile.gpus.holders import Holder, Room, claimant, claims
from cortex_operator.reconcile.gpus.shortage import shortage

POOL_LABELS: Final = (
    "cloud.google.com/gke-nodepool",
    "eks.amazonaws.com/nodegroup",
    "kubernetes.azure.com/agentpool",
    "karpenter.sh/nodepool",
)
"""Labels by which clouds name the pool of a node."""


@dataclass(frozen=True)
class Supply:
    """One GPU resource of one node. `kind`: Whole, MIG, TimeSliced or MPS."""

    pool: str
    node: str
    resource: str
    kind: str
    product: str
    capacity: int
    holders: tuple[Holder, ...] = ()
    schedulable: bool = True
    """False: the node is cordoned."""

    @property
    def free(self) -> int:
        """GPUs that nobody holds; below zero while a device is lost that a pod still has."""
        return self.capacity - sum(holder.count for holder in self.holders)


@dataclass(frozen=True)
class Waiting:
    """A pod that has no node yet, and why."""

    holder: Holder
    resource: str
    why: str


@dataclass(frozen=True)
class Ledger:
    """GPUs of a cluster: nodes by pool and name, pods by namespace and name."""

    supplies: tuple[Supply, ...]
    waiting: tuple[Waiting, ...]
    claimants: tuple[Holder, ...] = ()
    """Pods with resource claims (DRA), whose devices are not among the supplies: these are what nodes offer as
    extended resources."""


def ledger(nodes: Sequence[Object], pods: Sequence[Object], pool_labels: Sequence[str] = POOL_LABELS) -> Ledger:
    """The ledger of these nodes and of the pods of all namespaces. A node's pool is what the first of `pool_labels`
    that it has says."""
    room = Room(nodes, pods)
    supplies = (_supply(node, resource, room, pool_labels) for node in nodes for resource in _offered(node, room))
    waiting = (
        Waiting(holder, resource, shortage(pod, None, room).message)
        for pod in room.waiting
        for resource, holder in claims(pod)
    )
    claimants = filter(None, map(claimant, pods))
    return Ledger(
        tuple(sorted(supplies, key=lambda s: (s.pool, s.node, s.resource))),
        tuple(waiting),
        tuple(sorted(claimants, key=lambda holder: (holder.namespace, holder.pod))),
    )


def _supply(node: Object, resource: str, room: Room, pool_labels: Sequence[str]) -> Supply:
    name, labels = node["metadata"]["name"], node["metadata"].get("labels") or {}
    return Supply(
        pool=next((labels[label] for label in pool_labels if label in labels), ""),
        node=name,
        resource=resource,
        kind=kind_of(resource, labels),
        product=product_of(resource, labels),
        capacity=int(allocatable(node).get(resource, 0)),
        holders=tuple(room.held.get((name, resource), ())),
        schedulable=not (node.get("spec") or {}).get("unschedulable"),
    )


def _offered(node: Object, room: Room) -> Iterable[str]:
    """What the node has, and what it lost (allocatable 0) while a pod still holds it."""
    name = node["metadata"]["name"]
    return [
        resource
        for resource, amount in allocatable(node).items()
        if is_gpu(resource) and (amount > 0 or (name, resource) in room.held)
    ]
