"""What an API server knows about kinds from their schemas, as small tables: scope, status subresource, merge keys.

Shields the store from the particulars of each kind. A kind that is not here is namespaced, has no status subresource
and atomic lists.
"""

from __future__ import annotations

from typing import Final

CLUSTER_SCOPED: Final = frozenset(
    {"Namespace", "Node", "ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", "PriorityClass",
     "PersistentVolume", "StorageClass", "RuntimeClass"}
)  # fmt: skip

WITH_STATUS: Final = frozenset(
    {"CortexIndex", "CortexWorkflow", "CronJob", "DaemonSet", "Deployment", "HorizontalPodAutoscaler", "Job",
     "Namespace", "Node", "PersistentVolumeClaim", "Pod", "PodDisruptionBudget", "ReplicaSet", "Service", "StatefulSet"}
)  # fmt: skip
"""Kinds whose status is written by itself, and whose generation counts changes of the rest."""

IMMUTABLE: Final[dict[str, tuple[tuple[str, ...], ...]]] = {
    "Deployment": (("spec", "selector"),),
    "StatefulSet": (("spec", "selector"), ("spec", "serviceName")),
    "Job": (("spec", "selector"), ("spec", "template"), ("spec", "completionMode")),
}
"""Fields that cannot be changed after creation."""

ITSELF: Final = "."
"""Merge key of a list that is a set: an item is its own key."""

_MERGE_KEYS: Final[dict[tuple[str, str], tuple[str, ...]]] = {
    ("metadata", "ownerReferences"): ("uid",),
    ("metadata", "finalizers"): (ITSELF,),
    ("spec", "containers"): ("name",),
    ("spec", "initContainers"): ("name",),
    ("spec", "volumes"): ("name",),
    ("spec", "imagePullSecrets"): ("name",),
    ("spec", "resourceClaims"): ("name",),
    ("resources", "claims"): ("name",),
    ("spec", "topologySpreadConstraints"): ("topologyKey", "whenUnsatisfiable"),
    ("spec", "ports"): ("port", "protocol"),
    ("containers", "env"): ("name",),
    ("containers", "ports"): ("containerPort", "protocol"),
    ("containers", "volumeMounts"): ("mountPath",),
    ("initContainers", "env"): ("name",),
    ("initContainers", "volumeMounts"): ("mountPath",),
    ("spec", "indexes"): ("name",),
    ("spec", "nodes"): ("name",),
    ("status", "conditions"): ("type",),
}
KEY_DEFAULTS: Final = {"protocol": "TCP"}

_ATOMIC_MAPS: Final = frozenset(
    {("spec", "selector"), ("spec", "podSelector"), ("valueFrom", "secretKeyRef"), ("valueFrom", "configMapKeyRef"),
     ("valueFrom", "fieldRef"), ("valueFrom", "resourceFieldRef"), ("topologySpreadConstraints", "labelSelector")}
)  # fmt: skip


def merge_keys(names: tuple[str, ...]) -> tuple[str, ...] | None:
    """The fields that tell the items of the list at `names` (field names from the root) apart; None: it is atomic."""
    return _MERGE_KEYS.get((names[-2], names[-1])) if len(names) > 1 else None


def is_atomic_map(names: tuple[str, ...]) -> bool:
    """Whether the map at `names` belongs to one manager as a whole."""
    return names[-2:] in _ATOMIC_MAPS
