"""What there is of a CortexWorkflow, and of the indexes that it uses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from cortex_kinds.graph import graph_mistakes
from cortex_kinds.workflow import CortexWorkflow

from cortex_operator.cluster import Object
from cortex_operator.dataplane import ResourceKey
from cortex_operator.manifests.claim import unclaimable
from cortex_operator.manifests.labels import Part
from cortex_operator.manifests.names import graph_headless_name, graph_name
from cortex_operator.manifests.reach import Operand
from cortex_operator.reconcile.accounts import find_old_account
from cortex_operator.reconcile.claims import find_old_templates
from cortex_operator.reconcile.grants import find_indexes
from cortex_operator.reconcile.keda import find_keda
from cortex_operator.reconcile.model import Observed, World
from cortex_operator.reconcile.network import find_reach
from cortex_operator.reconcile.nodes import find_nodes
from cortex_operator.reconcile.observe import (
    ask,
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
class ObservedWorkflow(Observed):
    """The world as far as one workflow goes."""

    resource: CortexWorkflow
    indexes: dict[str, Object | None]
    """The indexes of the spec by name; None: not there, or not for this namespace."""
    mistakes: tuple[str, ...]
    """Of the graph."""
    unread: str = ""
    """What could not be read to tell whether it may use an index of another namespace."""

    @property
    def granted(self) -> frozenset[str]:
        """The names of the indexes that are there and may be used."""
        return frozenset(name for name, index in self.indexes.items() if index is not None)


async def observe(world: World, workflow: CortexWorkflow, now: datetime) -> ObservedWorkflow:
    """Looks at the cluster, and asks a pod when there is one. Raises Unavailable."""
    namespace, name = workflow.metadata.namespace, workflow.metadata.name
    cluster, part = world.cluster, Part(workflow, "graph")
    deployment = await find_deployment(cluster, namespace, graph_name(name))
    keda = await find_keda(cluster, part, graph_name(name), world.release)
    wanted = scale(workflow.spec, deployment, lingering=bool(keda.lingering))
    pods = await find_pods(cluster, part)
    asked = () if workflow.spec.suspend else pods
    indexes, unread = await find_indexes(world, workflow)
    description, unreachable = await ask(world.dataplane, ResourceKey(workflow.kind, namespace, name), asked)
    named = await find_references(world, ResourceKey(workflow.kind, namespace, name), workflow.spec)
    return ObservedWorkflow(
        now=now,
        resource=workflow,
        deployment=deployment,
        pods=pods,
        missing_references=named.missing,
        reads=named.reads,
        description=description,
        unreachable=unreachable,
        unlisted="" if description else await find_unlisted(cluster, namespace, graph_headless_name(name), asked),
        nodes=await find_nodes(world, workflow.spec, pods),
        autoscaler=await find_autoscaler(cluster, namespace, graph_name(name), wanted),
        keda=keda,
        unclaimable=unclaimable(workflow.spec.gpu, world.release),
        leftovers=(
            *await find_leftovers(cluster, part, graph_name(name), wanted, world.release),
            *await find_old_account(cluster, part, graph_name(name), deployment, pods),
            *await find_old_templates(cluster, part, graph_name(name), world.release, deployment, pods),
        ),
        reach=await find_reach(world, part, graph_name(name), pods, named, _operands(workflow, indexes)),
        standing=find_standing(world.fleet, workflow),
        settings=await find_settings(cluster, deployment, world.release),
        indexes=indexes,
        unread=unread,
        mistakes=tuple(map(str, graph_mistakes(workflow.spec))),
    )


def _operands(workflow: CortexWorkflow, indexes: Mapping[str, Object | None]) -> Iterator[Operand]:
    """Of its own namespace all that it names, of others those that may be used."""
    own = workflow.metadata.namespace
    for use in workflow.spec.indexes:
        if use.home(own) == own or indexes[use.name] is not None:
            yield Operand(use.home(own), use.name)
