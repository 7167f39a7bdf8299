"""Where the pods of a resource must get to: what its Secrets and the release name, and the indexes of a workflow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial

from cortex_operator.cluster import Cluster, Forbidden, Object, ObjectKey
from cortex_operator.manifests.addresses import Address, otlp_addresses
from cortex_operator.manifests.labels import Part, Resource
from cortex_operator.manifests.network import NETWORK_POLICY
from cortex_operator.manifests.reach import REACH, Backend, Place, Reach, Rule, follow, place_rule
from cortex_operator.reconcile.model import World
from cortex_operator.reconcile.observe import find
from cortex_operator.reconcile.recent import Recent
from cortex_operator.reconcile.references import Found

Backends = Recent[tuple[str, str], Backend]
"""Services that hosts in Secrets are, by namespace and name."""


async def find_reach(
    world: World, part: Part, name: str, pods: Iterable[Object], named: Found, operands: Iterable[Place] = ()
) -> Reach:
    """Where pods must get to; `name`: of the policy that there is, `named`: what the spec names. Nobody looks while the
    resource is suspended. Raises Forbidden, Unavailable."""
    namespace = part.resource.metadata.namespace
    if not world.release.isolation.enabled:
        return Reach()
    live = await find(world.cluster, ObjectKey(*NETWORK_POLICY, namespace, name))
    places = [] if part.resource.spec.suspend else [*_places(world, part.resource, named), *operands]
    reach = follow(places, _remembered(live), [pod["metadata"].get("creationTimestamp", "") for pod in pods])
    return replace(reach, rules=await place_rules(world.cluster, world.backends, reach.everywhere, namespace))


async def place_rules(
    cluster: Cluster, backends: Backends, places: Iterable[Place], namespace: str
) -> tuple[Rule, ...]:
    """What lets pods of `namespace` get to the places. Raises Unavailable."""
    rules = [place_rule(place, await _backend(cluster, backends, namespace, place), namespace) for place in places]
    return tuple(_distinct(rule for rule in rules if rule is not None))


def policies(objects: Iterable[Object]) -> tuple[Object, ...]:
    """Those of the objects: they are there before the pods can be."""
    return tuple(obj for obj in objects if (obj["apiVersion"], obj["kind"]) == NETWORK_POLICY)


def _places(world: World, resource: Resource, named: Found) -> list[Place]:
    lake = named.facts.get(("Secret", resource.spec.lake.secret_ref.name))
    state = named.facts.get(("Secret", resource.spec.state.secret_ref.name))
    otlp = otlp_addresses(world.release.otlp_endpoint)
    return [*(lake.lake if lake else ()), *(state.state if state else ()), *otlp]


async def _backend(cluster: Cluster, backends: Backends, namespace: str, place: Place) -> Backend:
    where = place.service(namespace) if isinstance(place, Address) else None
    return await backends.get(where, partial(_find_service, cluster, *where)) if where else Backend()


async def _find_service(cluster: Cluster, namespace: str, name: str) -> Backend:
    try:
        found = await find(cluster, ObjectKey("v1", "Service", namespace, name), unwatched=True)
    except Forbidden:
        return Backend(readable=False)
    return Backend({"metadata": {"namespace": namespace}, "spec": found["spec"]} if found else None)


def _remembered(policy: Object | None) -> Reach:
    annotations = (policy or {}).get("metadata", {}).get("annotations") or {}
    return Reach.load(annotations.get(REACH, ""))


def _distinct(rules: Iterable[Rule]) -> Iterator[Rule]:
    seen: list[Rule] = []
    for rule in rules:
        if rule not in seen:
            seen.append(rule)
            yield rule
