"""The NetworkPolicy of a resource: nothing comes in or goes out but what stands here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from cortex_kinds.labels import LabelSelector
from cortex_kinds.network import EgressRule, PolicyPort

from cortex_operator.manifests.isolation import Resolver, in_namespaces
from cortex_operator.manifests.labels import Part
from cortex_operator.manifests.names import METRICS_PORT
from cortex_operator.manifests.reach import REACH, Reach, Rule, allow, pods
from cortex_operator.manifests.release import ReleaseSettings

NETWORK_POLICY: Final = ("networking.k8s.io/v1", "NetworkPolicy")
Peer = dict[str, Any]
"""A NetworkPolicyPeer."""


def network_policy(
    part: Part, name: str, release: ReleaseSettings, ports: Mapping[str, int], clients: tuple[Peer, ...], reach: Reach
) -> dict[str, Any]:
    """The policy of all pods of the part's resource, those of Jobs too. `clients` may call the port `grpc`, beside the
    gateway."""
    isolation, own = release.isolation, part.resource.spec.network
    metadata = part.metadata(name)
    egress = [*_resolving(isolation.dns), *reach.rules]
    egress += map(_as_it_is_kept, (*isolation.extra_egress, *(own.extra_egress or ())))
    return {
        "apiVersion": NETWORK_POLICY[0],
        "kind": NETWORK_POLICY[1],
        "metadata": {**metadata, "annotations": {REACH: reach.dump()}},
        "spec": {
            "podSelector": {"matchLabels": part.all_pods},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": list(_ingress(part, release, ports, clients)),
            "egress": egress,
        },
    }


def _ingress(
    part: Part, release: ReleaseSettings, ports: Mapping[str, int], clients: tuple[Peer, ...]
) -> Iterator[dict[str, Any]]:
    ours, isolation = part.resource.metadata.namespace, release.isolation
    gateway = pods(isolation.gateway, release.namespace, ours)
    operator = pods(isolation.operator, release.namespace, ours)
    yield _admit(ports["grpc"], gateway, *clients)
    # The gateway asks pods for the resource's state, and those of an index how far its documents are.
    yield _admit(ports["control"], operator, gateway)
    if isolation.monitoring_namespaces:
        yield _admit(METRICS_PORT, {"namespaceSelector": in_namespaces(*isolation.monitoring_namespaces)})


def selector(labels: LabelSelector) -> dict[str, Any]:
    """As the API server keeps it."""
    return dict(_without_empty(labels.to_manifest()))


def _admit(port: int, *peers: Peer) -> dict[str, Any]:
    return {"from": [*peers], "ports": [{"port": port, "protocol": "TCP"}]}


def _resolving(dns: Resolver) -> Iterator[Rule]:
    pods_of = [{"namespaceSelector": in_namespaces(*dns.namespaces)}] if dns.namespaces else []
    nodes = [{"ipBlock": {"cidr": cidr}} for cidr in dns.cidrs]
    if (peers := [*pods_of, *nodes]) and dns.ports:
        yield allow(dns.ports, *peers, protocols=("UDP", "TCP"))


def _as_it_is_kept(rule: EgressRule) -> Rule:
    """Defaults filled in and empty lists left out, as the API server does: what is there is then seen to be what was
    asked for."""
    kept: Rule = {"to": [_without_empty(peer.to_manifest()) for peer in rule.to or ()]}
    kept["ports"] = list(map(_port, rule.ports or ()))
    return {name: value for name, value in kept.items() if value}


def _port(port: PolicyPort) -> dict[str, Any]:
    told = {"protocol": "TCP", **port.to_manifest()}
    if told.get("port", "").isdecimal():
        told["port"] = int(told["port"])
    return told


def _without_empty(value: Any) -> Any:
    """Selectors stay, as an empty one selects everything; what is empty in them goes."""
    if not isinstance(value, dict):
        return [_without_empty(item) for item in value] if isinstance(value, list) else value
    cleaned = {name: _without_empty(item) for name, item in value.items()}
    return {name: item for name, item in cleaned.items() if item or name.endswith("Selector")}
