"""Definitions of kinds that a cluster may lack, as far as the operator uses them: what it sets beyond is refused."""

from __future__ import annotations

import time
from typing import Any

from cortex_testbed.errors import BedError
from cortex_testbed.kubectl import Kubectl

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "integer"}
TEXTS: Schema = {"type": "object", "additionalProperties": TEXT}


def record(**fields: Schema) -> Schema:
    return {"type": "object", "properties": fields}


def many(items: Schema) -> Schema:
    return {"type": "array", "items": items}


POD_MONITOR = record(
    selector=record(matchLabels=TEXTS),
    podTargetLabels=many(TEXT),
    podMetricsEndpoints=many(record(port=TEXT, path=TEXT)),
)
SCALED_OBJECT = record(
    scaleTargetRef=record(apiVersion=TEXT, kind=TEXT, name=TEXT),
    minReplicaCount=NUMBER,
    maxReplicaCount=NUMBER,
    advanced=record(
        horizontalPodAutoscalerConfig=record(behavior=record(scaleDown=record(stabilizationWindowSeconds=NUMBER)))
    ),
    triggers=many(record(type=TEXT, metricType=TEXT, metadata=TEXTS)),
)
DEFINITIONS = {
    "ScaledObject": ("keda.sh", "v1alpha1", "scaledobjects", SCALED_OBJECT),
    "PodMonitor": ("monitoring.coreos.com", "v1", "podmonitors", POD_MONITOR),
}


def definition(kind: str) -> dict[str, Any]:
    """Its CustomResourceDefinition."""
    group, version, plural, spec = DEFINITIONS[kind]
    status: Schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    schema = record(spec=spec, status=status)
    served = {"name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower(), "listKind": f"{kind}List"},
            "versions": [{**served, "subresources": {"status": {}}}],
        },
    }


def install(kubectl: Kubectl, kind: str) -> None:
    """Returns when the API server serves it, and says so."""
    made = definition(kind)
    kubectl.apply([made])
    kubectl("wait", "--for=condition=Established", "--timeout=30s", f"crd/{made['metadata']['name']}")
    _until_told(kubectl, kind, there=True)


def remove(kubectl: Kubectl, kind: str) -> None:
    """Returns when the API server has forgotten it, and its objects."""
    kubectl("delete", "crd", definition(kind)["metadata"]["name"], "--ignore-not-found", "--timeout=60s")
    _until_told(kubectl, kind, there=False)


def _until_told(kubectl: Kubectl, kind: str, *, there: bool) -> None:
    group, version, *_ = DEFINITIONS[kind]
    end = time.monotonic() + 60
    while (f'"kind":"{kind}"' in _discovery(kubectl, f"/apis/{group}/{version}")) is not there:
        assert time.monotonic() < end, f"{kind}: the API server tells of it as if that were not so: {there=}"
        time.sleep(0.05)


def _discovery(kubectl: Kubectl, path: str) -> str:
    try:
        return kubectl("get", f"--raw={path}")
    except BedError:  # there is no such version
        return ""
