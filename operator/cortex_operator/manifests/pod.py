"""The pod template: restricted, without a token, with a writable /tmp only."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from cortex_operator.manifests.container import PRE_STOP_SECONDS
from cortex_operator.manifests.labels import Part
from cortex_operator.manifests.release import ReleaseSettings

_USER = 65532
_MARGIN_SECONDS = 5


def pod_template(
    part: Part,
    container: dict[str, Any],
    service_account: str,
    release: ReleaseSettings,
    *,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    scheduling: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A pod of the part with one container. `scheduling`: fields of the pod that say which nodes it may have."""
    metadata: dict[str, Any] = {"labels": {**part.labels, **(labels or {})}}
    return {
        "metadata": {**metadata, **({"annotations": dict(annotations)} if annotations else {})},
        "spec": {
            **(scheduling or {}),
            "automountServiceAccountToken": False,
            "containers": [container],
            "enableServiceLinks": False,
            "securityContext": {
                "fsGroup": _USER,
                "runAsGroup": _USER,
                "runAsNonRoot": True,
                "runAsUser": _USER,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "serviceAccountName": service_account,
            "terminationGracePeriodSeconds": math.ceil(release.drain_seconds) + PRE_STOP_SECONDS + _MARGIN_SECONDS,
            "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}],
        },
    }
