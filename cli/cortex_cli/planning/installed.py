"""What the installed operator decides: its settings, from the environment of its Deployment. Where that cannot be read,
what it decided before, from the objects that it made.

Shields the plan from this command's own environment and release, which say nothing about the cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from cortex_operator.cluster import Forbidden, Object
from cortex_operator.cluster.kubernetes import KubernetesCluster
from cortex_operator.dataplane import ResourceKey
from cortex_operator.manifests import ReleaseSettings
from cortex_operator.manifests.optional import OPTIONAL
from cortex_operator.preview.look import Look
from cortex_operator.preview.run import Proposal
from cortex_operator.settings import OperatorSettings, mistakes, settings_of
from pydantic import ValidationError
from pydantic_settings import SettingsError

from cortex_cli.planning.asmade import as_made

_LABELS: Final = {"app.kubernetes.io/part-of": "datapunk-cortex", "app.kubernetes.io/component": "operator"}
_USUAL: Final = "cortex-system"


@dataclass(frozen=True)
class Installed:
    """`release_of` says what holds for a resource; `notes` what was assumed; `watched` the namespaces that the operator
    looks at, none: all; `known`: whether its settings could be read."""

    release_of: Callable[[ResourceKey], ReleaseSettings]
    notes: tuple[str, ...] = ()
    watched: tuple[str, ...] = ()
    known: bool = True


async def find_installed(
    cluster: KubernetesCluster, look: Look, namespace: str | None, proposals: Sequence[Proposal]
) -> Installed:
    """Looks in `namespace`, or for an operator anywhere. Raises Unavailable."""
    keys = [each.key for each in proposals]
    served = await _served(cluster)
    deployments, why = await _deployments(cluster, namespace)
    settings, wrong = _settings(deployments, keys)
    if settings is not None:
        release = replace(settings.release, served=served)
        return Installed(lambda _: release, wrong, settings.watch_namespaces)
    where = f"namespace {namespace}" if namespace else "any namespace"
    reason = why or "; ".join(wrong) or f"there is no operator in {where} (--operator-namespace says where it is)"
    found = {each.key: await as_made(look, each, served) for each in proposals}
    assumed = (
        "images, default resources, rules of networks and the like are assumed to stay as its objects have them; GPU "
        "pools that no pod has yet are not known"
    )
    return Installed(found.__getitem__, (f"the operator's settings cannot be read: {reason}; {assumed}",), known=False)


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
