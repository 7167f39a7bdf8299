"""Findings about a resource, and how they become its conditions and the fields of status that both kinds have. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from cortex_kinds.common import CommonSpec, CommonStatus, Condition, RevisionStatus
from cortex_kinds.conditions import ConditionStatus, ConditionType, Reason, get_condition, set_condition, truncate

from cortex_operator.dataplane import Description
from cortex_operator.manifests.labels import Part, selector_text
from cortex_operator.reconcile.finding import Finding, false, true, unknown
from cortex_operator.reconcile.model import Observed
from cortex_operator.reconcile.rollout import Rollout

REVISIONS = 16
_MISSING: Final = {
    ("Secret", False): Reason.SECRET_NOT_FOUND,
    ("Secret", True): Reason.SECRET_KEY_MISSING,
    ("ConfigMap", False): Reason.CONFIG_MAP_NOT_FOUND,
    ("ConfigMap", True): Reason.CONFIG_MAP_KEY_MISSING,
    ("PersistentVolumeClaim", False): Reason.PERSISTENT_VOLUME_CLAIM_NOT_FOUND,
}
"""By the kind and whether the object is there."""


@dataclass(frozen=True)
class Verdict:
    """Whether the resource is ready, still being worked on, or stuck; and why."""

    ready: bool
    reason: str
    message: str
    reconciling: bool = False
    stalled: bool = False

    def findings(self) -> Iterable[Finding]:
        """Ready, Reconciling and Stalled."""
        yield (true if self.ready else false)(ConditionType.READY, self.reason, self.message)
        moving = self.reconciling and not self.stalled
        yield (true if moving else false)(ConditionType.RECONCILING, self.reason, self.message)
        yield (true if self.stalled else false)(ConditionType.STALLED, self.reason, self.message)


def conditions(
    before: CommonStatus,
    findings: Iterable[Finding],
    generation: int,
    now: datetime,
    *,
    gone: Collection[ConditionType] = (),
) -> list[Condition]:
    """The conditions after a pass, without those that are `gone`; what no finding is about stays as it was."""
    found = [condition for condition in before.conditions if condition.type not in gone]
    for finding in findings:
        message = truncate(finding.message)
        found = set_condition(found, finding.type, finding.status, finding.reason, message, generation, now)
    return found


def unasked(spec: CommonSpec) -> tuple[ConditionType, ...]:
    """Conditions about what the spec does not ask for."""
    asked = {ConditionType.SUSPENDED: spec.suspend, ConditionType.AUTOSCALING_READY: spec.autoscaling is not None}
    return tuple(type for type, is_asked in asked.items() if not is_asked)


def references_finding(observed: Observed) -> Finding | None:
    """DependenciesReady=False when a Secret, ConfigMap or PersistentVolumeClaim is missing, or a Secret's address
    cannot be read."""
    if not observed.missing_references:
        return None
    worst = next((one for one in observed.missing_references if not one.found), observed.missing_references[0])
    reason = Reason.SECRET_INVALID if worst.unreadable else _MISSING[worst.kind, worst.found]
    message = "; ".join(one.message for one in observed.missing_references)
    return false(ConditionType.DEPENDENCIES_READY, reason, message)


def unclaimed_finding(observed: Observed) -> Finding | None:
    """Schedulable=False when GPUs are to be claimed and cannot be."""
    if not observed.unclaimable:
        return None
    return false(ConditionType.SCHEDULABLE, Reason.RESOURCE_CLAIMS_NOT_SERVED, observed.unclaimable)


def pods_verdict(observed: Observed, done: Rollout, placed: Finding) -> Verdict | None:
    """The verdict as far as objects and pods decide it; None: the pods of this generation serve. `placed`:
    Schedulable."""
    if observed.refused:
        return Verdict(False, Reason.APPLY_REFUSED, observed.refused, stalled=True)
    if placed.reason in (Reason.UNKNOWN_GPU_POOL, Reason.RESOURCE_CLAIMS_NOT_SERVED):
        return Verdict(False, placed.reason, placed.message, stalled=True)
    missing = references_finding(observed)
    if missing is not None and not (done.done and done.ready):
        return Verdict(False, missing.reason, missing.message, reconciling=True)
    if observed.waits:
        return Verdict(False, Reason.APPLYING, observed.waits, reconciling=True)
    if done.done:
        return _found(observed, done)
    if done.reason is Reason.UNSCHEDULABLE and placed.fails:
        return Verdict(False, placed.reason, placed.message, reconciling=True, stalled=done.failed)
    asked = asked_finding(observed)
    if done.reason is Reason.PODS_STARTING and asked.fails:
        return Verdict(False, asked.reason, asked.message, reconciling=True)
    return Verdict(False, done.reason, done.message, reconciling=True, stalled=done.failed)


def _found(observed: Observed, done: Rollout) -> Verdict | None:
    if done.reason is Reason.SCALED_TO_ZERO:
        return Verdict(True, done.reason, done.message)
    if observed.unlisted:
        return Verdict(False, Reason.NOT_IN_ENDPOINTS, observed.unlisted, reconciling=True)
    return None


def asked_finding(observed: Observed) -> Finding:
    """DependenciesReady by what a pod says about the Lake and its like."""
    description = observed.description
    if description is None:
        return unknown(ConditionType.DEPENDENCIES_READY, Reason.PENDING, "no pod could be asked yet about the Lake")
    if description.missing:
        said = "; ".join(f"{d.name}: {d.message}" for d in description.missing)
        reason = description.missing[0].reason or Reason.LAKE_UNREACHABLE
        return false(ConditionType.DEPENDENCIES_READY, reason, said)
    return true(ConditionType.DEPENDENCIES_READY, Reason.DEPENDENCIES_FOUND, "everything that it needs answers")


def waits_for_others(observed: Observed, verdict: Verdict) -> bool:
    """Whether nothing moves before somebody gives a Secret, a right or a quota, which are not watched, or the scheduler
    finds a node, which shows at the pods and the Deployment: these are."""
    if observed.refused or observed.missing_references:
        return True
    held = (Reason.UNSCHEDULABLE, Reason.NO_MATCHING_NODE, Reason.PODS_REFUSED)
    return verdict.reason in held and lake_of(observed) is None


def dataplane_finding(observed: Observed) -> Finding:
    """DataPlaneReachable."""
    description = observed.description
    if description is None:
        return false(ConditionType.DATA_PLANE_REACHABLE, Reason.NO_POD_ANSWERS, observed.unreachable)
    if not description.lake_read:
        message = f"pod {description.pod} answers but cannot read the Lake: revisions are those seen last"
        return false(ConditionType.DATA_PLANE_REACHABLE, Reason.LAKE_UNREACHABLE, message)
    return true(ConditionType.DATA_PLANE_REACHABLE, Reason.POD_ANSWERED, "a pod answered with the Lake's revisions")


def lake_of(observed: Observed) -> Description | None:
    """The description, when it was read from the Lake."""
    description = observed.description
    return description if description is not None and description.lake_read else None


def revision(description: Description | None, id: str) -> RevisionStatus | None:
    """A revision by its id."""
    return next((r for r in description.revisions if r.id == id), None) if description is not None else None


def is_ensured(before: CommonStatus, description: Description, desired: str, generation: int) -> bool:
    """Whether the Lake needs no order: it knows the desired revision, wants none beside it, and was told this
    generation's `retain`."""
    asked = get_condition(before.conditions, ConditionType.DATA_PLANE_REACHABLE)
    told = asked is not None and asked.status == ConditionStatus.TRUE and asked.observed_generation == generation
    found = revision(description, desired)
    others = any(r.phase in ("Building", "Ready") for r in description.revisions if r.id != desired)
    return told and found is not None and found.phase != "Retained" and not others


def common_fields(
    before: CommonStatus, part: Part, endpoint: str, done: Rollout, description: Description | None
) -> dict[str, Any]:
    """Status fields of both kinds, but for the conditions; revisions as last seen while the Lake cannot be asked."""
    return {
        "observed_generation": part.resource.metadata.generation,
        "replicas": done.replicas,
        "ready_replicas": done.ready,
        "selector": selector_text(part.selector),
        "endpoint": endpoint,
        "image": done.image,
        "current_revision": description.current_revision if description else before.current_revision,
        "revisions": list(description.revisions[:REVISIONS]) if description else before.revisions,
    }
