"""The one Deployment of a resource."""

from __future__ import annotations

from typing import Any

from cortex_operator.manifests.labels import Part
from cortex_operator.manifests.placement import queue_labels
from cortex_operator.manifests.update import update_strategy


def deployment(part: Part, name: str, template: dict[str, Any]) -> dict[str, Any]:
    """A Deployment of the part's pods."""
    spec = part.resource.spec
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": part.metadata(name, **queue_labels(spec.placement)),
        "spec": {
            "replicas": spec.desired_replicas,
            "revisionHistoryLimit": 3,
            # The startup probe allows ten minutes; only then has a rollout failed.
            "progressDeadlineSeconds": 900,
            "selector": {"matchLabels": part.selector},
            "strategy": update_strategy(spec),
            "template": template,
        },
    }
