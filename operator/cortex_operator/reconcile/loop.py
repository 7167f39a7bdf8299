"""One pass over a resource: observe, plan, order, apply, write the status; whatever the kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, Generic, TypeVar

from cortex_kinds.base import API_VERSION
from cortex_kinds.common import CommonStatus
from cortex_kinds.conditions import Reason
from cortex_kinds.events import EventReason, Notice
from cortex_kinds.fielderrors import sentences
from cortex_kinds.index import CortexIndex
from cortex_kinds.workflow import CortexWorkflow
from pydantic import ValidationError

from cortex_operator.cluster import (
    Conflict,
    Forbidden,
    Invalid,
    NamespaceTerminating,
    NotFound,
    Object,
    ObjectKey,
    Unavailable,
)
from cortex_operator.dataplane import DataPlaneUnreachable, ResourceKey, StillAsking
from cortex_operator.reconcile import index, workflow
from cortex_operator.reconcile.contests import told
from cortex_operator.reconcile.deletion import Deletion
from cortex_operator.reconcile.model import EnsureRevision, Observed, Plan, World
from cortex_operator.reconcile.observe import find
from cortex_operator.reconcile.orders import Orders
from cortex_operator.reconcile.report import StatusWriter, stored
from cortex_operator.reconcile.upgrade import halted_finding
from cortex_operator.reconcile.verdict import Verdict, conditions

R = TypeVar("R", CortexIndex, CortexWorkflow)
S = TypeVar("S", bound=Observed)


@dataclass(frozen=True)
class Steps(Generic[R, S]):
    """What a kind adds to the loop."""

    model: type[R]
    observe: Callable[[World, R, datetime], Awaitable[S]]
    plan: Callable[[World, S], Plan]
    leaving: Callable[[World, R, datetime], Awaitable[CommonStatus]] | None = None
    """The status of one that is being deleted, where there is something to say."""


_EXPECTED: Final = (
    Conflict, DataPlaneUnreachable, Forbidden, Invalid, NamespaceTerminating, NotFound, OSError, Unavailable,
)  # fmt: skip
"""What passes by itself or says itself what to do."""
_NO_ACCIDENT: Final = 3
"""Failures in a row, each for a reason that nobody expected."""
KINDS: Final[dict[str, Steps[Any, Any]]] = {
    "CortexIndex": Steps(CortexIndex, index.observe, index.plan, index.leaving),
    "CortexWorkflow": Steps(CortexWorkflow, workflow.observe, workflow.plan),
}


class Reconciler:
    """Reconciles a resource by its key. Level-based: it needs to know nothing of what happened."""

    def __init__(self, world: World, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._world = world
        self._now = now
        self._status = StatusWriter(world, now)
        self._deletion = Deletion(world, self._status)
        self._failures: Counter[ResourceKey] = Counter()
        self._orders = Orders(world.cluster)
        self._used = index.Used(world)

    async def __call__(self, key: ResourceKey) -> float | None:
        """One pass, or as far as it gets while pods have not answered, which brings about the next one. Returns after
        how many seconds to look again. Raises Unavailable, Conflict."""
        try:
            again = await self._pass(key)
        except StillAsking:
            return None
        except _EXPECTED:
            raise
        except Exception as error:
            await self._tell(key, error)
            raise
        self._failures.pop(key, None)
        return again

    async def _tell(self, key: ResourceKey, error: Exception) -> None:
        """Says in the status that nothing goes on, once it is no accident."""
        self._failures[key] += 1
        if self._failures[key] < _NO_ACCIDENT:
            return
        # What it says may be a secret's.
        what = (
            f"the operator fails at it with {type(error).__name__}, a defect of its own, and tries again every few "
            "minutes; its log says where. Another spec may work"
        )
        target = _target(key)
        with suppress(Exception):
            obj = await find(self._world.cluster, target)
            if obj is not None:
                await self._status.write(target, obj, _stuck(obj, Reason.INTERNAL_ERROR, what, self._now()))

    async def _pass(self, key: ResourceKey) -> float | None:
        target = _target(key)
        obj = await find(self._world.cluster, target)
        if obj is None:
            await self._world.dataplane.forget(key)
            self._status.forget(target)
            self._world.named.leave(key)
            self._failures.pop(key, None)
            self._used.gone(key)
            await self._deletion.gone(key, self._now())
            return None
        steps = KINDS[key.kind]
        ending = "deletionTimestamp" in obj["metadata"]
        try:
            resource = steps.model.model_validate(obj)
        except ValidationError as error:
            if ending:
                return await self._deletion.carry_on(key, obj, None, self._now())
            return await self._status.write(target, obj, _unreadable(obj, error, self._now()))
        if ending:
            obj, resource = await self._leave(target, obj, steps, resource)
            return await self._deletion.carry_on(key, obj, resource, self._now())
        if (again := await self._deletion.prepare(key, obj, resource, self._now())) is not None:
            return again
        plan = await self._carry_out(key, obj, steps, await steps.observe(self._world, resource, self._now()))
        self._used.seen(key, obj, plan.status)
        early = await self._status.write(target, obj, plan.status)
        return min((wait for wait in (plan.again, early) if wait is not None), default=None)

    async def _leave(self, target: ObjectKey, obj: Object, steps: Steps[Any, Any], resource: Any) -> tuple[Object, Any]:
        """Says what there is to say of one that is being deleted; the object and the resource as they are then."""
        if steps.leaving is None:
            return obj, resource
        status = await steps.leaving(self._world, resource, self._now())
        # What is said must not hold up what is done.
        with suppress(Invalid, Forbidden):
            await self._status.write(target, obj, status)
            self._used.told(ResourceKey(target.kind, target.namespace, target.name))
        return {**obj, "status": status.to_manifest()}, resource.model_copy(update={"status": status})

    async def _carry_out(self, key: ResourceKey, obj: Object, steps: Steps[Any, Any], observed: Any) -> Plan:
        """Does what the plan says; returns the plan for the world as it is afterwards, whose status is true."""
        plan = steps.plan(self._world, observed)
        if plan.ensure is not None:
            observed = await self._ensure(key, plan.ensure, observed)
            plan = steps.plan(self._world, observed)
        try:
            done = await self._orders.carry_out(plan, observed.deployment, self._now())
        except (Invalid, Forbidden) as error:
            return steps.plan(self._world, replace(observed, refused=await self._orders.refusal(plan, error)))
        if done.contested is not None:
            self._world.record(obj, (Notice(EventReason.CONTESTED, told(done.contested)),))
        if done.changed or done.lingers:
            after = await self._look_again(observed, plan) if done.changed else observed
            plan = steps.plan(self._world, replace(after, lingers=done.lingers))
        return plan if done.pause is None else replace(plan, again=min(done.pause, plan.again or done.pause))

    async def _ensure(self, key: ResourceKey, order: EnsureRevision, observed: Observed) -> Observed:
        dataplane = self._world.dataplane
        try:
            await dataplane.ensure_revision(key, order.revision, order.definition, order.retain)
            return replace(observed, description=await dataplane.describe(key), unreachable="")
        except DataPlaneUnreachable as error:
            return replace(observed, description=None, unreachable=str(error))
        except ValueError as error:
            return replace(observed, revision_refused=str(error))

    async def _look_again(self, observed: Observed, plan: Plan) -> Observed:
        # The Deployment that was just changed has a new generation: its status is not about that one yet.
        made = next((ObjectKey.of(obj) for obj in plan.apply if obj["kind"] == "Deployment"), None)
        return replace(observed, deployment=await find(self._world.cluster, made)) if made else observed


def _target(key: ResourceKey) -> ObjectKey:
    return ObjectKey(API_VERSION, key.kind, key.namespace, key.name)


def _unreadable(obj: Object, error: ValidationError, now: datetime) -> CommonStatus:
    mistakes = "; ".join(sentences(error, KINDS[obj["kind"]].model))
    return _stuck(obj, Reason.INVALID_SPEC, mistakes, now)


def _stuck(obj: Object, reason: Reason, message: str, now: datetime) -> CommonStatus:
    verdict = Verdict(False, reason, message, stalled=True)
    generation, before = obj["metadata"].get("generation", 0), stored(obj)
    findings = [*verdict.findings(), *filter(None, [halted_finding(before)])]
    found = conditions(before, findings, generation, now)
    return before.model_copy(update={"observed_generation": generation, "conditions": found})
