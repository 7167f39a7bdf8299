"""Where a resource's pods must get to, and the egress rule that each of these places becomes.

Policies act on pods, not on Services: what a host's Service selects stands in the rule, or no peer at all where the
host is outside of the cluster.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from cortex_operator.manifests.addresses import Address
from cortex_operator.manifests.isolation import in_namespaces
from cortex_operator.manifests.labels import pods_of_index
from cortex_operator.manifests.names import SEARCH_PORT

REACH: Final = "cortex.datapunk.io/reach"
"""Annotation of a NetworkPolicy: where pods must get to, and where older pods must."""

Rule = dict[str, Any]
"""A NetworkPolicyEgressRule."""


@dataclass(frozen=True, order=True)
class Operand:
    """An index that a workflow searches."""

    namespace: str
    index: str


Place = Address | Operand


@dataclass(frozen=True)
class Backend:
    """What a host is. `service`: its namespace and spec, when the cluster has one; `readable`: whether the operator may
    look."""

    service: dict[str, Any] | None = None
    readable: bool = True


@dataclass(frozen=True)
class Reach:
    """The places of the pods that start now, those of older pods beside them, and when the newest of these was made.
    `rules`: of all of these."""

    places: tuple[Place, ...] = ()
    older: tuple[Place, ...] = ()
    until: str = ""
    rules: tuple[Rule, ...] = ()

    @property
    def everywhere(self) -> tuple[Place, ...]:
        """All places, those of the pods that start now first."""
        return (*self.places, *self.older)

    def dump(self) -> str:
        """As it stands in the annotation: hosts, ports and names."""
        told = {"places": list(map(_dumped, self.places))}
        before = {"older": list(map(_dumped, self.older)), "until": self.until} if self.older else {}
        return json.dumps({**told, **before}, separators=(",", ":"))

    @staticmethod
    def load(text: str) -> Reach:
        """What an annotation says; of one that cannot be read: nothing."""
        try:
            told = json.loads(text)
            older = tuple(map(_loaded, told.get("older", ())))
            return Reach(tuple(map(_loaded, told["places"])), older, str(told.get("until", "")))
        except (ValueError, TypeError, KeyError, AttributeError):
            return Reach()


def follow(places: Iterable[Place], before: Reach, made: Iterable[str]) -> Reach:
    """The reach now. A pod keeps what it read at its start: what `before` had and `places` lack stays open until the
    last of the pods is gone that are there now. `made`: when each pod was (RFC 3339), from the API server's clock."""
    now, times = tuple(sorted(set(places), key=repr)), sorted(made)
    older = before.older if times and times[0] <= before.until else ()
    lost = [place for place in before.places if place not in now] if times else []
    until = times[-1] if lost else before.until
    kept = tuple(place for place in dict.fromkeys((*older, *lost)) if place not in now)
    return Reach(now, kept, until if kept else "")


def place_rule(place: Place, backend: Backend, namespace: str) -> Rule | None:
    """What lets pods of `namespace` get there; None: there is nothing to get to yet."""
    if isinstance(place, Operand):
        return allow([SEARCH_PORT], pods(pods_of_index(place.index), place.namespace, namespace))
    if place.ip is not None:
        return allow([place.port], {"ipBlock": {"cidr": f"{place.ip}/{place.ip.max_prefixlen}"}})
    where = place.service(namespace)
    if where is not None and not backend.readable:
        return allow([place.port], {"namespaceSelector": in_namespaces(where[0])})
    if where is None or backend.service is None:
        return None if place.is_of_cluster else allow([place.port])
    return _service_rule(place, backend.service, namespace)


def _service_rule(address: Address, service: dict[str, Any], namespace: str) -> Rule:
    spec = service["spec"]
    ports = list(dict.fromkeys((*_target_ports(address.port, spec), address.port)))
    selector = spec.get("selector")
    if not selector or spec.get("type") == "ExternalName":
        return allow(ports)
    return allow(ports, pods(selector, service["metadata"]["namespace"], namespace))


def _target_ports(port: int, spec: dict[str, Any]) -> Iterator[int | str]:
    """Of the pods. The Service's own is allowed too: some networks look at it before they know the pod, and a headless
    Service has no other."""
    for each in spec.get("ports") or ():
        if each["port"] == port:
            yield each.get("targetPort") or port


def pods(labels: dict[str, str], theirs: str, ours: str) -> dict[str, Any]:
    """A peer: pods by their labels, in another namespace than that of the policy or in the same."""
    elsewhere = {"namespaceSelector": in_namespaces(theirs)} if theirs != ours else {}
    return {**elsewhere, "podSelector": {"matchLabels": labels}}


def allow(ports: Iterable[int | str], *peers: dict[str, Any], protocols: tuple[str, ...] = ("TCP",)) -> Rule:
    """A rule of egress; without peers: to anywhere."""
    told = [{"port": port, "protocol": protocol} for port in ports for protocol in protocols]
    return {**({"to": [*peers]} if peers else {}), "ports": told}


def _dumped(place: Place) -> list[str | int]:
    match place:
        case Address():
            return [place.host, place.port]
        case Operand():
            return ["CortexIndex", place.namespace, place.index]


def _loaded(told: Any) -> Place:
    match told:
        case [str(host), int(port)]:
            return Address(host, port)
        case ["CortexIndex", str(namespace), str(index)]:
            return Operand(namespace, index)
    raise ValueError(told)
