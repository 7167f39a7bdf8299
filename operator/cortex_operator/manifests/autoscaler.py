"""The HorizontalPodAutoscaler of a resource."""

from __future__ import annotations

import math
from typing import Any

from cortex_kinds.autoscaling import Autoscaling, Metric
from cortex_kinds.base import parse_duration

from cortex_operator.manifests.labels import Part


def autoscaler(part: Part, name: str, autoscaling: Autoscaling) -> dict[str, Any]:
    """It owns the number of pods of the Deployment `name`."""
    window = parse_duration(autoscaling.behavior.scale_down.stabilization_window)
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
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
    target = {"type": "Utilization", "averageUtilization": int(metric.target)}
    return {"type": "Resource", "resource": {"name": metric.type.value.lower(), "target": target}}
