"""An operator's passes over the in-memory store, where anybody may change or break anything; no pods, no clock.

Shields tests of many specs from servers: a pass takes about a millisecond.
"""

from __future__ import annotations

import base64
from typing import Any

import oracle
from cortex_kinds.base import API_VERSION
from cortex_operator.cluster import ApplyResult, MemoryCluster, Object, ObjectKey
from cortex_operator.cluster.fields import copy_json, field_set
from cortex_operator.cluster.memory import Record
from cortex_operator.dataplane import ResourceKey
from cortex_operator.manifests import ReleaseSettings
from cortex_operator.manifests.gpupool import GPUPool
from cortex_operator.manifests.optional import OPTIONAL
from cortex_operator.reconcile import Reconciler, World
from doubles import CountingCluster
from passes import NoPods
from walk import NAMED, POOL

CANARY = "canary-7d1f9b"
"""In every Secret of the tests of faults: it must never come out."""
RELEASE = ReleaseSettings(
    "registry.invalid/search:1",
    "registry.invalid/graph:1",
    served=frozenset(OPTIONAL),
    gpu_pools=(GPUPool(name=POOL, node_selector={"pool": POOL}),),
)
SECRETS = {
    "cortex-lake": {"dsn": f"postgresql://cortex:{CANARY}@lake.invalid/cortex"},
    "cortex-state": {"url": f"redis://:{CANARY}@state.invalid"},
    NAMED: {
        "dsn": f"postgresql://cortex:{CANARY}@other.invalid/cortex",
        "url": f"redis://:{CANARY}@other.invalid",
        **dict.fromkeys(("token", "roots.pem", "ca.crt"), CANARY),
    },
}
MOST_PASSES = 8
"""After one change; more is a loop."""


class EditableCluster(MemoryCluster):
    """A store where anybody may put any object, valid or not, as an update does: whoever puts it owns what he changed.
    `kinds` are those that were stored."""

    def __init__(self) -> None:
        super().__init__()
        self.kinds: set[tuple[str, str]] = set()

    async def apply(self, obj: Object, **options: Any) -> ApplyResult:
        self.kinds.add((obj["apiVersion"], obj["kind"]))
        return await super().apply(obj, **options)

    def put(self, obj: Object) -> None:
        """Stores the object as it is. Its generation counts on."""
        key, obj = ObjectKey.of(obj), copy_json(obj)
        self.kinds.add((key.api_version, key.kind))
        before = self._find(key)
        if before is None:
            meta = {"uid": f"uid-{key.name}", "creationTimestamp": "2026-01-01T00:00:00Z", "generation": 1}
            obj["metadata"] = {**meta, **obj["metadata"]}
            self._store(key, Record(obj, {"somebody": field_set(obj)}))
            return
        changed = field_set(obj) ^ field_set(before.object)
        owners = {name: frozenset(f for f in fields if f not in changed) for name, fields in before.owners.items()}
        generation = before.object["metadata"].get("generation", 0) + 1
        obj["metadata"] = {**obj["metadata"], "generation": generation}
        self._store(key, Record(obj, owners))


class Bed:
    """A store with the Secrets and all else that specs of `walk` name, and passes over what is in it."""

    def __init__(self) -> None:
        self.store = EditableCluster()
        self.counting = CountingCluster(self.store)
        self._reconcile = Reconciler(World(self.counting, NoPods(), RELEASE))

    @classmethod
    async def made(cls, *manifests: Object) -> Bed:
        """With these resources, settled."""
        bed = cls()
        meta = {"namespace": "default"}
        for name, data in SECRETS.items():
            bed.store.put(
                {"apiVersion": "v1", "kind": "Secret", "metadata": {**meta, "name": name}, "data": _coded(data)}
            )
        named = {**meta, "name": NAMED}
        data = dict.fromkeys(("token", "roots.pem", "ca.crt"), "text")
        bed.store.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": named, "data": data})
        for kind in ("ServiceAccount", "PersistentVolumeClaim"):
            bed.store.put({"apiVersion": "v1", "kind": kind, "metadata": named})
        for manifest in manifests:
            await bed.apply(manifest)
        return bed

    async def apply(self, manifest: Object) -> None:
        """Somebody applies the resource; returns when it is settled."""
        await self.store.apply(manifest, field_manager="author")
        await self.settle(manifest)

    async def settle(self, manifest: Object) -> None:
        """Passes until one of them writes nothing."""
        for _ in range(MOST_PASSES):
            before = len(self.counting.writes)
            await self.look(manifest)
            if len(self.counting.writes) == before and not (await self._autoscale() or await self._roll_out()):
                return
        raise AssertionError(f"it does not come to rest: {self.counting.writes[-10:]}")

    async def look(self, manifest: Object) -> None:
        """One pass."""
        meta = manifest["metadata"]
        await self._reconcile(ResourceKey(manifest["kind"], meta["namespace"], meta["name"]))

    async def _roll_out(self) -> bool:
        """Whether the controller of Deployments saw another generation: there are no pods, so that is all."""
        changed = False
        for deployment in await self.store.list("apps/v1", "Deployment"):
            status = {"observedGeneration": deployment["metadata"]["generation"]}
            changed |= await self.store.patch_status(ObjectKey.of(deployment), status)
        return changed

    async def _autoscale(self) -> bool:
        """Whether an autoscaler changed a number of pods: without load it has as few as it may."""
        changed = False
        for scaler in await self.store.list("autoscaling/v2", "HorizontalPodAutoscaler"):
            meta, target = scaler["metadata"], scaler["spec"]["scaleTargetRef"]
            deployment = await self.store.get(
                ObjectKey(target["apiVersion"], target["kind"], meta["namespace"], target["name"])
            )
            if deployment["spec"].get("replicas") != (fewest := scaler["spec"]["minReplicas"]):
                self.store.put({**deployment, "spec": {**deployment["spec"], "replicas": fewest}})
                changed = True
        return changed

    async def resource(self, manifest: Object) -> Object:
        """As it is stored."""
        meta = manifest["metadata"]
        return await self.store.get(ObjectKey(API_VERSION, manifest["kind"], meta["namespace"], meta["name"]))

    async def children(self, manifest: Object) -> list[Object]:
        """What the operator made of it."""
        return await oracle.managed(self.store, sorted(self.store.kinds), manifest["metadata"]["namespace"])

    async def state(self, manifest: Object) -> oracle.State:
        """For the oracle."""
        return oracle.state(await self.resource(manifest), await self.children(manifest), exact=True)


async def fresh(manifest: Object) -> oracle.State:
    """Of the same manifest in a store of its own."""
    return await (await Bed.made(manifest)).state(manifest)


def _coded(data: dict[str, str]) -> dict[str, str]:
    return {name: base64.b64encode(text.encode()).decode() for name, text in data.items()}
