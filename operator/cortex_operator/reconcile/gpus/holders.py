"""Pods that have GPUs or want them, and for which Cortex resource."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from cortex_operator.cluster import Object
from cortex_operator.manifests.gpu import is_gpu
from cortex_operator.manifests.labels import INDEX_LABEL, WORKFLOW_LABEL
from cortex_operator.reconcile.gpus.demand import Amounts, demand, is_over, node_of, used

_KINDS: Final = {INDEX_LABEL: "index", WORKFLOW_LABEL: "workflow"}


@dataclass(frozen=True)
class Holder:
    """A pod that has `count` GPUs, or wants them. `kind` and `name` are those of the Cortex resource that it serves:
    index or workflow; of others' pods: pod and its own name."""

    namespace: str
    pod: str
    kind: str
    name: str
    count: int

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True)
class Room:
    """Nodes, and the pods of all namespaces. `unseen`: why the pods could not be read; empty: they were."""

    nodes: Sequence[Object]
    pods: Sequence[Object] = ()
    unseen: str = ""

    @cached_property
    def used(self) -> dict[str, Amounts]:
        """Node -> what its pods take."""
        return used(self.pods)

    @cached_property
    def held(self) -> dict[tuple[str, str], list[Holder]]:
        """Node and GPU resource -> who holds how many, in the order of their names."""
        found: dict[tuple[str, str], list[Holder]] = {}
        for pod in sorted(filter(node_of, self.pods), key=_place):
            for resource, holder in claims(pod):
                found.setdefault((node_of(pod), resource), []).append(holder)
        return found

    @cached_property
    def exclusive(self) -> set[str]:
        """Namespaces with a pod that wants others kept away from it (required anti-affinity)."""
        return {pod["metadata"].get("namespace", "") for pod in self.pods if not is_over(pod) and _keeps_away(pod)}

    def knows(self, pod: Object) -> bool:
        """Whether the pods were read when this one was as it is here, or later."""
        return self._versions.get(_place(pod), -1) >= _version(pod)

    @cached_property
    def _versions(self) -> dict[tuple[str, str], int]:
        return {_place(pod): _version(pod) for pod in self.pods}

    @property
    def waiting(self) -> Iterable[Object]:
        """The pods without a node, in the order of their names."""
        return sorted((pod for pod in self.pods if not (pod.get("spec") or {}).get("nodeName")), key=_place)


def claims(pod: Object) -> list[tuple[str, Holder]]:
    """The GPU resources that the pod has or wants."""
    if is_over(pod):
        return []
    namespace, name = _place(pod)
    kind, owner = _owner(pod) or ("pod", name)
    wanted = {resource: int(amount) for resource, amount in demand(pod).items() if is_gpu(resource) and amount > 0}
    return [(resource, Holder(namespace, name, kind, owner, count)) for resource, count in sorted(wanted.items())]


def claimant(pod: Object) -> Holder | None:
    """The pod as one that has devices, or wants them, by resource claims; which and how many, only these tell: `count`
    is that of the claims. None: it has no such claim."""
    named = (pod.get("spec") or {}).get("resourceClaims") or ()
    if not named or is_over(pod):
        return None
    namespace, name = _place(pod)
    return Holder(namespace, name, *(_owner(pod) or ("pod", name)), len(named))


def _owner(pod: Object) -> tuple[str, str] | None:
    labels = pod["metadata"].get("labels") or {}
    return next(((kind, labels[label]) for label, kind in _KINDS.items() if label in labels), None)


def _place(pod: Object) -> tuple[str, str]:
    return pod["metadata"].get("namespace", ""), pod["metadata"]["name"]


def _version(pod: Object) -> int:
    return int(pod["metadata"]["resourceVersion"])


def _keeps_away(pod: Object) -> bool:
    away = ((pod.get("spec") or {}).get("affinity") or {}).get("podAntiAffinity") or {}
    return bool(away.get("requiredDuringSchedulingIgnoredDuringExecution"))
