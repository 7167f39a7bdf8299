"""The status of a CortexIndex after a pass. Pure."""

from __future__ import annotations

from cortex_kinds.common import RevisionStatus
from cortex_kinds.conditions import ConditionType, Reason, get_condition
from cortex_kinds.index import CortexIndexStatus

from cortex_operator.dataplane import Description
from cortex_operator.manifests.labels import Part
from cortex_operator.manifests.names import search_target
from cortex_operator.reconcile.autoscaling import autoscaling_findings
from cortex_operator.reconcile.finding import Finding, false, true
from cortex_operator.reconcile.index.ingest import failure, hindrance
from cortex_operator.reconcile.index.observe import ObservedIndex
from cortex_operator.reconcile.placement import placement
from cortex_operator.reconcile.rollout import Rollout, rollout
from cortex_operator.reconcile.suspension import suspended_findings, suspension
from cortex_operator.reconcile.upgrade import upgrade_finding
from cortex_operator.reconcile.verdict import (
    Verdict,
    asked_finding,
    common_fields,
    conditions,
    dataplane_finding,
    lake_of,
    pods_verdict,
    references_finding,
    revision,
    unasked,
    unclaimed_finding,
)
from cortex_operator.reconcile.words import counted, every, share

_READY = ConditionType.INDEX_READY


def status(observed: ObservedIndex, desired: str) -> tuple[CortexIndexStatus, Verdict]:
    """The whole status, and the verdict that it tells."""
    index, before = observed.resource, observed.resource.status
    description = lake_of(observed)
    done = rollout(observed.deployment, observed.pods, observed.now)
    decided, found = _suspended(observed, done) if index.spec.suspend else _awake(observed, done, desired)
    findings = [*decided.findings(), *found, *autoscaling_findings(index.spec, observed.autoscaler, observed.keda)]
    findings.append(upgrade_finding(observed, decided))
    part = Part(index, "search")
    endpoint = search_target(index.metadata.name, index.metadata.namespace)
    return CortexIndexStatus(
        **common_fields(before, part, endpoint, done, description),
        conditions=conditions(before, findings, index.metadata.generation, observed.now, gone=unasked(index.spec)),
        documents=description.documents if description else before.documents,
        used_by=list(observed.users),
    ), decided


def _suspended(observed: ObservedIndex, done: Rollout) -> tuple[Verdict, list[Finding]]:
    nothing = false(_READY, Reason.SUSPENDED, "it is suspended: nothing answers")
    return suspension(observed, done), [nothing, *suspended_findings()]


def _awake(observed: ObservedIndex, done: Rollout, desired: str) -> tuple[Verdict, list[Finding]]:
    placed = unclaimed_finding(observed) or placement(observed.resource.spec, observed.pods, observed.nodes)
    answers = _answers(observed, lake_of(observed), desired)
    decided = _verdict(observed, done, placed, answers, desired)
    needs = references_finding(observed) or asked_finding(observed)
    return decided, [needs, answers, placed, dataplane_finding(observed)]


def _verdict(observed: ObservedIndex, done: Rollout, placed: Finding, answers: Finding, desired: str) -> Verdict:
    if (early := pods_verdict(observed, done, placed)) is not None:
        return early
    description = lake_of(observed)
    found = revision(description, desired)
    if observed.revision_refused:
        return Verdict(answers.holds, Reason.REVISION_FAILED, observed.revision_refused, stalled=True)
    if not answers.holds:
        return Verdict(False, answers.reason, answers.message, reconciling=True)
    if found is not None and found.phase == "Failed":
        message = (
            f"revision {desired} could not be built: {found.message}; change the spec, or see the ingest Job's log"
        )
        return Verdict(True, Reason.REVISION_FAILED, message, stalled=True)
    if description is not None and (why := failure(description, desired, observed.jobs)):
        return Verdict(True, Reason.INGEST_FAILED, why, stalled=True)
    if description is not None and description.current_revision != desired:
        return Verdict(True, Reason.REVISION_BUILDING, answers.message, reconciling=True)
    serve = share(done.ready, done.replicas, "pod serves", "pods serve")
    return Verdict(True, Reason.READY, f"{serve} revision {desired}")


def _answers(observed: ObservedIndex, description: Description | None, desired: str) -> Finding:
    """IndexReady: from the Lake, or as it was while the Lake cannot be asked."""
    if description is None:
        before = get_condition(observed.resource.status.conditions, _READY)
        if before is not None and before.status == "True":
            return true(_READY, before.reason, before.message)
        return false(_READY, Reason.REVISION_PENDING, f"no revision yet: {_unasked(observed)}")
    current = revision(description, description.current_revision)
    if current is None:
        message = f"revision {desired} is not Current yet"
        return false(_READY, Reason.REVISION_PENDING, _hindered(message, observed, desired))
    if current.id != desired:
        message = _building(description, current, desired)
        return true(_READY, Reason.REVISION_BUILDING, _hindered(message, observed, desired))
    return _coverage(current, description.documents)


def _unasked(observed: ObservedIndex) -> str:
    return observed.unreachable or "no pod reaches the Lake"


def _building(description: Description, current: RevisionStatus, desired: str) -> str:
    found = revision(description, desired)
    done = share(found.documents or 0, description.documents, "document", "documents") if found else "not begun"
    return f"revision {desired} is being built ({done}); revision {current.id} answers meanwhile"


def _hindered(message: str, observed: ObservedIndex, desired: str) -> str:
    why = hindrance(desired, observed.jobs, observed.ingest_pods, observed.now)
    return f"{message}; {why}" if why else message


def _coverage(current: RevisionStatus, documents: int) -> Finding:
    embedded, waiting = current.documents or 0, current.waiting or 0
    if waiting == 0:
        return true(_READY, Reason.COMPLETE, f"{every(documents, 'document is', 'documents are')} embedded")
    if embedded == 0:
        none = share(0, documents, "document is", "documents are")
        return true(_READY, Reason.TEXT_ONLY, f"answers by text; {none} embedded yet")
    done = counted(embedded, "document is", "documents are")
    rest = counted(waiting, "waits and is", "wait and are")
    return true(_READY, Reason.EMBEDDING, f"{done} embedded, {rest} found by text")
