"""A value for each field that shapes the pods of a resource; together they are one valid spec."""

from __future__ import annotations

from typing import Any

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
CLASS = "cortex-pod-fields"
"""A PriorityClass and a RuntimeClass."""
NAMES = {"Secret": "extra-secret", "ConfigMap": "extra-settings", "ServiceAccount": "extra-account"}

_NEAR = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "cache"}}}
_NODE = {"matchExpressions": [{"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]}]}
_SPREAD = {"maxSkew": 2, "topologyKey": "rack", "whenUnsatisfiable": "ScheduleAnyway", "nodeTaintsPolicy": "Honor"}


def _source(**source: Any) -> dict[str, Any]:
    ((name, value),) = source.items()
    return {"env": [{"name": f"FROM_{name.upper()}", "valueFrom": {name: value}}]}


_AFFINITY = {
    "nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [_NODE]}, PREFERRED: [{"weight": 1, "preference": _NODE}]},
    "podAffinity": {PREFERRED: [{"weight": 100, "podAffinityTerm": {**_NEAR, "namespaceSelector": {}}}]},
    "podAntiAffinity": {REQUIRED: [{**_NEAR, "namespaces": ["elsewhere"]}]},
}

FIELDS: dict[str, dict[str, Any]] = {
    "update.strategy": {"update": {"strategy": "Recreate"}},
    "update.maxSurge": {"update": {"maxSurge": "25%"}},
    "update.maxUnavailable": {"update": {"maxUnavailable": 1}},
    "placement.nodeSelector": {"placement": {"nodeSelector": {"kubernetes.io/os": "linux"}}},
    "placement.affinity": {"placement": {"affinity": _AFFINITY}},
    "placement.tolerations": {"placement": {"tolerations": [{"key": "team", "value": "a", "effect": "NoSchedule"}]}},
    "placement.topologySpreadConstraints": {"placement": {"topologySpreadConstraints": [_SPREAD]}},
    "placement.priorityClassName": {"placement": {"priorityClassName": CLASS}},
    "placement.runtimeClassName": {"placement": {"runtimeClassName": CLASS}},
    "placement.queueName": {"placement": {"queueName": "research"}},
    "template.labels": {"template": {"labels": {"team": "research"}}},
    "template.annotations": {"template": {"annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "true"}}},
    "serviceAccountName": {"serviceAccountName": NAMES["ServiceAccount"]},
    "imagePullSecrets": {"imagePullSecrets": [{"name": NAMES["Secret"]}]},
    "env.value": {"env": [{"name": "HTTPS_PROXY", "value": "http://proxy.invalid:3128"}]},
    "env.secretKeyRef": _source(secretKeyRef={"name": NAMES["Secret"], "key": "token"}),
    "env.configMapKeyRef": _source(configMapKeyRef={"name": "not-there", "key": "token", "optional": True}),
    "env.fieldRef": _source(fieldRef={"fieldPath": "metadata.labels['team']"}),
    "env.resourceFieldRef": _source(resourceFieldRef={"resource": "limits.memory", "divisor": "1Mi"}),
    "env.resourceFieldRef.divisor": {
        "env": [{"name": "CPUS", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}]
    },
    "envFrom.secretRef": {"envFrom": [{"prefix": "EXTRA_", "secretRef": {"name": NAMES["Secret"]}}]},
    "envFrom.configMapRef": {"envFrom": [{"configMapRef": {"name": NAMES["ConfigMap"], "optional": False}}]},
    "caBundle.configMapRef": {"caBundle": {"configMapRef": {"name": NAMES["ConfigMap"]}}},
    "caBundle.secretRef": {"caBundle": {"secretRef": {"name": NAMES["Secret"], "key": "roots.pem"}}},
}
"""The field -> a spec with it alone."""
EXCLUSIVE = ("update.strategy", "caBundle.secretRef")
"""Fields that others exclude."""


def every_field() -> dict[str, Any]:
    """A spec with all of them that go together."""
    spec: dict[str, Any] = {}
    for field, one in FIELDS.items():
        for name, value in one.items() if field not in EXCLUSIVE else ():
            match spec.get(name):
                case dict() as before:
                    spec[name] = {**before, **value}
                case list() as before:
                    spec[name] = [*before, *value]
                case _:
                    spec[name] = value
    return spec


def named_objects(namespace: str) -> list[dict[str, Any]]:
    """The objects of the namespace that the spec names."""
    data = {"token": "t", "roots.pem": "certificates", "ca.crt": "certificates"}

    def named(kind: str, **fields: Any) -> dict[str, Any]:
        return {"apiVersion": "v1", "kind": kind, "metadata": {"name": NAMES[kind], "namespace": namespace}, **fields}

    return [named("Secret", stringData=data), named("ConfigMap", data=data), named("ServiceAccount")]


def cluster_objects() -> list[dict[str, Any]]:
    """The objects without a namespace that the spec names."""
    meta = {"name": CLASS}
    return [
        {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": meta, "value": 1},
        {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": meta, "handler": "runc"},
    ]
