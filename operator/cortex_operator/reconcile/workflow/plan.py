"""What to do about a CortexWorkflow. Pure."""

from __future__ import annotations

from cortex_kinds.revision import revision_id, workflow_definition

from cortex_operator.manifests import workflow_objects
from cortex_operator.manifests.gpupool import unknown_pool
from cortex_operator.reconcile.model import EnsureRevision, Plan, World
from cortex_operator.reconcile.verdict import Verdict, is_ensured, lake_of, waits_for_others
from cortex_operator.reconcile.workflow.observe import ObservedWorkflow
from cortex_operator.reconcile.workflow.status import status


def plan(world: World, observed: ObservedWorkflow) -> Plan:
    """Objects, the order to the data plane and the status.

    Nothing is made or changed for a graph with mistakes: what ran before goes on. While a Secret is missing no
    Deployment is made: its pods could not start. Indexes may come later, pods need not wait for them.
    """
    workflow, description = observed.resource, lake_of(observed)
    definition = workflow_definition(workflow.spec)
    desired = revision_id(definition)
    after, verdict = status(observed, desired)
    again = _again(world, observed, verdict)
    if unknown_pool(workflow.spec.gpu, world.release.gpu_pools):
        return Plan(after, again)
    if observed.mistakes or (observed.missing_secrets and observed.deployment is None):
        return Plan(after, again)
    objects = workflow_objects(workflow, world.release)
    if description is None or is_ensured(workflow.status, description, desired, workflow.metadata.generation):
        return Plan(after, again, apply=objects, delete=observed.leftovers)
    ensure = EnsureRevision(desired, definition, workflow.spec.revisions.retain)
    return Plan(after, again, apply=objects, delete=observed.leftovers, ensure=ensure)


def _again(world: World, observed: ObservedWorkflow, verdict: Verdict) -> float:
    timing = world.timing
    if observed.mistakes:
        return timing.idle
    if waits_for_others(observed, verdict):
        return timing.missing
    if verdict.reconciling or (lake_of(observed) is None and observed.pods):
        return timing.moving
    return timing.idle
