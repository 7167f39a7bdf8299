"""The ServiceAccount of a resource's pods: an identity without rights and without a token."""

from __future__ import annotations

from typing import Any

from cortex_operator.manifests.labels import Part


def service_account(part: Part, name: str) -> dict[str, Any]:
    """A ServiceAccount whose token is not mounted."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": part.metadata(name),
        "automountServiceAccountToken": False,
    }
