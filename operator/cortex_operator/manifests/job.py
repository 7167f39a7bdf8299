"""The Job that embeds the documents that wait for a revision."""

from __future__ import annotations

from typing import Any

from cortex_operator.manifests.labels import REVISION_LABEL, Part
from cortex_operator.manifests.origin import JOB_DIGEST, digest
from cortex_operator.manifests.placement import queue_labels


def job(part: Part, name: str, revision: str, template: dict[str, Any]) -> dict[str, Any]:
    """A Job of one pod, tried again three times; what it embedded before stays."""
    template = {**template, "spec": {**template["spec"], "restartPolicy": "Never"}}
    queue = queue_labels(part.resource.spec.placement)
    made_of = {"queue": queue, "template": template}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            **part.metadata(name, **{REVISION_LABEL: revision}, **queue),
            "annotations": {JOB_DIGEST: digest(made_of)},
        },
        "spec": {
            "backoffLimit": 3,
            "completions": 1,
            "parallelism": 1,
            "ttlSecondsAfterFinished": 3600,
            "template": template,
        },
    }
