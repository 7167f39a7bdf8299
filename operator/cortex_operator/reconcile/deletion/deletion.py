"""The deletion of a resource, as its `deletionPolicy` says: who holds it up, for how long, and what is written of it.

Under Retain nothing holds it up. Under Delete our finalizer does, until the data is dropped or the time for that is
over. When it began stands in the condition DataCleanup: a restart of the operator does not begin anew.
"""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Final, NamedTuple

from cortex_kinds.common import CommonStatus
from cortex_kinds.conditions import ConditionType, Reason, get_condition, timestamp
from cortex_kinds.deletion import DeletionPolicy
from cortex_kinds.events import EventReason, Notice

from cortex_operator.cluster import Conflict, Forbidden, Invalid, NamespaceTerminating, NotFound, Object, ObjectKey
from cortex_operator.dataplane import ResourceKey
from cortex_operator.reconcile.deletion.credentials import Credentials
from cortex_operator.reconcile.deletion.orphans import Orphan, Orphans
from cortex_operator.reconcile.deletion.steps import End, Resource, Steps, Times, Wait, had_data, moment, target_of
from cortex_operator.reconcile.finding import true
from cortex_operator.reconcile.model import World
from cortex_operator.reconcile.report import StatusWriter
from cortex_operator.reconcile.verdict import Verdict, conditions

FINALIZER: Final = "cortex.datapunk.io/data-cleanup"
_RETAINED: Final = "deletionPolicy is Retain: its data stays in the Lake"
_REFUSED: Final = (Conflict, Forbidden, Invalid, NamespaceTerminating)
_UNSEEN: Final = "its finalizer was removed by hand: its data stays in the Lake"

log = logging.getLogger(__name__)


class _Seen(NamedTuple):
    """What is kept of a resource that was there and has data."""

    uid: str
    retains: bool


