"""What a release says about networks, told back from a NetworkPolicy that it made. Pure: the way back of
`manifests/network.py`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cortex_kinds.network import EgressRule, Network
from cortex_operator.cluster import Object
from cortex_operator.manifests.isolation import NAMESPACE_LABEL, Isolation, Resolver
from cortex_operator.manifests.names import CONTROL_PORT, METRICS_PORT
from cortex_operator.manifests.reach import Rule
from pydantic import ValidationError

OFF: Final = Isolation(enabled=False)


@dataclass(frozen=True)
class Told:
    """`namespace`: where the operator and the gateway are."""

    isolation: Isolation
    namespace: str


def told(policy: Object, own: Network, reach: Sequence[Rule]) -> Told | None:
    """None: it was made otherwise. `own`: the resource's field; `reach`: the rules of the places that its pods must get
    to."""
    ours, spec = str(policy["metadata"]["namespace"]), policy["spec"]
    try:
        admitted = {rule["ports"][0]["port"]: rule["from"] for rule in spec["ingress"]}
        operator, gateway = admitted[CONTROL_PORT]
        watching = admitted.get(METRICS_PORT) or [{}]
        dns, others = _resolver(spec["egress"])
        return Told(
            Isolation(
                gateway=gateway["podSelector"]["matchLabels"],
                operator=operator["podSelector"]["matchLabels"],
                monitoring_namespaces=_namespaces(watching[0]),
                dns=dns,
                extra_egress=tuple(map(EgressRule.model_validate, _extra(others, own, reach))),
            ),
            (*_namespaces(gateway), ours)[0],
        )
    except (KeyError, IndexError, TypeError, ValueError, ValidationError):
        return None  # somebody else wrote it: what is usual holds, and the difference shows


def _extra(rules: Sequence[Rule], own: Network, reach: Iterable[Rule]) -> Sequence[Rule]:
    """The resource's own rules are the last."""
    places = list(reach)
    return [rule for rule in rules[: len(rules) - len(own.extra_egress or ())] if rule not in places]


def _resolver(egress: Sequence[Rule]) -> tuple[Resolver, Sequence[Rule]]:
    """And the rules after its own, which is the first, if there is any."""
    if not egress or {"UDP", "TCP"} != {each["protocol"] for each in egress[0].get("ports", ())}:
        return Resolver(namespaces=(), cidrs=()), egress
    to = egress[0]["to"]
    ports = tuple(dict.fromkeys(each["port"] for each in egress[0]["ports"]))
    namespaces = tuple(name for peer in to for name in _namespaces(peer))
    cidrs = tuple(peer["ipBlock"]["cidr"] for peer in to if "ipBlock" in peer)
    return Resolver(namespaces=namespaces, ports=ports, cidrs=cidrs), egress[1:]


def _namespaces(peer: Mapping[str, Any]) -> tuple[str, ...]:
    """The way back of `in_namespaces`; none: those of the policy itself."""
    selector = peer.get("namespaceSelector") or {}
    expressions = [each["values"] for each in selector.get("matchExpressions") or ()]
    return tuple(expressions[0]) if expressions else tuple(filter(None, [_label(selector)]))


def _label(selector: Mapping[str, Any]) -> str:
    return str((selector.get("matchLabels") or {}).get(NAMESPACE_LABEL, ""))
