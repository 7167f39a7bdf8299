"""The deletion of a resource, as its `deletionPolicy` says: who holds it up, for how long, and what is written of it.

Under Retain nothing holds it up. Under Delete our finalizer does, until the data is dropped or the time for that is
over. When it began, and how it ended where others hold the resource still, stands in the condition DataCleanup: a
restart of the operator does not begin anew.
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
from cortex_operator.reconcile.deletion.jobs import Jobs
from cortex_operator.reconcile.deletion.orphans import Orphan, Orphans
from cortex_operator.reconcile.deletion.others import FINALIZER, is_over, others, told, waits, without_pods
from cortex_operator.reconcile.deletion.steps import End, Resource, Steps, Times, Wait, had_data, moment
from cortex_operator.reconcile.finding import Finding, false, true
from cortex_operator.reconcile.model import World
from cortex_operator.reconcile.observe import find
from cortex_operator.reconcile.report import StatusWriter, stored
from cortex_operator.reconcile.verdict import Verdict, conditions

_REFUSED: Final = (Conflict, Forbidden, Invalid, NamespaceTerminating)
_UNREADABLE: Final = "its spec could not be read"
_RETAINED: Final = ("Retained", "deletionPolicy is Retain")
_UNSEEN: Final = ("FinalizerRemoved", "its finalizer was removed by hand")
_WITH_A_JOB: Final = frozenset({Reason.CLEANUP_RUNNING, Reason.CLEANUP_STOPPING})

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
        self._jobs = Jobs(world.cluster, world.release.namespace)
        self._steps = Steps(world, self._jobs)
        self._credentials = Credentials(world.cluster)
        self._orphans = Orphans(world.cluster, world.release.namespace, world.release.orphans)
        self._seen: dict[ResourceKey, _Seen] = {}
        self._began: dict[ResourceKey, datetime] = {}
        self._partly: set[ResourceKey] = set()
        """Of whose data a Job may have dropped a part."""

    async def prepare(self, key: ResourceKey, obj: Object, resource: Resource, now: datetime) -> float | None:
        """What a resource needs before anything of it is made. Returns after how many seconds to look again where
        nothing may be made yet; None: it may. Raises Conflict, Forbidden, Invalid, Unavailable."""
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
        self._began.pop(key, None)
        self._partly.discard(key)
        if working := await self._jobs.end(key, now):
            message = f"nothing of it is made yet, as another one of its name was deleted: {working}"
            await self._say(obj, resource.status, Reason.CLEANUP_STOPPING, message, now)
            return self._world.timing.moving
        await self._orphans.remove(key)
        return None

    async def carry_on(self, key: ResourceKey, obj: Object, resource: Resource | None, now: datetime) -> float | None:
        """One pass over a resource that is being deleted; None for `resource`: its spec cannot be read. Returns after
        how many seconds to look again. Raises Conflict, Unavailable."""
        if FINALIZER not in (obj["metadata"].get("finalizers") or ()):
            return await self._wait_for_others(key, obj, resource, now)
        if resource is not None and is_over(resource.status):
            if others(obj):
                await self._tell_of_others(obj, resource.status, self._fate(key, resource, resource.status), now)
            await self._leave(key, obj, now)
            return None
        if resource is not None:
            self._note(key, resource)
        if resource is None or resource.spec.deletion_policy is not DeletionPolicy.DELETE:
            return await self._let_go(key, obj, resource, now)
        times = Times(self._beginning(key, resource.status, now), self._world.timing.cleanup)
        found = await self._step(key, resource, times, now)
        if isinstance(found, Wait) and now >= times.end:
            found = End(_overdue(found), f"its time of {times.limit:.0f} s is over: {found.message}")
        if isinstance(found, Wait):
            message = f"{found.message}; it goes at {timestamp(times.end)} at the latest"
            await self._tell(obj, resource.status, Wait(found.reason, message), now)
            return self._world.timing.moving
        await self._end(key, obj, resource, found, now)
        return None

    async def gone(self, key: ResourceKey, now: datetime) -> None:
        """There is no such resource (any more). Raises Conflict, Unavailable."""
        await self._stop(key, now)
        if (seen := self._seen.get(key)) is not None:
            reason, why = _RETAINED if seen.retains else _UNSEEN
            await self._record(key, seen.uid, reason, self._kept(key, why), now)
        self._forget(key)

    async def _let_go(self, key: ResourceKey, obj: Object, resource: Resource | None, now: datetime) -> float | None:
        """Its data is kept: once nobody drops it any more, nobody holds the resource."""
        before = stored(obj) if resource is None else resource.status
        if working := await self._stop(key, now, before):
            await self._tell(obj, before, Wait(Reason.CLEANUP_STOPPING, working), now)
            return self._world.timing.moving
        if resource is None:
            why = self._kept(key, _UNREADABLE)
            await self._record(key, obj["metadata"]["uid"], "InvalidSpec", why, now)
        if others(obj):
            await self._tell_of_others(obj, before, self._fate(key, resource, before), now)
        await self._release(obj)
        return None

    async def _wait_for_others(
        self, key: ResourceKey, obj: Object, resource: Resource | None, now: datetime
    ) -> float | None:
        """One that we do not hold (any more)."""
        before = stored(obj) if resource is None else resource.status
        if is_over(before):
            if await self._jobs.end(key, now):
                return self._world.timing.moving
        else:
            if resource is not None:
                self._note(key, resource)
            if working := await self._stop(key, now, before):
                await self._tell(obj, before, Wait(Reason.CLEANUP_STOPPING, working), now)
                return self._world.timing.moving
        if not others(obj):
            return None
        return await self._tell_of_others(obj, before, self._fate(key, resource, before), now)

    def _fate(self, key: ResourceKey, resource: Resource | None, before: CommonStatus) -> str:
        """What has become of the data of one whose data nobody drops (any more), as a sentence."""
        if (said := told(before)) is not None:
            return said.message
        if resource is None:
            return self._kept(key, _UNREADABLE)
        if resource.spec.deletion_policy is DeletionPolicy.RETAIN:
            return self._kept(key, _RETAINED[1])
        begun = get_condition(before.conditions, ConditionType.DATA_CLEANUP) is not None
        return self._kept(key, _UNSEEN[1] if begun else f"it is without the finalizer {FINALIZER}")

    async def _stop(self, key: ResourceKey, now: datetime, before: CommonStatus | None = None) -> str:
        """Ends the Job, if there is one; what may be at work nevertheless, as a sentence. Raises Unavailable."""
        said = None if before is None else get_condition(before.conditions, ConditionType.DATA_CLEANUP)
        if (said is not None and said.reason in _WITH_A_JOB) or await self._jobs.has(key):
            self._partly.add(key)
        return await self._jobs.end(key, now)

    def _kept(self, key: ResourceKey, why: str) -> str:
        if key in self._partly:
            return f"{why}, but a Job had begun to drop its data: a part of it may be gone, the rest stays in the Lake"
        return f"{why}: its data stays in the Lake"

    def _note(self, key: ResourceKey, resource: Resource) -> None:
        if had_data(resource):
            self._seen[key] = _Seen(resource.metadata.uid, resource.spec.deletion_policy is DeletionPolicy.RETAIN)
        else:
            self._seen.pop(key, None)

    def _forget(self, key: ResourceKey) -> None:
        self._credentials.forget(key)
        self._seen.pop(key, None)
        self._began.pop(key, None)
        self._partly.discard(key)

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

    async def _tell(self, obj: Object, before: CommonStatus, wait: Wait, now: datetime) -> None:
        cleanup = true(ConditionType.DATA_CLEANUP, wait.reason, wait.message)
        try:
            await self._say(obj, before, Reason.DATA_CLEANUP, f"it is being deleted: {wait.message}", now, cleanup)
        except _REFUSED as error:
            log.warning("%s waits, and its status does not say so: %s", ObjectKey.of(obj), error)

    async def _tell_of_others(
        self, obj: Object, before: CommonStatus, fate: str, now: datetime, ended: Reason | None = None
    ) -> float | None:
        """Says that only others hold it; `ended`: how its cleanup did, where that is new. Returns after how many
        seconds the rest may be written."""
        cleanup = get_condition(before.conditions, ConditionType.DATA_CLEANUP)
        reason = Reason.DATA_KEPT if ended is None and cleanup is not None and told(before) is None else ended
        more = [] if reason is None else [false(ConditionType.DATA_CLEANUP, reason, fate)]
        try:
            return await self._say(obj, before, Reason.WAITING_FOR_FINALIZERS, waits(obj, fate), now, *more)
        except _REFUSED as error:
            log.warning("%s waits, and its status does not say so: %s", ObjectKey.of(obj), error)
            return None

    async def _say(
        self, obj: Object, before: CommonStatus, reason: Reason, message: str, now: datetime, *more: Finding
    ) -> float | None:
        verdict = Verdict(False, reason, message, reconciling=True)
        generation = obj["metadata"].get("generation", 0)
        found = conditions(before, [*verdict.findings(), *more], generation, now)
        after = before.model_copy(update={"observed_generation": generation, "conditions": found})
        return await self._status.write(ObjectKey.of(obj), obj, after)

    async def _end(self, key: ResourceKey, obj: Object, resource: Resource, end: End, now: datetime) -> None:
        """First what is to be known afterwards, then we do not hold the resource. The Job goes last: until then it
        tells how the data ended."""
        if end.reason:
            await self._record(key, resource.metadata.uid, end.reason, end.message, now)
            self._world.record(obj, (Notice(EventReason.DATA_LEFT, f"{end.reason}: {end.message}"),))
        else:
            await self._orphans.remove(key)
        if others(obj):
            left = f"{end.reason}: {end.message}; cortex orphans lists it" if end.reason else ""
            before = without_pods(resource.status, data=bool(left))
            ended = Reason.DATA_LEFT if left else Reason.DATA_DROPPED
            await self._tell_of_others(obj, before, left or end.message or "its data is dropped", now, ended)
        await self._leave(key, obj, now)

    async def _leave(self, key: ResourceKey, obj: Object, now: datetime) -> None:
        await self._release(obj)
        self._forget(key)
        await self._jobs.end(key, now)

    async def _record(self, key: ResourceKey, uid: str, reason: str, message: str, now: datetime) -> None:
        remedy = (
            f"create the {key.kind} {key.namespace}/{key.name} again to have the data; to drop it, create it with "
            "deletionPolicy: Delete and suspend: true, and delete it"
        )
        place = (key.kind, key.namespace, key.name)
        await self._orphans.record(Orphan(*place, uid, reason, message, timestamp(now), remedy))

    async def _release(self, obj: Object) -> None:
        # A status that was just written makes what was read before too old to be changed.
        if others(obj) and (found := await find(self._world.cluster, ObjectKey.of(obj))) is not None:
            obj = found
        await self._hold(obj, others(obj))

    async def _hold(self, obj: Object, finalizers: list[str]) -> None:
        try:
            await self._world.cluster.set_finalizers(obj, finalizers)
        except NotFound:
            return  # it is gone already


def _overdue(wait: Wait) -> str:
    return "SecretNotFound" if wait.reason is Reason.SECRET_NOT_FOUND else "CleanupTimedOut"
