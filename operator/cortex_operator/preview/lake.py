"""A data plane that takes orders and passes none on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from cortex_kinds.common import CommonStatus, RevisionStatus
from cortex_kinds.conditions import ConditionStatus, ConditionType, get_condition
from cortex_kinds.index import CortexIndex, CortexIndexStatus
from cortex_kinds.workflow import CortexWorkflow

from cortex_operator.dataplane import DataPlaneUnreachable, Description, ResourceKey

Describe = Callable[[ResourceKey], Awaitable[Description]]


class Rehearsal:
    """What `describe` says, each asked once, with the revisions that were ordered here beside them."""

    def __init__(self, describe: Describe) -> None:
        self._ask = describe
        self._told: dict[ResourceKey, Description] = {}

    async def describe(self, key: ResourceKey) -> Description:
        """Raises DataPlaneUnreachable."""
        if key not in self._told:
            self._told[key] = await self._ask(key)
        return self._told[key]

    async def ensure_revision(
        self, key: ResourceKey, revision: str, definition: dict[str, Any], retain: int
    ) -> RevisionStatus:
        """The revision as it would begin: a new one with every document waiting. Raises DataPlaneUnreachable."""
        told = await self.describe(key)
        found = next((r for r in told.revisions if r.id == revision), None)
        if found is not None and found.phase != "Retained":
            return found
        made = _building(revision, found, told.documents)
        others = tuple(r for r in told.revisions if r.id != revision and r.phase not in ("Building", "Ready"))
        self._told[key] = replace(told, revisions=(made, *others))
        return made

    async def forget(self, key: ResourceKey) -> None:
        """Nothing is kept elsewhere."""


def as_last_seen(resource: CortexIndex | CortexWorkflow | None) -> Description:
    """What a pod told the operator last, by the status. Raises DataPlaneUnreachable when none did."""
    status = resource.status if resource is not None else CommonStatus()
    documents = status.documents if isinstance(status, CortexIndexStatus) else 0
    asked = get_condition(status.conditions, ConditionType.DATA_PLANE_REACHABLE)
    if asked is None or asked.status != ConditionStatus.TRUE:
        raise DataPlaneUnreachable(asked.message if asked is not None else "no pod was asked yet")
    return Description("of the status", True, status.current_revision, tuple(status.revisions), documents)


def _building(id: str, before: RevisionStatus | None, documents: int) -> RevisionStatus:
    embedded = (before.documents or 0) if before is not None else 0
    return RevisionStatus(id=id, phase="Building", documents=embedded, waiting=max(0, documents - embedded))
