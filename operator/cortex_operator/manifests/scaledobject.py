"""The ScaledObject of a resource: KEDA makes a HorizontalPodAutoscaler of it, and feeds that from Prometheus."""

from __future__ import annotations

import math
from typing import Any, Final

from cortex_kinds.autoscaling import Autoscaling, Metric, PrometheusMetric
from cortex_kinds.base import parse_duration

from cortex_operator.manifests.labels import Part
from cortex_operator.manifests.optional import SCALED_OBJECT
from cortex_operator.manifests.release import ReleaseSettings

KEDA_PREFIX: Final = "keda-hpa-"
"""KEDA's HorizontalPodAutoscaler is called so and as its ScaledObject."""


def scaled_object(part: Part, name: str, autoscaling: Autoscaling, prometheus_address: str) -> dict[str, Any]:
    """It, and what KEDA makes of it, own the number of pods of the Deployment `name`. `prometheus_address`: of the
    release, for metrics that name none."""
    api_version, kind = SCALED_OBJECT
    window = math.ceil(parse_duration(autoscaling.behavior.scale_down.stabilization_window).total_seconds())
    behavior = {"scaleDown": {"stabilizationWindowSeconds": window}}
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": part.metadata(name),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicaCount": autoscaling.min_replicas,
            "maxReplicaCount": autoscaling.max_replicas,
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": behavior}},
            "triggers": [_trigger(metric, prometheus_address) for metric in autoscaling.metrics],
        },
    }


def missing_source(autoscaling: Autoscaling | None, release: ReleaseSettings) -> str:
    """What must be there before pods can be scaled by what Prometheus says, and is not; empty: nothing, or Prometheus
    is not asked."""
    if autoscaling is None or not autoscaling.asks_prometheus:
        return ""
    if SCALED_OBJECT not in release.served:
        version, kind = SCALED_OBJECT
        return (
            f"metrics of type Prometheus need KEDA, and the cluster does not serve its {kind} ({version}): install it"
        )
    if not release.prometheus_address and not all(map(_knows_where, autoscaling.metrics)):
        return (
            "where is Prometheus? set prometheus.serverAddress of each metric of type Prometheus, or the chart value "
            "autoscaling.prometheusAddress"
        )
    return ""


def _knows_where(metric: Metric) -> bool:
    return metric.prometheus is None or metric.prometheus.server_address is not None


def _trigger(metric: Metric, address: str) -> dict[str, Any]:
    if metric.prometheus is not None:
        return _of_prometheus(metric.prometheus, address)
    return {"type": metric.type.value.lower(), "metricType": "Utilization", "metadata": {"value": metric.target}}


def _of_prometheus(metric: PrometheusMetric, address: str) -> dict[str, Any]:
    metadata = {
        "serverAddress": metric.server_address or address,
        "query": metric.query,
        "threshold": metric.threshold,
    }
    return {"type": "prometheus", "metricType": "AverageValue", "metadata": metadata}
