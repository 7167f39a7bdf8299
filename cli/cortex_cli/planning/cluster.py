"""A plan against a cluster, with the rights of who asks. It reads, and asks for dry runs of the resources; it writes
nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cortex_kinds.base import API_VERSION
from cortex_kube.client import Api
from cortex_operator.cluster import NamespaceTerminating, Object, ObjectKey
from cortex_operator.cluster.kubernetes import KubernetesCluster
from cortex_operator.cluster.refusals import USER
from cortex_operator.dataplane import Description, ResourceKey
from cortex_operator.preview.lake import Describe, as_last_seen
from cortex_operator.preview.look import Look
from cortex_operator.preview.report import Blocked, Report, ResourcePlan
from cortex_operator.preview.run import Proposal, Sandboxes, preview
from cortex_operator.preview.sandbox import Sandbox
from cortex_operator.reconcile.loop import KINDS

from cortex_cli.planning.hidden import assume_hidden
from cortex_cli.planning.installed import Installed, find_installed
from cortex_cli.planning.notes import beside, unasked, unread
from cortex_cli.planning.pools import as_told
from cortex_cli.planning.propose import propose

_BROUGHT = frozenset({"Secret", "ConfigMap"})


class Unreadable(RuntimeError):
    """A resource of the plan may not be read, so nothing can be said about it."""


@dataclass(frozen=True)
class _Given:
    """Manifests, by what a plan makes of them."""

    resources: tuple[Object, ...]
    brought: tuple[Object, ...]
    namespaces: frozenset[str]
    others: tuple[str, ...]


async def plan_cluster(api: Api, manifests: Sequence[Object], operator_namespace: str | None) -> Report:
    """What an apply of the manifests would do; each has its namespace. Raises Invalid (the API server refuses one),
    Unreadable, Forbidden, NamespaceTerminating, Unavailable, Unsettled."""
    cluster = KubernetesCluster(api, asker=USER)
    look, given = Look(cluster), _sorted(manifests)
    proposals, why = await _proposals(api, look, given)
    installed = await find_installed(cluster, look, operator_namespace, proposals)
    worlds = Sandboxes(Sandbox(look), Sandbox(look))
    for each in given.brought:
        await worlds.proposed.apply(each, field_manager="kubectl")
    for proposal in proposals:
        if proposal.proposed is not None:
            worlds.proposed.take(proposal.proposed)
    await assume_hidden(look, worlds, proposals)
    plans = await preview(worlds, proposals, installed.release_of, _described_by(look))
    if not installed.known:
        plans = tuple(as_told(plan, each.live) for plan, each in zip(plans, proposals, strict=True))
    notes = (*installed.notes, *unasked(why), *unread(look.unread), *beside(given.others))
    return Report(api.server, tuple(_watched(plan, installed) for plan in plans), notes)


def _sorted(manifests: Sequence[Object]) -> _Given:
    resources = [obj for obj in manifests if obj["kind"] in KINDS and obj["apiVersion"] == API_VERSION]
    brought = [obj for obj in manifests if obj["kind"] in _BROUGHT and obj["apiVersion"] == "v1"]
    others = [obj for obj in manifests if obj not in resources and obj not in brought]
    namespaces = frozenset(obj["metadata"]["name"] for obj in others if obj["kind"] == "Namespace")
    return _Given(
        tuple(resources),
        tuple(brought),
        namespaces,
        tuple(f"{obj['kind']} {obj['metadata']['name']}" for obj in (*brought, *others)),
    )


async def _proposals(api: Api, look: Look, given: _Given) -> tuple[list[Proposal], dict[str, list[str]]]:
    """And of which the API server was not asked, by the reason."""
    proposals: list[Proposal] = []
    why: dict[str, list[str]] = {}
    for manifest in given.resources:
        key = ObjectKey.of(manifest)
        live = await look.find(key)
        if key in look.hidden:
            raise Unreadable(f"{key} cannot be read: {look.hidden[key]}")
        brought = key.namespace in given.namespaces
        proposed, reason = await propose(api, look, manifest, ask=not brought or await _exists(look, key.namespace))
        # Where the API server was asked it said so itself.
        if reason and not brought and not await _exists(look, key.namespace):
            raise NamespaceTerminating(USER.nowhere.format(what=key, namespace=key.namespace))
        proposals.append(Proposal(ResourceKey(key.kind, key.namespace, key.name), live, proposed))
        if reason:
            why.setdefault(reason, []).append(str(key))
    return proposals, why


async def _exists(look: Look, namespace: str) -> bool:
    key = ObjectKey("v1", "Namespace", "", namespace)
    return await look.find(key) is not None or key in look.hidden


def _described_by(look: Look) -> Describe:
    async def describe(key: ResourceKey) -> Description:
        obj = await look.find(ObjectKey(API_VERSION, key.kind, key.namespace, key.name))
        return as_last_seen(KINDS[key.kind].model.model_validate(obj) if obj is not None else None)

    return describe


def _watched(plan: ResourcePlan, installed: Installed) -> ResourcePlan:
    if not installed.watched or plan.key.namespace in installed.watched:
        return plan
    message = f"the operator looks at {', '.join(installed.watched)} alone (chart value watchNamespaces)"
    return replace(plan, blocked=(Blocked("NamespaceNotWatched", message), *plan.blocked))
