"""The PodMonitor of a resource: its pods' metrics for the Prometheus Operator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cortex_operator.manifests.labels import Part
from cortex_operator.manifests.optional import POD_MONITOR
from cortex_operator.manifests.release import ReleaseSettings


def wants_pod_monitor(release: ReleaseSettings) -> bool:
    """Whether each resource has one."""
    return release.pod_monitors and POD_MONITOR in release.served


def pod_monitor(part: Part, name: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """It finds all pods of the resource, those of ingest Jobs too, and tells the resource and the component with each
    series. `labels`: for the selectors of a Prometheus; ours win."""
    api_version, kind = POD_MONITOR
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": part.metadata(name, **{key: value for key, value in labels.items() if key not in part.labels}),
        "spec": {
            "selector": {"matchLabels": part.resource_selector},
            "podTargetLabels": [*part.resource_selector, "app.kubernetes.io/component"],
            "podMetricsEndpoints": [{"port": "metrics", "path": "/metrics"}],
        },
    }
