"""What the operations on both kinds have in common: manifests, as applied, with their status."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from cortex_workloads.gateway import replies
from cortex_workloads.gateway.backend import Backend
from cortex_workloads.runtime.catalogue import Resource


def listed(backend: Backend, kind: str, namespace: str | None) -> Response:
    """All resources of a kind, of one namespace or of all."""
    return replies.json({"items": [_public(resource) for resource in backend.catalogue.list(kind, namespace)]})


def shown(resource: Resource) -> Response:
    """One resource."""
    return replies.json(_public(resource))


def _public(resource: Resource) -> dict[str, Any]:
    # Other managers keep whole former manifests in annotations, and whatever people put there.
    hidden = ("managedFields", "annotations")
    metadata = {key: value for key, value in resource.manifest["metadata"].items() if key not in hidden}
    return {**resource.manifest, "metadata": metadata}
