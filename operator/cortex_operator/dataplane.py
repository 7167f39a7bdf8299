"""The port `DataPlane`: what the operator asks of a resource's pods, and orders them.

The Lake is the truth about revisions; the operator opens no database, it asks a pod.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from cortex_kinds.common import RevisionStatus


class DataPlaneUnreachable(ConnectionError):
    """No pod of the resource answers. To be retried; the message says which were tried and what they said."""


class StillAsking(Exception):
    """No pod has answered yet. Who asks comes back when the data plane says so, and has the answer at once."""


@dataclass(frozen=True)
class Dependency:
    """Something that the pod depends on, when it does not answer (`LakeUnreachable`, ...)."""

    name: str
    reason: str
    message: str


@dataclass(frozen=True)
class Description:
    """What the Lake holds about a resource. `lake_read` False: the pod answered but the Lake did not answer it."""

    pod: str
    lake_read: bool
    current_revision: str = ""
    revisions: tuple[RevisionStatus, ...] = ()
    documents: int = 0
    missing: tuple[Dependency, ...] = field(default=())


@dataclass(frozen=True)
class ResourceKey:
    """Names a custom resource. `kind` is CortexIndex or CortexWorkflow."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


class DataPlane(Protocol):
    """Asks and commands the pods of a resource."""

    async def describe(self, key: ResourceKey) -> Description:
        """Raises DataPlaneUnreachable, StillAsking."""
        ...

    async def ensure_revision(
        self, key: ResourceKey, revision: str, definition: dict[str, Any], retain: int
    ) -> RevisionStatus:
        """Sees that the revision's row is there. Raises DataPlaneUnreachable, or ValueError when the pod refuses."""
        ...

    async def forget(self, key: ResourceKey) -> None:
        """Lets go of what is kept for a resource that is gone; nothing when nothing is."""
        ...
