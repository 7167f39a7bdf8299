"""What NetworkPolicies (networking.k8s.io/v1) let through, as the API's documentation says it; no network is asked.

A flow passes when the policies of its source let it out and those of its destination let it in. A pod that no policy of
a direction selects is open in it; policies of one pod add up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

Object = dict[str, Any]


@dataclass(frozen=True)
class Pod:
    """A pod. `ports`: its named TCP ports."""

    namespace: str
    labels: dict[str, str]
    ports: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Outside:
    """An address that is no pod's."""

    ip: str


End = Pod | Outside


def passes(policies: Iterable[Object], source: End, target: End, port: int, protocol: str = "TCP") -> bool:
    """Whether the flow is let through."""
    there = list(policies)
    return _lets(there, "Egress", source, target, target, port, protocol) and _lets(
        there, "Ingress", target, source, target, port, protocol
    )


def _lets(policies: list[Object], way: str, own: End, other: End, target: End, port: int, protocol: str) -> bool:
    if isinstance(own, Outside):
        return True
    governing = [policy for policy in policies if _governs(policy, way, own)]
    rules = [rule for policy in governing for rule in policy["spec"].get(way.lower()) or ()]
    peers = "to" if way == "Egress" else "from"
    return not governing or any(
        _has_peer(rule.get(peers), own.namespace, other) and _has_port(rule.get("ports"), target, port, protocol)
        for rule in rules
    )


def _governs(policy: Object, way: str, pod: Pod) -> bool:
    spec = policy["spec"]
    types = spec.get("policyTypes") or ["Ingress", *(["Egress"] if "egress" in spec else [])]
    return (
        way in types and policy["metadata"]["namespace"] == pod.namespace and _selects(spec["podSelector"], pod.labels)
    )


def _has_peer(peers: list[Object] | None, own: str, other: End) -> bool:
    return not peers or any(_is_peer(peer, own, other) for peer in peers)


def _is_peer(peer: Object, own: str, other: End) -> bool:
    if "ipBlock" in peer:
        # Whether a block of addresses counts for pods is left to the implementation: nothing may rely on it.
        return isinstance(other, Outside) and _is_in(peer["ipBlock"], other.ip)
    if isinstance(other, Outside):
        return False
    if "namespaceSelector" in peer:
        place = _selects(peer["namespaceSelector"], {"kubernetes.io/metadata.name": other.namespace})
    else:
        place = other.namespace == own
    return place and _selects(peer.get("podSelector", {}), other.labels)


def _is_in(block: Object, ip: str) -> bool:
    address = ip_address(ip)
    return address in ip_network(block["cidr"]) and not any(
        address in ip_network(cidr) for cidr in block.get("except") or ()
    )


def _has_port(ports: list[Object] | None, target: End, port: int, protocol: str) -> bool:
    return not ports or any(
        protocol == each.get("protocol", "TCP") and any(port in span for span in _spans(each, target)) for each in ports
    )


def _spans(port: Object, target: End) -> Iterator[range]:
    match port.get("port"):
        case None:
            yield range(1, 65536)
        case int(number):
            yield range(number, port.get("endPort", number) + 1)
        case name if isinstance(target, Pod) and name in target.ports:
            yield range(target.ports[name], target.ports[name] + 1)


def _selects(selector: Object, labels: dict[str, str]) -> bool:
    wanted = selector.get("matchLabels") or {}
    return wanted.items() <= labels.items() and all(
        _matches(each, labels) for each in selector.get("matchExpressions") or ()
    )


def _matches(requirement: Object, labels: dict[str, str]) -> bool:
    key, values = requirement["key"], requirement.get("values") or ()
    match requirement["operator"]:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
    raise ValueError(requirement)


def pods_of(workload: Object) -> Pod:
    """A pod of a Deployment, StatefulSet or Job."""
    template = workload["spec"]["template"]
    ports = {p["name"]: p["containerPort"] for c in template["spec"]["containers"] for p in c.get("ports") or ()}
    return Pod(workload["metadata"]["namespace"], template["metadata"]["labels"], ports)
