"""Which revision a changed spec asks for, and how many documents must be embedded for it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from cortex_kinds.common import CommonStatus
from cortex_kinds.index import CortexIndex
from cortex_kinds.revision import index_definition, revision_id, workflow_definition
from cortex_kinds.workflow import CortexWorkflow

Resource = CortexIndex | CortexWorkflow


class Cause(StrEnum):
    """Why there is another revision."""

    FIRST = "First"
    """The resource has none that answers yet."""
    CHANGED = "Changed"
    """What the spec defines it by has changed."""
    RESTORED = "Restored"
    """The spec is as it was for a revision that the Lake still has: only what changed since is embedded."""


@dataclass(frozen=True)
class RevisionChange:
    """A revision that is built. `documents`, `to_embed`: of an index, as last seen; None: nobody knows."""

    before: str
    after: str
    cause: Cause
    documents: int | None = None
    to_embed: int | None = None


def revision_change(live: Resource | None, proposed: Resource | None) -> RevisionChange | None:
    """What the apply begins; None: nothing, nothing while it is suspended, or what is under way already."""
    if proposed is None or proposed.spec.suspend:
        return None
    desired = revision_of(proposed)
    if live is None:
        return RevisionChange("", desired, Cause.FIRST)
    current = live.status.current_revision
    under_way = not live.spec.suspend and revision_of(live) == desired
    if current == desired or under_way:
        return None
    documents = live.status.documents if isinstance(live, CortexIndex) and current else None
    kept = _kept(live.status, desired)
    if not current or kept is None:
        return RevisionChange(current, desired, Cause.CHANGED if current else Cause.FIRST, documents, documents)
    left = None if documents is None else max(0, documents - kept)
    return RevisionChange(current, desired, Cause.RESTORED, documents, left)


def revision_of(resource: Resource) -> str:
    """The id of the revision that its spec asks for."""
    if isinstance(resource, CortexIndex):
        return revision_id(index_definition(resource.spec))
    return revision_id(workflow_definition(resource.spec))


def _kept(status: CommonStatus, id: str) -> int | None:
    """The documents that are embedded in a revision that the Lake still has; None: it has not got it."""
    return next((r.documents or 0 for r in status.revisions if r.id == id and r.phase != "Failed"), None)
