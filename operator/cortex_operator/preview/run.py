"""The plan itself. The reconcilers' passes are run twice: over the resources as they are, and over those that are
proposed. What the first change already is drift, which the operator mends without any apply."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from cortex_kinds.base import API_VERSION
from cortex_kinds.common import CommonStatus
from cortex_kinds.conditions import ConditionType, get_condition
from cortex_kinds.workflow import CortexWorkflow
from pydantic import ValidationError

from cortex_operator.cluster import EVERYWHERE, Forbidden, Object, ObjectKey
from cortex_operator.dataplane import ResourceKey
from cortex_operator.manifests import ReleaseSettings
from cortex_operator.manifests.labels import Part
from cortex_operator.manifests.names import graph_name, search_name
from cortex_operator.preview.changes import Action, ObjectChange, action_of, field_changes
from cortex_operator.preview.claims import claim
from cortex_operator.preview.gpus import Claim, Fits, Verdict, gpu_changes, verdicts
from cortex_operator.preview.lake import Describe, Rehearsal
from cortex_operator.preview.pods import pods_change
from cortex_operator.preview.report import Blocked, Missing, ResourcePlan
from cortex_operator.preview.revision import Resource, revision_change
from cortex_operator.preview.sandbox import Sandbox
from cortex_operator.preview.settle import Changes, settle
from cortex_operator.preview.standin import unknown_nodes
from cortex_operator.reconcile import World
from cortex_operator.reconcile.gpus import Room
from cortex_operator.reconcile.grants import find_indexes
from cortex_operator.reconcile.loop import KINDS
from cortex_operator.reconcile.observe import find_pods
from cortex_operator.reconcile.references import find_references

Releases = Callable[[ResourceKey], ReleaseSettings]
"""What the installed operator decides; for each resource, as where that cannot be read it is told from its objects."""
_PARTS: Final = {"CortexIndex": ("search", search_name), "CortexWorkflow": ("graph", graph_name)}


@dataclass(frozen=True)
class Proposal:
    """A resource as it is, and as an apply would leave it. None: it is not there."""

    key: ResourceKey
    live: Object | None
    proposed: Object | None


@dataclass(frozen=True)
class Sandboxes:
    """`live` is as the cluster is, `proposed` too, but with the proposals in it. Both are used up. `nodes`: whether
    there are any, so that GPUs mean something."""

    live: Sandbox
    proposed: Sandbox
    nodes: bool = True


async def preview(
    worlds: Sandboxes, proposals: Sequence[Proposal], releases: Releases, describe: Describe
) -> tuple[ResourcePlan, ...]:
    """A plan for each proposal. Raises Unsettled, Unavailable."""
    lakes = Rehearsal(describe), Rehearsal(describe)
    living = {e.key: _world(worlds.live, lakes[0], releases(e.key)) for e in proposals if e.live is not None}
    coming = {e.key: _world(worlds.proposed, lakes[1], releases(e.key)) for e in proposals}
    drift, changes = await settle(worlds.live, living), await settle(worlds.proposed, coming)
    plans = [
        replace(
            _plan(worlds.proposed, each, changes[each.key], drift.get(each.key, {})),
            missing=await _missing(coming[each.key], model_of(each.proposed)),
        )
        for each in proposals
    ]
    claims = [await _claim(worlds, *each) for each in zip(proposals, plans, strict=True)]
    placed = await _placed(worlds, [each for each in claims if each is not None], releases)
    return tuple(replace(plan, placement=placed.get(plan.key)) for plan in plans)


def _world(sandbox: Sandbox, lake: Rehearsal, release: ReleaseSettings) -> World:
    """A world that tells nobody what happens in it."""
    return World(sandbox, lake, release, record=lambda _, __: None)


def _plan(sandbox: Sandbox, proposal: Proposal, changes: Changes, drift: Changes) -> ResourcePlan:
    own, deployment = _own(proposal.key), deployment_key(proposal.key)
    was, will = model_of(proposal.live), model_of(proposal.proposed)
    old, new = sandbox.before(deployment), sandbox.state(deployment)
    objects = tuple(replace(c, drift=_is_drift(c, drift.get(key))) for key, c in changes.items() if key != own)
    fields = field_changes(proposal.live, proposal.proposed) if proposal.live and proposal.proposed else ()
    template = next((change.fields for change in objects if change.key == deployment), ())
    return ResourcePlan(
        proposal.key,
        Action.CHANGE if fields else action_of(proposal.live, proposal.proposed),
        fields,
        objects,
        pods_change(old, new, template),
        gpu_changes(old, new, (_pool(was), _pool(will))),
        revision=revision_change(was, will),
        blocked=_blocked(sandbox.state(own)),
    )


def _is_drift(change: ObjectChange, before: ObjectChange | None) -> bool:
    if before is None or before.action is not change.action:
        return False
    return all(field in before.fields for field in change.fields)


async def _missing(world: World, resource: Resource | None) -> tuple[Missing, ...]:
    if resource is None:
        return ()
    namespace = resource.metadata.namespace
    user = ResourceKey(resource.kind, namespace, resource.metadata.name)
    found = (await find_references(world, user, resource.spec)).missing
    return (
        *(Missing(one.kind, one.name, one.key, one.message) for one in found),
        *(await _absent_indexes(world, resource) if isinstance(resource, CortexWorkflow) else ()),
    )


async def _absent_indexes(world: World, workflow: CortexWorkflow) -> Iterator[Missing]:
    own = workflow.metadata.namespace
    found, _ = await find_indexes(world, workflow)
    homes = {use.name: use.home(own) for use in workflow.spec.indexes if found.get(use.name) is None}
    why = "is neither in namespace {} nor in this plan{}; create it, or correct spec.indexes"
    grant = f", or does not let namespace {own} use it (spec.access)"
    return (Missing("CortexIndex", n, "", why.format(home, "" if home == own else grant)) for n, home in homes.items())


def _blocked(resource: Object | None) -> tuple[Blocked, ...]:
    status = CommonStatus.model_validate((resource or {}).get("status") or {})
    stalled = get_condition(status.conditions, ConditionType.STALLED)
    return (Blocked(stalled.reason, stalled.message),) if stalled is not None and stalled.status == "True" else ()


async def _claim(worlds: Sandboxes, proposal: Proposal, plan: ResourcePlan) -> Claim | None:
    deployment, resource = deployment_key(proposal.key), model_of(proposal.proposed) or model_of(proposal.live)
    if resource is None:
        return None
    pods = await find_pods(worlds.live, Part(resource, _PARTS[proposal.key.kind][0]))
    both = worlds.proposed.before(deployment), worlds.proposed.state(deployment)
    return claim(proposal.key, resource.spec.gpu, both, plan.pods, pods)


async def _placed(worlds: Sandboxes, claims: Sequence[Claim], releases: Releases) -> dict[ResourceKey, Verdict]:
    why = {each.key: unknown_nodes(each.gpu, releases(each.key).gpu_pools) for each in claims if each.count}
    unknown = {key: Verdict(Fits.UNKNOWN, message) for key, message in why.items() if message}
    return {**await _by_nodes(worlds, [each for each in claims if each.key not in unknown]), **unknown}


async def _by_nodes(worlds: Sandboxes, claims: Sequence[Claim]) -> dict[ResourceKey, Verdict]:
    if not any(each.count for each in claims):
        return {each.key: Verdict(Fits.NOT_NEEDED, "no pod is to be placed") for each in claims}
    if not worlds.nodes:
        unknown = Verdict(Fits.UNKNOWN, "there are no nodes here: GPUs are kept but not enforced")
        return {each.key: unknown for each in claims}
    try:
        nodes = await worlds.live.list("v1", "Node")
    except Forbidden as error:
        return {each.key: Verdict(Fits.UNKNOWN, f"Nodes cannot be listed: {error}") for each in claims}
    try:
        return verdicts(claims, Room(nodes, await worlds.live.list("v1", "Pod", namespace=EVERYWHERE)))
    except Forbidden as error:
        return verdicts(claims, Room(nodes, unseen=str(error)))


def model_of(obj: Object | None) -> Resource | None:
    """As its model; None: there is none, or it cannot be read."""
    if obj is None:
        return None
    try:
        resource: Resource = KINDS[obj["kind"]].model.model_validate(obj)
    except ValidationError:
        return None  # it was stored by another release; a pass says what is wrong with it
    return resource


def _own(key: ResourceKey) -> ObjectKey:
    return ObjectKey(API_VERSION, key.kind, key.namespace, key.name)


def deployment_key(key: ResourceKey) -> ObjectKey:
    """Its Deployment; other objects of the resource have that name, too."""
    return ObjectKey("apps/v1", "Deployment", key.namespace, _PARTS[key.kind][1](key.name))


def _pool(resource: Resource | None) -> str:
    return (resource.spec.gpu.pool or "") if resource is not None and resource.spec.gpu is not None else ""
