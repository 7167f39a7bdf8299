"""What there is of a CortexIndex."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cortex_kinds.index import CortexIndex, IndexUser

from cortex_operator.cluster import Cluster, Object
from cortex_operator.dataplane import ResourceKey
from cortex_operator.manifests.claim import unclaimable
from cortex_operator.manifests.labels import INDEX_LABEL, Part
from cortex_operator.manifests.names import search_headless_name, search_name
from cortex_operator.reconcile.accounts import find_old_account
from cortex_operator.reconcile.claims import find_old_templates
from cortex_operator.reconcile.grants import find_users
from cortex_operator.reconcile.index.ingest import working
from cortex_operator.reconcile.keda import find_keda
from cortex_operator.reconcile.model import Observed, World
from cortex_operator.reconcile.network import find_reach
from cortex_operator.reconcile.nodes import find_nodes
from cortex_operator.reconcile.observe import (
    ask,
    belongs_to,
    find_autoscaler,
    find_deployment,
    find_leftovers,
    find_pods,
    find_settings,
    find_standing,
    find_unlisted,
)
from cortex_operator.reconcile.references import find_references
from cortex_operator.reconcile.scaling import scale


@dataclass(frozen=True, kw_only=True)
class ObservedIndex(Observed):
    """The world as far as one index goes."""

    resource: CortexIndex
    jobs: tuple[Object, ...]
    """Its ingest Jobs."""
    ingest_pods: tuple[Object, ...] = ()
    """Their pods."""
    users: tuple[IndexUser, ...] = ()
    """The workflows that use it."""


async def observe(world: World, index: CortexIndex, now: datetime) -> ObservedIndex:
    """Looks at the cluster, and asks a pod when there is one. Raises Unavailable."""
    namespace, name = index.metadata.namespace, index.metadata.name
    cluster, part = world.cluster, Part(index, "search")
    deployment = await find_deployment(cluster, namespace, search_name(name))
    keda = await find_keda(cluster, part, search_name(name), world.release)
    wanted = scale(index.spec, deployment, lingering=bool(keda.lingering))
    pods = await find_pods(cluster, part)
    asked = () if index.spec.suspend else pods
    description, unreachable = await ask(world.dataplane, ResourceKey(index.kind, namespace, name), asked)
    jobs = await _find_jobs(cluster, index)
    ingest_pods = await find_pods(cluster, Part(index, "ingest")) if jobs else ()
    named = await find_references(world, ResourceKey(index.kind, namespace, name), index.spec)
    return ObservedIndex(
        now=now,
        resource=index,
        deployment=deployment,
        pods=pods,
        missing_references=named.missing,
        reads=named.reads,
        description=description,
        unreachable=unreachable,
        unlisted="" if description else await find_unlisted(cluster, namespace, search_headless_name(name), asked),
        nodes=await find_nodes(world, index.spec, pods),
        autoscaler=await find_autoscaler(cluster, namespace, search_name(name), wanted),
        keda=keda,
        unclaimable=unclaimable(index.spec.gpu, world.release),
        leftovers=(
            *await find_leftovers(cluster, part, search_name(name), wanted, world.release),
            *await find_old_account(cluster, part, search_name(name), deployment, (*pods, *ingest_pods), working(jobs)),
            *await find_old_templates(cluster, part, search_name(name), world.release, deployment, pods),
        ),
        reach=await find_reach(world, part, search_name(name), pods, named),
        standing=find_standing(world.fleet, index),
        settings=await find_settings(cluster, deployment, world.release),
        users=await find_users(world, index),
        jobs=jobs,
        ingest_pods=ingest_pods,
    )


async def _find_jobs(cluster: Cluster, index: CortexIndex) -> tuple[Object, ...]:
    namespace, labels = index.metadata.namespace, {INDEX_LABEL: index.metadata.name}
    found = await cluster.list("batch/v1", "Job", namespace=namespace, labels=labels)
    return tuple(job for job in found if belongs_to(job, index))
