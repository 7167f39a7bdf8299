"""Plans over the in-memory store, and what an apply then really does, for tests."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from cortex_kinds.base import API_VERSION
from cortex_operator.cluster import Cluster, MemoryCluster, Object, ObjectKey
from cortex_operator.dataplane import DataPlaneUnreachable, Description, ResourceKey
from cortex_operator.manifests import ReleaseSettings
from cortex_operator.preview.look import Look
from cortex_operator.preview.report import ResourcePlan
from cortex_operator.preview.run import Proposal, Sandboxes, preview
from cortex_operator.preview.sandbox import Sandbox
from cortex_operator.reconcile import Reconciler, World
from passes import NoPods

RELEASE = ReleaseSettings("registry.invalid/search:1", "registry.invalid/graph:1")


def key_of(obj: Object) -> ResourceKey:
    return ResourceKey(obj["kind"], obj["metadata"]["namespace"], obj["metadata"]["name"])


def own(key: ResourceKey) -> ObjectKey:
    return ObjectKey(API_VERSION, key.kind, key.namespace, key.name)


async def reconciled(cluster: Cluster, *keys: ResourceKey, release: ReleaseSettings = RELEASE) -> None:
    """Passes until every resource is as it will stay."""
    now = datetime.now(UTC)
    reconcile = Reconciler(World(cluster, NoPods(), release), now=lambda: now)
    for _ in range(4):
        for key in keys:
            await reconcile(key)


async def planned(
    live: MemoryCluster, *manifests: Object, release: ReleaseSettings = RELEASE, **describes: Description
) -> tuple[ResourcePlan, ...]:
    """The plan of an apply of the manifests by `author`. `describes`: what the pods of a resource say, by its name."""

    async def describe(key: ResourceKey) -> Description:
        if key.name in describes:
            return describes[key.name]
        raise DataPlaneUnreachable("no pod answers")

    look = Look(MemoryCluster())
    worlds = Sandboxes(Sandbox(look, live.records()), Sandbox(look, live.records()))
    proposals = []
    for manifest in manifests:
        key = key_of(manifest)
        before = worlds.live.state(own(key))
        worlds.proposed.actor = key
        await worlds.proposed.apply(manifest, field_manager="author")
        proposals.append(Proposal(key, before, worlds.proposed.state(own(key))))
    return await preview(worlds, proposals, lambda _: release, describe)


def content(cluster: MemoryCluster) -> dict[ObjectKey, Any]:
    """All objects but the resources themselves and their status, and what the operator owns of each."""
    return {
        ObjectKey.of(obj): (
            {name: value for name, value in obj.items() if name not in ("metadata", "status")},
            {name: value for name, value in obj["metadata"].items() if name not in ("resourceVersion", "generation")},
            owners.get("cortex-operator"),
        )
        for obj, owners in cluster.records()
        if obj["apiVersion"] != API_VERSION
    }


def differing(before: dict[ObjectKey, Any], after: dict[ObjectKey, Any]) -> dict[ObjectKey, str]:
    """What happened to each object that is not as it was."""
    keys = [key for key in before.keys() | after.keys() if before.get(key) != after.get(key)]
    return {key: "Create" if key not in before else "Delete" if key not in after else "Change" for key in keys}
