"""Carries out what a plan says of objects: deletes, applies, and says of refusals what people need.

Shields the loop from the single object.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cortex_operator.cluster import (
    FIELD_MANAGER,
    ApplyResult,
    Cluster,
    Forbidden,
    Lingering,
    NotFound,
    Object,
    ObjectKey,
    Taken,
)
from cortex_operator.cluster.admission import check_controller
from cortex_operator.reconcile.contests import Contests
from cortex_operator.reconcile.model import Plan
from cortex_operator.reconcile.observe import find
from cortex_operator.reconcile.scaling import AUTOSCALED


@dataclass
class Done:
    """Whether anything was written, what of the namesake that was deleted is in the way of the rest, what is contested
    from now on, and seconds until what is contested already is put right again."""

    changed: bool = False
    lingers: str = ""
    contested: ObjectKey | None = None
    pause: float | None = None


class Orders:
    """Of all resources."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._contests = Contests()

    async def carry_out(self, plan: Plan, deployment: Object | None, now: datetime) -> Done:
        """What must go goes first: it may work against what comes. `deployment`: as it was found. Raises Invalid,
        Conflict, Forbidden, Unavailable."""
        for key, uid in plan.delete:
            try:
                await self._cluster.delete(key, uid=uid)
            except NotFound:
                continue  # somebody else was first
        orders = [(plan.hand_over, AUTOSCALED)] if plan.hand_over is not None else []
        orders += [(obj, FIELD_MANAGER) for obj in plan.apply]
        done, lingering = Done(), []
        for obj, manager in orders:
            found = deployment if obj["kind"] == "Deployment" and manager == FIELD_MANAGER else None
            if found is not None and (pause := self._contests.pause(found, obj, now)) > 0:
                done.pause = pause
                continue
            try:
                result = await self._cluster.apply(obj, field_manager=manager)
            except Lingering as error:
                lingering.append(str(error))
                continue
            done.changed |= result is not ApplyResult.UNCHANGED
            if found is not None and result is ApplyResult.CHANGED and self._contests.note(found, obj, now):
                done.contested = ObjectKey.of(obj)
        done.lingers = "; ".join(lingering)
        return done

    async def refusal(self, plan: Plan, error: Exception) -> str:
        """What was refused. Names that are taken are all told at once: else each would show when the one before is
        mended."""
        if not isinstance(error, Taken):
            return str(error)
        found = [(ObjectKey.of(obj), await self._taken(obj)) for obj in plan.apply]
        others = [str(key) for key, said in found if said not in ("", str(error))]
        return f"{error}; the same holds for {', '.join(others)}" if others else str(error)

    async def _taken(self, obj: Object) -> str:
        """That the object is there and somebody else's; empty when it is not."""
        key = ObjectKey.of(obj)
        try:
            check_controller(key, obj, await find(self._cluster, key) or await find(self._cluster, key, unwatched=True))
        except Taken as error:
            return str(error)
        except (Lingering, Forbidden):
            pass
        return ""
