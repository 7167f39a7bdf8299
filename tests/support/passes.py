"""Passes over an index of a real API server, with a data plane that answers as a test wants."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from builders import a_cortex_index_manifest
from cortex_kinds.base import API_VERSION
from cortex_kinds.common import Resources, RevisionStatus
from cortex_operator.cluster import Conflict, Object, ObjectKey
from cortex_operator.dataplane import DataPlaneUnreachable, Description, ResourceKey
from cortex_operator.manifests import ReleaseSettings
from cortex_operator.reconcile import Reconciler, World
from doubles import CountingCluster

SMALL = Resources(requests={"cpu": "10m", "memory": "16Mi"}, limits={"cpu": "1", "memory": "64Mi"})
"""Of a pod that takes no room from those of other tests on the same fake nodes."""
RELEASE = ReleaseSettings("registry.invalid/search:1", "registry.invalid/graph:1", search_resources=SMALL)


class Lake:
    """A data plane whose one revision is the one that is asked for."""

    def __init__(self) -> None:
        self.revision: RevisionStatus | None = None

    async def describe(self, key: ResourceKey) -> Description:
        revisions = (self.revision,) if self.revision else ()
        return Description("pod-a", True, self.revision.id if self.revision else "", revisions, documents=3)

    async def ensure_revision(
        self, key: ResourceKey, revision: str, definition: dict[str, Any], retain: int
    ) -> RevisionStatus:
        self.revision = RevisionStatus(id=revision, phase="Current", documents=3, waiting=0)
        return self.revision

    async def forget(self, key: ResourceKey) -> None:
        return None


class NoPods(Lake):
    """A data plane that nobody reaches."""

    async def describe(self, key: ResourceKey) -> Description:
        raise DataPlaneUnreachable("no pod answers")


@dataclass
class Passes:
    """An index in a namespace of its own, and passes over it."""

    cluster: CountingCluster
    namespace: str

    @property
    def index(self) -> ObjectKey:
        return ObjectKey(API_VERSION, "CortexIndex", self.namespace, "papers")

    async def apply(self, **overrides: Any) -> None:
        await self.cluster.apply(a_cortex_index_manifest(metadata__namespace=self.namespace, **overrides))

    async def until(self, holds: Callable[[dict[str, Any]], bool], dataplane: Lake, seconds: float = 60) -> Object:
        """Passes until the conditions are so; the index then."""
        reconcile = Reconciler(World(self.cluster, dataplane, RELEASE))
        found: dict[str, Any] = {}
        try:
            async with asyncio.timeout(seconds):
                while True:
                    # Another writer was first: the engine tries again, too. The status is that of before then.
                    with suppress(Conflict):
                        await reconcile(ResourceKey("CortexIndex", self.namespace, "papers"))
                        index = await self.cluster.get(self.index)
                        found = {c["type"]: c for c in index["status"].get("conditions", ())}
                        if holds(found):
                            return dict(index)
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise AssertionError(f"not in {seconds} s; it is {found}") from None


def is_so(type: str, status: str, reason: str) -> Callable[[dict[str, Any]], bool]:
    return lambda found: (found[type]["status"], found[type]["reason"]) == (status, reason) if type in found else False
