"""What to do about a CortexIndex. Pure."""

from __future__ import annotations

from cortex_kinds.index import CortexIndexStatus
from cortex_kinds.revision import index_definition, revision_id

from cortex_operator.cluster import Object
from cortex_operator.manifests import index_objects, ingest_job
from cortex_operator.manifests.gpupool import unknown_pool
from cortex_operator.reconcile.index.ingest import doomed_jobs, missing_jobs, working_jobs
from cortex_operator.reconcile.index.observe import ObservedIndex
from cortex_operator.reconcile.index.status import status
from cortex_operator.reconcile.model import EnsureRevision, Plan, World
from cortex_operator.reconcile.network import policies
from cortex_operator.reconcile.patience import until_asked_again
from cortex_operator.reconcile.reload import reloaded
from cortex_operator.reconcile.scaling import hand_over, scale, stopped
from cortex_operator.reconcile.upgrade import serving_release, upgraded
from cortex_operator.reconcile.verdict import Verdict, is_ensured, lake_of, waits_for_others


def plan(world: World, observed: ObservedIndex) -> Plan:
    """Objects, Jobs, the order to the data plane and the status.

    While a Secret is missing only the NetworkPolicy is made: pods could not start. Those that run already stay. Of a
    suspended index all objects are made, without pods, also where the GPUs that it asks for cannot be had; Jobs that
    work go, others take their place when it resumes.
    """
    index, description = observed.resource, lake_of(observed)
    definition = index_definition(index.spec)
    desired = revision_id(definition)
    after, verdict = status(observed, desired)
    again = _again(world, observed, verdict, after)
    unmade = observed.unclaimable or unknown_pool(index.spec.gpu, world.release.gpu_pools)
    if unmade and not index.spec.suspend:
        return Plan(after, again)
    wanted = scale(index.spec, observed.deployment, lingering=bool(observed.keda.lingering))
    objects = upgraded(observed, index_objects(index, world.release, wanted, observed.reach), verdict)
    objects = reloaded(observed.deployment, observed.reads, objects)
    if index.spec.suspend:
        objects = stopped(objects, wanted) if unmade else objects
        return Plan(after, again, apply=objects, delete=(*observed.leftovers, *working_jobs(observed.jobs)))
    if observed.missing_references and observed.deployment is None:
        return Plan(after, again, apply=policies(objects), delete=observed.leftovers)
    handed = hand_over(observed.deployment, objects, wanted)
    if description is None:
        return Plan(after, again, apply=objects, delete=observed.leftovers, hand_over=handed)
    ensured = is_ensured(index.status, description, desired, index.metadata.generation)
    release = serving_release(world.release, objects)

    def make(id: str) -> Object:
        return ingest_job(index, id, release)

    jobs = tuple(map(make, missing_jobs(description, desired, observed.jobs)))
    doomed = doomed_jobs(description, desired, observed.jobs, observed.ingest_pods, make, observed.now)
    return Plan(
        after,
        again,
        apply=(*objects, *jobs),
        delete=(*observed.leftovers, *doomed),
        hand_over=handed,
        ensure=None if ensured else EnsureRevision(desired, definition, index.spec.revisions.retain),
    )


def _again(world: World, observed: ObservedIndex, verdict: Verdict, after: CortexIndexStatus) -> float | None:
    timing, description = world.timing, lake_of(observed)
    if waits_for_others(observed, verdict):
        return timing.missing
    if observed.waits:
        return timing.moving
    if observed.resource.spec.suspend:
        return None
    if description is None and observed.pods:
        return until_asked_again(timing, observed, after)
    if verdict.reconciling or (description is not None and any(r.waiting for r in description.revisions)):
        return timing.moving
    return timing.idle
