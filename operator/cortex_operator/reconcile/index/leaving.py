"""What is said of a CortexIndex that is being deleted although workflows use it, as long as something holds it up."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from cortex_kinds.conditions import ConditionType, Reason
from cortex_kinds.index import CortexIndex, CortexIndexStatus, IndexUser

from cortex_operator.reconcile.finding import true
from cortex_operator.reconcile.grants import find_users
from cortex_operator.reconcile.model import World
from cortex_operator.reconcile.verdict import conditions

_NAMED: Final = 8
"""Workflows that the message names at most."""


async def leaving(world: World, index: CortexIndex, now: datetime) -> CortexIndexStatus:
    """The status as it was, with who uses the index now and the condition DeletedInUse. Raises Unavailable."""
    users, before = await find_users(world, index), index.status
    findings = [true(ConditionType.DELETED_IN_USE, Reason.DELETED_IN_USE, _message(users))] if users else []
    gone = () if users else (ConditionType.DELETED_IN_USE,)
    found = conditions(before, findings, index.metadata.generation, now, gone=gone)
    return before.model_copy(update={"conditions": found, "used_by": list(users)})


def _message(users: tuple[IndexUser, ...]) -> str:
    names = ", ".join(f"{user.namespace}/{user.name}" for user in users[:_NAMED])
    more = f" and {len(users) - _NAMED} more" if len(users) > _NAMED else ""
    return (
        f"it is being deleted although it is used by CortexWorkflow {names}{more}: once it is gone, create it again, "
        "or take it out of their spec.indexes"
    )
