"""Events of both kinds: their stable reasons.

Each tells a change of meaning, once; how often it came again stands in its series.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class EventReason(StrEnum):
    """What happened: CamelCase and stable. The note begins with the reason of the condition that tells more."""

    READY = "Ready"
    """It answers."""
    NOT_READY = "NotReady"
    """It was Ready and is not any more, though nobody changed its spec."""
    UPDATING = "Updating"
    """It was Ready; its spec was changed, and pods of the new generation are on their way."""
    SCALED_TO_ZERO = "ScaledToZero"
    """No pod serves, as `spec.replicas` says."""
    SUSPENDED = "Suspended"
    """It is being suspended: its pods end, everything else is kept."""
    RESUMED = "Resumed"
    """It is not suspended any more: its pods come back."""
    POD_FAILING = "PodFailing"
    """A pod cannot be made, cannot start or keeps ending."""
    UNSCHEDULABLE = "Unschedulable"
    """A pod finds no node; for GPUs the note says what was asked, which nodes come closest and who holds them."""
    SCHEDULED = "Scheduled"
    """Every pod has a node again."""
    DEPENDENCY_MISSING = "DependencyMissing"
    """Something that it needs is not there or does not answer: a Secret, a ConfigMap, an index, the Lake."""
    DEPENDENCIES_FOUND = "DependenciesFound"
    """What was missing is there."""
    AUTOSCALING_FAILING = "AutoscalingFailing"
    """The number of pods does not follow what they use."""
    AUTOSCALING_READY = "AutoscalingReady"
    """The number of pods follows what they use again."""
    REVISION_BUILDING = "RevisionBuilding"
    """A new revision is being built; the one before answers meanwhile."""
    REVISION_PROMOTED = "RevisionPromoted"
    """Another revision answers from now on."""
    REVISION_FAILED = "RevisionFailed"
    """The revision that the spec describes could not be built."""
    APPLY_REFUSED = "ApplyRefused"
    """The cluster refused an object of the resource."""
    DELETED_IN_USE = "DeletedInUse"
    """The index is being deleted, or was, although workflows use it."""
    CONTESTED = "Contested"
    """Somebody changes an object of the resource back as often as the operator puts it right, which it does more seldom
    from now on; the note says how to find out who."""
    STALLED = "Stalled"
    """Nothing goes on until somebody changes something; the note says what."""
    RECOVERED = "Recovered"
    """It was stalled and goes on."""
    DATA_CLEANUP = "DataCleanup"
    """It is being deleted, and its data is dropped first."""
    WAITING_FOR_FINALIZERS = "WaitingForFinalizers"
    """It is being deleted, and only finalizers of others keep it; the note says what has become of its data."""
    DATA_LEFT = "DataLeft"
    """It was deleted and its data could not be dropped; `cortex orphans` lists it."""


WARNINGS: Final = frozenset(
    {
        EventReason.NOT_READY,
        EventReason.POD_FAILING,
        EventReason.UNSCHEDULABLE,
        EventReason.DEPENDENCY_MISSING,
        EventReason.AUTOSCALING_FAILING,
        EventReason.REVISION_FAILED,
        EventReason.APPLY_REFUSED,
        EventReason.DELETED_IN_USE,
        EventReason.CONTESTED,
        EventReason.STALLED,
        EventReason.DATA_LEFT,
    }
)
"""Events of type Warning; the others are Normal."""


@dataclass(frozen=True)
class Notice:
    """One Event to tell. `note`: what is the case and what to do; never a secret's value."""

    reason: EventReason
    note: str

    @property
    def type(self) -> str:
        """Warning or Normal."""
        return "Warning" if self.reason in WARNINGS else "Normal"
