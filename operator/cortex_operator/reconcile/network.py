"""Where the pods of a resource must get to: what its Secrets and the release name, and the indexes of a workflow."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from cortex_kinds.common import CommonSpec

from cortex_operator.cluster import Object, ObjectKey
from cortex_operator.manifests.addresses import Address, lake_addresses, otlp_addresses, state_addresses
from cortex_operator.manifests.labels import Part
from cortex_operator.manifests.reach import REACH, Backend, Place, Reach, follow, place_rule
from cortex_operator.manifests.release import ReleaseSettings
from cortex_operator.reconcile.model import World
from cortex_operator.reconcile.observe import find
from cortex_operator.reconcile.reading import Reader

POLICY: Final = ("networking.k8s.io/v1", "NetworkPolicy")


def unwanted(release: ReleaseSettings) -> tuple[tuple[str, str], ...]:
    """The kinds that the release does without."""
    return () if release.isolation.enabled else (POLICY,)


def policies(objects: Iterable[Object]) -> tuple[Object, ...]:
    """Those of the objects: they may be there before the pods can be."""
    return tuple(obj for obj in objects if obj["kind"] == POLICY[1])


async def find_reach(
    world: World, reader: Reader, part: Part, name: str, pods: Iterable[Object], operands: Iterable[Place] = ()
) -> Reach:
    """Where pods must get to. `name`: of the policy that there is, `reader`: for the Secrets. Nobody looks at these
    while the resource is suspended. Raises Forbidden, Unavailable."""
    namespace, spec = part.resource.metadata.namespace, part.resource.spec
    if not world.release.isolation.enabled:
        return Reach()
    live = await find(world.cluster, ObjectKey(*POLICY, namespace, name))
    places = [] if spec.suspend else [*await _places(reader, namespace, spec, world.release), *operands]
    reach = follow(places, _remembered(live), [pod["metadata"].get("creationTimestamp", "") for pod in pods])
    found = [place_rule(place, await _backend(world, namespace, place)) for place in reach.everywhere]
    return replace(reach, rules=tuple(_distinct(rule for rule in found if rule is not None)))


async def _places(reader: Reader, namespace: str, spec: CommonSpec, release: ReleaseSettings) -> list[Place]:
    dsn = await _value(reader, namespace, spec.lake.secret_ref.name, "dsn")
    url = await _value(reader, namespace, spec.state.secret_ref.name, "url")
    otlp = otlp_addresses(release.otlp_endpoint) if release.otlp_endpoint else ()
    return [*lake_addresses(dsn), *state_addresses(url), *otlp]


async def _value(reader: Reader, namespace: str, secret: str, key: str) -> str:
    """Empty when it is not there, or cannot be read."""
    found = await find(reader, ObjectKey("v1", "Secret", namespace, secret), unwatched=True)
    try:
        return base64.b64decode(((found or {}).get("data") or {}).get(key, ""), validate=True).decode()
    except (binascii.Error, ValueError):
        return ""


async def _backend(world: World, namespace: str, place: Place) -> Backend:
    where = place.service(namespace) if isinstance(place, Address) else None
    return await world.services.backend(world.cluster, namespace, where) if where else Backend(namespace)


def _remembered(policy: Object | None) -> Reach:
    annotations = (policy or {}).get("metadata", {}).get("annotations") or {}
    return Reach.load(annotations.get(REACH, ""))


def _distinct(rules: Iterable[dict[str, object]]) -> Iterator[dict[str, object]]:
    seen: list[dict[str, object]] = []
    for rule in rules:
        if rule not in seen:
            seen.append(rule)
            yield rule
