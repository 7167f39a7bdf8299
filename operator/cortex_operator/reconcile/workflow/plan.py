"""What to do about a CortexWorkflow. Pure."""

from __future__ import annotations

from cortex_kinds.revision import revision_id, workflow_definition
from cortex_kinds.workflow import CortexWorkflowStatus

from cortex_operator.manifests import workflow_objects
from cortex_operator.manifests.gpupool import unknown_pool
from cortex_operator.reconcile.model import EnsureRevision, Plan, World
from cortex_operator.reconcile.network import policies
from cortex_operator.reconcile.patience import until_asked_again
from cortex_operator.reconcile.reload import reloaded
from cortex_operator.reconcile.scaling import hand_over, scale, stopped
from cortex_operator.reconcile.upgrade import upgraded
from cortex_operator.reconcile.verdict import Verdict, is_ensured, lake_of, waits_for_others
from cortex_operator.reconcile.workflow.indexes import OF_INDEXES
from cortex_operator.reconcile.workflow.observe import ObservedWorkflow
from cortex_operator.reconcile.workflow.status import status


def plan(world: World, observed: ObservedWorkflow) -> Plan:
    """Objects, the order to the data plane and the status.

    Nothing is made or changed for a graph with mistakes: what ran before goes on. While a Secret is missing no
    Deployment is made: its pods could not start. Indexes may come later, pods need not wait for them. Of a suspended
    workflow all objects are made, without pods, also where the GPUs that it asks for cannot be had.
    """
    workflow, description = observed.resource, lake_of(observed)
    definition = workflow_definition(workflow.spec)
    desired = revision_id(definition)
    after, verdict = status(observed, desired)
    again = _again(world, observed, verdict, after)
    unmade = observed.unclaimable or unknown_pool(workflow.spec.gpu, world.release.gpu_pools)
    if unmade and not workflow.spec.suspend:
        return Plan(after, again)
    wanted = scale(workflow.spec, observed.deployment, lingering=bool(observed.keda.lingering))
    objects = workflow_objects(workflow, world.release, wanted, observed.granted, observed.reach)
    objects = reloaded(observed.deployment, observed.reads, upgraded(observed, objects, verdict))
    if workflow.spec.suspend:
        objects = stopped(objects, wanted) if unmade else objects
        return Plan(after, again, apply=objects, delete=observed.leftovers)
    if observed.mistakes:
        return Plan(after, again)
    if observed.missing_references and observed.deployment is None:
        return Plan(after, again, apply=policies(objects), delete=observed.leftovers)
    ensure = None
    if description is not None and not is_ensured(workflow.status, description, desired, workflow.metadata.generation):
        ensure = EnsureRevision(desired, definition, workflow.spec.revisions.retain)
    handed = hand_over(observed.deployment, objects, wanted)
    return Plan(after, again, apply=objects, delete=observed.leftovers, hand_over=handed, ensure=ensure)


def _again(world: World, observed: ObservedWorkflow, verdict: Verdict, after: CortexWorkflowStatus) -> float | None:
    timing = world.timing
    suspended = observed.resource.spec.suspend
    if observed.mistakes and not suspended:
        return timing.idle
    if waits_for_others(observed, verdict) or verdict.reason in OF_INDEXES:
        return timing.missing
    if observed.waits:
        return timing.moving
    if suspended:
        return None
    if lake_of(observed) is None and observed.pods:
        return until_asked_again(timing, observed, after)
    if verdict.reconciling:
        return timing.moving
    return timing.idle
