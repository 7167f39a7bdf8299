"""The Jobs that drop data, of all resources that there were: which may be at work, and how they are ended.

Shields a resource that is kept, or created again, from a Job for its name: that finds data by kind, namespace and name,
and knows no uid.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final

from cortex_kinds.conditions import timestamp

from cortex_operator.cluster import Cluster, Forbidden, NotFound, Object, ObjectKey
from cortex_operator.dataplane import ResourceKey
from cortex_operator.manifests.cleanup import CLEANUP_OF, LABELS, Target
from cortex_operator.reconcile.index.ingest import JobPhase, phase
from cortex_operator.reconcile.observe import find

_MARGIN: Final = 60.0
"""Seconds after its deadline in which a Job's last statement has ended, whatever became of its pod."""

log = logging.getLogger(__name__)


class Jobs:
    """Of one release, in its `namespace`; this operator alone makes them. Those of the operator before are asked for
    once."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster, self._namespace = cluster, namespace
        self._known: dict[str, set[str]] = {}
        """Whose, as CLEANUP_OF says it -> the names of those that may be at work."""
        self._asked = False
        self._turn = asyncio.Lock()

    def key(self, name: str) -> ObjectKey:
        """The Job of that name."""
        return ObjectKey("batch/v1", "Job", self._namespace, name)

    async def note(self, target: Target) -> None:
        """There is one, or will be in a moment. Raises Unavailable."""
        (await self._all()).setdefault(str(target), set()).add(target.job)

    async def has(self, key: ResourceKey) -> bool:
        """Whether there is one for that name, which was not ended here. Raises Unavailable."""
        return _whose(key) in await self._all()

    async def end(self, key: ResourceKey, now: datetime) -> str:
        """Ends those for that name, with their Secrets; one that failed stays a while for its log. Returns what may be
        at work nevertheless, as a sentence; empty: nothing. Raises Unavailable."""
        known = await self._all()
        working = ""
        for name in sorted(known.get(_whose(key), ())):
            job = await self._end(self.key(name))
            if job is not None and now < _over(job):
                working = (
                    f"Job {self._namespace}/{name}, which drops the data of this name, is being stopped: its pod ends "
                    f"by {timestamp(_over(job))}"
                )
            else:
                known[_whose(key)].discard(name)
        if not known.get(_whose(key)):
            known.pop(_whose(key), None)
        return working

    async def _end(self, key: ObjectKey) -> Object | None:
        """The Job, while it may be at work."""
        job: Object | None = None
        try:
            job = await find(self._cluster, key, unwatched=True)
            if job is None:
                return None
            with suppress(NotFound):
                if phase(job) is JobPhase.FAILED:
                    await self._cluster.delete(ObjectKey("v1", "Secret", key.namespace, key.name))
                elif "deletionTimestamp" not in job["metadata"]:
                    # It stays until its pods have ended.
                    await self._cluster.delete(key, uid=job["metadata"]["uid"], foreground=True)
            job = await find(self._cluster, key, unwatched=True)
        except Forbidden as error:
            log.warning("%s is left to end by itself: %s", key, error)
        return job if job is not None and phase(job) is JobPhase.ACTIVE else None

    async def _all(self) -> dict[str, set[str]]:
        async with self._turn:
            if not self._asked:
                try:
                    await self._ask()
                except Forbidden as error:
                    log.warning("Jobs of the operator before that drop data cannot be looked for: %s", error)
        return self._known

    async def _ask(self) -> None:
        for job in await self._cluster.list("batch/v1", "Job", namespace=self._namespace, labels=dict(LABELS)):
            if whose := (job["metadata"].get("annotations") or {}).get(CLEANUP_OF):
                self._known.setdefault(whose, set()).add(job["metadata"]["name"])
        self._asked = True


def _whose(key: ResourceKey) -> str:
    return str(Target(key.kind, key.namespace, key.name, uid=""))


def _over(job: Object) -> datetime:
    """When it drops nothing any more, wherever its pod is."""
    began = datetime.fromisoformat(job["metadata"]["creationTimestamp"]).astimezone(UTC)
    return began + timedelta(seconds=(job["spec"].get("activeDeadlineSeconds") or 0) + _MARGIN)
