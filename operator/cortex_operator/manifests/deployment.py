"""The one Deployment of a resource."""

from __future__ import annotations

from typing import Any, Final

from cortex_kinds.common import CommonSpec

from cortex_operator.manifests.labels import Part
from cortex_operator.manifests.scale import Scale

BEFORE_SUSPENSION: Final = "cortex.datapunk.io/replicas-before-suspension"
"""Annotation of the Deployment of a suspended resource: how many pods it had."""


def deployment(part: Part, name: str, template: dict[str, Any], scale: Scale) -> dict[str, Any]:
    """A Deployment that never has fewer ready pods than asked while it is updated; with GPUs one that never needs
    more of them than its pods have."""
    spec = part.resource.spec
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {**part.metadata(name), **_remembered(scale)},
        "spec": {
            **({"replicas": scale.running} if scale.told else {}),
            "revisionHistoryLimit": 3,
            # The startup probe allows ten minutes; only then has a rollout failed.
            "progressDeadlineSeconds": 900,
            "selector": {"matchLabels": part.selector},
            "strategy": _strategy(spec),
            "template": template,
        },
    }


def _remembered(scale: Scale) -> dict[str, Any]:
    return {"annotations": {BEFORE_SUSPENSION: str(scale.before)}} if scale.before else {}


def _strategy(spec: CommonSpec) -> dict[str, Any]:
    if spec.gpu is None:
        return _rolling(surge=1, unavailable=0)
    return _rolling(surge=0, unavailable=1) if spec.most_replicas > 1 else {"type": "Recreate"}


def _rolling(surge: int, unavailable: int) -> dict[str, Any]:
    return {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}
