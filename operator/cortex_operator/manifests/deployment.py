"""The one Deployment of a resource."""

from __future__ import annotations

from typing import Any, Final

from cortex_operator.manifests.labels import Part
from cortex_operator.manifests.origin import origin
from cortex_operator.manifests.placement import queue_labels
from cortex_operator.manifests.release import ReleaseSettings
from cortex_operator.manifests.scale import Scale
from cortex_operator.manifests.update import update_strategy

BEFORE_SUSPENSION: Final = "cortex.datapunk.io/replicas-before-suspension"
"""Annotation of the Deployment of a suspended resource: how many pods it had."""


def deployment(
    part: Part, name: str, template: dict[str, Any], scale: Scale, release: ReleaseSettings
) -> dict[str, Any]:
    """A Deployment of the part's pods, made by the release."""
    spec = part.resource.spec
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            **part.metadata(name, **queue_labels(spec.placement)),
            "annotations": {**origin(spec, template, release), **_remembered(scale)},
        },
        "spec": {
            **({"replicas": scale.running} if scale.told else {}),
            "revisionHistoryLimit": 3,
            # The startup probe allows ten minutes; only then has a rollout failed.
            "progressDeadlineSeconds": 900,
            "selector": {"matchLabels": part.selector},
            "strategy": update_strategy(spec),
            "template": template,
        },
    }


def _remembered(scale: Scale) -> dict[str, str]:
    return {BEFORE_SUSPENSION: str(scale.before)} if scale.before else {}
