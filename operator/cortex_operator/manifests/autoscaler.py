"""The HorizontalPodAutoscaler of a resource, and which kind of object says how many pods it has."""

from __future__ import annotations

import math
from typing import Any, Final

from cortex_kinds.autoscaling import Autoscaling, Metric
from cortex_kinds.base import parse_duration
from cortex_kinds.common import CommonSpec

from cortex_operator.manifests.labels import Part
from cortex_operator.manifests.optional import SCALED_OBJECT, Kind
from cortex_operator.manifests.release import ReleaseSettings
from cortex_operator.manifests.scaledobject import missing_source, scaled_object

HPA: Final = ("autoscaling/v2", "HorizontalPodAutoscaler")


def autoscaler_kind(spec: CommonSpec, release: ReleaseSettings) -> Kind | None:
    """Which kind of object says how many pods there are; None: the spec does, or nobody can."""
    if spec.suspend or spec.autoscaling is None or missing_source(spec.autoscaling, release):
        return None
    return SCALED_OBJECT if spec.autoscaling.asks_prometheus else HPA


def autoscalers(part: Part, name: str, release: ReleaseSettings) -> tuple[dict[str, Any], ...]:
    """The object of that kind, for the Deployment `name`."""
    kind, autoscaling = autoscaler_kind(part.resource.spec, release), part.resource.spec.autoscaling
    if kind is None or autoscaling is None:
        return ()
    if kind == SCALED_OBJECT:
        return (scaled_object(part, name, autoscaling, release.prometheus_address),)
    return (autoscaler(part, name, autoscaling),)


def autoscaler(part: Part, name: str, autoscaling: Autoscaling) -> dict[str, Any]:
    """It owns the number of pods of the Deployment `name`."""
    window = parse_duration(autoscaling.behavior.scale_down.stabilization_window)
    return {
        "apiVersion": HPA[0],
        "kind": HPA[1],
        "metadata": part.metadata(name),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": autoscaling.min_replicas,
            "maxReplicas": autoscaling.max_replicas,
            "metrics": list(map(_metric, autoscaling.metrics)),
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": math.ceil(window.total_seconds())}},
        },
    }


def _metric(metric: Metric) -> dict[str, Any]:
    target = {"type": "Utilization", "averageUtilization": int(metric.target or 0)}
    return {"type": "Resource", "resource": {"name": metric.type.value.lower(), "target": target}}
