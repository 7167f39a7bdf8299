"""One pass over a resource: observe, plan, order, apply, write the status; whatever the kind."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, Generic, TypeVar

from cortex_kinds.base import API_VERSION
from cortex_kinds.common import CommonStatus
from cortex_kinds.conditions import Reason
from cortex_kinds.index import CortexIndex
from cortex_kinds.workflow import CortexWorkflow
from pydantic import ValidationError

from cortex_operator.cluster import (
    FIELD_MANAGER,
    ApplyResult,
    Forbidden,
    Invalid,
    Lingering,
    NotFound,
    Object,
    ObjectKey,
)
from cortex_operator.dataplane import DataPlaneUnreachable, ResourceKey
from cortex_operator.reconcile import index, workflow
from cortex_operator.reconcile.deletion import Deletion
from cortex_operator.reconcile.model import EnsureRevision, Observed, Plan, World
from cortex_operator.reconcile.observe import find
from cortex_operator.reconcile.report import StatusWriter, stored
from cortex_operator.reconcile.scaling import AUTOSCALED
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
        self._used = index.Used(world)

    async def __call__(self, key: ResourceKey) -> float | None:
        """One pass. Returns after how many seconds to look again. Raises Unavailable, Conflict."""
        target = ObjectKey(API_VERSION, key.kind, key.namespace, key.name)
        obj = await find(self._world.cluster, target)
        if obj is None:
            await self._world.dataplane.forget(key)
            self._status.forget(target)
            self._world.named.leave(key)
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
        plan = await self._carry_out(key, steps, await steps.observe(self._world, resource, self._now()))
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

    async def _carry_out(self, key: ResourceKey, steps: Steps[Any, Any], observed: Any) -> Plan:
        """Does what the plan says; returns the plan for the world as it is afterwards, whose status is true."""
        plan = steps.plan(self._world, observed)
        if plan.ensure is not None:
            observed = await self._ensure(key, plan.ensure, observed)
            plan = steps.plan(self._world, observed)
        try:
            changed, lingers = await self._apply(plan)
        except (Invalid, Forbidden) as error:
            return steps.plan(self._world, replace(observed, refused=str(error)))
        if not changed and not lingers:
            return plan
        after = await self._look_again(observed, plan) if changed else observed
        return steps.plan(self._world, replace(after, lingers=lingers))

    async def _ensure(self, key: ResourceKey, order: EnsureRevision, observed: Observed) -> Observed:
        dataplane = self._world.dataplane
        try:
            await dataplane.ensure_revision(key, order.revision, order.definition, order.retain)
            return replace(observed, description=await dataplane.describe(key), unreachable="")
        except DataPlaneUnreachable as error:
            return replace(observed, description=None, unreachable=str(error))
        except ValueError as error:
            return replace(observed, revision_refused=str(error))

    async def _apply(self, plan: Plan) -> tuple[bool, str]:
        """Whether anything was written, and what of the namesake that was deleted is in the way of the rest. What must
        go goes first: it may work against what comes."""
        for key, uid in plan.delete:
            try:
                await self._world.cluster.delete(key, uid=uid)
            except NotFound:
                continue  # somebody else was first
        orders = [(plan.hand_over, AUTOSCALED)] if plan.hand_over is not None else []
        orders += [(obj, FIELD_MANAGER) for obj in plan.apply]
        changed, lingering = False, []
        for obj, manager in orders:
            try:
                result = await self._world.cluster.apply(obj, field_manager=manager)
                changed |= result is not ApplyResult.UNCHANGED
            except Lingering as error:
                lingering.append(str(error))
        return changed, "; ".join(lingering)

    async def _look_again(self, observed: Observed, plan: Plan) -> Observed:
        # The Deployment that was just changed has a new generation: its status is not about that one yet.
        made = next((ObjectKey.of(obj) for obj in plan.apply if obj["kind"] == "Deployment"), None)
        return replace(observed, deployment=await find(self._world.cluster, made)) if made else observed


def _unreadable(obj: Object, error: ValidationError, now: datetime) -> CommonStatus:
    mistakes = "; ".join(
        f"{'.'.join(map(str, mistake['loc']))}: {mistake['msg']}"
        for mistake in error.errors(include_url=False, include_context=False)
    )
    verdict = Verdict(False, Reason.INVALID_SPEC, mistakes, stalled=True)
    generation, before = obj["metadata"].get("generation", 0), stored(obj)
    findings = [*verdict.findings(), *filter(None, [halted_finding(before)])]
    found = conditions(before, findings, generation, now)
    return before.model_copy(update={"observed_generation": generation, "conditions": found})