class Deletion:
    """Of all resources. What it keeps in memory, a restart may lose: Secrets that are gone by then, and that a resource
    under Retain was there."""

    def __init__(self, world: World, status: StatusWriter) -> None:
        self._world, self._status = world, status
        self._steps = Steps(world)
        self._credentials = Credentials(world.cluster)
        self._orphans = Orphans(world.cluster, world.release.namespace, world.release.orphans)
        self._seen: dict[ResourceKey, _Seen] = {}
        self._began: dict[ResourceKey, datetime] = {}

    async def prepare(self, key: ResourceKey, obj: Object, resource: Resource) -> None:
        """What a resource needs before anything of it is made. Raises Conflict, Forbidden, Unavailable."""
        drops = resource.spec.deletion_policy is DeletionPolicy.DELETE
        held = obj["metadata"].get("finalizers") or []
        if drops and FINALIZER not in held:
            await self._hold(obj, [*held, FINALIZER])
        if not drops and FINALIZER in held:
            await self._release(obj)
        if drops:
            await self._credentials.remember(key, resource.spec)
        else:
            self._credentials.forget(key)
        self._note(key, resource)
        await self._orphans.remove(key)

    async def carry_on(self, key: ResourceKey, obj: Object, resource: Resource | None, now: datetime) -> float | None:
        """One pass over a resource that is being deleted; None for `resource`: its spec cannot be read. Returns after
        how many seconds to look again. Raises Conflict, Unavailable."""
        if FINALIZER not in (obj["metadata"].get("finalizers") or ()):
            return None
        if resource is None:
            await self._record(key, obj["metadata"]["uid"], "InvalidSpec", "its spec could not be read", now)
            await self._release(obj)
            return None
        self._note(key, resource)
        if resource.spec.deletion_policy is not DeletionPolicy.DELETE:
            await self._release(obj)
            return None
        times = Times(self._beginning(key, resource.status, now), self._world.timing.cleanup)
        found = await self._step(key, resource, times, now)
        if isinstance(found, Wait) and now >= times.end:
            found = End(_overdue(found), f"its time of {times.limit:.0f} s is over: {found.message}")
        if isinstance(found, Wait):
            await self._tell(obj, resource, found, times, now)
            return self._world.timing.moving
        await self._end(key, obj, resource, found, now)
        return None

    async def gone(self, key: ResourceKey, now: datetime) -> None:
        """There is no such resource (any more). Raises Conflict, Unavailable."""
        if (seen := self._seen.get(key)) is not None:
            reason, message = ("Retained", _RETAINED) if seen.retains else ("FinalizerRemoved", _UNSEEN)
            await self._record(key, seen.uid, reason, message, now)
        self._forget(key)

    def _note(self, key: ResourceKey, resource: Resource) -> None:
        if had_data(resource):
            self._seen[key] = _Seen(resource.metadata.uid, resource.spec.deletion_policy is DeletionPolicy.RETAIN)
        else:
            self._seen.pop(key, None)

    def _forget(self, key: ResourceKey) -> None:
        self._credentials.forget(key)
        self._seen.pop(key, None)
        self._began.pop(key, None)

    def _beginning(self, key: ResourceKey, status: CommonStatus, now: datetime) -> datetime:
        told = get_condition(status.conditions, ConditionType.DATA_CLEANUP)
        first = now.replace(microsecond=0) if told is None else moment(told.last_transition_time)
        # A status that cannot be written must not prolong it.
        return self._began.setdefault(key, first)

    async def _step(self, key: ResourceKey, resource: Resource, times: Times, now: datetime) -> Wait | End:
        """Whatever the cluster refuses is waited for like all else, and not for longer."""
        try:
            values = await self._credentials.look(key, resource.spec)
            return await self._steps.step(resource, values, times, now)
        except _REFUSED as error:
            return Wait(Reason.CLEANUP_REFUSED, str(error))

    async def _tell(self, obj: Object, resource: Resource, wait: Wait, times: Times, now: datetime) -> None:
        message = f"{wait.message}; it goes at {timestamp(times.end)} at the latest"
        verdict = Verdict(False, Reason.DATA_CLEANUP, f"it is being deleted: {message}", reconciling=True)
        findings = [*verdict.findings(), true(ConditionType.DATA_CLEANUP, wait.reason, message)]
        before, generation = resource.status, resource.metadata.generation
        found = conditions(before, findings, generation, now)
        after = before.model_copy(update={"observed_generation": generation, "conditions": found})
        try:
            await self._status.write(ObjectKey.of(obj), obj, after)
        except _REFUSED as error:
            log.warning("%s waits, and its status does not say so: %s", ObjectKey.of(obj), error)

    async def _end(self, key: ResourceKey, obj: Object, resource: Resource, end: End, now: datetime) -> None:
        """First what is to be known afterwards, then nobody holds the resource."""
        if end.reason:
            await self._record(key, resource.metadata.uid, end.reason, end.message, now)
            self._world.record(obj, (Notice(EventReason.DATA_LEFT, f"{end.reason}: {end.message}"),))
        else:
            await self._orphans.remove(key)
        await self._steps.clear(target_of(resource), keep_failed=bool(end.reason))
        await self._release(obj)
        self._forget(key)

    async def _record(self, key: ResourceKey, uid: str, reason: str, message: str, now: datetime) -> None:
        remedy = (
            f"create the {key.kind} {key.namespace}/{key.name} again to have the data; to drop it, create it with "
            "deletionPolicy: Delete and suspend: true, and delete it"
        )
        place = (key.kind, key.namespace, key.name)
        await self._orphans.record(Orphan(*place, uid, reason, message, timestamp(now), remedy))

    async def _release(self, obj: Object) -> None:
        await self._hold(obj, [name for name in obj["metadata"].get("finalizers") or () if name != FINALIZER])

    async def _hold(self, obj: Object, finalizers: list[str]) -> None:
        try:
            await self._world.cluster.set_finalizers(obj, finalizers)
        except NotFound:
            return  # it is gone already


def _overdue(wait: Wait) -> str:
    return "SecretNotFound" if wait.reason is Reason.SECRET_NOT_FOUND else "CleanupTimedOut"
