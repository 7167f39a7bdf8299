"""The PodDisruptionBudget of a resource: a drain takes its pods one at a time."""

from __future__ import annotations

from typing import Any

from cortex_operator.manifests.labels import Part


def needs_budget(replicas: int) -> bool:
    """Whether there is a budget to keep: one that holds back the only pod would never let a drain end."""
    return replicas > 1


def disruption_budget(part: Part, name: str) -> dict[str, Any]:
    """At most one pod away at a time; pods that are not ready anyway may always be evicted."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": part.metadata(name),
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": part.selector},
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }
