"""What `cortex up -f` would do to the local cluster: tried on a copy of its store."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cortex_operator.cluster.memory import MemoryCluster
from cortex_operator.cluster.port import Invalid, ObjectKey
from cortex_operator.dataplane import ResourceKey
from cortex_operator.dataplane_grpc import GrpcDataPlane
from cortex_operator.manifests.release import ReleaseSettings
from cortex_operator.preview.look import Look
from cortex_operator.preview.report import Report
from cortex_operator.preview.run import Proposal, Sandboxes, preview
from cortex_operator.preview.sandbox import Sandbox
from cortex_operator.reconcile.loop import KINDS

from cortex_cli.local.applied import Sources, key_of
from cortex_cli.local.store import Store


async def plan_local(cluster: MemoryCluster, store: Store, release: ReleaseSettings, sources: Sources) -> Any:
    """The document of `cortex plan -o json`. Raises Invalid, Unsettled."""
    look = Look(MemoryCluster())
    worlds = Sandboxes(Sandbox(look, cluster.records()), Sandbox(look, cluster.records()), nodes=False)
    results, gone = await store.rehearse(worlds.proposed, sources)
    if refused := [f"{key}: {result}" for key, result in results.items() if result.startswith("Refused")]:
        raise Invalid("; ".join(refused))
    for key in gone:
        worlds.proposed.actor = ResourceKey(key.kind, key.namespace, key.name)
        await _delete(worlds.proposed, key)
    given = [key_of(obj) for objects in sources.values() for obj in objects]
    dataplane = GrpcDataPlane(cluster)
    try:
        plans = await preview(worlds, list(_proposals(worlds, (*given, *gone))), lambda _: release, dataplane.describe)
    finally:
        await dataplane.close()
    return Report("local", plans).to_json()


async def _delete(sandbox: Sandbox, key: ObjectKey) -> None:
    """As it ends: what holds a deletion up for a while is over by then."""
    obj = sandbox.state(key)
    if obj is not None:
        await sandbox.set_finalizers(obj, ())
        await sandbox.delete(key)


def _proposals(worlds: Sandboxes, keys: Iterable[ObjectKey]) -> Iterable[Proposal]:
    for key in dict.fromkeys(keys):
        if key.kind in KINDS:
            named = ResourceKey(key.kind, key.namespace, key.name)
            yield Proposal(named, worlds.live.state(key), worlds.proposed.state(key))
