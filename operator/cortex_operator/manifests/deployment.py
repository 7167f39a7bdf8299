"""The one Deployment of a resource."""

from __future__ import annotations

from typing import Any

from cortex_operator.manifests.labels import Part


def deployment(part: Part, name: str, replicas: int, template: dict[str, Any]) -> dict[str, Any]:
    """A Deployment that never has fewer ready pods than asked while it is updated."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": part.metadata(name),
        "spec": {
            "replicas": replicas,
            "revisionHistoryLimit": 3,
            # The startup probe allows ten minutes; only then has a rollout failed.
            "progressDeadlineSeconds": 900,
            "selector": {"matchLabels": part.selector},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": template,
        },
    }
