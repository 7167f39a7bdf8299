"""The pod template: restricted, without a token, with a writable /tmp only."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from cortex_kinds.trust import CABundle

from cortex_operator.manifests.container import PRE_STOP_SECONDS
from cortex_operator.manifests.labels import Part
from cortex_operator.manifests.storage import Volume
from cortex_operator.manifests.trust import trust_volumes

_USER = 65532
_MARGIN_SECONDS = 5


def pod_template(
    part: Part,
    container: dict[str, Any],
    service_account: str,
    ending_seconds: float,
    *,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    scheduling: Mapping[str, Any] | None = None,
    volumes: Sequence[Volume] = (),
) -> dict[str, Any]:
    """A pod of the part with one container, which takes `ending_seconds` to end after SIGTERM. `scheduling`: fields of
    the pod that say which nodes it may have. `volumes`: those that the container mounts beside what every pod has."""
    spec = part.resource.spec
    pull_secrets = [secret.to_manifest() for secret in spec.image_pull_secrets or ()]
    return {
        "metadata": _metadata(part, labels or {}, annotations or {}),
        "spec": {
            **(scheduling or {}),
            **pod_spec(
                container,
                ending_seconds + PRE_STOP_SECONDS,
                spec.ca_bundle,
                pull_secrets,
                spec.service_account_name or service_account,
                volumes,
            ),
        },
    }


def pod_spec(
    container: dict[str, Any],
    ending_seconds: float,
    bundle: CABundle | None,
    pull_secrets: list[dict[str, Any]],
    service_account: str = "",
    volumes: Sequence[Volume] = (),
) -> dict[str, Any]:
    """What every pod is, whoever's it is: one container, which takes `ending_seconds` to end. `service_account` empty:
    the namespace's own."""
    return {
        "automountServiceAccountToken": False,
        "containers": [container],
        "enableServiceLinks": False,
        **({"imagePullSecrets": pull_secrets} if pull_secrets else {}),
        "securityContext": {
            "fsGroup": _USER,
            "runAsGroup": _USER,
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        **({"serviceAccountName": service_account} if service_account else {}),
        "terminationGracePeriodSeconds": math.ceil(ending_seconds) + _MARGIN_SECONDS,
        "volumes": [
            {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}},
            *trust_volumes(bundle),
            *(volume.source for volume in volumes),
        ],
    }


def _metadata(part: Part, labels: Mapping[str, str], annotations: Mapping[str, str]) -> dict[str, Any]:
    """What is ours wins over what the resource says."""
    own = part.resource.spec.template
    both = {**(own.annotations or {}), **annotations}
    named = {"labels": {**(own.labels or {}), **part.labels, **labels}}
    return {**named, "annotations": both} if both else named
