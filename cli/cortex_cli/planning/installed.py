"""What the installed operator decides: its settings, from the environment of its Deployment. Where that cannot be read,
what it decided before, from the objects that it made.

Shields the plan from this command's own environment and release, which say nothing about the cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from cortex_kinds.common import Resources
from cortex_operator.cluster import Forbidden, Object, ObjectKey
from cortex_operator.cluster.kubernetes import KubernetesCluster
from cortex_operator.dataplane import ResourceKey
from cortex_operator.manifests import ReleaseSettings
from cortex_operator.manifests.gpu import is_gpu
from cortex_operator.manifests.names import graph_name, search_name
from cortex_operator.manifests.optional import OPTIONAL
from cortex_operator.preview.look import Look
from cortex_operator.settings import OperatorSettings, mistakes, settings_of
from pydantic import ValidationError
from pydantic_settings import SettingsError

_LABELS: Final = {"app.kubernetes.io/part-of": "datapunk-cortex", "app.kubernetes.io/component": "operator"}
_USUAL: Final = "cortex-system"
_UNKNOWN: Final = "(the release's image)"


@dataclass(frozen=True)
class Installed:
    """`release_of` says what holds for a resource; `notes` what was assumed; `watched` the namespaces that the operator
    looks at, none: all."""

    release_of: Callable[[ResourceKey], ReleaseSettings]
    notes: tuple[str, ...] = ()
    watched: tuple[str, ...] = field(default=())


async def find_installed(
    cluster: KubernetesCluster, look: Look, namespace: str | None, keys: Sequence[ResourceKey]
) -> Installed:
    """Looks in `namespace`, or for an operator anywhere. Raises Unavailable."""
    served = await _served(cluster)
    deployments, why = await _deployments(cluster, namespace)
    settings, wrong = _settings(deployments, keys)
    if settings is not None:
        release = replace(settings.release, served=served)
        return Installed(lambda _: release, wrong, settings.watch_namespaces)
    where = f"namespace {namespace}" if namespace else "any namespace"
    reason = why or "; ".join(wrong) or f"there is no operator in {where} (--operator-namespace says where it is)"
    found = {key: replace(await _as_made(look, key), served=served) for key in keys}
    assumed = "images, default resources and the like are assumed to stay as its objects have them, GPU pools unknown"
    return Installed(found.__getitem__, (f"the operator's settings cannot be read: {reason}; {assumed}",))


async def _served(cluster: KubernetesCluster) -> frozenset[tuple[str, str]]:
    try:
        return await cluster.served(OPTIONAL)
    except Forbidden:
        return frozenset()


async def _deployments(cluster: KubernetesCluster, namespace: str | None) -> tuple[list[Object], str]:
    try:
        return await cluster.list("apps/v1", "Deployment", namespace=namespace, labels=_LABELS), ""
    except Forbidden as error:
        return ([], str(error)) if namespace else await _deployments(cluster, _USUAL)


def _settings(
    deployments: Sequence[Object], keys: Sequence[ResourceKey]
) -> tuple[OperatorSettings | None, tuple[str, ...]]:
    """Of the operator that looks at most of the namespaces."""
    found: list[tuple[int, str, OperatorSettings]] = []
    wrong = []
    for each in deployments:
        name = f"Deployment {each['metadata']['namespace']}/{each['metadata']['name']}"
        try:
            settings = settings_of(_environment(each))
        except (ValidationError, SettingsError) as error:
            wrong.append(f"{name}: {mistakes(error)}")
            continue
        watched = settings.watch_namespaces
        found.append((sum(not watched or key.namespace in watched for key in keys), name, settings))
    if not found:
        return None, tuple(wrong)
    _, name, best = max(found, key=lambda each: each[0])
    several = (f"there are {len(found)} operators; the settings are those of {name}",) if len(found) > 1 else ()
    return best, several


def _environment(deployment: Object) -> dict[str, str]:
    containers = deployment["spec"]["template"]["spec"]["containers"]
    operator = next((each for each in containers if each["name"] == "operator"), containers[0])
    plain = {each["name"]: each["value"] for each in operator.get("env") or () if "value" in each}
    return {"CORTEX_NAMESPACE": deployment["metadata"]["namespace"], **plain}


async def _as_made(look: Look, key: ResourceKey) -> ReleaseSettings:
    """As far as the resource's own objects tell."""
    name = search_name(key.name) if key.kind == "CortexIndex" else graph_name(key.name)
    deployment = await look.find(ObjectKey("apps/v1", "Deployment", key.namespace, name))
    config = await look.find(ObjectKey("v1", "ConfigMap", key.namespace, name))
    resource = await look.find(ObjectKey("cortex.datapunk.io/v1alpha1", key.kind, key.namespace, key.name))
    unknown = ReleaseSettings(_UNKNOWN, _UNKNOWN, gpu_pools=None)
    if deployment is None or resource is None:
        return unknown
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    image = _UNKNOWN if resource["spec"].get("image") else container["image"]
    resources = _default_resources(container.get("resources") or {}, resource["spec"].get("resources") or {})
    data: dict[str, str] = (config or {}).get("data") or {}
    return replace(
        unknown,
        search_image=image,
        graph_image=image,
        image_pull_policy=container.get("imagePullPolicy", unknown.image_pull_policy),
        search_resources=resources,
        graph_resources=resources,
        drain_seconds=float(data.get("CORTEX_DRAIN_SECONDS", unknown.drain_seconds)),
        log_level=data.get("CORTEX_LOG_LEVEL", unknown.log_level),
        otlp_endpoint=data.get("CORTEX_OTLP_ENDPOINT", unknown.otlp_endpoint),
    )


def _default_resources(made: dict[str, Any], own: dict[str, Any]) -> Resources:
    """What the container has and the resource does not ask for."""
    parts = {
        part: {n: q for n, q in (made.get(part) or {}).items() if n not in (own.get(part) or {}) and not is_gpu(n)}
        for part in ("requests", "limits")
    }
    return Resources.model_validate(parts)
