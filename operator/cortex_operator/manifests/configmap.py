"""The ConfigMap with the plain settings of a resource's pods, and the digest by which a change rolls them."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final

from cortex_operator.manifests.labels import Part

CONFIG_DIGEST: Final = "cortex.datapunk.io/config-digest"
"""Annotation of the pod template: pods read their environment once, so other settings need other pods."""


def config_map(part: Part, name: str, settings: dict[str, str]) -> dict[str, Any]:
    """A ConfigMap of environment variables, and of files that pods mount; nothing secret."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": part.metadata(name), "data": settings}


def config_digest(settings: dict[str, str]) -> str:
    """Ten hex digits that change when a setting does."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:10]
