"""The Job that drops a deleted resource's data, and its Secret. Both are in the operator's own namespace: one that is
being deleted takes no new objects.

It runs the release's image with nothing of the resource's own (`image`, `env`): those are of another namespace.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cortex_kinds.common import CommonSpec, Resources
from cortex_kinds.trust import BundleRef, CABundle
from cortex_workloads.runtime.settings import DropSettings, env_name

from cortex_operator.manifests.container import Container
from cortex_operator.manifests.labels import MANAGED
from cortex_operator.manifests.names import bounded
from cortex_operator.manifests.pod import pod_spec
from cortex_operator.manifests.release import ReleaseSettings

DSN: Final = "dsn"
URL: Final = "url"
CERTIFICATES: Final = "ca.crt"
CLEANUP_OF: Final = "cortex.datapunk.io/cleanup-of"
"""Annotation: KIND/NAMESPACE/NAME of the resource."""

_RESOURCES: Final = Resources(
    requests={"cpu": "50m", "memory": "128Mi"}, limits={"cpu": "1", "memory": "512Mi"}
)  # fmt: skip
LABELS: Final = {
    "app.kubernetes.io/name": "datapunk-cortex-cleanup",
    "app.kubernetes.io/component": "cleanup",
    "app.kubernetes.io/part-of": "datapunk-cortex",
    **MANAGED,
}
_MODULES: Final = {"CortexIndex": "cortex_workloads.search.drop", "CortexWorkflow": "cortex_workloads.graph.drop"}
_KEPT_SECONDS: Final = 3600


@dataclass(frozen=True)
class Target:
    """Whose data: that of one resource, of this uid."""

    kind: str
    namespace: str
    name: str
    uid: str

    @property
    def job(self) -> str:
        """The name of its Job and Secret: no other resource's, of all that there ever were."""
        return bounded(self.name, f"-cleanup-{hashlib.sha256(self.uid.encode()).hexdigest()[:10]}")

    def __str__(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}"


def cleanup_job(
    target: Target, release: ReleaseSettings, *, before: float, seconds: int, trusts: bool
) -> dict[str, Any]:
    """The Job. It has `seconds`, and drops nothing after `before` (seconds since 1970). `trusts`: its Secret holds
    certificates."""
    bundle = CABundle(secret_ref=BundleRef(name=target.job, key=CERTIFICATES)) if trusts else None
    spec = CommonSpec(ca_bundle=bundle)
    pulls = [{"name": name} for name in release.image_pull_secrets]
    container = _container(target, release, before)
    described = {CLEANUP_OF: str(target)}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": _metadata(target, release),
        "spec": {
            "activeDeadlineSeconds": seconds,
            "backoffLimit": 6,
            "completions": 1,
            "parallelism": 1,
            "ttlSecondsAfterFinished": _KEPT_SECONDS,
            "template": {
                "metadata": {"labels": LABELS, "annotations": described},
                "spec": {
                    **pod_spec(container.build(spec, release), container.settings.ending_seconds, bundle, pulls),
                    "restartPolicy": "Never",
                },
            },
        },
    }


def cleanup_secret(
    target: Target, release: ReleaseSettings, data: Mapping[str, str], job: Mapping[str, Any]
) -> dict[str, Any]:
    """What the Job connects with; it goes with the `job`, as it is stored."""
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": target.job, "uid": job["metadata"]["uid"]}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {**_metadata(target, release), "ownerReferences": [{**owner, "controller": True}]},
        "type": "Opaque",
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in sorted(data.items())},
    }


def _metadata(target: Target, release: ReleaseSettings) -> dict[str, Any]:
    described = {"labels": LABELS, "annotations": {CLEANUP_OF: str(target)}}
    return {"name": target.job, "namespace": release.namespace, **described}


def _container(target: Target, release: ReleaseSettings, before: float) -> Container:
    # model_construct: the settings must hold what stands here and nothing from the operator's own environment.
    settings = DropSettings.model_construct(
        resource_namespace=target.namespace,
        resource_name=target.name,
        drop_before=before,
        log_level=release.log_level,
        drain_seconds=0.0,
    )
    image = release.search_image if target.kind == "CortexIndex" else release.graph_image
    secrets = {env_name("lake_dsn"): (target.job, DSN), env_name("state_url"): (target.job, URL)}
    return Container("cleanup", image, _MODULES[target.kind], settings, {}, _RESOURCES, secrets)
