"""Where the kinds that Cortex touches live in the API."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

_NAMESPACED: Final = {
    ("", "ConfigMap"): "configmaps",
    ("", "Event"): "events",
    ("", "PersistentVolumeClaim"): "persistentvolumeclaims",
    ("", "Pod"): "pods",
    ("", "Secret"): "secrets",
    ("", "Service"): "services",
    ("", "ServiceAccount"): "serviceaccounts",
    ("apps", "Deployment"): "deployments",
    ("apps", "StatefulSet"): "statefulsets",
    ("autoscaling", "HorizontalPodAutoscaler"): "horizontalpodautoscalers",
    ("batch", "Job"): "jobs",
    ("coordination.k8s.io", "Lease"): "leases",
    ("cortex.datapunk.io", "CortexIndex"): "cortexindexes",
    ("cortex.datapunk.io", "CortexWorkflow"): "cortexworkflows",
    ("discovery.k8s.io", "EndpointSlice"): "endpointslices",
    ("events.k8s.io", "Event"): "events",
    ("keda.sh", "ScaledObject"): "scaledobjects",
    ("monitoring.coreos.com", "PodMonitor"): "podmonitors",
    ("networking.k8s.io", "NetworkPolicy"): "networkpolicies",
    ("policy", "PodDisruptionBudget"): "poddisruptionbudgets",
    ("resource.k8s.io", "ResourceClaim"): "resourceclaims",
    ("resource.k8s.io", "ResourceClaimTemplate"): "resourceclaimtemplates",
    ("rbac.authorization.k8s.io", "Role"): "roles",
    ("rbac.authorization.k8s.io", "RoleBinding"): "rolebindings",
}
_CLUSTER_WIDE: Final = {
    ("", "Namespace"): "namespaces",
    ("", "Node"): "nodes",
    ("apiextensions.k8s.io", "CustomResourceDefinition"): "customresourcedefinitions",
    ("resource.k8s.io", "DeviceClass"): "deviceclasses",
    ("resource.k8s.io", "ResourceSlice"): "resourceslices",
    ("rbac.authorization.k8s.io", "ClusterRole"): "clusterroles",
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): "clusterrolebindings",
}


def path(
    api_version: str, kind: str, namespace: str | None, name: str | None = None, subresource: str | None = None
) -> str:
    """The path of an object, of its subresource, or without a name of the collection; without a namespace of that in
    all namespaces. Raises ValueError for a kind that is not in the table, and for a namespace missing or too many."""
    group, _, version = api_version.rpartition("/")
    plural = _NAMESPACED.get((group, kind)) or _CLUSTER_WIDE.get((group, kind))
    if plural is None:
        raise ValueError(f"{api_version} {kind} is not a kind whose path is known here")
    if (group, kind) in _CLUSTER_WIDE and namespace:
        raise ValueError(f"a {kind} is in no namespace, but {namespace} was given")
    if (group, kind) in _NAMESPACED and name and not namespace:
        raise ValueError(f"the {kind} {name} needs a namespace")
    parts = ["apis", group, version] if group else ["api", version]
    parts += ["namespaces", namespace] if namespace else []
    parts += [plural, *(part for part in (name, subresource) if part)]
    return "/" + "/".join(quote(part, safe=":") for part in parts)
