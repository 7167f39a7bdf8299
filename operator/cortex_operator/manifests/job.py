"""The Job that embeds the documents that wait for a revision."""

from __future__ import annotations

from typing import Any

from cortex_operator.manifests.labels import REVISION_LABEL, Part
from cortex_operator.manifests.placement import queue_labels


def job(part: Part, name: str, revision: str, template: dict[str, Any]) -> dict[str, Any]:
    """A Job of one pod, tried again three times; what it embedded before stays."""
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": part.metadata(name, **{REVISION_LABEL: revision}, **queue_labels(part.resource.spec.placement)),
        "spec": {
            "backoffLimit": 3,
            "completions": 1,
            "parallelism": 1,
            "ttlSecondsAfterFinished": 3600,
            "template": {**template, "spec": {**template["spec"], "restartPolicy": "Never"}},
        },
    }
