"""Deletions of an index, pass by pass, with a clock that a test moves; over any cluster."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from builders import a_cortex_index_manifest
from cortex_kinds.base import API_VERSION
from cortex_kinds.events import Notice
from cortex_operator.cluster import Cluster, Invalid, NotFound, Object, ObjectKey
from cortex_operator.dataplane import ResourceKey
from cortex_operator.manifests import ReleaseSettings
from cortex_operator.reconcile import Reconciler, Timing, World
from objects import a_secret
from passes import NoPods

RELEASE = ReleaseSettings("registry.invalid/search:1", "registry.invalid/graph:1")


class Deletions:
    """The index `papers` in `namespace`, and the operator's own namespace `own`."""

    def __init__(self, cluster: Cluster, namespace: str, own: str, **settings: Any) -> None:
        self.cluster = cluster
        self.key = ResourceKey("CortexIndex", namespace, "papers")
        self.index = ObjectKey(API_VERSION, "CortexIndex", namespace, "papers")
        self.now = datetime.now(UTC)
        self.own = own
        self.notices: list[Notice] = []
        self._release = replace(RELEASE, namespace=own, **settings)
        self.restart()

    def restart(self) -> None:
        """Another process of the operator: nothing is in its memory."""
        world = World(
            self.cluster, NoPods(), self._release, Timing(), record=lambda _, notices: self.notices.extend(notices)
        )
        self.reconcile = Reconciler(world, lambda: self.now)

    async def set_up(self, policy: str = "Delete", **overrides: Any) -> None:
        """Secrets, the index, one pass, and a revision in its status."""
        await self.make_secrets()
        await self.apply(policy, **overrides)
        await self.pass_()
        await self.has_data()

    async def make_secrets(self) -> None:
        for secret in (a_secret("cortex-lake", dsn="postgresql://lake/d"), a_secret("cortex-state", url="redis://s")):
            secret["metadata"]["namespace"] = self.key.namespace
            await self.cluster.apply(secret, field_manager="author")

    async def apply(self, policy: str, **overrides: Any) -> None:
        manifest = a_cortex_index_manifest(spec__deletionPolicy=policy, **overrides)
        manifest["metadata"]["namespace"] = self.key.namespace
        await self.cluster.apply(manifest, field_manager="author")

    async def has_data(self) -> None:
        """The status says so, and the operator has seen it."""
        status = (await self.cluster.get(self.index)).get("status", {})
        revisions = [{"id": "0123456789", "phase": "Current"}]
        await self.cluster.patch_status(self.index, {**status, "currentRevision": "0123456789", "revisions": revisions})
        await self.pass_()

    async def pass_(self, seconds: float = 0) -> float | None:
        self.now += timedelta(seconds=seconds)
        return await self.reconcile(self.key)

    async def delete(self) -> None:
        await self.cluster.delete(self.index)

    async def find(self) -> Object | None:
        try:
            return await self.cluster.get(self.index)
        except NotFound:
            return None

    async def finalizers(self) -> list[str]:
        obj = await self.find()
        return list((obj or {"metadata": {}})["metadata"].get("finalizers", []))

    async def condition(self, type: str) -> tuple[str, str, str]:
        """Status, reason and message."""
        obj = await self.find()
        assert obj is not None
        found = next((c for c in obj["status"]["conditions"] if c["type"] == type), None)
        return (found["status"], found["reason"], found["message"]) if found else ("", "", "")

    async def job(self) -> Object | None:
        """The cleanup Job, which carries whose it is."""
        for job in await self.cluster.list("batch/v1", "Job", namespace=self.own):
            if job["metadata"].get("annotations", {}).get("cortex.datapunk.io/cleanup-of") == (
                f"CortexIndex/{self.key.namespace}/papers"
            ):
                return job
        return None

    async def secret(self) -> dict[str, str] | None:
        """What the Job's Secret holds."""
        job = await self.job()
        name = job["metadata"]["name"] if job else "none"
        try:
            found = await self.cluster.get(ObjectKey("v1", "Secret", self.own, name))
        except NotFound:
            return None
        return {key: base64.b64decode(value).decode() for key, value in found["data"].items()}

    async def job_ends(self, type: str, message: str = "") -> None:
        """As the Job's controller says it."""
        while True:
            job = await self.job()
            assert job is not None
            try:
                await self._job_ends(job, type, message)
            except Invalid:
                # When it began its controller may have said just then, and nobody may say otherwise.
                again = await self.job()
                if again is None or again["metadata"]["resourceVersion"] == job["metadata"]["resourceVersion"]:
                    raise
            else:
                return

    async def _job_ends(self, job: Object, type: str, message: str) -> None:
        at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        before = {"Complete": "SuccessCriteriaMet", "Failed": "FailureTarget"}[type]
        about = {"status": "True", "reason": "x", "message": message, "lastTransitionTime": at, "lastProbeTime": at}
        started = (job.get("status") or {}).get("startTime", at)
        status: dict[str, Any] = {"startTime": started, "conditions": [{"type": t, **about} for t in (before, type)]}
        status |= {"succeeded": 1, "completionTime": at} if type == "Complete" else {"failed": 1}
        await self.cluster.patch_status(ObjectKey.of(job), status)

    async def job_pod(self) -> ObjectKey:
        """A pod of the Job that ends when its finalizers are taken away."""
        job = await self.job()
        assert job is not None
        meta = job["metadata"]
        about = {"name": meta["name"], "uid": meta["uid"], "controller": True, "blockOwnerDeletion": True}
        owner = {"apiVersion": "batch/v1", "kind": "Job", **about}
        found = {"name": f"{meta['name']}-x", "namespace": self.own, "ownerReferences": [owner]}
        spec = {"containers": [{"name": "cleanup", "image": "registry.invalid/search:1"}]}
        pod: Object = {"apiVersion": "v1", "kind": "Pod", "metadata": found, "spec": spec}
        await self.cluster.apply(pod, field_manager="kubelet")
        key = ObjectKey.of(pod)
        await self.cluster.set_finalizers(await self.cluster.get(key), ["example.com/process"])
        return key

    async def pod_ends(self, pod: ObjectKey) -> None:
        """As the kubelet says it of one that is being deleted."""
        found = await self.cluster.get(pod)
        assert "deletionTimestamp" in found["metadata"]
        await self.cluster.set_finalizers(found, [])

    async def record(self) -> str:
        """What the record of the index says."""
        found = await self.cluster.get(ObjectKey("v1", "ConfigMap", self.own, self._release.orphans))
        return str(json.loads(found["data"][f"CortexIndex.{self.key.namespace}.papers"])["message"])

    async def orphans(self) -> list[tuple[str, str]]:
        """Name and reason."""
        try:
            found = await self.cluster.get(ObjectKey("v1", "ConfigMap", self.own, self._release.orphans))
        except NotFound:
            return []
        records = map(json.loads, found.get("data", {}).values())
        return [(f"{r['kind']}/{r['namespace']}/{r['name']}", r["reason"]) for r in records]
