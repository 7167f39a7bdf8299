"""What there is of a CortexWorkflow, and of the indexes that it uses."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cortex_kinds.base import API_VERSION
from cortex_kinds.graph import graph_mistakes
from cortex_kinds.workflow import CortexWorkflow

from cortex_operator.cluster import Object, ObjectKey
from cortex_operator.dataplane import ResourceKey
from cortex_operator.manifests.labels import Part
from cortex_operator.manifests.names import graph_headless_name, graph_name
from cortex_operator.reconcile.model import Observed, World
from cortex_operator.reconcile.observe import (
    ask,
    find,
    find_autoscaler,
    find_deployment,
    find_leftovers,
    find_nodes,
    find_pods,
    find_settings,
    find_standing,
    find_unlisted,
)
from cortex_operator.reconcile.references import find_missing_references
from cortex_operator.reconcile.scaling import scale


@dataclass(frozen=True, kw_only=True)
class ObservedWorkflow(Observed):
    """The world as far as one workflow goes."""

    resource: CortexWorkflow
    indexes: dict[str, Object | None]
    """The indexes of the spec by name; None: not there."""
    mistakes: tuple[str, ...]
    """Of the graph."""


async def observe(world: World, workflow: CortexWorkflow, now: datetime) -> ObservedWorkflow:
    """Looks at the cluster, and asks a pod when there is one. Raises Unavailable."""
    namespace, name = workflow.metadata.namespace, workflow.metadata.name
    cluster, part = world.cluster, Part(workflow, "graph")
    deployment = await find_deployment(cluster, namespace, graph_name(name))
    wanted = scale(workflow.spec, deployment)
    pods = await find_pods(cluster, part)
    asked = () if workflow.spec.suspend else pods
    description, unreachable = await ask(world.dataplane, ResourceKey(workflow.kind, namespace, name), asked)
    return ObservedWorkflow(
        now=now,
        resource=workflow,
        deployment=deployment,
        pods=pods,
        missing_references=await find_missing_references(world, namespace, workflow.spec),
        description=description,
        unreachable=unreachable,
        unlisted="" if description else await find_unlisted(cluster, namespace, graph_headless_name(name), asked),
        nodes=await find_nodes(cluster, workflow.spec, pods, world.release.gpu_pools),
        autoscaler=await find_autoscaler(cluster, namespace, graph_name(name), wanted),
        leftovers=await find_leftovers(cluster, part, graph_name(name), wanted, world.release),
        standing=find_standing(world.fleet, workflow),
        settings=await find_settings(cluster, deployment, world.release),
        indexes={
            use.name: await find(cluster, ObjectKey(API_VERSION, "CortexIndex", namespace, use.name))
            for use in workflow.spec.indexes
        },
        mistakes=tuple(map(str, graph_mistakes(workflow.spec))),
    )
