"""What is said of a CortexIndex that is deleted although workflows use it: by its status, as long as something holds it
up, and of one that is gone at once by an Event, which outlives it."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from cortex_kinds.common import CommonStatus
from cortex_kinds.conditions import ConditionType, Reason
from cortex_kinds.events import EventReason, Notice
from cortex_kinds.index import CortexIndex, CortexIndexStatus, IndexUser

from cortex_operator.cluster import Object
from cortex_operator.cluster.series import identity
from cortex_operator.dataplane import ResourceKey
from cortex_operator.reconcile.finding import true
from cortex_operator.reconcile.grants import find_users
from cortex_operator.reconcile.model import World
from cortex_operator.reconcile.verdict import conditions

_NAMED: Final = 8
"""Workflows that the message names at most."""
_OR: Final = "or take it out of their spec.indexes"


async def leaving(world: World, index: CortexIndex, now: datetime) -> CortexIndexStatus:
    """The status as it was, with who uses the index now and the condition DeletedInUse. Raises Unavailable."""
    users, before = await find_users(world, index), index.status
    findings = [true(ConditionType.DELETED_IN_USE, Reason.DELETED_IN_USE, _message(users))] if users else []
    gone = () if users else (ConditionType.DELETED_IN_USE,)
    found = conditions(before, findings, index.metadata.generation, now, gone=gone)
    return before.model_copy(update={"conditions": found, "used_by": list(users)})


class Used:
    """Indexes that workflows use, as they were seen last."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._known: dict[ResourceKey, tuple[Object, tuple[IndexUser, ...]]] = {}

    def seen(self, key: ResourceKey, obj: Object, status: CommonStatus) -> None:
        """It is there, and not being deleted."""
        users = status.used_by if isinstance(status, CortexIndexStatus) else ()
        if users:
            self._known[key] = (identity(obj), tuple(users))
        else:
            self.told(key)

    def told(self, key: ResourceKey) -> None:
        """It is being deleted, and its status says who uses it."""
        self._known.pop(key, None)

    def gone(self, key: ResourceKey) -> None:
        """There is no such index any more: tells it, unless that was told, or the workflows have let go of it."""
        obj, users = self._known.pop(key, ({}, ()))
        naming = {(user.namespace, user.name) for user in self._world.uses.users(key)}
        left = tuple(user for user in users if (user.namespace, user.name) in naming)
        if left:
            said = f"it was deleted although it is used by {_names(left)}: create it again, {_OR}"
            self._world.record(obj, (Notice(EventReason.DELETED_IN_USE, said),))


def _message(users: tuple[IndexUser, ...]) -> str:
    return f"it is being deleted although it is used by {_names(users)}: once it is gone, create it again, {_OR}"


def _names(users: tuple[IndexUser, ...]) -> str:
    names = ", ".join(f"{user.namespace}/{user.name}" for user in users[:_NAMED])
    more = f" and {len(users) - _NAMED} more" if len(users) > _NAMED else ""
    return f"CortexWorkflow {names}{more}"
