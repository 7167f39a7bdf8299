"""The status of a CortexWorkflow after a pass. Pure."""

from __future__ import annotations

from cortex_kinds.conditions import ConditionType, Reason
from cortex_kinds.workflow import CortexWorkflowSpec, CortexWorkflowStatus

from cortex_operator.manifests.labels import Part
from cortex_operator.manifests.names import graph_target
from cortex_operator.reconcile.autoscaling import autoscaling_findings
from cortex_operator.reconcile.finding import Finding, false, true, unknown
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
from cortex_operator.reconcile.words import share
from cortex_operator.reconcile.workflow.indexes import index_findings, index_problem
from cortex_operator.reconcile.workflow.observe import ObservedWorkflow


def status(observed: ObservedWorkflow, desired: str) -> tuple[CortexWorkflowStatus, Verdict]:
    """The whole status, and the verdict that it tells."""
    workflow, before = observed.resource, observed.resource.status
    done = rollout(observed.deployment, observed.pods, observed.now)
    decided, found = _suspended(observed, done) if workflow.spec.suspend else _awake(observed, done, desired)
    findings = [*decided.findings(), *found, *autoscaling_findings(workflow.spec, observed.autoscaler, observed.keda)]
    findings.append(upgrade_finding(observed, decided))
    endpoint = graph_target(workflow.metadata.name, workflow.metadata.namespace)
    return CortexWorkflowStatus(
        **common_fields(before, Part(workflow, "graph"), endpoint, done, lake_of(observed)),
        conditions=conditions(
            before, findings, workflow.metadata.generation, observed.now, gone=_unasked(workflow.spec)
        ),
    ), decided


def _unasked(spec: CortexWorkflowSpec) -> tuple[ConditionType, ...]:
    return (*unasked(spec), *(() if spec.indexes else (ConditionType.INDEX_READY,)))


def _suspended(observed: ObservedWorkflow, done: Rollout) -> tuple[Verdict, list[Finding]]:
    indexes = [unknown(ConditionType.INDEX_READY, Reason.SUSPENDED, "nobody looks while it is suspended")]
    named = indexes if observed.resource.spec.indexes else []
    return suspension(observed, done), [_graph(observed), *named, *suspended_findings()]


def _awake(observed: ObservedWorkflow, done: Rollout, desired: str) -> tuple[Verdict, list[Finding]]:
    placed = unclaimed_finding(observed) or placement(observed.resource.spec, observed.pods, observed.nodes)
    problem = index_problem(observed)
    decided = _verdict(observed, done, placed, problem, desired)
    indexes = false(ConditionType.DEPENDENCIES_READY, *problem) if problem else None
    needs = references_finding(observed) or indexes or asked_finding(observed)
    return decided, [needs, *index_findings(observed), _graph(observed), placed, dataplane_finding(observed)]


def _verdict(
    observed: ObservedWorkflow, done: Rollout, placed: Finding, problem: tuple[Reason, str] | None, desired: str
) -> Verdict:
    if observed.mistakes:
        return Verdict(False, Reason.GRAPH_INVALID, _listed(observed.mistakes), stalled=True)
    if (early := pods_verdict(observed, done, placed)) is not None:
        return early
    if problem is not None:
        return Verdict(False, *problem, reconciling=True)
    if observed.revision_refused:
        return Verdict(False, Reason.REVISION_FAILED, observed.revision_refused, stalled=True)
    return _revision_verdict(observed, done, desired)


def _revision_verdict(observed: ObservedWorkflow, done: Rollout, desired: str) -> Verdict:
    description = lake_of(observed)
    current = description.current_revision if description else observed.resource.status.current_revision
    found = revision(description, desired)
    if found is not None and found.phase == "Failed":
        message = f"revision {desired} cannot run: {found.message}; change the spec"
        return Verdict(bool(current), Reason.REVISION_FAILED, message, stalled=True)
    if not current:
        why = f": {observed.unreachable}" if observed.unreachable else ""
        return Verdict(False, Reason.REVISION_PENDING, f"revision {desired} is not Current yet{why}", reconciling=True)
    if description is not None and current != desired:
        message = f"revision {desired} is not Current yet; revision {current} answers meanwhile"
        return Verdict(True, Reason.REVISION_BUILDING, message, reconciling=True)
    serve = share(done.ready, done.replicas, "pod serves", "pods serve")
    return Verdict(True, Reason.READY, f"{serve} revision {current}")


def _graph(observed: ObservedWorkflow) -> Finding:
    if observed.mistakes:
        return false(ConditionType.GRAPH_VALID, Reason.GRAPH_INVALID, _listed(observed.mistakes))
    return true(ConditionType.GRAPH_VALID, Reason.GRAPH_COMPILES, "the graph passed every check")


def _listed(mistakes: tuple[str, ...]) -> str:
    return "; ".join(mistakes)
