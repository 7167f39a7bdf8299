"""The ServiceAccount of a resource's pods: an identity without rights and without a token."""

from __future__ import annotations

from typing import Any

from cortex_kinds.common import CommonSpec

from cortex_operator.manifests.labels import Part


def needs_service_account(spec: CommonSpec, name: str) -> bool:
    """Whether the resource's own one is used; also when the resource names just that."""
    return spec.service_account_name in (None, name)


def service_account(part: Part, name: str) -> dict[str, Any]:
    """A ServiceAccount whose token is not mounted."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": part.metadata(name),
        "automountServiceAccountToken": False,
    }
