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
    find_deployment,
    find_leftovers,
    find_missing_secrets,
    find_nodes,
    find_pods,
    find_unlisted,
)


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
    pods = await find_pods(cluster, part)
    description, unreachable = await ask(world.dataplane, ResourceKey(workflow.kind, namespace, name), pods)
    return ObservedWorkflow(
        now=now,
        resource=workflow,
        deployment=await find_deployment(cluster, namespace, graph_name(name)),
        pods=pods,
        missing_secrets=await find_missing_secrets(cluster, namespace, workflow.spec),
        description=description,
        unreachable=unreachable,
        unlisted="" if description else await find_unlisted(cluster, namespace, graph_headless_name(name), pods),
        nodes=await find_nodes(cluster, workflow.spec, pods, world.release.gpu_pools),
        leftovers=await find_leftovers(cluster, part, graph_name(name)),
        indexes={
            use.name: await find(cluster, ObjectKey(API_VERSION, "CortexIndex", namespace, use.name))
            for use in workflow.spec.indexes
        },
        mistakes=tuple(map(str, graph_mistakes(workflow.spec))),
    )
